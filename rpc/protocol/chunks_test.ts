import { assertEquals, assertThrows } from "@std/assert";
import { seeded } from "../_testing/bytes.ts";
import { ProtocolError } from "../errors.ts";
import { type RdmaMessage, RdmaProc, type ReadSegment } from "../wire/rpc_rdma.ts";
import { cut, lengthOf, planPulls, pushesAt, sharedStag, spread, unused, writtenLength } from "./chunks.ts";

function call(reads: ReadSegment[], { isLong = false, bodyBytes = 100 } = {}): RdmaMessage {
  return {
    xid: 1,
    version: 1,
    credits: 1,
    proc: isLong ? RdmaProc.RDMA_NOMSG : RdmaProc.RDMA_MSG,
    chunks: { reads, writes: [] },
    body: new Uint8Array(isLong ? 0 : bodyBytes),
  };
}

function segment(length: number, position = 0, stag = 1): ReadSegment {
  return { position, stag, length, offset: 0x1000n };
}

Deno.test("a stretch of what is pushed goes where the segments say", () => {
  const segments = [{ stag: 1, length: 5, offset: 100n }, { stag: 2, length: 0, offset: 200n }, {
    stag: 3,
    length: 12,
    offset: 300n,
  }];
  assertEquals(pushesAt(segments, 3, 6), [
    { at: 0, length: 2, remote: { stag: 1, address: 103n } },
    { at: 2, length: 4, remote: { stag: 3, address: 300n } },
  ]);
  assertEquals(pushesAt(segments, 9, 8), [{ at: 0, length: 8, remote: { stag: 3, address: 304n } }]);
  assertEquals(pushesAt(segments, 5, 0), []);
  assertEquals(pushesAt(segments, 0, 17).map(({ length }) => length), [5, 12]);
});

Deno.test("a chunk is cut into parts across its segments", () => {
  const segments = [
    { stag: 1, length: 5, offset: 100n },
    { stag: 2, length: 0, offset: 200n },
    { stag: 3, length: 12, offset: 300n },
  ];
  assertEquals(cut({ segments, length: 17 }, 8), [
    { segments: [{ stag: 1, length: 5, offset: 100n }, { stag: 3, length: 3, offset: 300n }], length: 8 },
    { segments: [{ stag: 3, length: 8, offset: 303n }], length: 8 },
    { segments: [{ stag: 3, length: 1, offset: 311n }], length: 1 },
  ]);
  assertEquals(cut({ segments, length: 17 }, 17).length, 1);
  assertEquals(cut({ segments: [], length: 0 }, 8), []);
});

Deno.test("a call's Read list becomes a plan", () => {
  assertEquals(planPulls(call([]), 100), {});
  const data = [segment(10, 40), segment(20, 40)];
  assertEquals(planPulls(call(data), 100), { bulk: { position: 40, segments: data, length: 30 } });
  const zero = [segment(50), segment(14)];
  assertEquals(planPulls(call(zero, { isLong: true }), 100), { message: { segments: zero, length: 64 } });
  const both = planPulls(call([zero[0], segment(5, 48), zero[1]], { isLong: true }), 100);
  assertEquals(both.message, { segments: zero, length: 64 });
  assertEquals(both.bulk, { position: 48, segments: [segment(5, 48)], length: 5 });
});

Deno.test("Read lists that make no message are refused", () => {
  const hostile: [string, RdmaMessage][] = [
    ["long without a position-zero chunk", call([segment(10, 40)], { isLong: true })],
    ["long without anything", call([], { isLong: true })],
    ["short with a position-zero chunk", call([segment(10)])],
    ["an empty position-zero chunk", call([segment(0)], { isLong: true })],
    ["two positions", call([segment(10, 40), segment(10, 44)])],
    ["behind the message", call([segment(10, 104)])],
    ["behind the pulled message", call([segment(64), segment(10, 68)], { isLong: true })],
    ["too much in one", call([segment(101, 40)])],
    ["too much in all", call(Array.from({ length: 101 }, () => segment(1, 40)))],
    ["overflowing 32 bits", call([segment(0xffffffff, 40), segment(0xffffffff, 40)])],
  ];
  for (const [what, message] of hostile) {
    assertEquals(assertThrows(() => planPulls(message, 100), ProtocolError, undefined, what).code, "BadChunk", what);
  }
  planPulls(call([segment(10, 100)]), 100);
});

Deno.test("results are spread over segments in order, lengths returned as used", () => {
  const offered = [segment(10), segment(0), segment(5), segment(7)].map(({ stag, length, offset }) => ({
    stag,
    length,
    offset,
  }));
  const twelve = spread(12, offered)!;
  assertEquals(twelve.pushes, [
    { at: 0, length: 10, remote: { stag: 1, address: 0x1000n } },
    { at: 10, length: 2, remote: { stag: 1, address: 0x1000n } },
  ]);
  assertEquals(twelve.returned.map(({ length }) => length), [10, 0, 2, 0]);
  assertEquals(spread(0, offered), { pushes: [], returned: unused(offered) });
  assertEquals(spread(22, offered)!.returned, offered);
  assertEquals(spread(23, offered), undefined);
  assertEquals(spread(1, []), undefined);
});

Deno.test("what was spread is read back as its length, for any segments", () => {
  const random = seeded(7);
  for (let round = 0; round < 1000; round++) {
    const offered = Array.from(
      { length: 1 + random(5) },
      (_, i) => ({ stag: i, length: random(9), offset: BigInt(random(99)) }),
    );
    const length = random(lengthOf(offered) + 1);
    const { pushes, returned } = spread(length, offered)!;
    assertEquals(writtenLength(returned, offered), length);
    assertEquals(pushes.reduce((at, push) => (assertEquals(push.at, at), at + push.length), 0), length);
  }
});

Deno.test("chunks returned that were not offered so are refused", () => {
  const offered = [segment(10, 0, 1), segment(10, 0, 2)];
  const [first, second] = offered;
  const hostile = [
    [first],
    [second, first],
    [first, second, second],
    [{ ...first, length: 11 }, second],
    [{ ...first, length: 9 }, { ...second, length: 1 }],
    [{ ...first, offset: 1n }, second],
  ];
  for (const returned of hostile) {
    assertEquals(assertThrows(() => writtenLength(returned, offered), ProtocolError).code, "BadPlacement");
  }
});

Deno.test("an STag may be invalidated where it is the only one", () => {
  const [a, b] = [segment(1, 4, 1), segment(1, 4, 2)];
  assertEquals(sharedStag({ reads: [], writes: [] }), undefined);
  assertEquals(sharedStag({ reads: [a, a], writes: [] }), 1);
  assertEquals(sharedStag({ reads: [a], writes: [[a], [a]], reply: [a] }), 1);
  assertEquals(sharedStag({ reads: [a], writes: [[b]] }), undefined);
  assertEquals(sharedStag({ reads: [], writes: [[a, b]] }), undefined);
  assertEquals(sharedStag({ reads: [a], writes: [], reply: [b] }), undefined);
});
