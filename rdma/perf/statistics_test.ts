import { assertEquals } from "@std/assert";
import { Latencies, median, medians } from "./statistics.ts";

function assertClose(actual: number, expected: number, what: string): void {
  assertEquals(Math.abs(actual - expected) <= Math.abs(expected) / 1000, true, `${what}: ${actual}, not ${expected}`);
}

Deno.test("latencies: against sorted samples", () => {
  let state = 1;
  const random = () => (state = Math.imul(state, 48271) >>> 0 & 0x7fff_ffff) / 0x7fff_ffff;
  for (const count of [1, 2, 3, 99, 100, 101, 1000, 54321]) {
    const latencies = new Latencies();
    const samples = Array.from({ length: count }, () => 3 + 2 ** (random() * 20 - 10));
    for (const sample of samples) latencies.record(sample);
    const summary = latencies.summarize();
    samples.sort((a, b) => a - b);
    const at = (share: number) => samples[Math.ceil(count * share) - 1];
    const mean = samples.reduce((sum, sample) => sum + sample, 0) / count;
    const deviation = Math.sqrt(samples.reduce((sum, sample) => sum + (sample - mean) ** 2, 0) / count);
    assertEquals([summary.count, summary.min, summary.max], [count, samples[0], samples[count - 1]]);
    assertClose(summary.median, at(0.5), `median of ${count}`);
    assertClose(summary.p99, at(0.99), `p99 of ${count}`);
    assertClose(summary.p999, at(0.999), `p999 of ${count}`);
    assertClose(summary.mean, mean, `mean of ${count}`);
    if (count > 1) assertClose(summary.deviation, deviation, `deviation of ${count}`);
  }
});

Deno.test("latencies: none, and ones that no clock should give", () => {
  assertEquals(new Latencies().summarize().count, 0);
  const latencies = new Latencies();
  for (const sample of [0, 1e-9, 1e15]) latencies.record(sample);
  const { min, max, count } = latencies.summarize();
  assertEquals([min, max, count], [0, 1e15, 3]);
});

Deno.test("medians: field by field, of those that every record has", () => {
  assertEquals([median([5]), median([9, 1]), median([3, 1, 2])], [5, 5, 2]);
  const records = [{ a: 1, b: 10, c: "x" }, { a: 3, b: 20, c: "y" }, { a: 2, b: 60, c: "z" }];
  assertEquals(medians(records), { a: 2, b: 20 } as typeof records[0]);
});
