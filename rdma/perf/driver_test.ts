import { assertEquals, assertRejects } from "@std/assert";
import { Device } from "../device.ts";
import { Driver } from "./driver.ts";

Deno.test("perf: a run that is over is forgotten by the signal that could have ended it", async () => {
  await using device = Device.open();
  const controller = new AbortController();
  const { signal } = controller;
  const listeners = new Set<unknown>();
  const { addEventListener, removeEventListener } = EventTarget.prototype;
  signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
    listeners.add(args[1]);
    addEventListener.apply(signal, args);
  };
  signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
    listeners.delete(args[1]);
    removeEventListener.apply(signal, args);
  };
  const runs = [1, 2, 3].map(() => new Driver(device, { sleeps: false, signal }));
  for (const run of runs.slice(1)) run.finish();
  assertEquals(listeners.size, 1);
  controller.abort(new Error("enough"));
  await assertRejects(() => runs[0].change(), Error, "enough");
});
