import { assert, assertEquals, assertThrows } from "@std/assert";
import { connectPair, fill, same, since, whole } from "./_testing/pair.ts";
import { openLibrary } from "./_ffi/library.ts";
import { Access, Device, type Stream } from "./mod.ts";

/** Longer than anything here takes. */
const WAIT_US = 60_000_000;

Deno.test("wait: takes completions without the event loop, and goes on when the time is over", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const inbox = server.pd.allocate(1 << 20);
  const source = client.pd.allocate(1 << 20);
  const started = performance.now();
  for (let round = 1; round <= 20; round++) {
    // the background threads are on watch again, and may have begun with what comes when this thread waits for it
    await new Promise((resolve) => setTimeout(resolve, 5));
    fill(source.bytes, round);
    let received = 0;
    let sent = 0;
    server.qp.postRecv(whole(inbox), () => received++);
    server.device.progress(); // the engine has it before anything can come
    client.qp.postSend({ opcode: "send", local: whole(source) }, () => sent++);
    client.device.progress();
    // from here on no other task runs until both are complete
    while (received === 0) server.device.wait(WAIT_US);
    assert(same(inbox.bytes, source.bytes));
    while (sent === 0) client.device.wait(WAIT_US);
  }
  assert(performance.now() - started < WAIT_US / 1000, "a completion was slept through");
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

Deno.test("progress: it spins until there is a completion, payload has come, or the time is over", async () => {
  await using pair = await connectPair({ onServer: () => {} });
  const { client, server } = pair;
  const target = server.pd.allocate(4096, Access.RemoteWrite);
  const source = client.pd.allocate(4096);
  const remote = { stag: target.stag, address: target.address };
  const rounds = 20;
  const spinMicros = 1_000_000;
  const started = performance.now();
  for (let round = 1; round <= rounds; round++) {
    fill(source.bytes, round);
    let received = false;
    server.qp.postRecv(whole(target), () => received = true);
    server.device.progress();
    client.qp.postSend({ opcode: "send", local: whole(source) });
    client.device.progress();
    while (!received) server.device.progress(spinMicros);
    fill(source.bytes, -round);
    client.qp.postSend({ opcode: "write", local: whole(source), remote });
    client.device.progress();
    while (!same(target.bytes, source.bytes)) server.device.progress(spinMicros);
  }
  // each might have lasted for its whole time otherwise
  assert(performance.now() - started < rounds * spinMicros / 1000 / 2, "what came did not end it");
  const idle = performance.now();
  assertEquals(server.device.progress(20_000), 0);
  assert(performance.now() - idle >= 20);
  for (const wrong of [-1, NaN, 1e9]) assertThrows(() => server.device.progress(wrong), RangeError);
});

Deno.test("progress: who has polled for long and then computes does not keep peers from its memory", async () => {
  await using pair = await connectPair({ onServer: () => {} });
  const { client, server } = pair;
  const target = server.pd.allocate(4096, Access.RemoteWrite);
  const source = client.pd.allocate(4096);
  fill(source.bytes, 3);
  const polled = performance.now() + 100;
  while (performance.now() < polled) server.device.progress();
  client.qp.postSend({ opcode: "write", local: whole(source), remote: { stag: target.stag, address: target.address } });
  client.device.progress();
  // only the background thread can place it from here on
  const end = performance.now() + 10_000;
  while (performance.now() < end && !same(target.bytes, source.bytes));
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

/** Sends a byte and waits for its echo, again and again. */
async function ping(device: Device, port: number, count = PINGS): Promise<void> {
  const stream: Stream = await device.connectStream({ hostname: "127.0.0.1", port });
  const byte = Uint8Array.of(7);
  const echo = new Uint8Array(1);
  for (let i = 0; i < count; i++) {
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

/** Notes, until it is disposed of, for how long the engine is told to wait each time, and how often it is asked for its pipe. */
function spy() {
  const native = openLibrary();
  const { weft_wait, weft_channel } = native;
  const calls = { waits: [] as number[], channels: 0 };
  Object.assign(native, {
    weft_wait(handle: number, micros: number) {
      calls.waits.push(micros);
      return weft_wait(handle, micros);
    },
    weft_channel(handle: number) {
      calls.channels++;
      return weft_channel(handle);
    },
  });
  return Object.assign(calls, { [Symbol.dispose]: () => void Object.assign(native, { weft_wait, weft_channel }) });
}

/** A connection on which nothing comes, until a device sleeps on its pipe. */
async function idleUntilPiped(device: Device, port: number, calls: ReturnType<typeof spy>): Promise<void> {
  const stream = await device.connectStream({ hostname: "127.0.0.1", port });
  const { channels } = calls;
  while (calls.channels === channels) await new Promise((resolve) => setTimeout(resolve, 10));
  await stream.close();
}

Deno.test("wait: unless told, a device sleeps in the core for answers where it does not poll and is the only one of its thread", async () => {
  await using server = await EchoServer.start();
  using calls = spy();
  await using alone = Device.open({ polling: { spinNs: 0, hotUs: 0 } });
  await idleUntilPiped(alone, server.port, calls);
  calls.waits = [];
  await ping(alone, server.port);
  assert(calls.waits.length > 0);
  assertEquals(calls.waits.filter((micros) => micros !== 100), []);
  calls.waits = [];
  {
    await using _other = Device.open();
    await ping(alone, server.port);
    assertEquals(calls.waits, []);
  }
  await ping(alone, server.port);
  assert(calls.waits.length > 0);
  await alone.close();
  await using polling = Device.open();
  await idleUntilPiped(polling, server.port, calls);
  calls.waits = [];
  await ping(polling, server.port);
  assertEquals(calls.waits, []);
});

Deno.test("wait: a device that is young sleeps in the core, and on a pipe when it has waited for a while", async () => {
  await using server = await EchoServer.start();
  using calls = spy();
  await using device = Device.open();
  await new Promise((resolve) => setTimeout(resolve, 10));
  assertEquals(calls.waits, []); // there is nothing to wait for
  await ping(device, server.port, 10);
  assertEquals([calls.channels, device.counters().wakeups], [0, 0]);
  await idleUntilPiped(device, server.port, calls);
  assert(calls.waits.length > 0);
  assertEquals(calls.waits.filter((micros) => micros !== 100), []);
  calls.waits = [];
  await ping(device, server.port);
  assertEquals([calls.channels, calls.waits], [1, []]);
});

Deno.test("wait: a device that must not sleep in the core has a pipe at once", async () => {
  await using server = await EchoServer.start();
  using calls = spy();
  await using told = Device.open({ polling: { waitUs: 0 } });
  await idleUntilPiped(told, server.port, calls);
  await using second = Device.open();
  await idleUntilPiped(second, server.port, calls);
  assertEquals(calls.waits, []);
});
