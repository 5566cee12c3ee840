// What the two sides of an MPA start-up may ask for (RFC 5044 §7.1, RFC 6581), and what follows from it.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { connectPair, fill, same, until, whole, within } from "../../../rdma/_testing/pair.ts";
import { Access, type ConnectionRequest, Device, type QueuePair, RdmaError } from "../../../rdma/mod.ts";
import { RawPeer } from "./raw_peer.ts";
import { mpaReply, mpaRequest, Opcode, tagged, untagged } from "./wire.ts";

/** A responder that is none of ours. */
function listen(): { listener: Deno.TcpListener; port: number } {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return { listener, port: listener.addr.port };
}

Deno.test("start-up: a responder that answers in revision 1 is asked again in that, once", async () => {
  for (const reject of [true, false]) {
    await using device = Device.open();
    const pd = device.allocateProtectionDomain();
    const { listener, port } = listen();
    using _ = listener;
    const connecting = device.connect({ hostname: "127.0.0.1", port, pd, privateData: new Uint8Array([7]) });
    const old = mpaReply({ revision: 1, enhanced: false, reject });
    using first = new RawPeer(await listener.accept());
    assertEquals((await first.readMpa())[17], 2);
    await first.write(old);
    assertEquals((await first.readEnd()).byteLength, 0);
    using second = new RawPeer(await listener.accept());
    const again = await second.readMpa();
    assertEquals([again[17], again[16] & 0x10, again.byteLength, again[20]], [1, 0, 21, 7]);
    await second.write(mpaReply({ revision: 1, enhanced: false }));
    const qp = await connecting;
    assertEquals([qp.facts.revision, qp.remotePort], [1, port]);
    await qp.write([], { stag: 0, address: 0n });
    assertEquals((await second.readFpdu())?.opcode, Opcode.Write);
  }
});

Deno.test("start-up: a responder that says revision 1 for ever, or is asked for 2 by name, is no partner", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const { listener, port } = listen();
  using _ = listener;
  const old = mpaReply({ revision: 1, enhanced: false, reject: true });
  const named = assertRejects(() => device.connect({ hostname: "127.0.0.1", port, pd, revision: 2 }), RdmaError);
  using __ = await RawPeer.accept(listener, old);
  assertEquals((await named).code, "Incompatible");
  const any = assertRejects(() => device.connect({ hostname: "127.0.0.1", port, pd }), RdmaError);
  using ___ = await RawPeer.accept(listener, old);
  using ____ = await RawPeer.accept(listener, old);
  assertEquals((await any).code, "Rejected");
  // one that is gone for the second time
  const gone = assertRejects(() => device.connect({ hostname: "127.0.0.1", port, pd }), RdmaError);
  using last = new RawPeer(await listener.accept());
  listener.close(); // before it answers, so that none waits in the backlog to be reset
  await last.readMpa();
  await last.write(old);
  assertEquals((await gone).code, "ConnectionRefused");
});

