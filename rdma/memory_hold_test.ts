import { assert, assertEquals } from "@std/assert";
import { connectPair, fill, same, until, whole, writePlaced } from "./_testing/pair.ts";
import { Access, Device, type ProtectionDomain } from "./mod.ts";

const SIZE = 1 << 20;

/** Registers a buffer, and gives what is needed to write there without holding on to the buffer. */
function target(pd: ProtectionDomain, change: (buffer: ArrayBuffer) => unknown) {
  const buffer = new ArrayBuffer(SIZE);
  const region = pd.register(new Uint8Array(buffer), Access.RemoteWrite);
  return { region, kept: change(buffer) };
}

/** Whether any of many new buffers lies where `address` is. */
function isUsedAgain(device: Device, address: number): boolean {
  const buffers = Array.from({ length: 64 }, () => new Uint8Array(SIZE));
  return buffers.some((bytes) => {
    const at = device.native.weft_address(bytes);
    return at < address + SIZE && address < at + SIZE;
  });
}

Deno.test("memory hold: what is registered stays, though its buffer is transferred to another length", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const source = client.pd.allocate(SIZE);
  fill(source.bytes, 1);
  let freed = 0;
  for (let round = 0; round < 8; round++) {
    // not registered: the memory is given back, and the next buffer takes it
    const loose = new ArrayBuffer(SIZE);
    const at = server.device.native.weft_address(new Uint8Array(loose));
    loose.transfer(SIZE + 8);
    freed += Number(isUsedAgain(server.device, at));

    const { region, kept } = target(server.pd, (buffer) => buffer.transfer(SIZE + 8));
    assert(!isUsedAgain(server.device, region.addressNumber), "registered memory was given to another buffer");
    const others = Array.from({ length: 16 }, () => new Uint8Array(SIZE));
    await writePlaced(client.qp, source, region);
    assert(others.every((bytes) => bytes.every((byte) => byte === 0)), "another buffer was written");
    assertEquals(new Uint8Array(kept as ArrayBuffer)[0], 0, "the copy is nobody's target");
    region.deregister();
  }
  assert(freed > 0, "without registration memory is used again, or the test shows nothing");
});

Deno.test("memory hold: a buffer that is transferred as it is goes on to be written in place", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const source = client.pd.allocate(SIZE);
  fill(source.bytes, 2);
  for (const move of [(b: ArrayBuffer) => b.transfer(), (b: ArrayBuffer) => structuredClone(b, { transfer: [b] })]) {
    const { region, kept } = target(server.pd, move);
    await writePlaced(client.qp, source, region);
    assert(same(new Uint8Array(kept as ArrayBuffer), source.bytes));
    // local work on it goes on, too
    await server.qp.write(whole(region), client.pd.allocate(SIZE, Access.RemoteWrite));
    region.deregister();
  }
});

Deno.test("memory hold: a buffer that goes before any connection could be made ends its registration", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const { region } = target(pd, (buffer) => buffer.transfer(8));
  const other = pd.register(new Uint8Array(8));
  await until(() => !region.live);
  assert(other.live);
  assertEquals(device.counters().regions, 1);
});

Deno.test("memory hold: buffers that come and go do not pile up, and those that stay are held on", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const stays = target(server.pd, (buffer) => buffer.transfer(8)).region;
  const attached = new Uint8Array(SIZE);
  const here = server.pd.register(attached, Access.RemoteWrite);
  const before = Deno.memoryUsage().rss;
  for (let i = 0; i < 2000; i++) {
    using region = server.pd.register(new Uint8Array(SIZE).fill(1));
    assert(region.live);
    if (i % 16 === 15) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const grown = Deno.memoryUsage().rss - before;
  assert(grown < 1000 * SIZE, `${grown} bytes more than before are in use`);
  assert(!isUsedAgain(server.device, stays.addressNumber));
  const source = client.pd.allocate(SIZE);
  fill(source.bytes, 3);
  await writePlaced(client.qp, source, stays);
  await writePlaced(client.qp, source, here);
  assert(same(attached, source.bytes));
});

Deno.test("memory hold: shared memory is registered in place, and a growable buffer may grow", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const buffer = new SharedArrayBuffer(SIZE, { maxByteLength: 4 * SIZE });
  const region = server.pd.register(new Uint8Array(buffer, 0, SIZE), Access.RemoteWrite);
  const source = client.pd.allocate(SIZE);
  fill(source.bytes, 4);
  buffer.grow(2 * SIZE);
  await writePlaced(client.qp, source, region);
  assert(same(new Uint8Array(buffer, 0, SIZE), source.bytes));
});

Deno.test("memory hold: memory of the engine's that was transferred is never unmapped under its new owner", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const region = pd.allocate(SIZE);
  const taken = new Uint8Array((region.bytes.buffer as ArrayBuffer).transfer());
  const { regions } = device.counters();
  region.deregister();
  assertEquals(device.counters().regions, regions - 1);
  assertEquals(taken.fill(7)[SIZE - 1], 7);
  assert(pd.allocate(SIZE).addressNumber !== region.addressNumber);
});
