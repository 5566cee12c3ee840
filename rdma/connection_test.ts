import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { connectPair, fill, openDescriptors, same, until, whole, within } from "./_testing/pair.ts";
import { Access, type ConnectionRequest, Device, type QueuePair, RdmaError } from "./mod.ts";

Deno.test("connection: private data, addresses and depths are known on both sides, also afterwards", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const question = fill(new Uint8Array(508), 1);
  const answer = fill(new Uint8Array(508), 2);
  const requests: ConnectionRequest[] = [];
  const accepted = Promise.withResolvers<QueuePair>();
  const listener = device.listen({
    port: 0,
    onRequest: (request) => {
      requests.push(request);
      accepted.resolve(request.accept({ pd, privateData: answer, inboundReadDepth: 7, outboundReadDepth: 5 }));
    },
  });
  const client = await device.connect({
    hostname: "127.0.0.1",
    port: listener.port,
    pd,
    privateData: question,
    inboundReadDepth: 3,
    outboundReadDepth: 100,
  });
  const server = await accepted.promise;
  assertEquals(requests[0].privateData, question);
  assertEquals([requests[0].remoteAddress, requests[0].remotePort], ["127.0.0.1", client.localPort]);
  await client.close();
  await server.closed;
  assertEquals(client.privateData, answer);
  assertEquals(server.privateData, question);
  assertEquals([client.remoteAddress, client.remotePort], ["127.0.0.1", listener.port]);
  assertEquals([server.remoteAddress, server.remotePort], [client.localAddress, client.localPort]);
  assertEquals([client.inboundReadDepth, client.outboundReadDepth], [3, 7]);
  assertEquals([server.inboundReadDepth, server.outboundReadDepth], [7, 3]);
});

Deno.test("connection: arguments out of their range", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const there = { hostname: "127.0.0.1", port: 1, pd };
  await assertRejects(() => device.connect({ ...there, privateData: new Uint8Array(509) }), RangeError);
  for (const port of [-1, 65536, 1.5, NaN]) {
    await assertRejects(() => device.connect({ ...there, port }), RangeError);
    assertThrows(() => device.listen({ port }), RangeError);
  }
  for (const inboundReadDepth of [-1, 16383, 0.5]) {
    await assertRejects(() => device.connect({ ...there, inboundReadDepth }), RangeError);
  }
  await using other = Device.open();
  await assertRejects(() => device.connect({ ...there, pd: other.allocateProtectionDomain() }), TypeError, "device");
  const tried = Promise.withResolvers<void>();
  const listener = device.listen({
    port: 0,
    onRequest: (request) => {
      assertThrows(() => void request.accept({ pd, privateData: new Uint8Array(509) }), RangeError);
      assertThrows(() => void request.accept({ pd, outboundReadDepth: -1 }), RangeError);
      assertThrows(() => request.reject(new Uint8Array(509)), RangeError);
      request.reject(new Uint8Array(508));
      assertThrows(() => request.reject(), TypeError, "answered");
      assertThrows(() => void request.accept({ pd }), TypeError, "answered");
      tried.resolve();
    },
  });
  const error = await assertRejects(() => device.connect({ ...there, port: listener.port }), RdmaError);
  assertEquals([error.code, error.privateData?.byteLength], ["Rejected", 508]);
  await tried.promise;
  assertThrows(() => device.listen({ port: listener.port }), Deno.errors.AddrInUse);
});

Deno.test("connection: a close sends what is queued first", async () => {
  await using pair = await connectPair({ client: { crc: true } });
  const { client, server } = pair;
  const source = client.pd.allocate(16 << 20);
  const target = server.pd.allocate(16 << 20, Access.RemoteWrite);
  fill(source.bytes, 3);
  const received = server.qp.recv([]);
  client.qp.postSend({ opcode: "write", local: whole(source), remote: target });
  const sent = client.qp.send([]);
  const closing = client.qp.close();
  assert(client.qp.isClosed);
  await within(Promise.all([received, sent, closing]));
  assert(same(source.bytes, target.bytes));
  assertEquals([await client.qp.closed, await server.qp.closed], [undefined, undefined]);
  await client.qp.close();
});

Deno.test("connection: two sides that close while each reads from the other do not wait for each other", async () => {
  for (let round = 0; round < 8; round++) {
    await using pair = await connectPair({ client: { outboundReadDepth: 4, inboundReadDepth: 4 } });
    const statuses = [pair.client, pair.server].map(({ pd, qp }, i) => {
      const { pd: peerPd } = i === 0 ? pair.server : pair.client;
      const [local, remote] = [pd.allocate(1 << 20), peerPd.allocate(1 << 20, Access.RemoteRead)];
      const statuses: string[] = [];
      for (let i = 0; i < 12; i++) {
        qp.postSend({ opcode: "read", local: whole(local), remote }, ({ status }) => void statuses.push(status));
      }
      return statuses;
    });
    await until(() => pair.server.qp.state === "rts");
    await within(Promise.all([pair.client.qp.close(), pair.server.qp.close()]));
    assertEquals(statuses.map(({ length }) => length), [12, 12]);
    assert(statuses.some((side) => side.every((status) => status === "success")));
  }
});

