/**
 * XDR types as values (RFC 4506): one declaration gives the encoder, the decoder, the bound on its size, and the static type.
 *
 * ```ts
 * import { bulk, type Infer, opaque, struct, uint32, uint64 } from "./codec.ts";
 *
 * const WRITE3args = struct({
 *   file: opaque(64),
 *   offset: uint64,
 *   count: uint32,
 *   data: bulk(1 << 20),
 * });
 * type WRITE3args = Infer<typeof WRITE3args>;
 * ```
 *
 * @module
 */
import type { XdrMessage } from "../transport.ts";
import { XdrReader, type XdrReaderOptions } from "./xdr_reader.ts";
import { XdrWriter } from "./xdr_writer.ts";

/** An XDR type: how a `T` is written and read. Anything of this shape can be a part of a declaration. */
export interface XdrType<T> {
  /** The most bytes that a value takes in the stream, contents of bulk items not counted. May be `Infinity`. */
  readonly bytesMax: number;
  /** The most bytes of bulk contents that a value has beside the stream; 0 where it is left out. */
  readonly bulkBytesMax?: number;
  /** Writes a value. Throws `RangeError` or `TypeError` where it is not one of the type's. */
  encode(writer: XdrWriter, value: T): void;
  /** Reads a value. Throws `WireError`. Opaque values are views into what is read. */
  decode(reader: XdrReader): T;
}

/** The values of an XDR type. */
export type Infer<X> = X extends { decode(reader: XdrReader): infer T } ? T : never;

/** Encodes one value as a message of its own. */
export function encode<T>(type: XdrType<T>, value: T): XdrMessage {
  const writer = new XdrWriter(Math.min(type.bytesMax, 512));
  type.encode(writer, value);
  return writer.finish();
}

/** Decodes one value that takes up all of `bytes`. Throws `WireError`, for trailing bytes too. */
export function decode<T>(type: XdrType<T>, bytes: Uint8Array, options?: XdrReaderOptions): T {
  const reader = new XdrReader(bytes, options);
  const value = type.decode(reader);
  reader.expectEnd();
  return value;
}

/** Signed 32-bit integer (RFC 4506 §4.1). */
export const int32: XdrType<number> = {
  bytesMax: 4,
  encode: (writer, value) => writer.int32(value),
  decode: (reader) => reader.int32(),
};

/** Unsigned 32-bit integer (RFC 4506 §4.2). */
export const uint32: XdrType<number> = {
  bytesMax: 4,
  encode: (writer, value) => writer.uint32(value),
  decode: (reader) => reader.uint32(),
};

/** Signed 64-bit integer (RFC 4506 §4.5). */
export const int64: XdrType<bigint> = {
  bytesMax: 8,
  encode: (writer, value) => writer.int64(value),
  decode: (reader) => reader.int64(),
};

/** Unsigned 64-bit integer (RFC 4506 §4.5). */
export const uint64: XdrType<bigint> = {
  bytesMax: 8,
  encode: (writer, value) => writer.uint64(value),
  decode: (reader) => reader.uint64(),
};

/** Boolean (RFC 4506 §4.4). */
export const bool: XdrType<boolean> = {
  bytesMax: 4,
  encode: (writer, value) => writer.bool(value),
  decode: (reader) => reader.bool(),
};

/** Nothing (RFC 4506 §4.16). */
export const voidType: XdrType<void> = {
  bytesMax: 0,
  encode: () => {},
  decode: () => {},
};

/** An enumeration: the codec, with its members as properties. */
export type XdrEnum<E extends Record<string, number>> = XdrType<E[keyof E]> & Readonly<E> & {
  /** The name of a member, or its number in words where it has none. */
  nameOf(value: number): string;
};

/**
 * Enumeration (RFC 4506 §4.3); a number that is not a member is refused both ways.
 *
 * ```ts
 * import { enumeration, type Infer } from "./codec.ts";
 *
 * const stable_how = enumeration({ UNSTABLE: 0, DATA_SYNC: 1, FILE_SYNC: 2 });
 * type stable_how = Infer<typeof stable_how>; // 0 | 1 | 2
 * const how: stable_how = stable_how.FILE_SYNC;
 * ```
 */
export function enumeration<const E extends Record<string, number>>(members: E): XdrEnum<E> {
  const names = new Map<number, string>();
  for (const [name, value] of Object.entries(members)) names.set(value, name);
  const type: XdrType<E[keyof E]> & { nameOf(value: number): string } = {
    bytesMax: 4,
    encode(writer, value): void {
      if (!names.has(value)) throw new RangeError(`${value} is not a member of the enumeration`);
      writer.int32(value);
    },
    decode(reader): E[keyof E] {
      const value = reader.int32();
      if (!names.has(value)) throw reader.fault(`${value} is not a member of the enumeration`, 4);
      return value as E[keyof E];
    },
    nameOf: (value) => names.get(value) ?? `unknown (${value})`,
  };
  return Object.assign(type, members);
}

