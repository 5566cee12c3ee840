import { assertEquals, assertStringIncludes } from "@std/assert";
import { formatTable, median, medians, meetsTarget, type Row } from "./report.ts";

Deno.test("medians are taken field by field, of fields that every round has", () => {
  assertEquals(median([3, 1, 2]), 2);
  assertEquals(median([4, 1, 2, 3]), 2.5);
  assertEquals<object>(medians([{ a: 1, b: 2 }, { a: 3 }, { a: 2, b: 1 }]), { a: 2 });
});

Deno.test("targets hold for the ratio, or for the figure itself where there is nothing to compare with", () => {
  const write: Row = {
    name: "w",
    unit: "GB/s",
    ours: 3,
    against: { name: "floor", value: 4 },
    target: { atLeast: 0.75 },
  };
  assertEquals([meetsTarget(write), meetsTarget({ ...write, ours: 2.9 })], [true, false]);
  const copies: Row = { name: "c", unit: "bytes", ours: 0, target: { atMost: 0 } };
  assertEquals([meetsTarget(copies), meetsTarget({ ...copies, ours: 1 })], [true, false]);
  assertEquals(meetsTarget({ ...copies, target: undefined }), undefined);
  assertStringIncludes(formatTable([{ ...write, ours: 2.9 }]), "MISSED");
});
