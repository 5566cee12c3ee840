import { assertEquals, assertMatch } from "@std/assert";
import { formatTable } from "./report.ts";
import { type TransmitFigure, transmitRows } from "./transmit.ts";

Deno.test("transmit: a row's figures are medians over the rounds, what it is measured against beside it", () => {
  const round = (ours: number, value: number): TransmitFigure[] => [
    { name: "first", unit: "%", ours: 100 },
    { name: "second", unit: "GB/s", ours, against: { name: "send", value } },
  ];
  const [first, second] = transmitRows([round(1, 4), round(3, 2), round(2, 8)]);
  assertEquals([first.ours, first.against], [100, undefined]);
  assertEquals([second.name, second.ours, second.against], ["second", 2, { name: "send", value: 4 }]);
  assertEquals(transmitRows([]), []);
});

Deno.test("transmit: a kernel without io_uring is a row that says so", () => {
  const figure: TransmitFigure = {
    name: "io_uring, polling",
    unit: "µs",
    ours: NaN,
    against: { name: "recv", value: 12 },
    failure: "Operation not permitted (os error 1)",
  };
  assertMatch(
    formatTable(transmitRows([[figure], [figure]])),
    /io_uring, polling: NOT MEASURED: Operation not permitted \(os error 1\) +- +12\.0 µs \(recv\)\s*$/,
  );
});
