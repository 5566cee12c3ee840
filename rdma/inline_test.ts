import { assert, assertEquals, assertThrows } from "@std/assert";
import { connectPair, fill, same, whole } from "./_testing/pair.ts";
import { Access, type Sge } from "./mod.ts";

for (const options of [{ crc: false }, { crc: true, markers: true }, { crc: true, mulpdu: 128 }]) {
  Deno.test(`inline: memory may be changed as soon as the work is posted, ${JSON.stringify(options)}`, async () => {
    await using pair = await connectPair({ client: options, server: options });
    const { client, server } = pair;
    const target = server.pd.allocate(16 * 1024, Access.RemoteWrite);
    const sizes = [0, 1, 3, 4, 5, 64, 109, 110, 111, 255, 256];
    const inbox = server.pd.allocate(sizes.length * 256);
    const filled = sizes.map((_, i) => server.qp.recv([{ region: inbox, offset: i * 256, length: 256 }]));
    const memory = client.pd.allocate(512);
    const expected: Uint8Array[] = [];
    const before = client.device.counters();
    for (const [i, length] of sizes.entries()) {
      expected.push(fill(memory.bytes, i).slice(7, 7 + length));
      const local: Sge[] = [
        { region: memory, offset: 7, length: length >> 1 },
        { region: memory, offset: 7 + (length >> 1), length: length - (length >> 1) },
      ];
      const remote = { stag: target.stag, address: target.address + BigInt(i * 256) };
      client.qp.postSend({ opcode: "write", local, remote, inline: true });
      client.qp.postSend({ opcode: "send", local, inline: true });
      memory.bytes.fill(0xee);
    }
    memory.deregister(); // nothing of it is needed any more
    const received = await Promise.all(filled);
    for (const [i, bytes] of expected.entries()) {
      assertEquals(received[i].byteLength, bytes.byteLength);
      assert(same(inbox.bytes.subarray(i * 256, i * 256 + bytes.byteLength), bytes), `Send of ${bytes.byteLength}`);
      assert(same(target.bytes.subarray(i * 256, i * 256 + bytes.byteLength), bytes), `Write of ${bytes.byteLength}`);
    }
    const total = sizes.reduce((sum, size) => sum + size);
    assertEquals(client.device.counters().bytesInlined - before.bytesInlined, 2 * total);
  });
}

Deno.test("inline: without it memory is read when the work leaves", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const target = server.pd.allocate(8, Access.RemoteWrite);
  const memory = client.pd.allocate(8);
  client.qp.postSend({ opcode: "write", local: whole(memory), remote: target });
  memory.bytes.fill(5);
  await client.qp.read([], target);
  assertEquals(target.bytes[0], 5);
});

Deno.test("inline: more than 256 bytes are refused, and only Sends and Writes have them", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const target = server.pd.allocate(257, Access.RemoteWrite);
  const memory = client.pd.allocate(257);
  const work = { opcode: "write", local: whole(memory), remote: target, inline: true } as const;
  assertThrows(() => client.qp.postSend(work), RangeError, "256");
  // as the engine has it: a Read, and a length beyond what there is
  const { native } = client.device;
  const post = (words: number[]) => native.weft_post(client.qp.handle, new Uint32Array(words), words.length);
  assert(post([3 | 32 << 8, 1, 0, 0, 0, 0]) < 0);
  assert(post([2 | 32 << 8 | 256 << 16, 1, 0, 0, 0, 0, 0]) < 0);
  assert(post([2 | 32 << 8 | 257 << 16, 1, 0, 0, 0, 0, ...new Array(65).fill(0)]) < 0);
  await client.qp.read([], target);
});
