/**
 * Figures of many samples.
 *
 * @module
 */

/** Bits of a sample's fraction that are kept: percentiles are exact to one part in 2048. */
const FRACTION_BITS = 10;
/** Binary exponents that are told apart: from 2^-20 to 2^43 of whatever the unit is. */
const EXPONENT_MIN = 1023 - 20;
const EXPONENTS = 64;

/** What is said of a latency, µs. */
export interface LatencySummary {
  count: number;
  min: number;
  max: number;
  median: number;
  mean: number;
  deviation: number;
  p99: number;
  p999: number;
}

/** Samples of a latency, in a table that does not grow with them. */
export class Latencies {
  readonly #float = new Float64Array(1);
  readonly #words = new Uint32Array(this.#float.buffer);
  readonly #counts = new Uint32Array(EXPONENTS << FRACTION_BITS);
  #count = 0;
  #min = Infinity;
  #max = 0;
  #sum = 0;
  #squares = 0;

  /** Adds one, µs. */
  record(micros: number): void {
    this.#float[0] = micros;
    // the upper half of the number: sign, exponent, and the fraction's 20 first bits
    const upper = (this.#words[1] >>> (20 - FRACTION_BITS)) - (EXPONENT_MIN << FRACTION_BITS);
    this.#counts[Math.max(0, Math.min(upper, this.#counts.length - 1))]++;
    this.#count++;
    if (micros < this.#min) this.#min = micros;
    if (micros > this.#max) this.#max = micros;
    this.#sum += micros;
    this.#squares += micros * micros;
  }

  /** What there is to say of them. */
  summarize(): LatencySummary {
    const count = this.#count;
    if (count === 0) return { count, min: 0, max: 0, median: 0, mean: 0, deviation: 0, p99: 0, p999: 0 };
    const mean = this.#sum / count;
    return {
      count,
      min: this.#min,
      max: this.#max,
      median: this.#percentile(0.5),
      mean,
      deviation: Math.sqrt(Math.max(0, this.#squares / count - mean * mean)),
      p99: this.#percentile(0.99),
      p999: this.#percentile(0.999),
    };
  }

  #percentile(share: number): number {
    let left = Math.ceil(this.#count * share);
    const at = this.#counts.findIndex((count) => (left -= count) <= 0);
    const exponent = EXPONENT_MIN + (at >>> FRACTION_BITS) - 1023;
    const fraction = ((at & ((1 << FRACTION_BITS) - 1)) + 0.5) / (1 << FRACTION_BITS);
    return Math.min(this.#max, Math.max(this.#min, (1 + fraction) * 2 ** exponent));
  }
}

/** The middle of some figures. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The median of every number of several records of the same kind. */
export function medians<T extends object>(records: readonly T[]): T {
  const names = Object.keys(records[0]) as (keyof T)[];
  const numbers = names.filter((name) => records.every((record) => typeof record[name] === "number"));
  return Object.fromEntries(
    numbers.map((name) => [name, median(records.map((record) => record[name] as number))]),
  ) as T;
}