Deno.test("connection: a close waits for Reads", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const source = server.pd.allocate(8 << 20, Access.RemoteRead);
  fill(source.bytes, 4);
  const sink = client.pd.allocate(8 << 20);
  const read = client.qp.read(whole(sink), source);
  await within(client.qp.close());
  await read;
  assert(same(source.bytes, sink.bytes));
});

Deno.test("connection: an abort resets, and the peer is told", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const [theirs] = await Promise.all([
    within(client.qp.closed),
    assertRejects(() => server.qp.recv([]), RdmaError, "ended before"),
    (async () => {
      await Promise.resolve();
      server.qp.abort();
      server.qp.abort();
    })(),
  ]);
  assertEquals(theirs?.code, "Reset");
  assertEquals(await server.qp.closed, undefined);
});

Deno.test("connection: refused, not iWARP, gone, and rejected", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  await device.hold.begin();
  const before = openDescriptors();
  using plain = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = plain.addr as Deno.NetAddr;
  const connect = (port: number) => within(device.connect({ hostname: "127.0.0.1", port, pd }));

  const answers: [string, Uint8Array | undefined][] = [
    ["SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n, and a little more", undefined],
    ["HTTP/1.1 400 Bad Request\r\n\r\n", undefined],
    ["", undefined],
    ["MPA ID Rep Fra", undefined],
  ].map(([text]) => [text as string, new TextEncoder().encode(text)]);
  for (const [name, bytes] of answers) {
    const served = plain.accept().then(async (conn) => {
      await conn.read(new Uint8Array(100));
      if (bytes!.byteLength > 0) await conn.write(bytes!);
      conn.close();
    });
    const error = await assertRejects(() => connect(port), RdmaError, "127.0.0.1");
    assertEquals(error.code, "NotIwarp", name);
    await served;
  }

  const free = device.listen({ port: 0 });
  await assertRejects(() => connect(free.port), RdmaError, "rejected");
  await free.close();
  const refused = await assertRejects(() => connect(free.port), RdmaError, "refused");
  assertEquals(refused.code, "ConnectionRefused");
  assert(device.counters().startupFailures >= answers.length);
  plain.close();
  await until(() => openDescriptors() <= before);
});

Deno.test("connection: a peer that says nothing times out; a signal ends the wait", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = silent.addr as Deno.NetAddr;
  await device.hold.begin();
  const before = openDescriptors();
  const conns: Deno.Conn[] = [];
  const accepting = (async () => {
    // one that was reset before it was accepted is an error to Deno
    for (let i = 0; i < 3; i++) await silent.accept().then((conn) => conns.push(conn), () => {});
  })();
  const controller = new AbortController();
  const aborted = assertRejects(
    () => device.connect({ hostname: "127.0.0.1", port, pd, signal: controller.signal }),
    Error,
    "changed my mind",
  );
  const late = assertRejects(
    () => device.connect({ hostname: "127.0.0.1", port, pd, signal: AbortSignal.timeout(50) }),
    DOMException,
  );
  const timedOut = assertRejects(() => device.connect({ hostname: "127.0.0.1", port, pd }), RdmaError);
  setTimeout(() => controller.abort(new Error("changed my mind")), 20);
  await within(aborted);
  await within(late);
  await assertRejects(
    () => device.connect({ hostname: "127.0.0.1", port, pd, signal: AbortSignal.abort() }),
    DOMException,
  );
  assertEquals((await within(timedOut, 8000)).code, "TimedOut");
  await accepting;
  for (const conn of conns) conn.close();
  await until(() => openDescriptors() <= before);
});

for (const crc of [false, true]) {
  Deno.test(`connection: in peer-to-peer mode the accepting side may speak first, crc ${crc}`, async () => {
    const sent: Promise<void>[] = [];
    await using device = Device.open();
    const pd = device.allocateProtectionDomain();
    const hello = pd.register(new TextEncoder().encode("hello"));
    const listener = device.listen({
      port: 0,
      onRequest: (request) => void request.accept({ pd, onReady: (qp) => void sent.push(qp.send(whole(hello))) }),
    });
    const inbox = pd.allocate(5);
    const received = Promise.withResolvers<string>();
    await device.connect({
      hostname: "127.0.0.1",
      port: listener.port,
      pd,
      crc,
      onReady: (qp) => qp.postRecv(whole(inbox), (done) => received.resolve(done.status)),
    });
    assertEquals(await within(received.promise), "success");
    assertEquals(inbox.bytes, hello.bytes);
    await Promise.all(sent);
  });
}

