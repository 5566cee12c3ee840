import { assert, assertEquals, assertThrows } from "@std/assert";
import { connectPair, fill, guarded, same, since, until, whole, within } from "./_testing/pair.ts";
import { Access, Device, findRegion, RdmaError } from "./mod.ts";

/** Of 1 MiB each: more than can be done while the test waits. */
const WRITES = 2000;

/** Keeps JavaScript's thread busy, so that nothing but the background threads makes progress. */
function busy(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

Deno.test("memory region: what is allocated is zeroed, aligned, and gone with its region", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const region = pd.allocate(5000, Access.RemoteRead);
  assertEquals([region.byteLength, region.access, region.live], [5000, Access.RemoteRead, true]);
  assertEquals(Number(region.address % 4096n), 0);
  assert(region.bytes.every((byte) => byte === 0));
  const view = region.bytes.subarray(100);
  region.deregister();
  region.deregister();
  assertEquals([region.bytes.byteLength, view.byteLength, region.live], [0, 0, false]);
  assertThrows(() => region.bind({ length: 1, access: 0 }), TypeError);
  for (const length of [0, -1, 1.5, NaN, 2 ** 53]) assertThrows(() => pd.allocate(length), RangeError);
  assertThrows(() => pd.allocate(2 ** 50), RdmaError);
});

Deno.test("memory region: steering tags are neither guessable nor used again soon", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const stags: number[] = [];
  for (let i = 0; i < 1000; i++) {
    const region = pd.register(new Uint8Array(8));
    stags.push(region.stag);
    region.deregister();
  }
  assertEquals(new Set(stags).size, 1000);
  assert(!stags.includes(0));
  // a counter, or a counter under a fixed key, would have few distances
  const distances = new Set(stags.slice(1).map((stag, i) => (stag - stags[i]) >>> 0));
  assert(distances.size > 990, `${distances.size} distances`);
  for (let bit = 0; bit < 32; bit++) {
    const ones = stags.filter((stag) => (stag >>> bit) & 1).length;
    assert(ones > 400 && ones < 600, `bit ${bit} is set in ${ones} of 1000`);
  }
});

Deno.test("memory region: memory that does not stay in place is refused", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const resizable = new Uint8Array(new ArrayBuffer(8, { maxByteLength: 16 }));
  assertThrows(() => pd.register(resizable), TypeError, "resizable");
  const detached = new Uint8Array(8);
  detached.buffer.transfer();
  assertThrows(() => pd.register(detached), TypeError, "detached");
  for (const other of [new ArrayBuffer(64), [1, 2, 3], "abc"]) {
    assertThrows(() => pd.register(other as unknown as Uint8Array), TypeError, "view");
  }
  assertEquals(device.counters().regions, 0);
});

Deno.test("memory region: the empty one", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const empty = client.pd.register(new Uint8Array(0));
  const target = server.pd.register(new Uint8Array(0), Access.RemoteWrite);
  await client.qp.write(whole(empty), target);
  await Promise.all([server.qp.recv(whole(target)), client.qp.send(whole(empty))]);
});

Deno.test("memory region: found again by its memory", async () => {
  await using device = Device.open();
  const [pd, other] = [device.allocateProtectionDomain(), device.allocateProtectionDomain()];
  const bytes = new Uint8Array(100);
  const region = pd.register(bytes.subarray(10, 90));
  assertEquals(findRegion(pd, bytes.subarray(20, 30)), { region, offset: 10 });
  assertEquals(findRegion(pd, bytes.subarray(10, 90)), { region, offset: 0 });
  assertEquals(findRegion(pd, bytes.subarray(9, 30)), undefined);
  assertEquals(findRegion(pd, bytes.subarray(20, 91)), undefined);
  assertEquals(findRegion(other, bytes.subarray(20, 30)), undefined);
  region.deregister();
  assertEquals(findRegion(pd, bytes.subarray(20, 30)), undefined);
});

Deno.test("memory region: windows end with their region, and are all accounted for", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const region = pd.allocate(1 << 20);
  const windows = Array.from(
    { length: 100 },
    (_, i) => region.bind({ offset: i * 4096, length: 4096, access: Access.RemoteWrite }),
  );
  assertEquals(device.counters().regions, 101);
  windows[0].revoke();
  windows[0].revoke();
  assertEquals(device.counters().regions, 100);
  for (const [offset, length] of [[0, (1 << 20) + 1], [1 << 20, 1], [-1, 1], [0.5, 1]]) {
    assertThrows(() => region.bind({ offset, length, access: Access.RemoteRead }), RdmaError);
  }
  region.deregister();
  assertEquals(device.counters().regions, 0);
  for (const window of windows) window.revoke();
  assertEquals(device.counters().regions, 0);
});

Deno.test("memory region: closing the device takes its memory from view", async () => {
  const device = Device.open();
  const pd = device.allocateProtectionDomain();
  const region = pd.allocate(1 << 20);
  const own = new Uint8Array(10).fill(3);
  const registered = pd.register(own);
  const view = region.bytes;
  await device.close();
  assertEquals([view.byteLength, region.bytes.byteLength, region.live, registered.live], [0, 0, false, false]);
  assertEquals(own, new Uint8Array(10).fill(3));
  region.deregister();
  assertThrows(() => pd.allocate(1), TypeError, "closed");
  assertThrows(() => pd.register(own), TypeError, "closed");
});

