import { assert, assertEquals } from "@std/assert";
import { runExample } from "../_testing/example.ts";
import { rpingServer } from "../ping/rping.ts";

Deno.test("rping.ts: no number of rounds is a mistake, not nothing to do", async () => {
  const listening = Promise.withResolvers<number>();
  const stop = new AbortController();
  const where = { hostname: "127.0.0.1", port: 0, isPersistent: true, signal: stop.signal };
  const ended = rpingServer({ ...where, onListening: listening.resolve });
  const there = ["-c", "-p", String(await listening.promise)];
  for (const count of ["abc", "0", "1.5", ""]) {
    const { code, stderr } = await runExample("rping", ...there, "-C", count);
    assertEquals(code, 2, count);
    assert(stderr.startsWith("usage: "), stderr);
  }
  assertEquals((await runExample("rping", ...there, "-C", "2")).code, 0);
  stop.abort();
  await ended;
});