for (const kind of ["send", "write", "read"] as const) {
  Deno.test(`start-up: peer-to-peer with a ready-to-receive ${kind}, in both roles`, async () => {
    const opcode = { send: Opcode.Send, write: Opcode.Write, read: Opcode.ReadRequest }[kind];
    // we ask for it, and send it
    {
      await using device = Device.open();
      const pd = device.allocateProtectionDomain();
      const { listener, port } = listen();
      using _ = listener;
      const connecting = device.connect({ hostname: "127.0.0.1", port, pd, readyToReceive: kind });
      using peer = new RawPeer(await listener.accept());
      const request = new DataView((await peer.readMpa()).buffer);
      const [ird, ord] = [request.getUint16(20), request.getUint16(22)];
      assertEquals([ird >> 14, ord >> 14], { send: [3, 0], write: [2, 2], read: [2, 1] }[kind]);
      await peer.write(
        mpaReply({ peerToPeer: true, rtrSend: kind === "send", rtrWrite: kind === "write", rtrRead: kind === "read" }),
      );
      const qp = await connecting;
      const fpdu = await peer.readFpdu();
      assertEquals([fpdu?.opcode, fpdu?.last], [opcode, true]);
      assertEquals(fpdu?.payload.byteLength, kind === "read" ? 28 : 0);
      qp.abort();
    }
    // it comes from a peer that offers this one alone
    {
      await using device = Device.open();
      const pd = device.allocateProtectionDomain();
      const accepted = Promise.withResolvers<QueuePair>();
      let received = 0;
      const { port } = device.listen({
        port: 0,
        onRequest: (request) =>
          void request.accept({
            pd,
            onReady: (qp) => {
              qp.postRecv(whole(pd.allocate(64)), () => received++);
              accepted.resolve(qp);
            },
          }),
      });
      using peer = await RawPeer.connect(port);
      const offer = { rtrSend: kind === "send", rtrWrite: kind === "write", rtrRead: kind === "read" };
      await peer.write(mpaRequest({ peerToPeer: true, ...offer }));
      const reply = new DataView((await peer.readMpa()).buffer);
      assertEquals(
        [reply.getUint16(20) >> 14, reply.getUint16(22) >> 14],
        { send: [3, 0], write: [2, 2], read: [2, 1] }[kind],
      );
      const qp = await accepted.promise;
      // nothing is sent before it has come
      qp.postSend({ opcode: "send", local: [] });
      qp.flush();
      await new Promise((resolve) => setTimeout(resolve, 20));
      assertEquals(device.counters().fpdusSent, 0);
      const none = new Uint8Array(0);
      if (kind === "send") await peer.write(untagged(Opcode.Send, {}, none));
      if (kind === "write") await peer.write(tagged(Opcode.Write, { stag: 0, address: 0n }, none));
      if (kind === "read") await peer.write(untagged(Opcode.ReadRequest, {}, new Uint8Array(28)));
      const answers = [await peer.readFpdu()];
      if (kind === "read") answers.push(await peer.readFpdu());
      const opcodes = answers.map((fpdu) => fpdu!.opcode).sort();
      assertEquals(opcodes, kind === "read" ? [Opcode.ReadResponse, Opcode.Send] : [Opcode.Send]);
      // the receive is still there for the first Send of the application's, an empty one at that
      await peer.write(untagged(Opcode.Send, { msn: kind === "send" ? 2 : 1 }, none));
      await until(() => received === 1);
      qp.abort();
    }
    // and between two of ours, with either side speaking first
    await using pair = await connectPair({ client: { readyToReceive: kind } });
    const [at, to] = [pair.client.pd.allocate(8), pair.server.pd.allocate(8)];
    const both = [pair.client.qp.recv(whole(at)), pair.server.qp.recv(whole(to))];
    pair.client.qp.flush();
    pair.server.qp.flush();
    await within(pair.server.qp.send(whole(to)));
    await within(pair.client.qp.send(whole(at)));
    await within(Promise.all(both));
  });
}

Deno.test("start-up: a peer that is to begin with an empty Send and sends a message instead has it received", async () => {
  for (const from of ["the connection", "a shared queue"] as const) {
    await using device = Device.open();
    const pd = device.allocateProtectionDomain();
    const shared = from === "a shared queue" ? device.createSharedReceiveQueue({ pd }) : undefined;
    const received: number[] = [];
    const post = (to: { postRecv: QueuePair["postRecv"] }) => {
      for (let i = 0; i < 3; i++) to.postRecv(whole(pd.allocate(64)), (done) => received.push(done.byteLength));
    };
    if (shared !== undefined) post(shared);
    const { port } = device.listen({
      port: 0,
      onRequest: (request) =>
        void request.accept({ pd, receives: shared, onReady: (qp) => shared === undefined && post(qp) }),
    });
    using peer = await RawPeer.connect(port);
    await peer.write(mpaRequest({ peerToPeer: true, rtrSend: true }));
    await peer.readMpa();
    // in two segments, the first of which is empty
    await peer.write(
      untagged(Opcode.Send, { msn: 1 }, new Uint8Array(0), { last: false }),
      untagged(Opcode.Send, { msn: 1 }, new Uint8Array(5)),
      untagged(Opcode.Send, { msn: 2 }, new Uint8Array(0)),
      untagged(Opcode.Send, { msn: 3 }, new Uint8Array(7)),
    );
    await until(() => received.length === 3);
    assertEquals(received, [5, 0, 7], from);
  }
});

