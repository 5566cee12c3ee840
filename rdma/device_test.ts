import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { connectPair, fill, openDescriptors, same, since, until, whole, within } from "./_testing/pair.ts";
import { Access, type Congestion, type ConnectionRequest, Device, RdmaError, type WorkCompletion } from "./mod.ts";

/** Runs one of the processes beside this file; resolves with what it prints, its first line already parsed. */
function spawn(name: string, ...args: string[]): { child: Deno.ChildProcess; lines: AsyncIterableIterator<string> } {
  const script = {
    busy: new URL("./_testing/busy_server.ts", import.meta.url),
    quiet: new URL("./_testing/quiet_exit.ts", import.meta.url),
  }[name]!;
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", script.pathname, ...args],
    stdout: "piped",
    stderr: "inherit",
  });
  const child = command.spawn();
  return { child, lines: readLines(child.stdout) };
}

async function* readLines(stream: ReadableStream<Uint8Array>): AsyncIterableIterator<string> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    const text = decoder.decode(chunk, { stream: true });
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}

Deno.test("device: a process whose JavaScript is busy still serves Writes and Reads", async () => {
  const { child, lines } = spawn("busy");
  const { port, stag, address, bytes } = JSON.parse((await within(lines.next(), 20_000)).value);
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const qp = await device.connect({ hostname: "127.0.0.1", port, pd });
  const remote = { stag, address: BigInt(address) };
  const source = pd.allocate(bytes);
  const sink = pd.allocate(bytes);
  await qp.send([]); // from now on it is busy
  for (let round = 0; round < 20; round++) {
    fill(source.bytes, round);
    source.bytes[1] = 0;
    await within(qp.write(whole(source), remote));
    sink.bytes.fill(0);
    await within(qp.read(whole(sink), remote));
    assert(same(sink.bytes, source.bytes), `round ${round}`);
  }
  source.bytes[1] = 0xff;
  await qp.write([{ region: source, offset: 1, length: 1 }], { stag, address: remote.address + 1n });
  const counters = JSON.parse((await within(lines.next(), 20_000)).value);
  assertEquals((await child.status).code, 0);
  assertEquals([counters.bytesPlaced, counters.bytesSent], [20 * bytes + 1, 20 * bytes]);
  assertEquals(counters.bytesStaged, 0);
});

Deno.test("device: when all is closed the event loop is free", async () => {
  for (const way of ["close", "abort", "device"]) {
    const { child, lines } = spawn("quiet", way);
    assertEquals((await within(lines.next(), 20_000)).value, "done", way);
    const { code } = await within(child.status, 5000);
    assertEquals(code, 0, way);
    await child.stdout.cancel().catch(() => {});
  }
});

/** CPU time that a process has used so far, in milliseconds. */
function cpuMs(pid: number | "self" = "self"): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).replace(/^.*\) /, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

Deno.test("device: idle connections use no CPU", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const inbox = server.pd.allocate(16);
  server.qp.postRecv(whole(inbox), () => {});
  await client.qp.write([], inbox);
  const silent = await Deno.connect({ hostname: "127.0.0.1", port: pair.listener.port });
  await silent.write(new TextEncoder().encode("plain"));
  await new Promise((resolve) => setTimeout(resolve, 700)); // whatever has a deadline is over
  const before = [client, server].map((end) => end.device.counters());
  const cpuBefore = cpuMs();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const cpu = cpuMs() - cpuBefore;
  for (const [i, end] of [client, server].entries()) {
    const { epollCalls, receiveCalls, sendCalls, backgroundTurns, wakeups } = since(end.device, before[i]);
    assertEquals([epollCalls, receiveCalls, sendCalls, backgroundTurns, wakeups], [0, 0, 0, 0, 0]);
  }
  assert(cpu <= 100, `${cpu} ms of CPU in a second of doing nothing`);
  silent.close();
});

