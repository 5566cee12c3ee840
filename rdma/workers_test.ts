import { assertEquals, assertRejects } from "@std/assert";
import { whole, within } from "./_testing/pair.ts";
import type { WorkerReply, WorkerRequest } from "./_testing/worker.ts";
import { decodeAdvertisement, Device, RdmaError } from "./mod.ts";

class Partner {
  readonly #worker = new Worker(new URL("./_testing/worker.ts", import.meta.url), { type: "module" });
  #waiter = Promise.withResolvers<WorkerReply>();

  constructor() {
    this.#worker.onmessage = ({ data }: MessageEvent<WorkerReply>) => this.#waiter.resolve(data);
    this.#worker.onerror = ({ message }) => this.#waiter.reject(new Error(message));
  }

  async reply(): Promise<number> {
    const reply = await within(this.#waiter.promise, 20_000);
    this.#waiter = Promise.withResolvers();
    return Object.values(reply)[0];
  }

  ask(request: WorkerRequest): void {
    this.#worker.postMessage(request);
  }
}

Deno.test("workers: several of one process, each with its device, on one core library", async () => {
  await using device = Device.open(); // and one of the main thread
  const partners = Array.from({ length: 3 }, () => new Partner());
  const ports = await Promise.all(partners.map((partner) => partner.reply()));
  // each one adds to the memory of the next, all at once
  partners.forEach((partner, i) => partner.ask({ connect: ports[(i + 1) % 3], rounds: 200, seed: i + 1 }));
  const written = await Promise.all(partners.map((partner) => partner.reply()));
  assertEquals(written, [200, 400, 600]);
  // one that ends takes nothing from the others
  partners[0].ask({ close: true });
  assertEquals(await partners[0].reply(), 600);
  partners[1].ask({ connect: ports[2], rounds: 10, seed: 1 });
  assertEquals(await partners[1].reply(), 10);
  for (const partner of partners.slice(1)) partner.ask({ close: true });
  assertEquals(await Promise.all(partners.slice(1).map((partner) => partner.reply())), [200, 410]);
  assertEquals(device.counters().connections, 0);
});

Deno.test("workers: one that ends without closing its device takes that along, and what peers could reach", async () => {
  const worker = new Worker(new URL("./_testing/abandoning_worker.ts", import.meta.url), { type: "module" });
  const port = await within(new Promise<number>((resolve) => worker.onmessage = ({ data }) => resolve(data)), 20_000);
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const there = { hostname: "127.0.0.1", port, pd };
  const qp = await device.connect(there);
  const theirs = decodeAdvertisement(qp.privateData)!;
  const source = pd.allocate(1 << 20);
  await qp.write(whole(source), theirs);
  worker.terminate();
  await within(qp.closed);
  await assertRejects(() => qp.write(whole(source), theirs), RdmaError);
  const error = await assertRejects(() => device.connect(there), RdmaError);
  assertEquals(error.code, "ConnectionRefused");
});
