import { assertEquals, assertThrows } from "@std/assert";
import { connectPair } from "./_testing/pair.ts";
import { Access, ADVERTISEMENT_BYTES, decodeAdvertisement, encodeAdvertisement } from "./mod.ts";

Deno.test("advertisement: its bytes are those of rping, and come back as they went", () => {
  const memory = { address: 0x1122_3344_5566_7788n, stag: 0x99aabbcc, byteLength: 0xffff_ffff };
  const bytes = encodeAdvertisement(memory);
  assertEquals(bytes.toHex(), "112233445566778899aabbccffffffff");
  assertEquals({ ...decodeAdvertisement(bytes) }, memory);
  const inside = new Uint8Array([0xee, ...bytes, 0xee]).subarray(1);
  assertEquals({ ...decodeAdvertisement(inside) }, memory);
  assertEquals(decodeAdvertisement(bytes.subarray(0, ADVERTISEMENT_BYTES - 1)), undefined);
  assertThrows(() => encodeAdvertisement({ ...memory, byteLength: 2 ** 32 }), RangeError);
});

Deno.test("advertisement: a peer reaches what was advertised, parts of it, and asks for nothing beyond", async () => {
  await using pair = await connectPair();
  const { client, server } = pair;
  const numbers = new Uint32Array(4);
  const region = server.pd.register(numbers.subarray(1), Access.RemoteWrite); // an application's array, without its first number
  const there = decodeAdvertisement(encodeAdvertisement(region))!;
  assertEquals(there.byteLength, 12);
  const source = client.pd.register(new Uint32Array([7, 8, 9]));
  await client.qp.write([source.sge()], there);
  await client.qp.write([source.sge(4, 4)], there.at(8, 4));
  await client.qp.write([source.sge(8)], there.at(0, 4));
  await client.qp.send([]).catch(() => {}); // ends the connection, behind the Writes: nobody has a receive for it
  await server.qp.closed;
  assertEquals(numbers, new Uint32Array([0, 9, 8, 8]));
  for (const [offset, length] of [[12, 1], [-1, 0], [0, 13], [0.5, 1], [0, NaN]]) {
    assertThrows(() => there.at(offset, length), RangeError, "not within the peer's buffer");
  }
  assertEquals(there.at(12).address, there.address + 12n);
});

Deno.test("sge: elements of windows", async () => {
  await using pair = await connectPair();
  const { pd } = pair.client;
  const window = pd.allocate(100).bind({ offset: 10, length: 50, access: Access.LocalOnly });
  assertEquals(window.sge(), { region: window, offset: 0, length: 50 });
  assertEquals(window.sge(20), { region: window, offset: 20, length: 30 });
  assertEquals(window.sge(20, 5), { region: window, offset: 20, length: 5 });
});
