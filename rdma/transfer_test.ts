import { assert, assertEquals } from "@std/assert";
import { connectPair, type End, fill, guarded, same, since, until, whole } from "./_testing/pair.ts";
import { Access, type MemoryRegion, type Sge, type WorkCompletion } from "./mod.ts";

const KIB = 1024;
/** Around every boundary: padding, inline sends, staging, one FPDU, several. */
const SIZES = [0, 1, 2, 3, 4, 255, 256, 257, 4095, 8 * KIB - 1, 8 * KIB, 8 * KIB + 1, 65471, 65472, 65473];
const LARGE_SIZES = [2 * 65472, 1024 * KIB + 3, 64 * 1024 * KIB];

function part(region: MemoryRegion, offset: number, length: number): Sge {
  return { region, offset, length };
}

/** One Write, Read and Send of `size` bytes each way, into guarded memory. */
async function transfer(from: End, to: End, size: number): Promise<void> {
  const source = guarded(from.pd, size, Access.RemoteRead);
  const target = guarded(to.pd, size, Access.RemoteWrite | Access.RemoteRead);
  fill(source.region.bytes, size);

  await from.qp.write(whole(source.region), target.region);
  // a Write is complete here once it has left; a Read behind it comes after it (RFC 5040 §5.5)
  const back = guarded(from.pd, size);
  await from.qp.read(whole(back.region), target.region);
  assert(same(source.region.bytes, target.region.bytes), `Write of ${size}`);
  assert(same(source.region.bytes, back.region.bytes), `Read of ${size}`);

  fill(source.region.bytes, size + 1);
  const [received] = await Promise.all([to.qp.recv(whole(target.region)), from.qp.send(whole(source.region))]);
  assertEquals(received, { status: "success", byteLength: size, invalidatedStag: undefined });
  assert(same(source.region.bytes, target.region.bytes), `Send of ${size}`);
  for (const memory of [source, target, back]) {
    memory.check();
    memory.region.deregister();
  }
}

for (const crc of [false, true]) {
  Deno.test(`transfers: every size, both ways, crc ${crc}`, async () => {
    await using pair = await connectPair({ client: { crc } });
    const { client, server } = pair;
    assertEquals([client.qp.crc, server.qp.crc], [crc, crc]);
    for (const size of SIZES) {
      await transfer(client, server, size);
      await transfer(server, client, size);
    }
  });

  Deno.test(`transfers: short segments of large messages come many in a call, crc ${crc}`, async () => {
    for (const mulpdu of [1448, 4096, 16 * KIB]) {
      await using pair = await connectPair({ client: { crc, mulpdu } });
      const { client, server } = pair;
      const source = client.pd.allocate(4 * KIB * KIB);
      const target = guarded(server.pd, source.byteLength, Access.RemoteWrite | Access.RemoteRead);
      fill(source.bytes, mulpdu);
      const before = server.device.counters();
      await client.qp.write(whole(source), target.region);
      await client.qp.read(whole(client.pd.allocate(1)), target.region);
      assert(same(source.bytes, target.region.bytes));
      target.check();
      const { fpdusReceived, receiveCalls, bytesStaged, bytesPlaced } = since(server.device, before);
      const [calls, staged] = [receiveCalls / fpdusReceived, bytesStaged / source.byteLength];
      assertEquals(bytesStaged + bytesPlaced, source.byteLength);
      if (mulpdu > 4 * KIB) assertEquals(bytesStaged, 0);
      else assert(calls < 0.75 && staged > 0.9, `${calls} calls a segment, ${staged} of it copied, at ${mulpdu}`);
    }
  });

  Deno.test(`transfers: large ones, never staged, crc ${crc}`, async () => {
    await using pair = await connectPair({ client: { crc } });
    const { client, server } = pair;
    for (const size of [8 * KIB, 65472, ...LARGE_SIZES]) {
      const before = [client, server].map((end) => end.device.counters());
      await transfer(client, server, size);
      const sent = (i: number) => since([client, server][i].device, before[i]).bytesSent;
      await until(() => sent(0) === 2 * size && sent(1) === size); // counted after the peer may have got them
      const counted = [client, server].map((end, i) => since(end.device, before[i]));
      for (const counters of counted) {
        assertEquals([counters.bytesStaged, counters.bytesStagedLarge, counters.bytesInlined], [0, 0, 0], `${size}`);
      }
      // the Write and the Send came in at the server, the Read at the client
      assertEquals(counted.map((counters) => counters.bytesPlaced), [size, 2 * size]);
    }
  });

  Deno.test(`transfers: scatter/gather lists, crc ${crc}`, async () => {
    await using pair = await connectPair({ client: { crc } });
    const { client, server } = pair;
    const lists: [string, number[]][] = [
      ["empty", []],
      ["empty elements", [0, 5, 0, 0, 3, 0]],
      ["mixed", [1, 300, 0, 70_000, 3, 256, 257, 8 * KIB, 17]],
      ["many tiny ones", new Array(1024).fill(1)],
      ["many small ones in one segment", new Array(250).fill(256)],
      ["more small ones than fit in any buffer of ours", new Array(1024).fill(200)],
      ["many that are sent in place", new Array(1024).fill(300)],
      ["long ones", [1 << 20, 3, 1 << 20]],
    ];
    for (const [name, lengths] of lists) {
      const total = lengths.reduce((sum, length) => sum + length, 0);
      const source = client.pd.allocate(total + lengths.length * 7 + 1, Access.RemoteRead);
      const target = guarded(server.pd, total, Access.RemoteWrite);
      fill(source.bytes, total);
      let at = 0;
      const local = lengths.map((length) => {
        const sge = part(source, at, length);
        at += length + 7; // pieces that do not touch
        return sge;
      });
      const expected = new Uint8Array(total);
      let end = 0;
      for (const { offset, length } of local) {
        expected.set(source.bytes.subarray(offset, offset + length), end);
        end += length;
      }
      await Promise.all([server.qp.recv([]), client.qp.write(local, target.region), client.qp.send([])]);
      assert(same(target.region.bytes, expected), `gathered Write: ${name}`);

      // gathered here, scattered there, at other boundaries
      const sink = server.pd.allocate(total + 3000);
      const third = Math.floor(total / 3);
      const scattered = [part(sink, 0, third), part(sink, third + 1000, third), part(sink, 2 * third + 2000, total)];
      scattered[2].length = total - 2 * third;
      const [received] = await Promise.all([server.qp.recv(scattered), client.qp.send(local)]);
      assertEquals(received.byteLength, total);
      end = 0;
      for (const { offset, length } of scattered) {
        assert(
          same(sink.bytes.subarray(offset, offset + length), expected.subarray(end, end + length)),
          `scattered Send: ${name}`,
        );
        end += length;
      }
      target.check();
      for (const region of [source, target.region, sink]) region.deregister();
    }
  });

  Deno.test(`transfers: a burst of small work of every kind keeps its order and its bytes, crc ${crc}`, async () => {
    await using pair = await connectPair({ client: { crc } });
    const { client, server } = pair;
    await burst(client, server);
    await burst(server, client);
  });
}