Deno.test("start-up: peer-to-peer with read depths of 0 and 1: a ready-to-receive Read is answered, and no other beyond them", async () => {
  const none = new Uint8Array(0);
  const first = {
    send: () => untagged(Opcode.Send, {}, none),
    write: () => tagged(Opcode.Write, { stag: 0, address: 0n }, none),
    read: () => untagged(Opcode.ReadRequest, {}, new Uint8Array(28)),
  };
  for (const kind of ["send", "write", "read"] as const) {
    const offer = { peerToPeer: true, rtrSend: kind === "send", rtrWrite: kind === "write", rtrRead: kind === "read" };
    for (const depth of [0, 1]) {
      const about = `${kind}, depth ${depth}`;
      // it comes from a peer
      await using device = Device.open();
      const pd = device.allocateProtectionDomain();
      const accepted = Promise.withResolvers<QueuePair>();
      const { port } = device.listen({
        port: 0,
        onRequest: (request) => accepted.resolve(request.accept({ pd, inboundReadDepth: depth })),
      });
      using peer = await RawPeer.connect(port);
      await peer.write(mpaRequest(offer));
      assertEquals(new DataView((await peer.readMpa()).buffer).getUint16(20) & 0x3fff, depth, about);
      await peer.write(first[kind]());
      const qp = await accepted.promise;
      if (kind === "read") assertEquals((await peer.readFpdu())?.opcode, Opcode.ReadResponse, about);
      await qp.write([], { stag: 0, address: 0n });
      assertEquals((await peer.readFpdu())?.opcode, Opcode.Write, about);
      // the next Read, an empty one as well, counts
      await peer.write(untagged(Opcode.ReadRequest, { msn: kind === "read" ? 2 : 1 }, new Uint8Array(28)));
      if (depth === 0) assertEquals((await peer.readTerminate()).code, 2, about);
      else assertEquals((await peer.readFpdu())?.opcode, Opcode.ReadResponse, about);
      qp.abort();
      // we send it, whatever depth the peer states
      const { listener, port: theirs } = listen();
      using _ = listener;
      const connecting = device.connect({ hostname: "127.0.0.1", port: theirs, pd, readyToReceive: kind });
      using responder = await RawPeer.accept(listener, mpaReply({ ...offer, ird: depth }));
      const ours = await connecting;
      assertEquals((await responder.readFpdu())?.opcode, first[kind]()[3] & 0x0f, about);
      assertEquals(ours.outboundReadDepth, depth, about);
      ours.abort();
      // between two of ours
      const [client, server] = [{ readyToReceive: kind, outboundReadDepth: depth }, { inboundReadDepth: depth }];
      await using pair = await connectPair({ client, server });
      await within(Promise.all([pair.client, pair.server].map(({ qp }) => qp.write([], { stag: 0, address: 0n }))));
      assertEquals([pair.client.qp.isClosed, pair.server.qp.isClosed], [false, false], about);
    }
  }
});

Deno.test("start-up: a responder picks what it prefers where that is offered, and the cheapest otherwise", async () => {
  for (const [prefers, picked] of [["read", 1], ["send", 2], [undefined, 2]] as const) {
    await using device = Device.open();
    const pd = device.allocateProtectionDomain();
    const { port } = device.listen({
      port: 0,
      onRequest: (request) => void request.accept({ pd, readyToReceive: prefers }),
    });
    using peer = await RawPeer.connect(port);
    await peer.write(mpaRequest({ peerToPeer: true, rtrWrite: true, rtrRead: true }));
    const reply = new DataView((await peer.readMpa()).buffer);
    assertEquals([reply.getUint16(20) >> 14, reply.getUint16(22) >> 14], [2, picked]);
  }
});

Deno.test("start-up: its time-outs can be set", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const { listener, port } = listen();
  using _ = listener;
  const began = performance.now();
  const error = await assertRejects(
    () => device.connect({ hostname: "127.0.0.1", port, pd, replyTimeoutMs: 100 }),
    RdmaError,
  );
  assertEquals(error.code, "TimedOut");
  assert(performance.now() - began < 4000, "sooner than the usual 5 seconds");
  const ours = device.listen({ port: 0, requestTimeoutMs: 100, onRequest: (request) => request.reject() });
  using silent = await RawPeer.connect(ours.port);
  await silent.write(mpaRequest().slice(0, 18));
  assertEquals((await within(silent.readEnd(), 4000)).byteLength, 0);
  for (const timeoutMs of [0, -1, NaN, 2 ** 33]) {
    assertThrows(() => device.listen({ port: 0, requestTimeoutMs: timeoutMs }), RangeError);
    await assertRejects(
      () => device.connect({ hostname: "127.0.0.1", port, pd, connectTimeoutMs: timeoutMs }),
      RangeError,
    );
  }
});

