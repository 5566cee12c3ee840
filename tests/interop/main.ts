/**
 * `deno task interop [NAME...]`: tests against the stock Linux kernel in a guest, and against tshark. NAMEs choose scenarios.
 *
 * @module
 */
import { addTotals, formatTotals, type Totals } from "../totals.ts";
import { buildGuest, type TestResult } from "./guest.ts";
import { capture } from "./scenarios/capture.ts";
import { kernelServer } from "./scenarios/kernel_server.ts";
import { mountOver } from "./scenarios/mount.ts";
import { perftest } from "./scenarios/perftest.ts";
import { rping } from "./scenarios/rping.ts";
import { verbs } from "./scenarios/verbs.ts";

/** Takes the results of a scenario as they come. */
export type Report = (result: TestResult) => void;

/** A scenario: a set of tests that share a set-up. */
export interface Scenario {
  name: string;
  needsGuest: boolean;
  run(report: Report): Promise<void>;
}

const SCENARIOS: readonly Scenario[] = [
  verbs,
  capture,
  rping,
  perftest,
  mountOver("rdma"),
  mountOver("rdma-crc"),
  mountOver("tcp"),
  kernelServer,
];

async function main(chosen: readonly string[]): Promise<number> {
  const unknown = chosen.filter((name) => !SCENARIOS.some((scenario) => scenario.name === name));
  if (unknown.length > 0) {
    console.error(`no scenario ${unknown.join(", ")}; there are ${SCENARIOS.map(({ name }) => name).join(", ")}`);
    return 2;
  }
  const scenarios = SCENARIOS.filter(({ name }) => chosen.length === 0 || chosen.includes(name));
  let totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  const report: Report = ({ name, outcome, detail }) => {
    const one = (kind: TestResult["outcome"]) => outcome === kind ? 1 : 0;
    totals = addTotals(totals, { passed: one("ok"), failed: one("failed"), skipped: one("skipped") });
    console.log(`${outcome.toUpperCase()} ${name}`);
    if (outcome !== "ok" && detail !== "") console.log(detail.trimEnd().replaceAll(/^/gm, "    "));
  };
  let guestIsReady: Promise<void> | undefined;
  for (const scenario of scenarios) {
    const started = performance.now();
    const before = totals;
    console.log(`\n== ${scenario.name}`);
    try {
      if (scenario.needsGuest) await (guestIsReady ??= buildGuest());
      await scenario.run(report);
      if (totals === before) throw new Error("it ran no test");
    } catch (error) {
      report({
        name: scenario.name,
        outcome: "failed",
        detail: error instanceof Error ? error.stack ?? error.message : String(error),
      });
    }
    console.log(`== ${scenario.name}: ${((performance.now() - started) / 1000).toFixed(0)} s`);
  }
  console.log(`\n${formatTotals(totals)}`);
  return totals.failed === 0 && totals.passed > 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
