import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { connectPair, fill, same, until, whole, within } from "./_testing/pair.ts";
import { Access, RdmaError, type WorkCompletion } from "./mod.ts";

const ALL = Access.RemoteRead | Access.RemoteWrite;

Deno.test("fence: work behind it waits for the Reads in front, work without overtakes them", async () => {
  for (const fence of [false, true]) {
    // one Read at a time, of which there are many: they take their time
    await using pair = await connectPair({ client: { outboundReadDepth: 4 } });
    const { client, server } = pair;
    const source = server.pd.allocate(4 << 20, Access.RemoteRead);
    fill(source.bytes, 3);
    const sink = client.pd.allocate(4 << 20);
    const received = server.qp.recv(whole(server.pd.allocate(8)));
    let sent = -1;
    let last = 0;
    for (let i = 0; i < 4; i++) {
      const local = [{ region: sink, offset: i << 20, length: 1 << 20 }];
      const remote = { stag: source.stag, address: source.address + BigInt(i << 20) };
      client.qp.postSend({ opcode: "read", local, remote }, () => last = i + 1);
    }
    // what was read is sent back: without the fence it leaves before it has come
    const echo = server.pd.allocate(64, Access.RemoteWrite);
    const local = [{ region: sink, offset: (4 << 20) - 64, length: 64 }];
    client.qp.postSend({ opcode: "write", local, remote: echo, fence });
    client.qp.postSend({ opcode: "send", local: [], fence }, () => sent = last);
    await received;
    assertEquals(same(echo.bytes, source.bytes.subarray(-64)), fence);
    await until(() => sent >= 0);
    assertEquals(sent, 4, "completions are in order in any case");
    assert(same(sink.bytes, source.bytes));
  }
});

Deno.test("fence: an atomic operation in front is waited for, too; a fence with nothing in front is none", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const counter = server.pd.allocate(8, Access.RemoteAtomic | Access.RemoteRead);
  const result = client.pd.allocate(8);
  const copy = server.pd.allocate(8, Access.RemoteWrite);
  new BigUint64Array(counter.bytes.buffer, 0, 1)[0] = 41n;
  server.qp.postRecv([], () => {});
  server.qp.flush();
  client.qp.postSend({ opcode: "send", local: [], fence: true });
  client.qp.postSend({ opcode: "fetchAdd", add: 1n, remote: counter, local: whole(result) });
  client.qp.postSend({ opcode: "write", local: whole(result), remote: copy, fence: true });
  await client.qp.read([], counter);
  assertEquals(new BigUint64Array(copy.bytes.buffer, 0, 1)[0], 41n);
});

Deno.test("Read with local invalidate: the sink's STag ends with the Read, and not before", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const source = server.pd.allocate(100_000, Access.RemoteRead);
  fill(source.bytes, 9);
  const memory = client.pd.allocate(100_000);
  const window = memory.bind({ length: 100_000, access: Access.RemoteWrite });
  const regions = client.device.counters().regions;
  await client.qp.read(whole(memory).map((sge) => ({ ...sge, region: window })), source, { invalidateLocal: true });
  assert(same(memory.bytes, source.bytes));
  assertEquals(client.device.counters().regions, regions - 1);
  // the region is still there; a peer's Write through the window is refused
  await client.qp.read(whole(memory), source);
  await server.qp.write([{ region: source, offset: 0, length: 8 }], window);
  const error = await within(server.qp.closed);
  assertEquals(error?.terminate, { layer: 1, etype: 1, code: 0 });
  assertEquals((await client.qp.closed)?.code, "PeerViolation");
});

Deno.test("bind by a work request: the Send behind it carries a STag that is valid when it arrives", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const region = client.pd.allocate(65_536);
  const window = client.pd.allocateWindow();
  assertEquals([window.stag, window.live], [0, false]);
  const letter = client.pd.allocate(16);
  const note = server.pd.allocate(16);
  const data = server.pd.allocate(4096);
  fill(data.bytes, 1);
  const seen: number[] = [];
  for (let round = 0; round < 50; round++) {
    const offset = round * 1000;
    const received = server.qp.recv(whole(note));
    server.qp.flush();
    client.qp.postSend({ opcode: "bind", window, region, offset, length: 4096, access: Access.RemoteWrite });
    seen.push(window.stag);
    assertEquals([window.byteLength, window.address], [4096, region.address + BigInt(offset)]);
    const view = new DataView(letter.bytes.buffer);
    view.setUint32(0, window.stag);
    view.setBigUint64(8, window.address);
    const answered = client.qp.recv([]);
    const [done] = await Promise.all([received, client.qp.send(whole(letter))]);
    assertEquals(done.byteLength, 16);
    const got = new DataView(note.bytes.buffer);
    const remote = { stag: got.getUint32(0), address: got.getBigUint64(8) };
    // the peer answers by a Write and takes the STag back
    server.qp.postSend({ opcode: "write", local: whole(data), remote });
    const [answer] = await Promise.all([answered, server.qp.send([], { invalidate: remote.stag })]);
    assertEquals(answer.invalidatedStag, window.stag);
    assert(same(region.bytes.subarray(offset, offset + 4096), data.bytes));
  }
  assertEquals(new Set(seen).size, 50, "each binding has a STag of its own");
});

