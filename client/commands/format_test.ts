import { assertEquals } from "@std/assert";
import {
  formatDuration,
  formatFullTime,
  formatListTime,
  formatMode,
  formatRate,
  formatSize,
  forTerminal,
  quote,
} from "./format.ts";

Deno.test("sizes round up, as ls -h does", () => {
  const cases: [number, string][] = [
    [0, "0"],
    [1023, "1023"],
    [1024, "1.0K"],
    [1025, "1.1K"],
    [10239, "10K"],
    [1024 * 1024 - 1, "1.0M"],
    [5 * 1024 ** 3, "5.0G"],
    [22.5 * 1024 ** 3, "23G"],
  ];
  for (const [bytes, text] of cases) assertEquals(formatSize(bytes), text);
});

Deno.test("rates and durations", () => {
  assertEquals(formatRate(0), "0 B/s");
  assertEquals(formatRate(1234), "1.2 kB/s");
  assertEquals(formatRate(999_600), "1.0 MB/s");
  assertEquals(formatRate(2.34e9), "2.3 GB/s");
  assertEquals(formatDuration(6.2), "0:07");
  assertEquals(formatDuration(754), "12:34");
  assertEquals(formatDuration(3723), "1:02:03");
});

Deno.test("modes", () => {
  assertEquals(formatMode(0o100644), "-rw-r--r--");
  assertEquals(formatMode(0o041777), "drwxrwxrwt");
  assertEquals(formatMode(0o104711), "-rws--x--x");
  assertEquals(formatMode(0o102640), "-rw-r-S---");
  assertEquals(formatMode(0o120777), "lrwxrwxrwx");
});

Deno.test("times", () => {
  const now = new Date(2026, 5, 15, 12, 0);
  assertEquals(formatListTime(new Date(2026, 5, 1, 3, 4), now), "Jun  1 03:04");
  assertEquals(formatListTime(new Date(2025, 0, 31), now), "Jan 31  2025");
  assertEquals(formatListTime(new Date(2027, 0, 31), now), "Jan 31  2027");
  assertEquals(
    formatFullTime(new Date(2026, 0, 2, 3, 4, 5), 7).slice(0, 30),
    "2026-01-02 03:04:05.000000007 ",
  );
});

Deno.test("names cannot steer a terminal", () => {
  assertEquals(forTerminal("a\x1b[2Jb\x9b\udcff"), "a?[2Jb??");
});

Deno.test("quotes as coreutils", () => {
  assertEquals(quote("plain"), "'plain'");
  assertEquals(quote("it's"), "'it'\\''s'");
  assertEquals(quote("a\nb"), "'a'$'\\n''b'");
  assertEquals(quote("\x1b\udcff"), "''$'\\033\\377'''");
});
