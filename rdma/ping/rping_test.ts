import { assertEquals, assertStringIncludes } from "@std/assert";
import { rpingClient, rpingServer } from "./rping.ts";

Deno.test("rping: every text comes back by RDMA Read and RDMA Write", async () => {
  const listening = Promise.withResolvers<number>();
  const seen: string[] = [];
  const back: string[] = [];
  const server = rpingServer({
    hostname: "127.0.0.1",
    port: 0,
    count: 5,
    onListening: listening.resolve,
    onRound: (text) => seen.push(text),
  });
  const port = await Promise.race([listening.promise, server.then(() => 0)]);
  await rpingClient({ hostname: "127.0.0.1", port, count: 5, onRound: (text) => back.push(text) });
  await server;
  assertEquals(back, seen);
  assertEquals(back.length, 5);
  assertStringIncludes(back[4], "rdma-ping-4: EFGH");
});
