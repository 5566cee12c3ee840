/**
 * What the two ends of the benchmark of many connections agree on.
 *
 * @module
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Bytes of an RDMA Write of an active connection. */
export const TRANSFER_BYTES = 64 * 1024;
/** Places that Writes go to, one behind the other: the same memory, however many connections there are. */
export const PLACES = 16;
/** First byte of the private data: the connection for pings, or one of the many. */
export const Purpose = { Pings: 0, Many: 1 } as const;
/** What a ping may ask: memory, bytes, as f64; or progress: bytes placed so far, the time of it, ms, and how many of the many can be used. */
export const Question = { Memory: 1, Progress: 2 } as const;
/** Bytes of the messages of a TCP set-up, of about the length of MPA's. */
export const TCP_HELLO_BYTES = 24;

/** Resident memory of this process without garbage, bytes. */
export function residentMemory(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let i = 0; i < 3; i++) collect();
  return Deno.memoryUsage().rss;
}
