import { assert, assertEquals, assertThrows } from "@std/assert";
import { connectPair, fill, same } from "./_testing/pair.ts";
import { BufferPool, Device, type PooledBuffer, RdmaError } from "./mod.ts";

Deno.test("buffer pool: lends what was asked for, and no byte twice", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  using pool = new BufferPool(pd);
  const lent: PooledBuffer[] = [];
  for (const length of [0, 1, 4095, 4096, 4097, 65536, 1 << 20, (1 << 20) + 1, 3 << 20]) {
    for (let i = 0; i < 5; i++) {
      const buffer = pool.take(length);
      assertEquals(buffer.bytes.byteLength, length);
      assert(same(buffer.bytes, buffer.region.bytes.subarray(buffer.offset, buffer.offset + length)));
      lent.push(buffer);
    }
  }
  lent.forEach(({ bytes }, i) => bytes.fill(i + 1));
  lent.forEach(({ bytes }, i) => assert(bytes.every((byte) => byte === i + 1), `buffer ${i}`));
  assertEquals(pool.lent, lent.length);
  for (const buffer of lent) {
    buffer.release();
    buffer[Symbol.dispose]();
  }
  assertEquals(pool.lent, 0);
});

Deno.test("buffer pool: memory is used again", async () => {
  await using device = Device.open();
  using pool = new BufferPool(device.allocateProtectionDomain());
  pool.take(4096).release();
  const { regions } = device.counters();
  for (let i = 0; i < 10_000; i++) pool.take(4096).release();
  assertEquals(device.counters().regions, regions);
});

Deno.test("buffer pool: has a limit", async () => {
  await using device = Device.open();
  using pool = new BufferPool(device.allocateProtectionDomain(), { bytesMax: 4 << 20 });
  const buffers = Array.from({ length: 4 }, () => pool.take(1 << 20));
  const error = assertThrows(() => pool.take(1), RdmaError, "limit");
  assertEquals([error.code, pool.lent], ["Exhausted", 4]);
  buffers[0].release();
  assertThrows(() => pool.take((1 << 20) + 1), RdmaError);
  buffers[0] = pool.take(1 << 20);
  for (const length of [-1, 0.5, NaN, 2 ** 53]) assertThrows(() => pool.take(length), RangeError);
});

Deno.test("buffer pool: a limit below a slab's size is as good as any, and nothing is lent of a closed device", async () => {
  const device = Device.open();
  const pool = new BufferPool(device.allocateProtectionDomain(), { bytesMax: 20_000 });
  const buffers = [1, 4096, 64, 4095].map((length) => pool.take(length));
  assertEquals(pool.lent, 4);
  assertThrows(() => pool.take(1), RdmaError, "limit");
  buffers.forEach((buffer) => buffer.release());
  await device.close();
  assertThrows(() => pool.take(1), TypeError, "closed");
});

Deno.test("buffer pool: what it lends can be sent and received into, and its end takes everything back", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const pool = new BufferPool(client.pd);
  const sinks = new BufferPool(server.pd);
  const [source, sink] = [pool.take(10_000), sinks.take(10_000)];
  fill(source.bytes, 1);
  await Promise.all([server.qp.recv([sink.sge()]), client.qp.send([source.sge()])]);
  assert(same(source.bytes, sink.bytes));
  pool[Symbol.dispose]();
  sinks[Symbol.dispose]();
  assertEquals([source.bytes.byteLength, sink.bytes.byteLength], [0, 0]);
  source.release();
  assertEquals([client.device.counters().regions, server.device.counters().regions], [0, 0]);
  pool.take(1).release();
  pool[Symbol.dispose]();
});

Deno.test("buffer pool: lends no memory that its domain has taken back", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  using pool = new BufferPool(pd, { bytesMax: 1 << 20 });
  const lent = pool.take(1 << 20);
  pd[Symbol.dispose]();
  lent.release();
  pool.take(4096).release();
  pd[Symbol.dispose]();
  using buffer = pool.take(4096);
  assertEquals([buffer.bytes.byteLength, buffer.region.live, pool.lent], [4096, true, 1]);
});
