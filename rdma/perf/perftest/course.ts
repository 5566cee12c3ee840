/**
 * The course of a run with perftest, from the first word to the last: the same at both ends, but for who connects and who measures.
 *
 * @module
 */
import type { Operation } from "../operation.ts";
import type { Exchange } from "./exchange.ts";
import type { BandwidthReport } from "./messages.ts";
import type { PerftestRun } from "./run.ts";

/** How an end takes its part. */
export interface Part {
  /** Makes the connection that is measured. */
  connect(): Promise<void>;
  /** Measures messages of a size, or serves who does. Returns what it found, where it measures bandwidth. */
  measure(sizeBytes: number): Promise<BandwidthReport | undefined>;
  /** Takes what the other end has measured last. */
  hear(report: BandwidthReport): void;
}

const NO_MEMORY = { memory: { stag: 0, address: 0n }, readDepth: 0 };
const NOTHING: BandwidthReport = { sizeBytes: 0, iterations: 0, peak: 0, average: 0, messageRate: 0 };

/** Handshakes between connecting and the first row. */
function settling({ verb, measure }: Operation): number {
  return measure === "latency" && verb !== "send" ? 4 : 3;
}

/** Carries a run out. Throws what ends it early. */
export async function carryOut(run: PerftestRun, exchange: Exchange, part: Part): Promise<void> {
  const { operation, sizes } = run.spec;
  const isSend = operation.verb === "send";
  const isBandwidth = operation.measure === "bandwidth";
  run.allocate(await exchange.greet());
  await exchange.shake(NO_MEMORY);
  await part.connect();
  await exchange.shake(NO_MEMORY);
  for (let i = settling(operation); i > 0; i--) run.aim(await exchange.shake(run.destination));
  let found: BandwidthReport | undefined;
  for (const sizeBytes of sizes) {
    run.begin(sizeBytes);
    if (isSend) await exchange.shake(run.destination);
    found = await part.measure(sizeBytes);
    if (isSend && isBandwidth && sizes.length > 1) await exchange.shake(run.destination);
  }
  if (isBandwidth && !isSend) {
    await exchange.shake(run.destination);
    part.hear(await exchange.report(found ?? NOTHING));
  }
  run.isEnding = true;
  if (operation.name !== "write_lat") await exchange.shake(run.destination); // there each end knows when the other one has everything
  run.finish();
}
