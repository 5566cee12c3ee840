import { assertEquals } from "@std/assert";
import type { QueuePair } from "../queue_pair.ts";
import { Pinger } from "./latency.ts";
import type { Measurable, MeasurableLane } from "./driver.ts";
import { Marks } from "./marks.ts";
import { OPERATIONS } from "./operation.ts";

/** A run on a connection whose Reads are done at once. */
function readsAtOnce(): Measurable {
  const lanes: MeasurableLane[] = [];
  const run: Measurable = {
    spec: { operation: OPERATIONS.get("read_lat")!, connections: 1, sendDepth: 1, list: 0, moderation: 1 },
    lanes,
    changed: () => {},
    marks: () => new Marks(new Uint8Array(1), new Uint8Array(1), { next: (mark) => mark }),
  };
  const queuePair = {
    postSend: (_work: unknown, done: (completion: { status: string }) => void) => done({ status: "success" }),
    flush: () => {},
  } as unknown as QueuePair;
  const work = { opcode: "read", local: [], remote: { stag: 0, address: 0n } } as const;
  lanes.push({ run, work, queuePair, sent: 0, roomAtPeer: 0, onMessage: undefined });
  return run;
}

Deno.test("latency: a round trip that takes all the time there is has another one behind it, which ends its measurement", () => {
  const pinger = new Pinger(readsAtOnce(), { iterations: 0, durationMs: 0 });
  pinger.start();
  while (pinger.step(true) !== "done");
  assertEquals([pinger.count, pinger.latencies.summarize().count], [2, 1]);
});
