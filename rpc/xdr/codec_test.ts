import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { seeded } from "../_testing/bytes.ts";
import { WireError } from "../errors.ts";
import {
  array,
  arrayFixed,
  bool,
  bulk,
  byteString,
  decode,
  encode,
  enumeration,
  flatten,
  type Infer,
  int32,
  int64,
  list,
  opaque,
  opaqueFixed,
  optional,
  string,
  struct,
  uint32,
  uint64,
  union,
  voidType,
  XdrReader,
  type XdrType,
  XdrWriter,
} from "./mod.ts";

function hex(text: string): Uint8Array {
  const digits = text.replaceAll(" ", "");
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

function bytes(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => i + 1);
}

/** Encodes to exactly these bytes and back, and refuses every truncation and a trailing word. */
function check<T>(type: XdrType<T>, value: T, wire: string): void {
  const encoded = flatten(encode(type, value));
  assertEquals(encoded, hex(wire));
  assertEquals(decode(type, encoded), value);
  for (let length = 0; length < encoded.byteLength; length++) {
    assertThrows(() => decode(type, encoded.subarray(0, length)), WireError);
  }
  const longer = new Uint8Array(encoded.byteLength + 4);
  longer.set(encoded);
  assertThrows(() => decode(type, longer), WireError, "4 bytes too many");
}

const colour = enumeration({ RED: 2, YELLOW: 3, BLUE: 5 });
const point = struct({ x: int32, y: int32 });
const shape = union("kind", colour, { [colour.RED]: point, [colour.BLUE]: voidType }, uint64);
const write = struct({ file: opaque(64), count: uint32, data: bulk(1 << 20) });
const around = struct({ before: uint32, data: bulk(1 << 20), after: uint32 });

Deno.test("every type has the bytes of RFC 4506", () => {
  check(int32, -2, "fffffffe");
  check(uint32, 0xfffffffe, "fffffffe");
  check(int64, -2n, "fffffffffffffffe");
  check(uint64, 0x0102030405060708n, "0102030405060708");
  check(bool, true, "00000001");
  check(colour, colour.BLUE, "00000005");
  check(opaqueFixed(3), bytes(3), "01020300");
  check(opaque(8), bytes(5), "00000005 0102030405000000");
  check(opaque(8), bytes(0), "00000000");
  check(byteString(4), bytes(4), "00000004 01020304");
  check(string(255), "sillyprog", "00000009 73696c6c7970726f67000000");
  check(string(4), "é", "00000002 c3a90000");
  check(arrayFixed(uint32, 2), [1, 2], "00000001 00000002");
  check(array(bool, 3), [true, false], "00000002 00000001 00000000");
  check(list(uint32, 3), [7, 8], "00000001 00000007 00000001 00000008 00000000");
  check(optional(uint32), 9, "00000001 00000009");
  check(optional(uint32), undefined, "00000000");
  check(point, { x: 1, y: -1 }, "00000001 ffffffff");
  check<Infer<typeof shape>>(shape, { kind: 2, value: { x: 1, y: 2 } }, "00000002 00000001 00000002");
  check<Infer<typeof shape>>(shape, { kind: 5, value: undefined }, "00000005");
  check<Infer<typeof shape>>(shape, { kind: 3, value: 4n }, "00000003 0000000000000004");
  check(write, { file: bytes(1), count: 5, data: [bytes(5)] }, "00000001 01000000 00000005 00000005 0102030405000000");
});

Deno.test("static types follow from the declaration", () => {
  const declared = struct({ how: colour, size: optional(uint64), names: list(byteString(255), 10) });
  type Declared = Infer<typeof declared>;
  const value: Declared = { how: 3, names: [] };
  assertEquals(decode(declared, encode(declared, value).bytes), { how: 3, size: undefined, names: [] });
  assertEquals(colour.nameOf(5), "BLUE");
  assertEquals(colour.nameOf(6), "unknown (6)");
});

Deno.test("bounds: the most bytes that a type can take", () => {
  assertEquals(write.bytesMax, 4 + 64 + 4 + 4);
  assertEquals(shape.bytesMax, 12);
  assertEquals(list(point, 10).bytesMax, 4 + 10 * 12);
  assertEquals(array(voidType, Infinity).bytesMax, 4);
  assertEquals(opaqueFixed(5).bytesMax, 8);
  assertEquals(write.bulkBytesMax, 1 << 20);
  assertEquals(union("kind", uint32, { 1: write }, optional(around)).bulkBytesMax, 1 << 20);
  assertEquals(shape.bulkBytesMax, 0);
});

