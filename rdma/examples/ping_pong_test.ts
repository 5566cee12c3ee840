import { assert, assertRejects } from "@std/assert";
import { Example } from "../_testing/example.ts";
import { pingPong, pingPongServer } from "./ping_pong.ts";

Deno.test("ping pong: messages of several sizes go back and forth by Send and by Write", async () => {
  const stop = new AbortController();
  const listening = Promise.withResolvers<number>();
  const server = pingPongServer({
    hostname: "127.0.0.1",
    port: 0,
    signal: stop.signal,
    onListening: listening.resolve,
  });
  const there = { hostname: "127.0.0.1", port: await listening.promise };
  for (const size of [0, 64, 5000]) {
    const { send, write } = await pingPong({ ...there, size, rounds: 20 });
    for (const { p50, p99 } of [send, write]) assert(p50 > 0 && p99 >= p50);
  }
  await assertRejects(() => pingPong({ ...there, size: 1 << 30, rounds: 1 }), RangeError, "at most 1048576 bytes");
  for (const rounds of [0, -1, 1.5, NaN, 2 ** 32]) {
    await assertRejects(() => pingPong({ ...there, size: 64, rounds }), RangeError, "rounds");
  }
  stop.abort();
  await server;
});

Deno.test("ping pong: what is no number of rounds or bytes is a mistake in how it was called", async () => {
  for (const mistake of [["--rounds", "abc"], ["--rounds", "0"], ["--rounds", ""], ["--size", "many"]]) {
    await using example = new Example("ping_pong", "127.0.0.1:1", ...mistake);
    await assertRejects(() => example.end(), Error, "it ended with exit status 2");
  }
});
