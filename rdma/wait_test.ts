import { assert, assertEquals } from "@std/assert";
import { connectPair, fill, same, since, whole } from "./_testing/pair.ts";
import { Access, Device, type Stream } from "./mod.ts";

Deno.test("wait: takes completions without the event loop, and goes on when the time is over", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const inbox = server.pd.allocate(1 << 20);
  const source = client.pd.allocate(1 << 20);
  fill(source.bytes, 1);
  let received = 0;
  let sent = 0;
  server.qp.postRecv(whole(inbox), () => received++);
  client.qp.postSend({ opcode: "send", local: whole(source) }, () => sent++);
  client.device.progress();
  // from here to the end of the loop no other task runs
  while (received === 0) server.device.wait(60_000_000);
  assert(same(inbox.bytes, source.bytes));
  while (sent === 0) client.device.wait(60_000_000);
  assertEquals([server.device.wait(1000), client.device.wait(1000)], [0, 0]);
});

Deno.test("wait: who waits serves its peers' one-sided operations, and is told of none", async () => {
  await using pair = await connectPair({ onServer: () => {} }); // receives from the start
  const { client, server } = pair;
  const target = server.pd.allocate(4096, Access.RemoteWrite);
  const source = client.pd.allocate(4096);
  fill(source.bytes, 2);
  client.qp.postSend({ opcode: "write", local: whole(source), remote: { stag: target.stag, address: target.address } });
  client.device.progress();
  for (let i = 0; i < 1000 && !same(target.bytes, source.bytes); i++) assertEquals(server.device.wait(10_000), 0);
  assert(same(target.bytes, source.bytes));
});

Deno.test("wait: a device that sleeps in the core first needs no wake-ups while answers are quick", async () => {
  const script = new URL("./_testing/echo_server.ts", import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), { args: ["run", "-A", "--no-check", script], stdout: "piped" })
    .spawn();
  try {
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const { port } = JSON.parse((await reader.read()).value!);
    await reader.cancel();
    const PINGS = 200;
    const wakeups: number[] = [];
    for (const waitUs of [undefined, 100_000]) {
      await using device = Device.open({ polling: { spinNs: 0, hotUs: 0, waitUs } });
      const stream: Stream = await device.connectStream({ hostname: "127.0.0.1", port });
      const ping = Uint8Array.of(7);
      const pong = new Uint8Array(1);
      const before = device.counters();
      for (let i = 0; i < PINGS; i++) {
        const answered = new Promise<void>((resolve) => stream.receive([pong], () => resolve()));
        stream.send([ping]);
        await answered;
      }
      wakeups.push(since(device, before).wakeups);
      await stream.close();
    }
    const [asleep, waiting] = wakeups;
    assert(asleep > PINGS / 2 && waiting < PINGS / 10, `${asleep} and ${waiting} wake-ups for ${PINGS} answers`);
  } finally {
    child.kill();
    await child.status;
  }
});
