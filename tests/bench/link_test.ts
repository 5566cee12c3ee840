import { assertEquals } from "@std/assert";
import { linkRows } from "./link.ts";

Deno.test("link: a row's figures are medians over the rounds, TCP's beside ours", () => {
  const round = (
    ours: number,
    floor: number,
  ) => [{ name: "first", ours: 9, floor: 9 }, { name: "second", ours, floor }];
  const [, row] = linkRows([round(1, 4), round(3, 2), round(2, 8)]);
  assertEquals([row.name, row.ours, row.against?.value, row.target], ["second", 2, 4, { atLeast: 0.9 }]);
  assertEquals(linkRows([]), []);
});
