/** Ten thousand connections of one process, ended in every way: descriptors, threads, regions and memory are what they were. Bytes of the core are counted in `leaks.rs`. */
import { assert, assertEquals } from "@std/assert";
import type { Holdings } from "../../rdma/_testing/many_connections.ts";

const COUNT = 11_000;
/** Of resident memory: what allocators keep. Connections that stayed would take more than 16 KiB each at either end. */
const RSS_SLACK = 100 << 20;
const HEAP_SLACK = 2 << 20;

Deno.test("leak: 10,000 connections leave nothing behind", async () => {
  const script = new URL("../../rdma/_testing/many_connections.ts", import.meta.url).pathname;
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "--v8-flags=--expose-gc", script, `${COUNT}`],
    stdin: "null",
  }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  const { before, after }: Record<"before" | "after", Holdings> = JSON.parse(new TextDecoder().decode(stdout));
  const exact = ({ descriptors, threads, regions, liveConnections }: Holdings) => {
    return { descriptors, threads, regions, liveConnections };
  };
  assertEquals(exact(after), exact(before));
  // both ends of all but those that were rejected
  assertEquals(after.connections, COUNT * 2 * 0.9);
  assert(after.rss - before.rss < RSS_SLACK, `${after.rss - before.rss} bytes more are resident`);
  assert(after.heap - before.heap < HEAP_SLACK, `${after.heap - before.heap} bytes more of JavaScript's`);
});
