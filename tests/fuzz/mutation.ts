/**
 * Random input: bytes that were valid once, changed in ways that hurt decoders.
 *
 * @module
 */

/** A small seeded generator (mulberry32), so that a failure can be repeated. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** An integer from 0 to `limit` - 1. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(this.#state ^ this.#state >>> 15, this.#state | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return Math.floor(((t ^ t >>> 14) >>> 0) / 2 ** 32 * limit);
  }

  /** One of some values. */
  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)];
  }
}

/** 32-bit words at which lengths, counts and offsets tip over. */
const EDGES = [
  0,
  1,
  2,
  3,
  4,
  5,
  64,
  65,
  255,
  256,
  400,
  401,
  1023,
  1024,
  4096,
  65535,
  65536,
  0x100000,
  0x7fffffff,
  0x80000000,
  0xfffffffc,
  0xffffffff,
];

const MUTATIONS: readonly ((bytes: Uint8Array, random: Random, other: Uint8Array) => Uint8Array)[] = [
  // one bit
  (bytes, random) => {
    if (bytes.length > 0) bytes[random.below(bytes.length)] ^= 1 << random.below(8);
    return bytes;
  },
  // one byte
  (bytes, random) => {
    if (bytes.length > 0) bytes[random.below(bytes.length)] = random.below(256);
    return bytes;
  },
  // an aligned word
  (bytes, random) => {
    if (bytes.length < 4) return bytes;
    const at = random.below(bytes.length >> 2) * 4;
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(at, random.pick(EDGES));
    return bytes;
  },
  // cut short
  (bytes, random) => bytes.slice(0, random.below(bytes.length + 1)),
  // something left out
  (bytes, random) => {
    const at = random.below(bytes.length + 1);
    return join(bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + 1 + random.below(16))));
  },
  // something put in
  (bytes, random) => {
    const at = random.below(bytes.length + 1);
    const more = new Uint8Array(1 + random.below(16)).map(() => random.below(256));
    return join(bytes.subarray(0, at), more, bytes.subarray(at));
  },
  // the tail of another input
  (bytes, random, other) =>
    join(bytes.subarray(0, random.below(bytes.length + 1)), other.subarray(random.below(other.length + 1))),
];

/** A changed copy of one of the samples. */
export function mutate(samples: readonly Uint8Array[], random: Random): Uint8Array {
  let bytes: Uint8Array = random.pick(samples).slice();
  for (let count = 1 + random.below(6); count > 0; count--) {
    bytes = random.pick(MUTATIONS)(bytes, random, random.pick(samples));
  }
  return bytes;
}

function join(...parts: Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