Deno.test("values out of range are refused when decoding", () => {
  assertThrows(() => decode(bool, hex("00000002")), WireError, "not a boolean");
  assertThrows(() => decode(colour, hex("00000004")), WireError, "not a member");
  assertThrows(() => decode(opaque(4), hex("00000005 0102030405000000")), WireError, "above the limit of 4");
  assertThrows(() => decode(opaque(0xffffffff), hex("ffffffff 01020304")), WireError, "cut short");
  assertThrows(() => decode(string(4), hex("00000002 c3280000")), WireError, "not UTF-8");
  assertThrows(() => decode(array(uint32, 1), hex("00000002 00000001 00000002")), WireError, "above the limit");
  assertThrows(
    () => decode(list(uint32, 1), hex("00000001 00000007 00000001 00000008 00000000")),
    WireError,
    "list of",
  );
  assertThrows(() => decode(shape, hex("00000007 00000000")), WireError, "not a member");
  const narrow = union("kind", uint32, { 1: voidType });
  assertThrows(() => decode(narrow, hex("00000002")), WireError, "has no arm");
  const error = assertThrows(() => decode(point, hex("0000000100")), WireError);
  assertEquals([error.layer, error.offset], ["xdr", 4]);
});

Deno.test("values out of range are misuse when encoding", () => {
  assertThrows(() => encode(uint32, -1), RangeError);
  assertThrows(() => encode(uint32, 1.5), RangeError);
  assertThrows(() => encode(int32, 0x80000000), RangeError);
  assertThrows(() => encode(uint64, 1n << 64n), RangeError);
  assertThrows(() => encode(int64, 1n << 63n), RangeError);
  assertThrows(() => encode(opaque(4), bytes(5)), RangeError);
  assertThrows(() => encode(opaqueFixed(4), bytes(5)), RangeError);
  assertThrows(() => encode(string(1), "é"), RangeError);
  assertThrows(() => encode(array(uint32, 1), [1, 2]), RangeError);
  assertThrows(() => encode(list(uint32, 1), [1, 2]), RangeError);
  assertThrows(() => encode(arrayFixed(uint32, 1), []), RangeError);
  assertThrows(() => encode(bulk(4), [bytes(5)]), RangeError);
  assertThrows(() => encode(struct({ a: bulk(4), b: bulk(4) }), { a: [bytes(1)], b: [bytes(1)] }), TypeError);
  assertThrows(() => encode(colour, 4 as 5), RangeError);
});

Deno.test("padding may be anything", () => {
  assertEquals(decode(opaque(8), hex("00000001 01ffffff")), bytes(1));
});

Deno.test("a list of a million entries needs no stack", () => {
  const count = 1_000_000;
  const type = list(voidType, count);
  const encoded = flatten(encode(type, Array(count).fill(undefined)));
  assertEquals(encoded.byteLength, 4 * count + 4);
  assertEquals(decode(type, encoded).length, count);
});

Deno.test("opaque values are views, bulk contents stay where they are", () => {
  const data = bytes(8);
  const message = encode(write, { file: bytes(4), count: 8, data: [data] });
  assertEquals(message.bytes, hex("00000004 01020304 00000008 00000008"));
  assertStrictEquals(message.bulk?.data, data);
  assertEquals(message.bulk?.position, 16);
  const whole = flatten(message);
  const value = decode(write, whole);
  assertStrictEquals(value.file.buffer, whole.buffer);
  assertStrictEquals(value.data[0].buffer, whole.buffer);
  assertEquals(encode(bulk(8), [bytes(2), bytes(3)]).bulk?.data, hex("0102010203"), "several pieces are joined");
});

Deno.test("a bulk item is read from beside the stream, with its padding and without", () => {
  const message = encode(around, { before: 1, data: [bytes(5)], after: 2 });
  for (const given of [bytes(5), hex("0102030405000000")]) {
    const value = decode(around, message.bytes, { inserted: { position: message.bulk!.position, data: given } });
    assertEquals(value, { before: 1, data: [bytes(5)], after: 2 });
    assertStrictEquals(value.data[0].buffer, given.buffer);
  }
});