/** Fixed-length opaque data (RFC 4506 §4.9). Decoded as a view. */
export function opaqueFixed(length: number): XdrType<Uint8Array> {
  return {
    bytesMax: padded(length),
    encode(writer, value): void {
      if (value.byteLength !== length) throw new RangeError(`${value.byteLength} bytes where ${length} are wanted`);
      writer.opaqueFixed(value);
    },
    decode: (reader) => reader.opaqueFixed(length),
  };
}

/** Variable-length opaque data of at most `max` bytes (RFC 4506 §4.10). Decoded as a view. */
export function opaque(max: number): XdrType<Uint8Array> {
  return {
    bytesMax: 4 + padded(max),
    encode: (writer, value) => writer.opaque(value, max),
    decode: (reader) => reader.opaque(max),
  };
}

/** A string of at most `max` bytes whose encoding is nobody's business (RFC 4506 §4.11), such as a file name. Decoded as a view. */
export const byteString: (max: number) => XdrType<Uint8Array> = opaque;

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A UTF-8 string of at most `max` bytes (RFC 4506 §4.11). */
export function string(max: number): XdrType<string> {
  return {
    bytesMax: 4 + padded(max),
    encode: (writer, value) => writer.opaque(utf8Encoder.encode(value), max),
    decode(reader): string {
      const bytes = reader.opaque(max);
      try {
        return utf8Decoder.decode(bytes);
      } catch (cause) {
        throw Object.assign(reader.fault("not UTF-8", padded(bytes.byteLength)), { cause });
      }
    },
  };
}

/** `length` elements, without a count (RFC 4506 §4.12). */
export function arrayFixed<T>(element: XdrType<T>, length: number): XdrType<T[]> {
  return {
    bytesMax: times(length, element.bytesMax),
    encode(writer, values): void {
      if (values.length !== length) throw new RangeError(`${values.length} elements where ${length} are wanted`);
      for (const value of values) element.encode(writer, value);
    },
    decode: (reader) => decodeElements(reader, { element, count: length }),
  };
}

/** Counted elements, at most `max` (RFC 4506 §4.13). */
export function array<T>(element: XdrType<T>, max: number): XdrType<T[]> {
  return {
    bytesMax: 4 + times(max, element.bytesMax),
    encode(writer, values): void {
      if (values.length > max) throw new RangeError(`${values.length} elements are above the limit of ${max}`);
      writer.uint32(values.length);
      for (const value of values) element.encode(writer, value);
    },
    decode: (reader) => decodeElements(reader, { element, count: reader.length(max) }),
  };
}

function decodeElements<T>(reader: XdrReader, { element, count }: { element: XdrType<T>; count: number }): T[] {
  const values: T[] = [];
  for (let i = 0; i < count; i++) values.push(element.decode(reader));
  return values;
}

/**
 * A linked list by optional pointers (RFC 4506 §4.19), at most `max` long: `entry *next` as the last member of `entry`. Declare
 * the entry without that member. Decoded and encoded in a loop, whatever its length.
 */
export function list<T>(entry: XdrType<T>, max: number): XdrType<T[]> {
  return {
    bytesMax: 4 + times(max, 4 + entry.bytesMax),
    encode(writer, values): void {
      if (values.length > max) throw new RangeError(`${values.length} entries are above the limit of ${max}`);
      for (const value of values) {
        writer.bool(true);
        entry.encode(writer, value);
      }
      writer.bool(false);
    },
    decode(reader): T[] {
      const values: T[] = [];
      while (reader.bool()) {
        if (values.length === max) throw reader.fault(`a list of more than ${max} entries`, 4);
        values.push(entry.decode(reader));
      }
      return values;
    },
  };
}

/** A value that may be missing (RFC 4506 §4.19); also `union switch (bool) { case TRUE: T; case FALSE: void; }`. */
export function optional<T>(type: XdrType<T>): XdrType<T | undefined> {
  return {
    bytesMax: 4 + type.bytesMax,
    bulkBytesMax: type.bulkBytesMax,
    encode(writer, value): void {
      writer.bool(value !== undefined);
      if (value !== undefined) type.encode(writer, value);
    },
    decode: (reader) => reader.bool() ? type.decode(reader) : undefined,
  };
}

/** Members of a structure, in wire order. */
export type XdrFields = Record<string, XdrType<unknown>>;

