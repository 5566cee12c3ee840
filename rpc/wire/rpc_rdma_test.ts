import { assertEquals, assertThrows } from "@std/assert";
import { seeded, words } from "../_testing/bytes.ts";
import { ProtocolError, WireError } from "../errors.ts";
import { XdrWriter } from "../xdr/mod.ts";
import {
  CHUNK_SEGMENTS_MAX,
  type ChunkLists,
  decodeError,
  decodeFixedHeader,
  decodeMessage,
  encodeError,
  encodeHeader,
  headerBytes,
  NO_CHUNKS,
  type RdmaMessage,
  RdmaProc,
  READ_SEGMENTS_MAX,
  WRITE_CHUNKS_MAX,
} from "./rpc_rdma.ts";

function decode(message: Uint8Array): RdmaMessage {
  return decodeMessage(decodeFixedHeader(message), message);
}

function encode(header: Parameters<typeof encodeHeader>[1]): Uint8Array {
  const writer = new XdrWriter();
  encodeHeader(writer, header);
  return writer.finish().bytes;
}

function refusal(message: Uint8Array): string {
  return assertThrows(() => decode(message), ProtocolError).code;
}

const SEGMENT = { stag: 0xabcd, length: 4096, offset: 0x1_0000_0002n };
const SEGMENT_WORDS = [0xabcd, 4096, 1, 2];
const chunks: ChunkLists = {
  reads: [{ position: 140, ...SEGMENT }, { position: 140, ...SEGMENT }],
  writes: [[SEGMENT, SEGMENT], [SEGMENT]],
  reply: [SEGMENT],
};
const wire = words(
  ...[7, 1, 128, 0],
  ...[1, 140, ...SEGMENT_WORDS, 1, 140, ...SEGMENT_WORDS, 0],
  ...[1, 2, ...SEGMENT_WORDS, ...SEGMENT_WORDS, 1, 1, ...SEGMENT_WORDS, 0],
  ...[1, 1, ...SEGMENT_WORDS],
);

Deno.test("a header with everything: its words, back again, and every truncation", () => {
  assertEquals(encode({ xid: 7, credits: 128, proc: RdmaProc.RDMA_MSG, chunks }), wire);
  assertEquals(headerBytes(chunks), wire.byteLength);
  const message = Uint8Array.from([...wire, 1, 2, 3, 4]);
  const decoded = decode(message);
  assertEquals(decoded, { xid: 7, version: 1, credits: 128, proc: 0, chunks, body: Uint8Array.of(1, 2, 3, 4) });
  for (let length = 0; length < wire.byteLength; length++) {
    const cut = message.subarray(0, length);
    if (length < 16) assertThrows(() => decodeFixedHeader(cut), WireError);
    else assertEquals(refusal(cut), "BadChunk");
  }
});

Deno.test("a header without chunks is 28 bytes", () => {
  const bytes = encode({ xid: 1, credits: 2, proc: RdmaProc.RDMA_NOMSG });
  assertEquals(bytes, words(1, 1, 2, 1, 0, 0, 0));
  assertEquals(headerBytes(NO_CHUNKS), 28);
  assertEquals(decode(bytes).chunks, { reads: [], writes: [] });
});

Deno.test("what is refused, and how", () => {
  assertEquals(refusal(words(1, 2, 1, 0, 0, 0, 0)), "BadVersion");
  assertEquals(refusal(words(1, 1, 1, RdmaProc.RDMA_MSGP, 0, 0, 0, 0, 0)), "UnexpectedMessage");
  assertEquals(refusal(words(1, 1, 1, RdmaProc.RDMA_DONE)), "UnexpectedMessage");
  assertEquals(refusal(words(1, 1, 1, 99, 0, 0, 0)), "UnexpectedMessage");
  assertEquals(refusal(words(1, 1, 1, 0, 2, 0, 0)), "BadChunk", "not a boolean");
  assertEquals(refusal(words(1, 1, 1, 0, 1, 3, ...SEGMENT_WORDS, 0, 0, 0)), "BadChunk", "an odd position");
  assertEquals(refusal(words(1, 1, 1, 0, 0, 1, 0, 0, 0)), "BadChunk", "an empty Write chunk");
  assertEquals(refusal(words(1, 1, 1, 0, 0, 0, 1, 0)), "BadChunk", "an empty Reply chunk");
  assertEquals(refusal(words(1, 1, 1, 0, 0, 0, 1, 0xffffffff)), "BadChunk", "a huge count");
  assertEquals(refusal(words(1, 1, 1, 1, 0, 0, 0, 5)), "BadChunk", "RDMA_NOMSG with a message");
});

Deno.test("endless lists are refused at the limit", () => {
  const reads = Array.from({ length: READ_SEGMENTS_MAX + 1 }, () => ({ position: 0, ...SEGMENT }));
  const writes = Array.from({ length: WRITE_CHUNKS_MAX + 1 }, () => [SEGMENT]);
  const segments = Array.from({ length: CHUNK_SEGMENTS_MAX + 1 }, () => SEGMENT);
  const base = { xid: 1, credits: 1, proc: RdmaProc.RDMA_MSG };
  for (const tooMuch of [{ ...NO_CHUNKS, reads }, { ...NO_CHUNKS, writes }, { ...NO_CHUNKS, reply: segments }]) {
    assertEquals(refusal(encode({ ...base, chunks: tooMuch })), "BadChunk");
  }
  const most = { reads: reads.slice(1), writes: writes.slice(1), reply: segments.slice(1) };
  assertEquals(decode(encode({ ...base, chunks: most })).chunks, most);
});

Deno.test("RDMA_ERROR there and back", () => {
  const writer = new XdrWriter();
  encodeError(writer, { xid: 7, credits: 3, code: 1, low: 1, high: 1 });
  const versions = writer.finish().bytes;
  assertEquals(versions, words(7, 1, 3, 4, 1, 1, 1));
  assertEquals(decodeError(versions), { code: 1, low: 1, high: 1 });
  writer.begin();
  encodeError(writer, { xid: 7, credits: 3, code: 2 });
  const chunk = writer.finish().bytes;
  assertEquals(chunk, words(7, 1, 3, 4, 2));
  assertEquals(decodeError(chunk), { code: 2 });
  for (const bad of [words(7, 1, 3, 4), words(7, 1, 3, 4, 1, 1), words(7, 1, 3, 4, 3)]) {
    assertThrows(() => decodeError(bad), WireError);
  }
});

Deno.test("random headers: a message that encodes to the same bytes, or a refusal", () => {
  const seed = 20250101;
  const random = seeded(seed);
  let decoded = 0;
  for (let round = 0; round < 30_000; round++) {
    const values = [
      1,
      1,
      1,
      random(2),
      ...Array.from({ length: 3 + random(24) }, () => [0, 0, 0, 1, 1, 2, 140, random(2 ** 32)][random(8)]),
    ];
    const bytes = words(...values);
    try {
      const { body, chunks, proc } = decode(bytes);
      decoded++;
      const again = encode({ xid: 1, credits: 1, proc, chunks });
      assertEquals(Uint8Array.from([...again, ...body]), bytes);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw new Error(`seed ${seed}, round ${round}`, { cause: error });
    }
  }
  assertEquals(decoded > 1000, true, `${decoded} decoded`);
});