Deno.test("beside the stream: too little, too much, at a wrong place", () => {
  const { bytes: stream, bulk: item } = encode(around, { before: 1, data: [bytes(5)], after: 2 });
  const position = item!.position;
  for (const length of [0, 4, 9, 12]) {
    assertThrows(() => decode(around, stream, { inserted: { position, data: new Uint8Array(length) } }), WireError);
  }
  for (const at of [2, position - 1, stream.byteLength + 4]) {
    assertThrows(() => decode(around, stream, { inserted: { position: at, data: bytes(5) } }), WireError);
  }
});

Deno.test("a record cut anywhere decodes alike, with contents as pieces", () => {
  const values = {
    numbers: [1n, 2n, 3n],
    name: bytes(6),
    data: [bytes(1000).map((_, i) => i)],
    after: 7,
  };
  const type = struct({ numbers: array(uint64, 9), name: opaque(9), data: bulk(1000), after: uint32 });
  const whole = flatten(encode(type, values));
  for (let position = 0; position <= whole.byteLength; position += 4) {
    const inserted = { position, data: whole.subarray(position) };
    const value = decode(type, whole.subarray(0, position), { inserted });
    const joined = value.data.flatMap((piece) => [...piece]);
    assertEquals({ ...value, data: [Uint8Array.from(joined)] }, values);
    for (const piece of value.data) assertStrictEquals(piece.buffer, whole.buffer);
  }
});

Deno.test("placed contents: absent from the stream, or copied out of it", () => {
  const message = encode(around, { before: 1, data: [bytes(5)], after: 2 });
  const into = new Uint8Array(16);
  into.set(bytes(5));
  const placed = decode(around, message.bytes, { placed: { into, length: 5 } });
  assertStrictEquals(placed.data[0].buffer, into.buffer);
  assertEquals(placed.data[0].byteLength, 5);

  const other = new Uint8Array(16);
  const copied = decode(around, flatten(message), { placed: { into: other } });
  assertStrictEquals(copied.data[0].buffer, other.buffer);
  assertEquals(copied, { before: 1, data: [bytes(5)], after: 2 });
});

Deno.test("placed contents: lengths that do not agree are refused", () => {
  const message = encode(around, { before: 1, data: [bytes(5)], after: 2 });
  const into = new Uint8Array(16);
  assertThrows(() => decode(around, message.bytes, { placed: { into, length: 4 } }), WireError, "4 bytes were placed");
  assertThrows(
    () => decode(around, flatten(message), { placed: { into: into.subarray(0, 4) } }),
    WireError,
    "do not fit",
  );
  assertThrows(
    () => decode(uint32, hex("00000001"), { placed: { into, length: 4 } }),
    WireError,
    "without a bulk item",
  );
});

Deno.test("the writer cuts messages from a slab and survives a failed one", () => {
  const writer = new XdrWriter(64);
  const messages: Uint8Array[] = [];
  for (let i = 0; i < 100; i++) {
    writer.begin();
    writer.uint32(i);
    if (i % 7 === 3) {
      assertThrows(() => writer.uint32(-1), RangeError);
      continue;
    }
    writer.opaque(bytes(i), 100);
    messages.push(writer.finish().bytes);
  }
  const type = struct({ i: uint32, body: opaque(100) });
  for (const message of messages) {
    const { i, body } = decode(type, message);
    assertEquals(body, bytes(i));
  }
});

Deno.test("random bytes: a value that encodes to the same bytes, or a WireError", () => {
  const type = list(union("kind", colour, { 2: point, 3: array(string(9), 4) }, optional(shape)), 20);
  const random = seeded(12345);
  let decoded = 0;
  for (let round = 0; round < 40_000; round++) {
    const words = Array.from({ length: 1 + random(12) }, () => [0, 0, 1, 1, 2, 3, 5, random(2 ** 32)][random(8)]);
    const wire = new Uint8Array(words.length * 4);
    words.forEach((word, i) => new DataView(wire.buffer).setUint32(i * 4, word));
    try {
      const reader = new XdrReader(wire);
      const value = type.decode(reader);
      reader.expectEnd();
      decoded++;
      assertEquals(decode(type, flatten(encode(type, value))), value);
    } catch (error) {
      if (!(error instanceof WireError)) throw new Error(`seed 12345, round ${round}`, { cause: error });
    }
  }
  assertEquals(decoded > 100, true, `${decoded} decoded`);
});
