import { assertEquals, assertRejects } from "@std/assert";
import { runBounded, Slots } from "./slots.ts";

const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

Deno.test("no more run at once than there are slots, in order", async () => {
  const slots = new Slots(2);
  const order: number[] = [];
  let running = 0;
  await Promise.all([1, 2, 3, 4, 5].map((id) =>
    slots.run(async () => {
      assertEquals(++running <= 2, true);
      order.push(id);
      await turn();
      running--;
    })
  ));
  assertEquals(order, [1, 2, 3, 4, 5]);
});

Deno.test("waiting for a slot can be given up", async () => {
  const slots = new Slots(1);
  await slots.take();
  const controller = new AbortController();
  const waiting = slots.take(controller.signal);
  controller.abort(new Error("enough"));
  await assertRejects(() => waiting, Error, "enough");
  await assertRejects(() => slots.take(controller.signal), Error, "enough");
  slots.give();
  await slots.take(); // the one that gave up holds nothing
});

Deno.test("several slots at once: in order, and one that needs few does not overtake", async () => {
  const slots = new Slots(4);
  const order: string[] = [];
  const take = (name: string, count: number, signal?: AbortSignal) =>
    slots.take(signal, count).then(() => void order.push(name));
  await take("three", 3);
  const controller = new AbortController();
  const abandoned = assertRejects(() => slots.take(controller.signal, 4), Error, "enough");
  const [two, one, last] = [take("two", 2), take("one", 1), take("last", 4)];
  await turn();
  assertEquals(order, ["three"]);
  slots.give(1);
  await turn();
  assertEquals(order, ["three"]);
  controller.abort(new Error("enough")); // what waited behind it can go on
  await Promise.all([abandoned, two]);
  assertEquals(order, ["three", "two"]);
  slots.give(2);
  await one;
  slots.give(2);
  slots.give(1);
  await last;
  assertEquals(order, ["three", "two", "one", "last"]);
  await assertRejects(() => slots.take(undefined, 5), RangeError, "5 of 4");
});

Deno.test("bounded tasks: all of them, and a failure ends the rest", async () => {
  const done: number[] = [];
  const task = (id: number) => async () => {
    await turn();
    if (id === 3) throw new Error("three");
    done.push(id);
  };
  await runBounded([task(1), task(2)], 8);
  assertEquals(done, [1, 2]);
  await assertRejects(() => runBounded([3, 4, 5, 6, 7].map(task), 2), Error, "three");
  assertEquals(done, [1, 2, 4]);
});
