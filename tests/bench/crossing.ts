/**
 * What it costs to hand work to the core and to take completions from it: by calls, or through rings in shared memory. What a ring's cost leaves out
 * is that the other side must be told, or keep looking.
 *
 * @module
 */
import {
  RING_ENTRY_WORDS,
  RING_HEAD_WORD,
  RING_HEADER_WORDS,
  RING_TAIL_WORD,
  SGE_WORDS,
  WORK_WORDS,
} from "../../rdma/_ffi/layout.ts";
import { Access, Device } from "../../rdma/mod.ts";
import { deno, pinned, runForJson } from "./processes.ts";
import { medians, type Row } from "./report.ts";

/** Work requests of one call, where several leave together. */
const BATCH = 16;
/** Places of the queue, and of the rings. */
const DEPTH = 1024;
const TURNS = 2000;
/** Of filling a queue, which takes longer than to empty a ring. */
const POST_TURNS = TURNS / 100;
/** From one work request of a ring to the next: those of a receive with one element, and some to make it a power of two. */
const WORK_STRIDE_WORDS = 16;
const NATIVE_PAGE_BYTES = 1 << 20;

/** Nanoseconds for one work request or completion. */
export interface CrossingFigures {
  postOne: number;
  postBatch: number;
  publishOne: number;
  publishBatch: number;
  takeFromRing: number;
  takeByCall: number;
}

/** Takes one round in a process of its own. */
export function measureCrossing(): Promise<CrossingFigures> {
  return runForJson<CrossingFigures>(pinned("client", ...deno("tests/bench/crossing.ts")));
}

/** The report's rows. */
export function crossingRows(rounds: readonly CrossingFigures[]): Row[] {
  if (rounds.length === 0) return [];
  const { postOne, postBatch, publishOne, publishBatch, takeFromRing, takeByCall } = medians(rounds);
  const ring = (value: number) => ({ name: "put into a ring, nobody told", value });
  return [
    { name: "A receive posted by a call", unit: "ns", ours: postOne, against: ring(publishOne) },
    { name: `One of ${BATCH} receives posted by a call`, unit: "ns", ours: postBatch, against: ring(publishBatch) },
    {
      name: "A completion taken from the ring",
      unit: "ns",
      ours: takeFromRing,
      against: { name: "and a call for each, which does nothing", value: takeByCall },
    },
  ];
}

/** Nanoseconds for one of `count` steps, the best of a few tries: what else the machine does only adds. */
function time(count: number, run: () => void): number {
  let best = Infinity;
  for (let tries = 0; tries < 5; tries++) {
    const begun = performance.now();
    run();
    best = Math.min(best, performance.now() - begun);
  }
  return best * 1e6 / count;
}

async function main(): Promise<CrossingFigures> {
  await using device = Device.open();
  const { native, handle } = device;
  const region = device.allocateProtectionDomain().allocate(NATIVE_PAGE_BYTES, Access.LocalOnly);
  const shared = new Int32Array(region.bytes.buffer, region.bytes.byteOffset, NATIVE_PAGE_BYTES / 4);
  const work = new Uint32Array(BATCH * (WORK_WORDS + SGE_WORDS));
  const address = Number(region.address);
  const request = [1 << 16, 0, 0, 0, 0, 0, region.stag, 64, address >>> 0, (address / 2 ** 32) >>> 0];
  const put = (words: Int32Array | Uint32Array, at: number) => {
    for (let i = 0; i < request.length; i++) words[at + i] = request[i];
  };
  const post = (batch: number) => () => {
    const out = new Float64Array(1);
    for (let turn = 0; turn < POST_TURNS; turn++) {
      if (native.weft_shared_create(handle, DEPTH, 1, out) < 0) throw new Error("no shared receive queue");
      for (let posted = 0; posted < DEPTH; posted += batch) {
        for (let i = 0; i < batch; i++) put(work, i * request.length);
        if (native.weft_shared_post(out[0], work, batch * request.length) !== 0) throw new Error("not posted");
      }
      native.weft_shared_close(out[0]);
    }
  };
  const publish = (batch: number) => () => {
    for (let turn = 0; turn < POST_TURNS; turn++) {
      for (let posted = 0; posted < DEPTH; posted += batch) {
        for (let i = 0; i < batch; i++) {
          put(shared, RING_HEADER_WORDS + ((posted + i) & (DEPTH - 1)) * WORK_STRIDE_WORDS);
        }
        Atomics.store(shared, RING_TAIL_WORD, posted);
      }
    }
  };
  let sum = 0;
  const take = (byCall: boolean) => () => {
    for (let turn = 0; turn < TURNS; turn++) {
      for (let taken = 0; taken < DEPTH; taken++) {
        if (byCall) sum += native.weft_abi_version();
        const at = RING_HEADER_WORDS + taken * RING_ENTRY_WORDS;
        sum += shared[at] + shared[at + 1] + shared[at + 2] + shared[at + 3] + shared[at + 4];
      }
      Atomics.store(shared, RING_HEAD_WORD, turn);
    }
  };
  const posts = POST_TURNS * DEPTH;
  const figures = {
    postOne: time(posts, post(1)),
    postBatch: time(posts, post(BATCH)),
    publishOne: time(posts, publish(1)),
    publishBatch: time(posts, publish(BATCH)),
    takeFromRing: time(TURNS * DEPTH, take(false)),
    takeByCall: time(TURNS * DEPTH, take(true)),
  };
  if (Number.isNaN(sum)) throw new Error("nothing was read");
  return figures;
}

if (import.meta.main) console.log(JSON.stringify(await main()));