Deno.test("device: peers cannot take the process's last descriptors", async () => {
  const script = new URL("./_testing/echo_server.ts", import.meta.url).pathname;
  const child = new Deno.Command("sh", {
    args: ["-c", 'ulimit -n 128; exec "$0" run -A --no-check "$1"', Deno.execPath(), script],
    stdout: "piped",
  }).spawn();
  const lines = readLines(child.stdout);
  try {
    const { port } = JSON.parse((await within(lines.next(), 20_000)).value);
    const echoed = async (conn: Deno.Conn, value: number): Promise<boolean> => {
      const back = new Uint8Array(1);
      try {
        await conn.write(new Uint8Array([value]));
        return await within(conn.read(back), 3000) === 1 && back[0] === value;
      } catch {
        return false;
      }
    };
    const conns: Deno.Conn[] = [];
    for (let i = 0; i < 200; i++) conns.push(await Deno.connect({ hostname: "127.0.0.1", port }));
    const told = async () => JSON.parse((await within(lines.next(), 5000)).value).event;
    assertEquals(await told(), "portError");
    const taken: boolean[] = [];
    for (const conn of conns) taken.push(await echoed(conn, 1));
    const count = taken.filter((yes) => yes).length;
    assert(count > 10 && count < 128 - 64, `${count} were taken`);
    assert(taken.slice(0, count).every((yes) => yes), "the first ones, and no others");
    const before = cpuMs(child.pid);
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert(cpuMs(child.pid) - before <= 100, "it is busy with connections that it cannot take");
    assert(await echoed(conns[0], 2));
    for (const conn of conns) conn.close();
    const again = await Deno.connect({ hostname: "127.0.0.1", port });
    // the places of the others are free again as soon as their ends have been seen
    assert(await echoed(again, 3));
    assertEquals(await told(), "portActive");
    again.close();
  } finally {
    child.kill();
    await child.status;
    await lines.return?.();
  }
});

Deno.test("device: one wake-up for many completions", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const COUNT = 1000;
  const inbox = server.pd.allocate(16);
  const source = client.pd.allocate(16);
  let received = 0;
  for (let i = 0; i < COUNT; i++) server.qp.postRecv(whole(inbox), () => received++);
  await new Promise((resolve) => setTimeout(resolve, 20));
  const before = server.device.counters();
  for (let i = 0; i < COUNT; i++) client.qp.postSend({ opcode: "send", local: whole(source) });
  await until(() => received === COUNT);
  const { wakeups, fpdusReceived, receiveCalls } = since(server.device, before);
  // a peer that keeps silent for a while is nudged, by up to three empty Writes
  assert(fpdusReceived >= COUNT && fpdusReceived <= COUNT + 3, `${fpdusReceived} FPDUs`);
  assert(wakeups <= COUNT / 10, `${wakeups} wake-ups for ${COUNT} completions`);
  assert(receiveCalls <= COUNT / 10, `${receiveCalls} calls for ${COUNT} small messages`);
});

Deno.test("device: what its counters say of a few transfers", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const source = client.pd.allocate(100_000, Access.RemoteRead);
  const target = server.pd.allocate(100_000, Access.RemoteWrite | Access.RemoteRead);
  await client.qp.read([], target); // now start-up is over on both sides
  const before = [client, server].map((end) => end.device.counters());
  await client.qp.write(whole(source), target); // two FPDUs
  await client.qp.write([{ region: source, offset: 0, length: 200 }], target); // inline
  await client.qp.read(whole(source), target); // a request, two FPDUs back
  const counted = () => [client, server].map((end, i) => since(end.device, before[i]));
  await until(() => counted()[1].bytesSent === 100_000); // counted after the peer may have got them
  const [ours, theirs] = counted();
  assertEquals([ours.fpdusSent, ours.fpdusReceived, ours.bytesSent, ours.bytesInlined], [4, 2, 100_000, 200]);
  assertEquals([theirs.fpdusSent, theirs.fpdusReceived, theirs.bytesSent], [2, 4, 100_000]);
  assertEquals([ours.bytesPlaced, ours.bytesStaged], [100_000, 0]);
  assertEquals(theirs.bytesPlaced + theirs.bytesStaged, 100_200);
  assertEquals([ours.regions, theirs.regions], [0, 0]);
  assertEquals([ours.terminatesSent, theirs.protectionErrors, ours.bytesStagedLarge, theirs.bytesStagedLarge], [
    0,
    0,
    0,
    0,
  ]);

  await client.qp.write(whole(source), { stag: target.stag ^ 1, address: 0n });
  await within(Promise.all([client.qp.closed, server.qp.closed]));
  const after = counted();
  assertEquals([after[1].terminatesSent, after[1].protectionErrors, after[0].terminatesReceived], [1, 1, 1]);
});