Deno.test("bind by a work request: binding anew ends the STag before; it is for this connection alone", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const other = await connectPair();
  await using _ = other;
  const region = server.pd.allocate(8192);
  const window = server.pd.allocateWindow();
  const bind = { opcode: "bind", window, region, offset: 0, length: 4096, access: ALL } as const;
  const done: WorkCompletion[] = [];
  await client.qp.write([], region); // now the server may send, too
  server.qp.postSend(bind, (completion) => done.push(completion));
  const first = window.stag;
  await until(() => done.length === 1);
  const source = client.pd.allocate(16);
  await client.qp.read(whole(source), { stag: first, address: window.address });
  server.qp.postSend({ ...bind, offset: 4096 }, (completion) => done.push(completion));
  await until(() => done.length === 2);
  assertEquals(done.map(({ status }) => status), ["success", "success"]);
  assert(first !== window.stag);
  await client.qp.read(whole(source), window);
  // another connection of the same domain
  const listener = server.device.listen({ port: 0, onRequest: (request) => void request.accept({ pd: server.pd }) });
  const stranger = await client.device.connect({ hostname: "127.0.0.1", port: listener.port, pd: client.pd });
  await assertRejects(() => stranger.read(whole(source), window), RdmaError);
  assertEquals((await stranger.closed)?.terminate, { layer: 0, etype: 1, code: 3 });
  await assertRejects(() => client.qp.read(whole(source), { stag: first, address: region.address }), RdmaError);
  assertEquals((await client.qp.closed)?.terminate, { layer: 0, etype: 1, code: 0 });
});

Deno.test("local invalidation by a work request: in order behind what uses the memory", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const source = client.pd.allocate(1 << 20);
  fill(source.bytes, 2);
  const target = server.pd.allocate(1 << 20, ALL);
  const done: string[] = [];
  const note = ({ status }: WorkCompletion) => void done.push(status);
  for (let i = 0; i < 8; i++) client.qp.postSend({ opcode: "write", local: whole(source), remote: target }, note);
  client.qp.postSend({ opcode: "read", local: whole(source), remote: target }, note);
  client.qp.postSend({ opcode: "invalidateLocal", target: source }, note);
  await until(() => done.length === 10);
  assertEquals(new Set(done), new Set(["success"]));
  assert(same(target.bytes, source.bytes), "the memory is still its owner's");
  // fast registration: the same memory under another STag, with another access, and only a part of it
  const before = source.stag;
  client.qp.postSend(
    { opcode: "register", region: source, access: Access.RemoteRead, offset: 4096, length: 8192 },
    note,
  );
  assertEquals([source.byteLength, source.access, source.bytes.byteOffset], [8192, Access.RemoteRead, 4096]);
  assert(source.stag !== before);
  await until(() => done.length === 11);
  const sink = server.pd.allocate(8192);
  await server.qp.read(whole(sink), source);
  assert(same(sink.bytes, source.bytes));
  assertThrows(() => source.reregister({ access: 0, offset: 0, length: (1 << 20) + 1 }), RdmaError);
  source.reregister({ access: Access.RemoteWrite });
  assertEquals(source.byteLength, 1 << 20);
  await server.qp.write(whole(sink), source);
  const regions = client.device.counters().regions;
  source.deregister();
  assertEquals(client.device.counters().regions, regions - 1);
});

Deno.test("local invalidation by a work request: not before the Writes in front of it have left", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const source = client.pd.allocate(4 << 20);
  fill(source.bytes, 6);
  const target = server.pd.allocate(4 << 20, ALL);
  const done: string[] = [];
  const note = ({ status }: WorkCompletion) => void done.push(status);
  // more than sockets take at once
  for (let i = 0; i < 16; i++) client.qp.postSend({ opcode: "write", local: whole(source), remote: target }, note);
  client.qp.postSend({ opcode: "invalidateLocal", target: source }, note);
  await until(() => done.length === 17);
  assertEquals(new Set(done), new Set(["success"]));
  await client.qp.read([], target);
  assert(same(target.bytes, source.bytes));
});