Deno.test("start-up: how long TCP may take to connect can be set", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const { listener, port } = listen();
  using _ = listener;
  const controller = new AbortController();
  // nobody takes them, so that from some number on the system leaves them unanswered
  const all = Array.from({ length: 700 }, () =>
    device.connect({
      hostname: "127.0.0.1",
      port,
      pd,
      connectTimeoutMs: 100,
      replyTimeoutMs: 60_000,
      signal: controller.signal,
    }));
  const [first, ...others] = all.map((one) => one.then(() => undefined, (error) => error));
  const error = await within(Promise.race([first, ...others]));
  assertEquals(error instanceof RdmaError && error.code, "TimedOut");
  controller.abort();
  await Promise.all([first, ...others]);
});

Deno.test("start-up: in revision 1 there may be 512 bytes of private data, in revision 2 4 less", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const privateData = fill(new Uint8Array(513), 3);
  const most = new Map([[1, 512], [2, 508]] as const);
  for (const [revision, room] of most) {
    const enhanced = revision === 2;
    const headBytes = enhanced ? 24 : 20;
    const all = privateData.subarray(0, room);
    const tooMuch = privateData.subarray(0, room + 1);
    for (const answer of ["accept", "reject"] as const) {
      const asked = Promise.withResolvers<ConnectionRequest>();
      const ours = device.listen({ port: 0, onRequest: asked.resolve });
      using initiator = await RawPeer.connect(ours.port);
      await initiator.write(mpaRequest({ revision, enhanced, privateData: all }));
      const request = await asked.promise;
      assertEquals(request.privateData, all);
      assertThrows(() => void request.accept({ pd, privateData: tooMuch }), RangeError, `has at most ${room}`);
      assertThrows(() => request.reject(tooMuch), RangeError, `has at most ${room}`);
      if (answer === "accept") void request.accept({ pd, privateData: all });
      else request.reject(all);
      assertEquals((await initiator.readMpa()).subarray(headBytes), all, `revision ${revision}, ${answer}`);
    }
    const { listener, port } = listen();
    using _ = listener;
    const there = { hostname: "127.0.0.1", port, pd, revision };
    await assertRejects(() => device.connect({ ...there, privateData: tooMuch }), RangeError, `has at most ${room}`);
    const connecting = device.connect({ ...there, privateData: all });
    using responder = new RawPeer(await listener.accept());
    assertEquals((await responder.readMpa()).subarray(headBytes), all, `revision ${revision}`);
    await responder.write(mpaReply({ revision, enhanced, privateData: all }));
    const qp = await connecting;
    assertEquals(qp.privateData, all);
    qp.abort();
    responder.close();
  }
  // Without a revision by name the second connection, in revision 1, says what the first one said.
  const unnamed = { hostname: "127.0.0.1", port: 1, pd, privateData: privateData.subarray(0, 509) };
  await assertRejects(() => device.connect(unnamed), RangeError, "MPA revision 2");
});

Deno.test("start-up: FPDUs are as large as the MULPDU that was set allows", async () => {
  for (const mulpdu of [128, 1444, 16_384, 65_535]) {
    const { listener, port } = listen();
    using _ = listener;
    await using device = Device.open();
    const pd = device.allocateProtectionDomain();
    const connecting = device.connect({ hostname: "127.0.0.1", port, pd, mulpdu });
    using peer = await RawPeer.accept(listener, {});
    const qp = await connecting;
    const source = pd.allocate(100_000);
    fill(source.bytes, mulpdu);
    qp.postSend({ opcode: "write", local: whole(source), remote: { stag: 1, address: 0n } });
    qp.postSend({ opcode: "send", local: whole(source) });
    const [tagged, untagged]: number[][] = [[], []];
    for (let messages = 0; messages < 2;) {
      const fpdu = await peer.readFpdu();
      if (fpdu!.tagged) tagged.push(fpdu!.payload.byteLength + 14);
      else untagged.push(fpdu!.payload.byteLength + 18);
      if (fpdu!.last) messages++;
    }
    // 65,472 bytes of payload are the most that are sent
    const largest = Math.min(mulpdu, 65_472 + 18);
    assertEquals(qp.facts.mulpdu, largest);
    assertEquals([Math.max(...tagged), Math.max(...untagged)], [Math.min(largest, 65_472 + 14), largest]);
    qp.abort();
  }
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  for (const mulpdu of [127, 65_536, 200.5]) {
    await assertRejects(() => device.connect({ hostname: "127.0.0.1", port: 1, pd, mulpdu }), RangeError);
  }
});