for (const revision of [1, 2] as const) {
  Deno.test(`connection: without it, what the accepting side sends waits, revision ${revision}`, async () => {
    await using pair = await connectPair({ client: { peerToPeer: false, revision } });
    const { client, server } = pair;
    const source = server.pd.allocate(100);
    fill(source.bytes, 1);
    const inbox = client.pd.allocate(100);
    let status = "";
    const received = client.qp.recv(whole(inbox));
    server.qp.postSend({ opcode: "send", local: whole(source) }, (done) => status = done.status);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assertEquals(status, "", "nothing may be sent yet (RFC 5044 §7.1.2)");
    assertEquals(server.device.counters().fpdusSent, 0);
    await Promise.all([server.qp.recv([]), client.qp.send([])]);
    await within(received);
    assertEquals(inbox.bytes, source.bytes);
  });
}

Deno.test("connection: a request may be answered later, or after the peer has gone", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const requests: ConnectionRequest[] = [];
  const listener = device.listen({ port: 0, onRequest: (request) => requests.push(request) });
  const connecting = device.connect({ hostname: "127.0.0.1", port: listener.port, pd });
  const controller = new AbortController();
  const leaving = assertRejects(() =>
    device.connect({ hostname: "127.0.0.1", port: listener.port, pd, signal: controller.signal })
  );
  await until(() => requests.length === 2);
  controller.abort();
  await leaving;
  await new Promise((resolve) => setTimeout(resolve, 20));
  const gone = assertRejects(() => requests[1].accept({ pd }), RdmaError, "gone");
  const server = await requests[0].accept({ pd });
  await gone;
  const client = await connecting;
  await Promise.all([server.recv([]), client.send([])]);
});

Deno.test("connection: a listener's end leaves its connections alone", async () => {
  await using pair = await connectPair();
  const { client, server, listener } = pair;
  await listener.close();
  await listener.close();
  await assertRejects(
    () => client.device.connect({ hostname: "127.0.0.1", port: listener.port, pd: client.pd }),
    RdmaError,
    "refused",
  );
  await Promise.all([server.qp.recv([]), client.qp.send([])]);
});

Deno.test("connection: names are looked up", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const listener = device.listen({ hostname: "localhost", port: 0, onRequest: (r) => void r.accept({ pd }) });
  const qp = await within(device.connect({ hostname: "localhost", port: listener.port, pd }));
  assertEquals(qp.remoteAddress, "127.0.0.1");
});

Deno.test("connection: IPv6", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const listener = device.listen({ hostname: "::1", port: 0, onRequest: (r) => void r.accept({ pd }) });
  for (const hostname of ["::1", "[::1]"]) {
    const qp = await within(device.connect({ hostname, port: listener.port, pd }));
    assertEquals(qp.remoteAddress, "::1");
  }
});

Deno.test("connection: many come and go at once, and leave nothing behind", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const target = pd.allocate(64, Access.RemoteWrite);
  const servers: QueuePair[] = [];
  const listener = device.listen({
    port: 0,
    onRequest: async (request) => void servers.push(await request.accept({ pd })),
  });
  await device.hold.begin();
  const before = openDescriptors();
  for (let round = 0; round < 3; round++) {
    const clients = await Promise.all(
      Array.from({ length: 100 }, () => device.connect({ hostname: "127.0.0.1", port: listener.port, pd })),
    );
    const source = pd.allocate(8);
    await Promise.all(clients.map((qp) => qp.write(whole(source), target)));
    source.deregister();
    await within(Promise.all(clients.map((qp, i) => i % 2 === 0 ? qp.close() : (qp.abort(), qp.closed))));
  }
  await within(Promise.all(servers.map((qp) => qp.closed)));
  assertEquals(servers.length, 300);
  await until(() => openDescriptors() <= before);
  await until(() => device.counters().liveConnections === 0);
});

Deno.test("connection: private data is what it was when `connect` was called", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const came: number[][] = [];
  const { port } = device.listen({
    port: 0,
    onRequest: (request) => {
      came.push([...request.privateData]);
      void request.accept({ pd });
    },
  });
  const privateData = new Uint8Array(2);
  const connect = (number: number) => {
    privateData.fill(number);
    return device.connect({ hostname: "127.0.0.1", port, pd, privateData });
  };
  const connecting = [connect(1), connect(2)];
  privateData.buffer.transfer();
  await within(Promise.all(connecting));
  assertEquals(came.sort(), [[1, 1], [2, 2]]);
});
