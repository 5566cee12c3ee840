import { assertEquals } from "@std/assert";
import { clampCredits, CreditWindow } from "./credits.ts";

Deno.test("one call until the first reply, then as many as were granted", () => {
  const window = new CreditWindow(8);
  assertEquals([window.take(), window.take()], [true, false]);
  window.handleGrant(3);
  assertEquals([window.take(), window.take(), window.take()], [true, true, false]);
  window.put();
  assertEquals(window.take(), true);
});

Deno.test("a grant of nothing counts as one, a huge one as what there are receives for", () => {
  const window = new CreditWindow(8);
  window.handleGrant(0xffffffff);
  assertEquals(window.granted, 8);
  for (let i = 0; i < 8; i++) assertEquals(window.take(), true);
  assertEquals(window.take(), false);
  window.handleGrant(0);
  assertEquals([window.granted, window.inUse], [1, 8]);
  for (let i = 0; i < 8; i++) window.put();
  assertEquals([window.take(), window.take()], [true, false]);
});

Deno.test("what a server grants", () => {
  assertEquals([0, 1, 63, 64, 65, 0xffffffff].map((asked) => clampCredits(asked, 64)), [1, 1, 63, 64, 64, 64]);
});