/** Structure (RFC 4506 §4.14): members in the order of the declaration. Members that can be `undefined` may be left out. */
export function struct<F extends XdrFields>(fields: F): XdrType<InferFields<F>> {
  const names = Object.keys(fields);
  const types = Object.values(fields);
  const count = names.length;
  return {
    bytesMax: types.reduce((sum, type) => sum + type.bytesMax, 0),
    bulkBytesMax: types.reduce((sum, type) => sum + (type.bulkBytesMax ?? 0), 0),
    encode(writer, value): void {
      const values = value as Record<string, unknown>;
      for (let i = 0; i < count; i++) types[i].encode(writer, values[names[i]]);
    },
    decode(reader): InferFields<F> {
      const values: Record<string, unknown> = {};
      for (let i = 0; i < count; i++) values[names[i]] = types[i].decode(reader);
      return values as InferFields<F>;
    },
  };
}

/** The static type of a structure's members. */
export type InferFields<F extends XdrFields> = Simplify<
  & { -readonly [K in keyof F as undefined extends Infer<F[K]> ? never : K]: Infer<F[K]> }
  & { -readonly [K in keyof F as undefined extends Infer<F[K]> ? K : never]?: Infer<F[K]> }
>;

/** Arms of a union by discriminant. */
export type XdrCases = Record<number, XdrType<unknown>>;

/** The static type of a union: `{ [name]: discriminant, value: arm }`. `value` may be left out where the arm is void. */
export type InferUnion<N extends string, D extends number, C extends XdrCases, Rest> =
  | { [K in keyof C]: InferArm<N, K & number, Infer<C[K]>> }[keyof C]
  | ([Rest] extends [never] ? never : { [K in Exclude<D, keyof C>]: InferArm<N, K, Rest> }[Exclude<D, keyof C>]);

/** One arm of a union. */
export type InferArm<N extends string, K, T> = Simplify<
  { [P in N]: K } & (undefined extends T ? { value?: T } : T extends void ? { value?: undefined } : { value: T })
>;

/** A type with its members written out. */
export type Simplify<T> = { [K in keyof T]: T[K] } & unknown;

/**
 * Discriminated union (RFC 4506 §4.15). A discriminant without an arm and without a default is refused.
 *
 * ```ts
 * import { enumeration, type Infer, union, uint64, voidType } from "./codec.ts";
 *
 * const time_how = enumeration({ DONT_CHANGE: 0, SET_TO_SERVER_TIME: 1, SET_TO_CLIENT_TIME: 2 });
 * const set_time = union("set_it", time_how, { [time_how.SET_TO_CLIENT_TIME]: uint64 }, voidType);
 * type set_time = Infer<typeof set_time>; // { set_it: 2; value: bigint } | { set_it: 0 | 1; value?: undefined }
 * ```
 */
export function union<N extends string, D extends number, C extends XdrCases, R = never>(
  discriminant: N,
  type: XdrType<D>,
  cases: C,
  otherwise?: XdrType<R>,
): XdrType<InferUnion<N, D, C, R>> {
  const arms = new Map<number, XdrType<unknown>>();
  for (const [key, arm] of Object.entries(cases)) arms.set(Number(key), arm);
  const all = [...arms.values(), ...(otherwise === undefined ? [] : [otherwise])];
  return {
    bytesMax: type.bytesMax + Math.max(0, ...all.map((arm) => arm.bytesMax)),
    bulkBytesMax: Math.max(0, ...all.map((arm) => arm.bulkBytesMax ?? 0)),
    encode(writer, value): void {
      const fields = value as Record<string, unknown>;
      const chosen = fields[discriminant] as D;
      const arm = arms.get(chosen) ?? otherwise as XdrType<unknown> | undefined;
      if (arm === undefined) throw new RangeError(`${discriminant} ${chosen} has no arm`);
      type.encode(writer, chosen);
      arm.encode(writer, fields.value);
    },
    decode(reader): InferUnion<N, D, C, R> {
      const chosen = type.decode(reader);
      const arm = arms.get(chosen) ?? otherwise;
      if (arm === undefined) throw reader.fault(`${discriminant} ${chosen} has no arm`, 4);
      return { [discriminant]: chosen, value: arm.decode(reader) } as InferUnion<N, D, C, R>;
    },
  };
}

/**
 * Opaque data of at most `max` bytes that may travel beside the stream (DDP-eligible, RFC 8166 §3.4.1); on the wire of a stream
 * transport it is `opaque<max>`. Values are pieces that are read one behind the other: one to encode, one or two decoded, none
 * where the data is empty. Never copied. At most one with contents in a message.
 */
export function bulk(max: number): XdrType<readonly Uint8Array[]> {
  return {
    bytesMax: 4,
    bulkBytesMax: max,
    encode: (writer, pieces) => writer.bulk(pieces, max),
    decode: (reader) => reader.bulk(max),
  };
}

function padded(length: number): number {
  return Math.ceil(length / 4) * 4;
}

/** A product that is 0 where either factor is, even if the other one is infinite. */
function times(count: number, bytes: number): number {
  return count === 0 || bytes === 0 ? 0 : count * bytes;
}