Deno.test("work on memory that has gone fails its connection, and leaves nothing behind", async () => {
  for (const how of ["bind", "register", "invalidateLocal", "flushed"] as const) {
    await using pair = await connectPair();
    const { client } = pair;
    const { device } = client;
    const regions = device.counters().regions;
    const region = client.pd.allocate(8192, ALL);
    const window = client.pd.allocateWindow();
    const done: string[] = [];
    const note = ({ status }: WorkCompletion) => void done.push(status);
    if (how === "flushed") {
      const remote = pair.server.pd.allocate(1 << 20, ALL);
      const local = whole(client.pd.allocate(1 << 20));
      for (let i = 0; i < 40; i++) client.qp.postSend({ opcode: "read", local, remote });
    }
    if (how === "bind" || how === "flushed") {
      client.qp.postSend({ opcode: "bind", window, region, offset: 0, length: 1, access: ALL }, note);
    } else if (how === "register") {
      client.qp.postSend({ opcode: "register", region, access: 0 }, note);
    } else {
      client.qp.postSend({ opcode: "invalidateLocal", target: region }, note);
    }
    if (how === "flushed") client.qp.abort();
    else region.deregister();
    const error = await within(client.qp.closed);
    const expected = how === "flushed" ? [undefined, "flushed"] : ["LocalProtection", "LocalProtection"];
    assertEquals([error?.code, ...done], expected, how);
    assertEquals(window.live, false);
    region.deregister();
    assertEquals(device.counters().regions, regions + (how === "flushed" ? 1 : 0), how);
    const fresh = client.pd.allocate(8);
    const work = { opcode: "bind", window, region: fresh, offset: 0, length: 1, access: ALL } as const;
    assertEquals(assertThrows(() => client.qp.postSend(work), RdmaError).code, "Closed");
    assertEquals(device.counters().regions, regions + (how === "flushed" ? 2 : 1));
  }
});

Deno.test("zero-based memory: the tagged offset of its first byte is 0, for regions and windows", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const target = server.pd.allocate(100_000, ALL, { zeroBased: true });
  assertEquals(target.address, 0n);
  const source = client.pd.allocate(100_000);
  fill(source.bytes, 4);
  await client.qp.write(whole(source), { stag: target.stag, address: 0n });
  const window = target.bind({ offset: 50_000, length: 1000, access: ALL, zeroBased: true });
  assertEquals(window.address, 0n);
  const sink = client.pd.allocate(1000, 0, { zeroBased: true });
  await client.qp.read(whole(sink), { stag: window.stag, address: 0n });
  assert(same(sink.bytes, source.bytes.subarray(50_000, 51_000)));
  const inside = target.bind({ offset: 50_000, length: 1000, access: ALL });
  assertEquals(inside.address, 50_000n);
  await client.qp.read(whole(sink), inside);
  // zero-based memory is no way past its end
  await assertRejects(() => client.qp.read(whole(sink), { stag: window.stag, address: 1n }), RdmaError);
  assertEquals((await client.qp.closed)?.terminate, { layer: 0, etype: 1, code: 1 });
});

/** A pair whose server's work waits: the client has sent nothing yet (RFC 5044 §7.1.2). */
const waiting = () => connectPair({ client: { peerToPeer: false } });

Deno.test("register: work that is flushed leaves the region as it was, however much of it there was", async () => {
  await using pair = await waiting();
  const { client, server } = pair;
  const region = server.pd.allocate(4096, Access.RemoteRead);
  fill(region.bytes, 1);
  const { stag } = region;
  const status: string[] = [];
  const post = (access: number) =>
    server.qp.postSend({ opcode: "register", region, access, offset: 1024 }, (done) => status.push(done.status));
  post(Access.RemoteWrite);
  post(Access.LocalOnly);
  const regions = server.device.counters().regions;
  server.qp.abort();
  await within(server.qp.closed);
  assertEquals([...status, region.stag, region.byteLength], ["flushed", "flushed", stag, 4096]);
  assertEquals(server.device.counters().regions, regions - 2);
  const qp = await client.device.connect({ hostname: "127.0.0.1", port: pair.listener.port, pd: client.pd });
  const sink = client.pd.allocate(4096);
  await qp.read(whole(sink), region);
  assert(same(sink.bytes, region.bytes));
});

