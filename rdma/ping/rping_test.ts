import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { until, within } from "../_testing/pair.ts";
import { Device } from "../device.ts";
import { RdmaError } from "../errors.ts";
import type { QueuePair } from "../queue_pair.ts";
import { rpingClient, rpingServer, type RpingServerOptions } from "./rping.ts";

/** A server on a free port: its end, and the port. */
async function serve(
  options: Partial<RpingServerOptions>,
): Promise<{ ended: Promise<void>; there: { hostname: string; port: number } }> {
  const listening = Promise.withResolvers<number>();
  const ended = rpingServer({ hostname: "127.0.0.1", port: 0, ...options, onListening: listening.resolve });
  const port = await Promise.race([listening.promise, ended.then(() => 0)]);
  return { ended, there: { hostname: "127.0.0.1", port } };
}

Deno.test("rping: every text comes back by RDMA Read and RDMA Write", async () => {
  const seen: string[] = [];
  const back: string[] = [];
  const { ended, there } = await serve({ count: 5, onRound: (text) => seen.push(text) });
  await rpingClient({ ...there, count: 5, onRound: (text) => back.push(text) });
  await ended;
  assertEquals(back, seen);
  assertEquals(back.length, 5);
  assertStringIncludes(back[4], "rdma-ping-4: EFGH");
});

Deno.test("rping: a client ends by its signal, however long its server does not answer", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const inbox = pd.allocate(64);
  const stop = new AbortController();
  const onReady = (queuePair: QueuePair) => queuePair.postRecv([inbox.sge()], () => stop.abort());
  const silent = device.listen({ port: 0, onRequest: (request) => void request.accept({ pd, onReady }) });
  await within(rpingClient({ hostname: "127.0.0.1", port: silent.port, signal: stop.signal }), 30_000);
});

Deno.test("rping: a connection that ends in front of a round is told of by the client's one error", async () => {
  const { ended, there } = await serve({ count: 1 });
  const served = assertRejects(() => ended, RdmaError);
  const error = await assertRejects(
    () => rpingClient({ ...there, onConnected: (queuePair) => queuePair.abort() }),
    RdmaError,
  );
  assertEquals(error.code, "Closed");
  await served;
});

Deno.test("rping: what a server's caller throws ends it, and is no client's end", async () => {
  const gone: unknown[] = [];
  const { ended, there } = await serve({
    isPersistent: true,
    onRound: () => {
      throw new Deno.errors.BrokenPipe("nobody reads");
    },
    onGone: (_queuePair, _rounds, error) => gone.push(error),
  });
  const [served] = await within(Promise.allSettled([ended, rpingClient(there)]), 30_000);
  assertEquals(served.status === "rejected" && served.reason instanceof Deno.errors.BrokenPipe, true);
  await until(() => gone.length > 0);
  assertEquals(gone, [undefined]);
});