Deno.test("device: closed with everything open", async () => {
  const before = openDescriptors();
  for (let round = 0; round < 5; round++) {
    const pair = await connectPair({ oneDevice: round % 2 === 0 });
    const { client, server } = pair;
    const done: WorkCompletion[] = [];
    const memory = client.pd.allocate(32 << 20);
    const target = server.pd.allocate(32 << 20, Access.RemoteWrite);
    for (let i = 0; i < 10; i++) client.qp.postRecv(whole(memory), (completion) => done.push(completion));
    for (let i = 0; i < 10; i++) {
      client.qp.postSend({ opcode: "write", local: whole(memory), remote: target }, (one) => done.push(one));
    }
    const there = { hostname: "127.0.0.1", port: pair.listener.port, pd: client.pd };
    const connecting = client.device.connect(there).then((qp) => qp.closed, () => {});
    const stream = await Deno.connect({ hostname: "127.0.0.1", port: pair.listener.port });
    await Promise.all([client.device.close(), server.device.close()]);
    assertEquals(done.length, 20);
    assert(done.every(({ status }) => status === "flushed" || status === "success"));
    await within(connecting);
    assert(client.qp.isClosed && server.qp.isClosed);
    await Promise.all([client.qp.closed, server.qp.closed]);
    assertThrows(() => client.device.counters(), TypeError, "closed");
    assertThrows(() => client.device.listen({ port: 0 }), TypeError, "closed");
    await assertRejects(() => client.device.connect({ hostname: "127.0.0.1", port: 1, pd: client.pd }), TypeError);
    await client.device.close();
    client.qp.abort();
    await client.qp.close();
    stream.close();
  }
  await until(() => openDescriptors() <= before);
});

Deno.test("device: closed by a callback, in the middle of a batch", async () => {
  const pair = await connectPair();
  const { client, server } = pair;
  const done: string[] = [];
  const closed = Promise.withResolvers<void>();
  for (let i = 0; i < 20; i++) {
    client.qp.postRecv([], ({ status }) => {
      done.push(`${i} ${status}`);
      if (i === 3) client.device.close().then(closed.resolve, closed.reject);
    });
  }
  for (let i = 0; i < 10; i++) server.qp.postSend({ opcode: "send", local: [] });
  await within(closed.promise);
  await server.device.close();
  assertEquals(done.map((one) => parseInt(one)), Array.from({ length: 20 }, (_, i) => i));
  assertEquals(done.slice(0, 4).map((one) => one.split(" ")[1]), new Array(4).fill("success"));
  assertEquals(done[19], "19 flushed");
});

Deno.test("device: several in one process keep apart", async () => {
  await using one = await connectPair({ oneDevice: true });
  await using two = await connectPair({ oneDevice: true });
  const target = one.server.pd.allocate(64, Access.RemoteWrite);
  assertNotEquals(one.server.device.handle, two.server.device.handle);
  const source = two.client.pd.allocate(64);
  await two.client.qp.write(whole(source), target);
  const error: RdmaError | undefined = await within(two.client.qp.closed);
  assertEquals(error?.terminate, { layer: 1, etype: 1, code: 0 });
  await one.client.qp.write(whole(one.client.pd.allocate(64)), target);
});

Deno.test("device: a library of another ABI, or none, is refused with what to do", async () => {
  const code = `import { openLibrary } from ${JSON.stringify(import.meta.resolve("./_ffi/library.ts"))};
    try { openLibrary("/nowhere/libweft.so"); } catch (error) { console.log(error.name, error.message); }`;
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["eval", code] }).output();
  const text = new TextDecoder().decode(stdout);
  assert(text.startsWith("NotFound") && text.includes("deno task build") && text.includes("WEFT_LIBRARY"), text);
});

Deno.test("device: nothing begins while it is being closed, and whoever tries hears of it", async () => {
  const pair = await connectPair();
  const { client, server } = pair;
  const there = { hostname: "127.0.0.1", port: pair.listener.port, pd: client.pd };
  // a client that connects again when its connection ends, and one that connects and closes at once
  const again = client.qp.closed.then(() => client.device.connect(there));
  const atOnce = client.device.connect(there);
  const closing = client.device.close();
  assertEquals(client.device.close(), closing);
  await assertRejects(() => within(again), TypeError, "closed");
  await assertRejects(() => within(atOnce));
  await within(closing);
  await server.device.close();
});

Deno.test("device: requests that come while it is being closed are turned away", async () => {
  const pair = await connectPair();
  const { client, server } = pair;
  const requests: ConnectionRequest[] = [];
  const listener = server.device.listen({ port: 0, onRequest: (request) => void requests.push(request) });
  const connecting = client.device.connect({ hostname: "127.0.0.1", port: listener.port, pd: client.pd });
  await until(() => requests.length === 1);
  const closing = server.device.close();
  const error = await assertRejects(() => requests[0].accept({ pd: server.pd }), RdmaError);
  assertEquals(error.code, "Closed");
  await assertRejects(() => within(connecting), RdmaError);
  await within(closing);
  await client.device.close();
});

