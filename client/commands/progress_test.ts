import { assertEquals, assertMatch } from "@std/assert";
import { Progress } from "./progress.ts";

function fake(columns = 100) {
  const written: string[] = [];
  const clock = { ms: 0 };
  const progress = new Progress({
    write: (text) => void written.push(text),
    columns: () => columns,
    nowMs: () => clock.ms,
  });
  return { progress, written, clock };
}

Deno.test("the line tells percent, bytes, rate and time left", () => {
  const { progress, written, clock } = fake();
  progress.expect(4 << 20);
  clock.ms = 1000;
  progress.advance(1 << 20, "big.iso");
  assertEquals(written, ["\r 25%  1.0M/4.0M  1.0 MB/s  0:03 left  big.iso\x1b[K"]);
  clock.ms = 1050;
  progress.advance(1, "big.iso");
  assertEquals(written.length, 1); // too soon to draw again
});

Deno.test("the rate is that of the last seconds", () => {
  const { progress, clock } = fake();
  progress.expect(1e9);
  for (let second = 1; second <= 10; second++) {
    clock.ms = second * 1000;
    progress.advance(second <= 5 ? 100e6 : 1e6, "x");
  }
  assertMatch(progress.line(), / 1\.\d MB\/s /);
});

Deno.test("several files are counted", () => {
  const { progress, clock } = fake();
  progress.expect(10);
  progress.expect(10);
  clock.ms = 500;
  progress.advance(10, "a");
  progress.finishFile();
  assertMatch(progress.line(), /1\/2 files/);
});

Deno.test("a narrow terminal and a long or hostile name", () => {
  const { progress, clock } = fake(60);
  progress.expect(10);
  clock.ms = 500;
  progress.advance(5, `${"long/".repeat(30)}\x1b[2Jend`);
  const line = progress.line();
  assertEquals(line.length <= 59, true);
  assertMatch(line, /….*\?\[2Jend$/);
});

Deno.test("what is done at once shows nothing, and the line goes away", () => {
  const { progress, written, clock } = fake();
  progress.expect(10);
  progress.advance(10, "a");
  progress.clear();
  assertEquals(written, []);
  clock.ms = 500;
  progress.advance(0, "a");
  progress[Symbol.dispose]();
  assertEquals(written.at(-1), "\r\x1b[K");
});