Deno.test("register, bind: what is given up while the work waits is out of reach by every STag that it had", async () => {
  await using pair = await waiting();
  const { client, server } = pair;
  const bytes = new Uint8Array(4096);
  const regions = server.device.counters().regions;
  const region = server.pd.register(bytes, ALL);
  const first = { stag: region.stag, address: region.address };
  server.qp.postSend({ opcode: "register", region, access: ALL });
  const memory = server.pd.allocate(4096);
  const window = memory.bind({ access: ALL });
  const bound = { stag: window.stag, address: window.address };
  const part = { offset: 0, length: 64, access: ALL };
  server.qp.postSend({ opcode: "bind", window, region: memory, ...part, shared: true });
  const other = memory.bind({ access: ALL });
  const otherStag = { stag: other.stag, address: other.address };
  server.qp.postSend({ opcode: "invalidateLocal", target: other });
  region.deregister();
  window.revoke();
  other.revoke();
  assertEquals(server.device.counters().regions, regions + 1);
  server.qp.abort();
  await within(server.qp.closed);
  assertEquals(server.device.counters().regions, regions + 1);
  for (const remote of [first, bound, otherStag]) {
    const qp = await client.device.connect({ hostname: "127.0.0.1", port: pair.listener.port, pd: client.pd });
    qp.postSend({ opcode: "write", local: whole(client.pd.allocate(64)), remote });
    const error: RdmaError | undefined = await within(qp.closed);
    assertEquals(error?.terminate, { layer: 1, etype: 1, code: 0 });
  }
});

Deno.test("invalidateLocal: work that is flushed leaves the window bound", async () => {
  await using pair = await waiting();
  const { server } = pair;
  const window = server.pd.allocate(4096).bind({ access: ALL });
  server.qp.postSend({ opcode: "invalidateLocal", target: window });
  assertEquals(window.live, false);
  server.qp.abort();
  await within(server.qp.closed);
  assertEquals(window.live, true);
  const { regions } = server.device.counters();
  window.revoke();
  assertEquals(server.device.counters().regions, regions - 1);
});

Deno.test("bind, invalidateLocal: a window may be bound, used, invalidated and disposed of without waiting in between", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const memory = client.pd.allocate(8 << 20);
  const sink = server.pd.allocate(8 << 20, ALL);
  const window = client.pd.allocateWindow();
  const statuses: string[] = [];
  const note = ({ status }: WorkCompletion) => void statuses.push(status);
  for (let round = 0; round < 10; round++) {
    fill(memory.bytes, round);
    const bound = { region: memory, offset: 0, length: memory.byteLength, access: ALL };
    client.qp.postSend({ opcode: "bind", window, ...bound }, note);
    client.qp.postSend({ opcode: "write", local: [window.sge()], remote: sink }, note);
    client.qp.postSend({ opcode: "read", local: [], remote: sink }, note);
    client.qp.postSend({ opcode: "invalidateLocal", target: window }, note);
    await until(() => statuses.length === 4 * (round + 1));
    assert(same(sink.bytes, memory.bytes));
  }
  {
    // given up at once, and invalidated by work that comes later: that is done already
    using brief = memory.bind({ access: ALL });
    client.qp.postSend({ opcode: "invalidateLocal", target: brief }, note);
  }
  await until(() => statuses.length === 41);
  // bound anew on another connection, while work that is to invalidate it waits here
  const other = await client.device.connect({ hostname: "127.0.0.1", port: pair.listener.port, pd: client.pd });
  const shared = memory.bind({ access: ALL });
  client.qp.postSend({ opcode: "write", local: whole(memory), remote: sink }, note);
  client.qp.postSend({ opcode: "invalidateLocal", target: shared }, note);
  other.postSend({ opcode: "bind", window: shared, region: memory, offset: 0, length: 64, access: ALL }, note);
  await until(() => statuses.length === 44);
  assertEquals(new Set(statuses), new Set(["success"]));
  assertEquals([client.qp.state, other.state, shared.live, shared.byteLength], ["rts", "rts", true, 64]);
});

Deno.test("bind: work that is flushed leaves the window as it was", async () => {
  await using pair = await waiting();
  const { server } = pair;
  const memory = server.pd.allocate(4096);
  const window = memory.bind({ access: ALL });
  const { stag } = window;
  const { regions } = server.device.counters();
  const part = { region: memory, offset: 8, length: 64, access: ALL };
  server.qp.postSend({ opcode: "bind", window, ...part });
  server.qp.postSend({ opcode: "bind", window, ...part });
  server.qp.postSend({ opcode: "invalidateLocal", target: window });
  server.qp.abort();
  await within(server.qp.closed);
  assertEquals([window.live, window.stag, window.byteLength], [true, stag, 4096]);
  assertEquals(server.device.counters().regions, regions);
  window.revoke();
  assertEquals([window.live, server.device.counters().regions], [false, regions - 1]);
});
