import { assertEquals } from "@std/assert";
import { countCargoTests, countClosingLine, countDenoTests, formatTotals, judge } from "./totals.ts";

const CARGO = `running 2 tests
test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
`;

Deno.test("cargo's counts are summed over its binaries", () => {
  assertEquals(countCargoTests(CARGO), { passed: 15, failed: 2, skipped: 1 });
  assertEquals(countCargoTests("error: could not compile"), undefined);
});

Deno.test("deno's counts are read with and without steps", () => {
  assertEquals(countDenoTests("x\nok | 5 passed | 0 failed (261ms)\n"), { passed: 5, failed: 0, skipped: 0 });
  assertEquals(
    countDenoTests("FAILED | 3 passed (2 steps) | 1 failed (1 step) | 4 ignored | 2 filtered out (1s)"),
    { passed: 3, failed: 1, skipped: 4 },
  );
  assertEquals(countDenoTests("error: Uncaught (in promise)"), undefined);
});

Deno.test("the last closing line counts", () => {
  assertEquals(countClosingLine("1 passed, 0 failed\nmore\n7 passed, 2 failed, 1 skipped\n"), {
    passed: 7,
    failed: 2,
    skipped: 1,
  });
  assertEquals(formatTotals({ passed: 7, failed: 2, skipped: 1 }), "7 passed, 2 failed, 1 skipped");
  assertEquals(formatTotals({ passed: 7, failed: 0, skipped: 0 }), "7 passed, 0 failed");
});

Deno.test("a runner that crashed, or ran nothing, is a failure", () => {
  const failures = (code: number, output: string) => judge({ code, output }, countDenoTests).totals.failed;
  assertEquals(failures(0, "ok | 5 passed | 0 failed (1ms)"), 0);
  assertEquals(failures(0, "ok | 0 passed | 0 failed (1ms)"), 1);
  assertEquals(failures(0, "nothing at all"), 1);
  assertEquals(failures(139, "ok | 5 passed | 0 failed (1ms)"), 1);
  assertEquals(failures(1, "FAILED | 5 passed | 3 failed (1ms)"), 3);
  assertEquals(judge({ code: 0, output: "" }).totals.failed, 0);
  assertEquals(judge({ code: 1, output: "" }).totals, { passed: 0, failed: 1, skipped: 0 });
});