Deno.test("device: what `onReady` throws fails the connect or accept, and ends the connection", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const thrown = new Error("the application's");
  const onReady = () => {
    throw thrown;
  };
  const there = { hostname: "127.0.0.1", port: pair.listener.port, pd: client.pd };
  assertEquals(await within(assertRejects(() => client.device.connect({ ...there, onReady }))), thrown);
  const failed = Promise.withResolvers<unknown>();
  const listener = server.device.listen({
    port: 0,
    onRequest: (request) => request.accept({ pd: server.pd, onReady }).catch(failed.resolve),
  });
  const qp = await client.device.connect({ ...there, port: listener.port });
  assertEquals(await within(failed.promise), thrown);
  await within(qp.closed);
  // an attempt that is given up in `onReady` is given up
  const { signal, abort } = aborter();
  const given = client.device.connect({ ...there, signal, onReady: abort });
  await assertRejects(() => within(given), DOMException, "aborted");
  await until(() => [client, server].every(({ device }) => device.counters().liveConnections === 1));
});

Deno.test("device: a connect that is aborted when it has just succeeded gives no connection away", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const { signal, abort } = aborter();
  let isReady = false;
  const onReady = () => void (isReady = true);
  const there = { hostname: "127.0.0.1", port: pair.listener.port, pd: client.pd };
  const given = client.device.connect({ ...there, signal, onReady });
  await Promise.resolve().then(() => {}); // it has begun
  assert(!isReady);
  while (!isReady) for (const { device } of [client, server]) device.progress(); // and nothing else runs
  abort();
  await assertRejects(() => within(given), DOMException, "aborted");
  await until(() => [client, server].every(({ device }) => device.counters().liveConnections === 1));
});

function aborter() {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}

Deno.test("device: a name that is no IP address cannot be listened on, whatever went wrong before", async () => {
  await using device = Device.open();
  const { port } = device.listen({ port: 0 });
  assertThrows(() => device.listen({ port }), Deno.errors.AddrInUse);
  for (const hostname of ["example.com", "1.2.3", ""]) {
    const { code } = assertThrows(() => device.listen({ hostname, port }), RdmaError, "no IP address");
    assertEquals(code, "Invalid");
  }
});

Deno.test("device: a congestion control that the system has not got is named, to whichever side asked for it", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const congestion = "vegas" as Congestion; // none that this library knows
  const there = { hostname: "127.0.0.1", port: pair.listener.port, pd: client.pd };
  const refused = await assertRejects(() => client.device.connect({ ...there, congestion }), RdmaError, "vegas");
  assertEquals(refused.code, "Invalid");
  const failed = Promise.withResolvers<RdmaError>();
  const listener = server.device.listen({
    port: 0,
    onRequest: (request) => request.accept({ pd: server.pd, congestion }).catch(failed.resolve),
  });
  const rejected = await assertRejects(() => client.device.connect({ ...there, port: listener.port }), RdmaError);
  assertEquals(rejected.code, "Rejected");
  const error = await failed.promise;
  assertEquals([error.code, error.message.includes("vegas")], ["Invalid", true]);
  await until(() => server.device.counters().liveConnections === 1);
});

Deno.test("device: times may be fractions and as long as one likes; polling that cannot be done is refused", async () => {
  for (const polling of [{ spinNs: -1 }, { spinNs: NaN }, { spinNs: 1e9 }, { hotUs: NaN }, { waitUs: Infinity }]) {
    assertThrows(() => Device.open({ polling }), RangeError, "polling");
  }
  await using device = Device.open({ polling: { spinNs: 0.5, hotUs: 0.1, waitUs: 0.5 } });
  assertEquals(device.progress(33.3333), 0);
  assertEquals(device.wait(1.5), 0);
  const pd = device.allocateProtectionDomain();
  const listener = device.listen({ port: 0, onRequest: (request) => void request.accept({ pd }) });
  const connecting = device.connect({ hostname: "127.0.0.1", port: listener.port, pd });
  // its first turns end by sleeping for what was asked
  const qp = await within(connecting);
  qp.postRecv([], () => {});
  const ended = qp.closed;
  qp.abort();
  assert(device.wait(Infinity) > 0, "until something completes");
  await within(ended);
});

Deno.test("device: what an application throws when a wake-up calls it is said by its own message", async () => {
  const script = new URL("./_testing/throwing_server.ts", import.meta.url).pathname;
  const args = ["run", "-A", "--no-check", script];
  const { code, stderr } = await new Deno.Command(Deno.execPath(), { args, env: { NO_COLOR: "1" } }).output();
  const text = new TextDecoder().decode(stderr);
  assert(code === 1 && text.includes("the application's own error"), text);
});