/** Many small requests posted at once: the arena and the vectors run around. */
async function burst(from: End, to: End): Promise<void> {
  const COUNT = 600;
  const STRIDE = 512;
  const source = from.pd.allocate(COUNT * STRIDE);
  fill(source.bytes, 7);
  const target = to.pd.allocate(COUNT * STRIDE, Access.RemoteWrite | Access.RemoteRead);
  const sink = to.pd.allocate(COUNT * STRIDE);
  const back = from.pd.allocate(COUNT * STRIDE);
  const lengths = Array.from({ length: COUNT }, (_, i) => (i * 37) % STRIDE);
  const received: WorkCompletion[] = [];
  const order: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  for (let i = 0; i < COUNT; i++) {
    to.qp.postRecv([part(sink, i * STRIDE, STRIDE)], (done) => received.push(done));
  }
  for (let i = 0; i < COUNT; i++) {
    const local = [part(source, i * STRIDE, lengths[i])];
    const remote = { stag: target.stag, address: target.address + BigInt(i * STRIDE) };
    const done = (completion: WorkCompletion) => {
      assertEquals(completion.status, "success");
      order.push(i);
      if (order.length === COUNT * 3) resolve();
    };
    from.qp.postSend({ opcode: "write", local, remote }, done);
    from.qp.postSend({ opcode: "send", local }, done);
    from.qp.postSend({ opcode: "read", local: [part(back, i * STRIDE, lengths[i])], remote }, done);
  }
  await promise;
  await until(() => received.length === COUNT);
  assertEquals(order, Array.from({ length: COUNT * 3 }, (_, i) => Math.floor(i / 3)));
  assertEquals(received.map((done) => done.byteLength), lengths);
  for (let i = 0; i < COUNT; i++) {
    const expected = source.bytes.subarray(i * STRIDE, i * STRIDE + lengths[i]);
    for (const [name, memory] of [["Write", target], ["Send", sink], ["Read", back]] as const) {
      assert(same(memory.bytes.subarray(i * STRIDE, i * STRIDE + lengths[i]), expected), `${name} ${i}`);
      assert(memory.bytes.subarray(i * STRIDE + lengths[i], (i + 1) * STRIDE).every((byte) => byte === 0), name);
    }
  }
}

Deno.test("transfers: a Write in front of a Send is there when the Send arrives", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const size = 256 * KIB;
  const target = server.pd.allocate(size, Access.RemoteWrite);
  const source = client.pd.allocate(size);
  const note = client.pd.allocate(8);
  for (let round = 1; round <= 100; round++) {
    source.bytes.fill(round);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const inbox = server.pd.allocate(8);
    server.qp.postRecv(whole(inbox), () => resolve(target.bytes.every((byte) => byte === round)));
    client.qp.postSend({ opcode: "write", local: whole(source), remote: target });
    await client.qp.send(whole(note));
    assert(await promise, `round ${round}`);
    inbox.deregister();
  }
});

Deno.test("transfers: both ways at once", async () => {
  await using pair = await connectPair({ client: { crc: true } });
  const size = 8 * 1024 * KIB + 5;
  await Promise.all([transfer(pair.client, pair.server, size), transfer(pair.server, pair.client, size)]);
});

Deno.test("transfers: between ends on one device", async () => {
  await using pair = await connectPair({ oneDevice: true });
  for (const size of [0, 3, 256, 70_000, 1024 * KIB + 3]) await transfer(pair.client, pair.server, size);
});
