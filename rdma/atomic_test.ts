import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { AdderRequest } from "./_testing/adder.ts";
import { until } from "./_testing/pair.ts";
import { Access, type ConnectionRequest, Device, type QueuePair, RdmaError } from "./mod.ts";

async function pair(device: Device, crc = false) {
  const pd = device.allocateProtectionDomain();
  const accepted = Promise.withResolvers<QueuePair>();
  const onRequest = (request: ConnectionRequest) => void request.accept({ pd }).then(accepted.resolve);
  const listener = device.listen({ port: 0, onRequest });
  const client = await device.connect({ hostname: "127.0.0.1", port: listener.port, pd, crc });
  const server = await accepted.promise;
  await listener.close();
  const region = pd.allocate(4096, Access.RemoteAtomic);
  const cells = new BigUint64Array(region.bytes.buffer);
  const at = (i: number) => ({ stag: region.stag, address: region.address + BigInt(8 * i) });
  return { pd, client, server, region, cells, at };
}

for (const crc of [false, true]) {
  Deno.test(`atomic operations, CRC ${crc ? "on" : "off"}`, async () => {
    await using device = Device.open();
    const { pd, client, cells, at } = await pair(device, crc);
    cells[1] = 0xffff_ffff_ffff_fffen;
    assertEquals(await client.fetchAdd(at(1), 5n), 0xffff_ffff_ffff_fffen);
    assertEquals(await client.fetchAdd(at(1), -1n), 3n);
    assertEquals(await client.compareSwap(at(1), { compare: 7n, swap: 9n }), 2n);
    assertEquals(cells[1], 2n);
    assertEquals(await client.compareSwap(at(1), { compare: 2n, swap: 9n }), 2n);
    assertEquals(await client.swap(at(1), 0x1234_5678_9abc_def0n), 9n);
    assertEquals(cells[1], 0x1234_5678_9abc_def0n);
    assertEquals([cells[0], cells[2]], [0n, 0n]);
    const local = pd.allocate(4096);
    const { promise, resolve } = Promise.withResolvers<unknown>();
    client.postSend({
      opcode: "compareSwap",
      local: [{ region: local, offset: 16, length: 8 }],
      remote: at(1),
      compare: 0xf0n,
      compareMask: 0xffn,
      swap: 0xaan,
      mask: 0x0fn,
    }, resolve);
    assertEquals(await promise, {
      status: "success",
      byteLength: 8,
      invalidatedStag: undefined,
      original: 0x1234_5678_9abc_def0n,
    });
    assertEquals(new BigUint64Array(local.bytes.buffer)[2], 0x1234_5678_9abc_def0n);
    assertEquals(cells[1], 0x1234_5678_9abc_defan);
  });
}

Deno.test("atomic against other queue pairs and against Atomics of this process", async () => {
  await using device = Device.open();
  const first = await pair(device);
  const second = await device.connect({ ...await relisten(device, first), pd: first.pd });
  const rounds = 500;
  const adds: Promise<bigint>[] = [];
  for (let i = 0; i < rounds; i++) {
    adds.push(first.client.fetchAdd(first.at(0), 1n), second.fetchAdd(first.at(0), 1n));
    Atomics.add(first.cells, 0, 1n);
    if (i % 50 === 0) await adds.at(-1);
  }
  const originals = await Promise.all(adds);
  assertEquals(first.cells[0], BigInt(3 * rounds));
  assertEquals(new Set(originals).size, originals.length, "no two saw the same value");
});

