import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { run, type Steps, wait } from "./steps.ts";

function* sum(...values: (number | Promise<number>)[]): Steps<number> {
  let total = 0;
  for (const value of values) total += yield* wait(value);
  return total;
}

function* rescued(value: number | Promise<number>): Steps<string> {
  try {
    return String(yield* wait(value));
  } catch (error) {
    return `rescued: ${(error as Error).message}, ${yield* sum(1, Promise.resolve(2))}`;
  }
}

Deno.test("run: values at hand give a value, not a promise", () => {
  assertEquals(run(sum(1, 2, 3)), 6);
});

Deno.test("run: waits from the first promise on", async () => {
  const result = run(sum(1, Promise.resolve(2), 3, Promise.resolve(4)));
  assertEquals(result instanceof Promise, true);
  assertEquals(await result, 10);
});

Deno.test("run: a rejection can be caught where it was waited for", async () => {
  assertEquals(await run(rescued(Promise.reject(new Error("lost")))), "rescued: lost, 3");
  assertEquals(run(rescued(5)), "5");
});

Deno.test("run: what is not caught is thrown, or rejects", async () => {
  function* failing(value: number | Promise<number>): Steps<number> {
    if ((yield* wait(value)) === 1) throw new Error("failed");
    return 0;
  }
  assertThrows(() => run(failing(1)), Error, "failed");
  await assertRejects(async () => await run(failing(Promise.resolve(1))), Error, "failed");
  await assertRejects(async () => await run(sum(Promise.reject(new Error("gone")))), Error, "gone");
});
