/**
 * Reads test runners' closing lines and adds their counts up.
 *
 * @module
 */

/** How many tests ended how. */
export interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

/** The sum of two counts. */
export function addTotals(a: Totals, b: Totals): Totals {
  return { passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped };
}

/** The one closing line: `N passed, N failed`, and `, N skipped` where any were. */
export function formatTotals({ passed, failed, skipped }: Totals): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

/** The counts in a closing line made by {@linkcode formatTotals}: the last one of the output. */
export function countClosingLine(output: string): Totals | undefined {
  return sum(output.matchAll(/^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/gm).toArray().slice(-1));
}

/** The counts of `deno test`: its summary line. */
export function countDenoTests(output: string): Totals | undefined {
  return sum(
    output.matchAll(
      /^(?:ok|FAILED) \| (\d+) passed(?: \([^)]*\))? \| (\d+) failed(?: \([^)]*\))?(?: \| (\d+) ignored)?/gm,
    ),
  );
}

/** The counts of `cargo test`: the sum over its test binaries. */
export function countCargoTests(output: string): Totals | undefined {
  return sum(output.matchAll(/^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;/gm));
}

/**
 * What a finished runner's exit code and output are worth. A runner that counts must have run something, and one that ends badly without
 * naming a failed test has failed itself.
 */
export function judge(
  finished: { code: number; output: string },
  count?: (output: string) => Totals | undefined,
): { totals: Totals; complaint?: string } {
  const none: Totals = { passed: 0, failed: 0, skipped: 0 };
  const failed = (totals: Totals, complaint: string) => ({
    totals: addTotals(totals, { ...none, failed: 1 }),
    complaint,
  });
  if (count === undefined) return finished.code === 0 ? { totals: none } : failed(none, `exit code ${finished.code}`);
  const totals = count(finished.output);
  if (totals === undefined) return failed(none, `no summary, exit code ${finished.code}`);
  if (totals.failed > 0) return { totals, complaint: `${totals.failed} failed` };
  if (finished.code !== 0) return failed(totals, `exit code ${finished.code}`);
  if (totals.passed === 0) return failed(totals, "it ran no test");
  return { totals };
}

function sum(matches: Iterable<RegExpMatchArray>): Totals | undefined {
  let totals: Totals | undefined;
  for (const [, passed, failed, skipped] of matches) {
    totals = addTotals(totals ?? { passed: 0, failed: 0, skipped: 0 }, {
      passed: Number(passed),
      failed: Number(failed),
      skipped: Number(skipped ?? 0),
    });
  }
  return totals;
}
