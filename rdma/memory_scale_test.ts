import { assert, assertEquals, assertThrows } from "@std/assert";
import { connectPair, fill, same, whole, writePlaced } from "./_testing/pair.ts";
import { Access } from "./mod.ts";

const GIB = 2 ** 30;

/** Kilobytes of a line of a file of this process's in /proc. */
async function kilobytes(file: string, name: string): Promise<number> {
  const text = await Deno.readTextFile(`/proc/self/${file}`);
  return Number(text.match(new RegExp(`^${name}:\\s+(\\d+) kB`, "m"))![1]);
}

Deno.test("memory at scale: a region of 16 GiB, written at its end, takes no memory elsewhere", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const before = await kilobytes("status", "VmRSS");
  const region = server.pd.allocate(16 * GIB, Access.RemoteWrite | Access.RemoteRead);
  const source = client.pd.allocate(1 << 20);
  fill(source.bytes, 1);
  const end = BigInt(16 * GIB - (1 << 20));
  await writePlaced(client.qp, source, { stag: region.stag, address: region.address + end });
  assertEquals(region.byteLength, 16 * GIB);
  assert(same(region.bytes.subarray(Number(end)), source.bytes));
  const sink = client.pd.allocate(1 << 20);
  await client.qp.read(whole(sink), { stag: region.stag, address: region.address + end });
  assert(same(sink.bytes, source.bytes));
  const grown = await kilobytes("status", "VmRSS") - before;
  assert(grown < 256 * 1024, `${grown} KiB more than before are resident`);
  // a message has less than 4 GiB (RFC 5041 §5.1), and is refused before anything is queued
  const local = [{ region, offset: 0, length: 2 ** 32 }];
  for (const work of [{ opcode: "write", local, remote: source }, { opcode: "send", local }] as const) {
    assertThrows(() => server.qp.postSend(work), RangeError, "2^32 - 1 bytes");
  }
  assertThrows(() => server.qp.postRecv(local, () => {}), RangeError, "2^32 - 1 bytes");
  // one byte beyond the region is not the peer's, however far it reaches
  const beyond = { stag: region.stag, address: region.address + end + 1n };
  client.qp.postSend({ opcode: "write", local: whole(source), remote: beyond });
  assertEquals((await client.qp.closed)?.terminate, { layer: 1, etype: 1, code: 1 });
});

Deno.test("memory at scale: 100,000 regions, each of some use, take less than 4 KiB each", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const bytes = new Uint8Array(100_000 * 16);
  const { regions } = server.device.counters();
  const before = await kilobytes("status", "VmRSS");
  const all = Array.from(
    { length: 100_000 },
    (_, i) => server.pd.register(bytes.subarray(i * 16, i * 16 + 16), Access.RemoteWrite),
  );
  const each = (await kilobytes("status", "VmRSS") - before) / 100;
  assert(each < 4096, `${each} bytes for a region`);
  assertEquals(server.device.counters().regions, regions + 100_000);
  assertEquals(new Set(all.map((region) => region.stag)).size, 100_000);
  const source = client.pd.allocate(16);
  source.bytes.fill(9);
  for (let i = 0; i < all.length; i += 997) {
    client.qp.postSend({ opcode: "write", local: whole(source), remote: all[i] });
  }
  await client.qp.read([], all[0]);
  bytes.forEach((byte, at) => assertEquals(byte, Math.floor(at / 16) % 997 === 0 ? 9 : 0));
  all.forEach((region) => region.deregister());
  assertEquals(server.device.counters().regions, regions);
});

Deno.test("memory at scale: a list of 1,024 elements is gathered and scattered", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const [source, inbox] = [client.pd.allocate(64 * 1024), server.pd.allocate(64 * 1024)];
  fill(source.bytes, 5);
  for (const count of [32, 33, 1024]) {
    inbox.bytes.fill(0);
    // every other stretch of 32 bytes, from the last one on
    const at = Array.from({ length: count }, (_, i) => (count - 1 - i) * 64);
    const received = server.qp.recv(at.map((offset) => ({ region: inbox, offset, length: 32 })));
    await client.qp.send(at.map((offset) => ({ region: source, offset, length: 32 })));
    assertEquals((await received).byteLength, count * 32);
    inbox.bytes.forEach((byte, i) => {
      assertEquals(byte, i < count * 64 && i % 64 < 32 ? source.bytes[i] : 0);
    });
  }
});

Deno.test("memory at scale: huge pages are there where they were asked for, if the system has any", async () => {
  const setting = await Deno.readTextFile("/sys/kernel/mm/transparent_hugepage/enabled").catch(() => "[never]");
  await using pair = await connectPair();
  const { client, server } = pair;
  const huge = server.pd.allocate(64 << 20, Access.RemoteWrite, { hugePages: true });
  huge.bytes.fill(1);
  const start = huge.addressNumber.toString(16);
  const maps = await Deno.readTextFile("/proc/self/smaps");
  const entry = maps.slice(maps.search(new RegExp(`^${start}-`, "m"))).split(/^VmFlags: /m, 2);
  assert(entry[1].split("\n")[0].split(" ").includes("hg"), "the kernel knows of the wish");
  const taken = Number(entry[0].match(/^AnonHugePages:\s+(\d+) kB/m)![1]);
  if (setting.includes("[never]")) {
    console.warn("no transparent huge pages on this system: what there is of them is not tested");
  } else assert(taken >= 2048, `${taken} KiB of huge pages, where the setting is ${setting}`);
  await writePlaced(client.qp, client.pd.allocate(4096), huge);
  assertEquals(huge.bytes[0], 0);
});
