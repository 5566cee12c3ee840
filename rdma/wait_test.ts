import { assert, assertEquals } from "@std/assert";
import { connectPair, fill, same, since, whole } from "./_testing/pair.ts";
import { openLibrary } from "./_ffi/library.ts";
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
  server.device.progress(); // the engine has it before anything can come
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
  let told = 0;
  for (let i = 0; i < 1000 && !same(target.bytes, source.bytes); i++) told += server.device.wait(10_000);
  assert(told <= 1, `told ${told} times`); // that the connection is established may still be told
  assert(same(target.bytes, source.bytes));
});

/** A process that echoes what streams bring. */
class EchoServer implements AsyncDisposable {
  private constructor(readonly process: Deno.ChildProcess, readonly port: number) {}

  static async start(): Promise<EchoServer> {
    const script = new URL("./_testing/echo_server.ts", import.meta.url).pathname;
    const process = new Deno.Command(Deno.execPath(), { args: ["run", "-A", "--no-check", script], stdout: "piped" })
      .spawn();
    const reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const { port } = JSON.parse((await reader.read()).value!);
    await reader.cancel();
    return new EchoServer(process, port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill();
    await this.process.status;
  }
}

const PINGS = 200;

/** Sends a byte and waits for its echo, `PINGS` times. */
async function ping(device: Device, port: number): Promise<void> {
  const stream: Stream = await device.connectStream({ hostname: "127.0.0.1", port });
  const byte = Uint8Array.of(7);
  const echo = new Uint8Array(1);
  for (let i = 0; i < PINGS; i++) {
    const answered = new Promise<void>((resolve) => stream.receive([echo], () => resolve()));
    stream.send([byte]);
    await answered;
  }
  await stream.close();
}

Deno.test("wait: a device that sleeps in the core for answers needs no wake-ups while they are quick", async () => {
  await using server = await EchoServer.start();
  const wakeups: number[] = [];
  for (const waitUs of [0, 100_000]) {
    await using device = Device.open({ polling: { spinNs: 0, hotUs: 0, waitUs } });
    const before = device.counters();
    await ping(device, server.port);
    wakeups.push(since(device, before).wakeups);
  }
  const [asleep, waiting] = wakeups;
  assert(asleep > PINGS / 2 && waiting < PINGS / 10, `${asleep} and ${waiting} wake-ups for ${PINGS} answers`);
});

Deno.test("wait: unless told, a device sleeps in the core for answers where it does not poll and is the only one of its thread", async () => {
  await using server = await EchoServer.start();
  const native = openLibrary();
  const { weft_wait } = native;
  const waits: number[] = [];
  const watch = (handle: number, micros: number) => {
    waits.push(micros);
    return weft_wait(handle, micros);
  };
  Object.assign(native, { weft_wait: watch });
  try {
    await using alone = Device.open({ polling: { spinNs: 0, hotUs: 0 } });
    await ping(alone, server.port);
    assert(waits.length > 0);
    assertEquals(waits.filter((micros) => micros !== 100), []);
    waits.length = 0;
    {
      await using _other = Device.open();
      await ping(alone, server.port);
      assertEquals(waits, []);
    }
    await ping(alone, server.port);
    assert(waits.length > 0);
    await alone.close();
    waits.length = 0;
    await using polling = Device.open();
    await ping(polling, server.port);
    assertEquals(waits, []);
  } finally {
    Object.assign(native, { weft_wait });
  }
});
