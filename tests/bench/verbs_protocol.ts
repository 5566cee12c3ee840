/**
 * What the two ends of the verbs' benchmark agree on.
 *
 * @module
 */
import process from "node:process";

/** Bytes of an RDMA Write or Read. */
export const TRANSFER_BYTES = 1024 * 1024;
/** Asks for the peer's counters: `bytesPlaced` and `bytesStagedLarge` as f64. */
export const ASK_COUNTERS = 1;
/** Asks for the processor time that the peer has used so far, µs as f64. */
export const ASK_CPU = 2;
/** The processor time that this process has used so far, µs. */
export function cpuMicros(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** First byte of the private data: a connection for pings alone, or one with a region of TRANSFER_BYTES. */
export const Purpose = { Pings: 0, Transfers: 1 } as const;
/** Round trips with a pause before each: long enough for both ends, and the cores, to be asleep. */
export const IDLE_PINGS = 150;
export const IDLE_GAP_MS = 4;
/**
 * Devices that never poll: they sleep whenever there is nothing to do, in the core first where an answer may come at once, for as long as such a device
 * does by default that is alone on its thread, or only ever in the event loop.
 */
export const ASLEEP = { spinNs: 0, hotUs: 0, waitUs: 100 } as const;
export const IN_EVENT_LOOP = { ...ASLEEP, waitUs: 0 } as const;
