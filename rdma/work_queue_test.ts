import { assertEquals, assertStrictEquals } from "@std/assert";
import { WorkQueue } from "./work_queue.ts";

Deno.test("work queue: a completion ends what is in front of it", () => {
  const queue = new WorkQueue();
  const heard: number[] = [];
  const numbers = Array.from({ length: 100 }, (_, i) => queue.push(() => heard.push(i), undefined));
  assertEquals(queue.length, 100);
  queue.take(numbers[41])!({ status: "success", byteLength: 0 });
  assertEquals([queue.length, heard], [58, [41]]);
  // neither what was ended nor what was never posted is outstanding
  assertStrictEquals(queue.take(numbers[41]), undefined);
  assertStrictEquals(queue.take(numbers[0]), undefined);
  assertStrictEquals(queue.take(numbers[99] + 1), undefined);
  assertEquals(queue.length, 58);
  queue.take(numbers[99]);
  assertEquals(queue.length, 0);
});

Deno.test("work queue: only what was not handed over is recalled, in order", () => {
  const queue = new WorkQueue();
  const heard: string[] = [];
  const first = queue.push(() => heard.push("first"), undefined);
  queue.hand();
  for (const name of ["second", "third"]) queue.push(() => heard.push(name), undefined);
  queue.push(undefined, undefined);
  for (const done of queue.recall()) done({ status: "flushed", byteLength: 0 });
  assertEquals(heard, ["second", "third"]);
  assertEquals(queue.recall(), []);
  queue.take(first)!({ status: "success", byteLength: 0 });
  assertEquals(heard, ["second", "third", "first"]);
});

Deno.test("work queue: of an engine that will tell of nothing any more all is recalled that it has not ended, in order", () => {
  const queue = new WorkQueue();
  const heard: string[] = [];
  const numbers = ["first", "second", "third"].map((name) => queue.push(() => heard.push(name), undefined));
  queue.hand();
  queue.take(numbers[0])!({ status: "success", byteLength: 0 });
  queue.push(() => heard.push("fourth"), undefined);
  for (const done of queue.recall(true)) done({ status: "flushed", byteLength: 0 });
  assertEquals(heard, ["first", "second", "third", "fourth"]);
  assertEquals(queue.recall(true), []);
});

Deno.test("work queue: as many as it must hold, many times over", () => {
  const queue = new WorkQueue();
  let posted = 0;
  let taken = 0;
  const numbers: number[] = [];
  for (let round = 0; round < 1000; round++) {
    for (let i = 0; i < round % 97; i++) {
      const expected = posted++;
      numbers.push(queue.push(() => assertEquals(taken++, expected), undefined));
    }
    while (queue.length > round % 31) queue.take(numbers[taken])!({ status: "success", byteLength: 0 });
  }
  assertEquals(queue.length, posted - taken);
});