Deno.test("atomic against a thread that never stops changing the same word", async () => {
  await using device = Device.open();
  const { pd, client } = await pair(device);
  const buffer = new SharedArrayBuffer(64);
  const cells = new BigUint64Array(buffer);
  const region = pd.register(cells, Access.RemoteAtomic);
  const adder = new Worker(new URL("./_testing/adder.ts", import.meta.url), { type: "module" });
  const counted = new Promise<bigint>((resolve) => adder.onmessage = ({ data }) => resolve(data));
  const request: AdderRequest = { buffer, counter: 0, begun: 1, stop: 2 };
  adder.postMessage(request);
  await until(() => Atomics.load(cells, request.begun) === 1n);
  let added = 0n;
  // rounds in which both have counted: each operation is a chance to lose what the other has counted meanwhile
  for (let rounds = 0; rounds < 200;) {
    const before = Atomics.load(cells, request.counter);
    for (let i = 1; i < 1000; i++) {
      client.postSend({ opcode: "fetchAdd", remote: region, add: 1n, signalled: false });
    }
    await client.fetchAdd(region, 1n);
    added += 1000n;
    if (Atomics.load(cells, request.counter) > before + 1000n) rounds++;
  }
  Atomics.store(cells, request.stop, 1n);
  assertEquals(await counted + added, Atomics.load(cells, request.counter));
  adder.terminate();
});

async function relisten(device: Device, { pd }: { pd: import("./mod.ts").ProtectionDomain }) {
  const listener = device.listen({
    port: 0,
    onRequest: (request) => void request.accept({ pd }).then(() => listener.close()),
  });
  return await Promise.resolve({ hostname: "127.0.0.1", port: listener.port });
}

Deno.test("atomics need the right, alignment and bounds", async () => {
  const wrong: [string, (p: Awaited<ReturnType<typeof pair>>) => { stag: number; address: bigint }, string][] = [
    ["not 8-aligned", ({ at }) => ({ ...at(0), address: at(0).address + 4n }), "0.2.255"],
    ["out of bounds", ({ at }) => at(512), "0.1.1"],
    ["no right", ({ pd }) => pd.allocate(64, Access.RemoteWrite | Access.RemoteRead), "0.1.2"],
    ["no such STag", ({ at }) => ({ ...at(0), stag: at(0).stag ^ 1 }), "0.1.0"],
  ];
  for (const [name, remote, code] of wrong) {
    await using device = Device.open();
    const connected = await pair(device);
    await assertRejects(() => connected.client.fetchAdd(remote(connected), 1n), RdmaError);
    const end = await connected.client.closed;
    assertEquals([name, Object.values(end!.terminate!).join(".")], [name, code]);
    assertEquals(connected.cells.every((cell) => cell === 0n), true);
  }
});

Deno.test("immediate data takes a receive, in order with Sends", async () => {
  await using device = Device.open();
  const { pd, client, server } = await pair(device, true);
  const memory = pd.allocate(4096);
  const element = (offset: number) => [{ region: memory, offset, length: 8 }];
  const received = [0, 8, 16].map((offset) => server.recv(element(offset)));
  memory.bytes.fill(7, 64, 72);
  client.postSend({ opcode: "send", local: element(64) });
  client.postSend({ opcode: "immediate", data: 0x8877_6655_4433_2211n });
  await client.sendImmediate(-1n, { solicited: true });
  const [send, first, second] = await Promise.all(received);
  assertEquals([send.byteLength, send.immediate], [8, undefined]);
  assertEquals([first.byteLength, first.immediate], [0, 0x8877_6655_4433_2211n]);
  assertEquals(second.immediate, 0xffff_ffff_ffff_ffffn);
  assertEquals([...memory.bytes.subarray(0, 24)], [...new Array(8).fill(7), ...new Array(16).fill(0)]);
  await assertRejects(
    () => client.sendImmediate(1n).then(() => client.closed).then((error) => Promise.reject(error)),
    RdmaError,
    "no buffer",
  );
});

Deno.test("misuse of atomics is refused", async () => {
  await using device = Device.open();
  const { pd, client, at } = await pair(device);
  const region = pd.allocate(64);
  const post = (length: number, count = 1) =>
    client.postSend({
      opcode: "fetchAdd",
      add: 1n,
      remote: at(0),
      local: new Array(count).fill({ region, offset: 0, length }),
    });
  assertThrows(() => post(4), RangeError);
  assertThrows(() => post(8, 2), RangeError);
});