for (const kind of ["region", "window"] as const) {
  for (const crc of [false, true]) {
    Deno.test(`memory region: nothing is written once a ${kind} has been taken back, crc ${crc}`, async () => {
      let inTheMiddle = 0;
      for (let round = 0; round < 6; round++) {
        await using pair = await connectPair({ client: { crc } });
        const { client, server } = pair;
        const size = 1 << 20;
        const memory = guarded(server.pd, size, Access.RemoteWrite);
        const window = memory.region.bind({ length: size, access: Access.RemoteWrite });
        const target = kind === "region" ? memory.region : window;
        const source = client.pd.allocate(size);
        source.bytes.fill(0xff);
        const write = { opcode: "write", local: whole(source), remote: target } as const;
        for (let i = 0; i < WRITES; i++) client.qp.postSend(write);
        await new Promise((resolve) => setTimeout(resolve, 0));
        busy(1 + (round * 5) % 12);
        const bytes = memory.region.bytes;
        if (kind === "region") memory.region.deregister();
        else window.revoke();
        bytes.fill(0x11);
        const { bytesPlaced } = server.device.counters();
        if (bytesPlaced > 0 && bytesPlaced < WRITES * size) inTheMiddle++;
        busy(4);
        if (!client.qp.isClosed) client.qp.postSend(write); // had all of them been done already, this one is too late
        assert(bytes.every((byte) => byte === 0x11), `round ${round}: written after it was taken back`);
        memory.check();
        const error = await within(server.qp.closed);
        assertEquals([error?.code, error?.terminate?.etype], ["PeerViolation", 1]);
        await within(client.qp.closed);
      }
      assert(inTheMiddle > 0, "no round took the memory back in the middle of the Writes");
    });
  }
}

Deno.test("memory region: a Read whose source is taken back ends in an error, never in other memory", async () => {
  for (let round = 0; round < 6; round++) {
    await using pair = await connectPair();
    const { client, server } = pair;
    const size = 4 << 20;
    const source = server.pd.allocate(size, Access.RemoteRead);
    source.bytes.fill(0x22);
    const sink = guarded(client.pd, size);
    let status = "";
    client.qp.postSend({ opcode: "read", local: whole(sink.region), remote: source }, (done) => status = done.status);
    await new Promise((resolve) => setTimeout(resolve, 0));
    busy(round % 4);
    source.deregister();
    // whoever gets the address next must not be read
    const other = server.pd.allocate(size);
    other.bytes.fill(0x33);
    if (status === "") {
      await within(Promise.race([client.qp.closed, new Promise((resolve) => setTimeout(resolve, 200))]));
    }
    assert(["success", "flushed"].includes(status), status);
    assert(sink.region.bytes.every((byte) => byte === 0x22 || byte === 0), "bytes of other memory were sent");
    if (status === "success") assert(sink.region.bytes.every((byte) => byte === 0x22));
    sink.check();
  }
});

Deno.test("memory region: two connections, two domains", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const foreign = server.device.allocateProtectionDomain().allocate(64, Access.RemoteRead | Access.RemoteWrite);
  await client.qp.write([], foreign); // touches nothing
  const source = client.pd.allocate(64);
  fill(source.bytes, 1);
  await client.qp.write(whole(source), foreign);
  assertEquals((await within(client.qp.closed))?.terminate, { layer: 1, etype: 1, code: 2 });
  assert(!same(foreign.bytes, source.bytes) && foreign.bytes.every((byte) => byte === 0));
});

Deno.test("memory region: a window for one connection is of no use on another", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const requests = await client.device.connect({ hostname: "127.0.0.1", port: pair.listener.port, pd: client.pd });
  const region = server.pd.allocate(4096);
  const window = region.bind({ length: 4096, access: Access.RemoteWrite, connection: server.qp });
  const source = client.pd.allocate(64);
  fill(source.bytes, 1);
  await requests.write(whole(source), window);
  assertEquals((await within(requests.closed))?.terminate, { layer: 1, etype: 1, code: 2 });
  assert(region.bytes.every((byte) => byte === 0));
  await client.qp.write(whole(source), window);
  await Promise.all([server.qp.recv([]), client.qp.send([])]);
  assert(same(region.bytes.subarray(0, 64), source.bytes));
});

Deno.test("memory region: Reads of volatile memory are answered with copies where there is a CRC, and only there", async () => {
  const LENGTH = 256 * 1024;
  for (const crc of [false, true]) {
    await using pair = await connectPair({ client: { crc } });
    const { client, server } = pair;
    const sink = client.pd.allocate(LENGTH);
    const steady = server.pd.allocate(LENGTH, Access.RemoteRead);
    const changing = server.pd.allocate(LENGTH, Access.RemoteRead, { volatile: true });
    const window = steady.bind({ access: Access.RemoteRead, volatile: true });
    for (const region of [steady, changing]) fill(region.bytes, region.stag);
    for (
      const { memory, isCopied } of [
        { memory: steady, isCopied: false },
        { memory: changing, isCopied: crc },
        { memory: window, isCopied: crc },
      ]
    ) {
      const before = server.device.counters();
      await client.qp.read(whole(sink), memory);
      assert(same(sink.bytes, memory.bytes));
      const copied = () => since(server.device, before).bytesInlined;
      await until(() => copied() + since(server.device, before).bytesSent === LENGTH);
      assertEquals(copied(), isCopied ? LENGTH : 0);
    }
  }
});

Deno.test("memory region: it does not grow with shared memory", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const shared = new SharedArrayBuffer(16, { maxByteLength: 64 });
  const region = pd.register(new Uint8Array(shared));
  shared.grow(64);
  assertEquals([region.byteLength, region.bytes.byteLength], [16, 16]);
  region.reregister({ access: Access.RemoteRead });
  assertEquals([region.byteLength, region.bytes.byteLength], [16, 16]);
});
