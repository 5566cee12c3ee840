import { assertEquals, assertNotEquals } from "@std/assert";
import { CallTable } from "./call_table.ts";

Deno.test("xids run on, wrap, and pass over those that are taken", () => {
  const table = new CallTable<string>(0xfffffffe);
  const xids = ["a", "b", "c"].map((call) => {
    const xid = table.nextXid();
    table.add(xid, call);
    return xid;
  });
  assertEquals(xids, [0xfffffffe, 0xffffffff, 0]);
  assertEquals(table.take(0xffffffff), "b");
  assertEquals(table.take(0xffffffff), undefined);
  assertEquals(table.get(0), "c");
  assertEquals(table.size, 2);
  assertEquals(table.drain(), ["a", "c"]);
  assertEquals(table.size, 0);

  const busy = new CallTable<number>(5);
  busy.add(5, 0);
  busy.add(6, 0);
  assertEquals(busy.nextXid(), 7);
});

Deno.test("two tables do not begin alike", () => {
  const first = new CallTable<string>().nextXid();
  const others = Array.from({ length: 4 }, () => new CallTable<string>().nextXid());
  assertNotEquals(others, [first, first, first, first]);
});