Deno.test("start-up: TCP's congestion control is the one that was chosen", async () => {
  const { congestion: system } = await (async () => {
    await using pair = await connectPair({ client: { congestion: "system" } });
    return pair.client.qp.facts;
  })();
  for (const congestion of ["suitable", "cubic", "reno", "system"] as const) {
    await using pair = await connectPair({ client: { congestion }, server: { congestion } });
    const expected = { suitable: "cubic", cubic: "cubic", reno: "reno", system }[congestion];
    assertEquals(pair.client.qp.facts.congestion, expected);
    assertEquals(pair.server.qp.facts.congestion, expected);
  }
});

Deno.test("start-up: read depths beyond what is served are cut down, and 0 on either side means no Reads", async () => {
  {
    await using pair = await connectPair({
      client: { outboundReadDepth: 1000, inboundReadDepth: 1000 },
      server: { outboundReadDepth: 1000, inboundReadDepth: 1000 },
    });
    // siw takes no more than 128 in a reply
    assertEquals([pair.client.qp.outboundReadDepth, pair.server.qp.outboundReadDepth], [128, 128]);
    assertEquals([pair.client.qp.inboundReadDepth, pair.server.qp.inboundReadDepth], [1000, 1000]);
    const source = pair.server.pd.allocate(300 * 64, Access.RemoteRead);
    fill(source.bytes, 1);
    const sink = pair.client.pd.allocate(300 * 64);
    let done = 0;
    for (let i = 0; i < 300; i++) {
      const local = [{ region: sink, offset: i * 64, length: 64 }];
      const remote = { stag: source.stag, address: source.address + BigInt(i * 64) };
      pair.client.qp.postSend({ opcode: "read", local, remote }, () => done++);
    }
    await until(() => done === 300);
    assert(same(sink.bytes, source.bytes));
  }
  for (const side of ["client", "server"] as const) {
    await using pair = await connectPair({
      [side]: { outboundReadDepth: 0, inboundReadDepth: 0 },
    });
    const local = whole(pair.client.pd.allocate(8));
    assertEquals(pair.client.qp.outboundReadDepth, 0);
    for (const opcode of ["read", "fetchAdd"] as const) {
      const work = { opcode, local, remote: { stag: 1, address: 0n }, add: 1n } as const;
      assertEquals(assertThrows(() => pair.client.qp.postSend(work), RdmaError).code, "Invalid");
    }
    await pair.client.qp.write([], { stag: 0, address: 0n });
  }
});

Deno.test("ends: the peer's half-close is an orderly end, a cut is not; all that is outstanding is flushed", async () => {
  for (const how of ["half-close", "within an FPDU"] as const) {
    await using device = Device.open();
    const pd = device.allocateProtectionDomain();
    const { listener, port } = listen();
    using _ = listener;
    const connecting = device.connect({ hostname: "127.0.0.1", port, pd });
    using peer = await RawPeer.accept(listener, {});
    const qp = await connecting;
    const order: string[] = [];
    qp.postRecv(whole(pd.allocate(8)), ({ status }) => order.push(`receive ${status}`));
    const remote = { stag: 1, address: 0n };
    qp.postSend({ opcode: "read", local: whole(pd.allocate(8)), remote }, ({ status }) => order.push(`read ${status}`));
    qp.postSend({ opcode: "write", local: [], remote }, ({ status }) => order.push(`write ${status}`));
    void qp.closed.then((error) => order.push(`closed ${error?.code}`));
    assertEquals((await peer.readFpdu())?.opcode, Opcode.ReadRequest);
    if (how === "within an FPDU") await peer.write(untagged(Opcode.Send, {}, new Uint8Array(8)).slice(0, 21));
    await peer.conn.closeWrite();
    await until(() => order.length === 4);
    // the Write has left, but completions are in order
    assertEquals(order.slice(0, 2), ["read flushed", "write success"], how);
    assertEquals(order[2], "receive flushed", how);
    assertEquals(order[3], `closed ${how === "half-close" ? undefined : "Reset"}`);
  }
});

Deno.test("ends: an abort resets the connection, and both sides hear of it behind their flushes", async () => {
  await using pair = await connectPair();
  const order: string[] = [];
  for (const end of ["client", "server"] as const) {
    const { qp, pd } = pair[end];
    qp.postRecv(whole(pd.allocate(8)), ({ status }) => order.push(`${end} ${status}`));
    void qp.closed.then((error) => order.push(`${end} ${error?.code}`));
  }
  await pair.client.qp.write([], { stag: 0, address: 0n });
  pair.server.qp.abort();
  await until(() => order.length === 4);
  assertEquals(order.filter((line) => line.startsWith("client")), ["client flushed", "client Reset"]);
  assertEquals(order.filter((line) => line.startsWith("server")), ["server flushed", "server undefined"]);
});
