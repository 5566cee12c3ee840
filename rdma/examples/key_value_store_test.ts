import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Example } from "../_testing/example.ts";
import { until, within } from "../_testing/pair.ts";
import { Device, RdmaError } from "../mod.ts";
import { serveTable, Table, TableClient } from "./key_value_store.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (entry: { value: Uint8Array } | undefined) => entry && new TextDecoder().decode(entry.value);

/** A table of this process, and a client of it. */
async function withTable(slots: number, run: (table: Table, client: TableClient) => Promise<void>): Promise<void> {
  await using device = Device.open();
  const table = new Table(device.allocateProtectionDomain(), slots);
  const { port } = serveTable(device, table, 0);
  await using client = await TableClient.connect({ hostname: "127.0.0.1", port });
  await run(table, client);
}

Deno.test("key-value store: what is put in is found, and what is taken out is not", async () => {
  await withTable(1000, async (table, client) => {
    const count = 300;
    for (let i = 0; i < count; i++) table.set(bytes(`key ${i}`), bytes(`value ${i}`));
    const found = await Promise.all(Array.from({ length: count }, (_, i) => client.get(bytes(`key ${i}`))));
    found.forEach((entry, i) => assertEquals(text(entry), `value ${i}`));

    const { version } = found[7]!;
    table.set(bytes("key 7"), bytes("another"));
    const changed = await client.get(bytes("key 7"));
    assertEquals([text(changed), changed!.version > version], ["another", true]);
    assertEquals([table.delete(bytes("key 7")), table.delete(bytes("key 7"))], [true, false]);
    assertEquals(await client.get(bytes("key 7")), undefined);
    table.set(bytes("key 7"), bytes(""));
    assertEquals(text(await client.get(bytes("key 7"))), "");
    assertEquals([await client.get(bytes("none")), client.tornReads], [undefined, 0]);
  });
});

Deno.test("key-value store: keys that belong to one place are kept apart, as far as there is room", async () => {
  await withTable(1, async (table, client) => {
    for (const key of ["a", "b", "c", "d"]) table.set(bytes(key), bytes(key.toUpperCase()));
    assertThrows(() => table.set(bytes("e"), bytes("E")), RangeError, "full");
    assertEquals(await Promise.all(["a", "b", "c", "d", "e"].map(async (key) => text(await client.get(bytes(key))))), [
      "A",
      "B",
      "C",
      "D",
      undefined,
    ]);
    table.delete(bytes("b"));
    table.set(bytes("e"), bytes("E"));
    assertEquals(text(await client.get(bytes("e"))), "E");
    assertThrows(() => table.set(bytes(""), bytes("x")), RangeError, "a key has at least one byte");
    assertThrows(() => table.set(bytes("k"), new Uint8Array(244)), RangeError, "at most 244 bytes");
  });
});

Deno.test("key-value store: an entry that is half changed is not believed", async () => {
  await withTable(1, async (table, client) => {
    const key = bytes("key");
    table.set(key, bytes("old".repeat(70)));
    const before = table.region.bytes.slice();
    table.set(key, bytes("new".repeat(70)));
    const after = table.region.bytes.slice();

    // the first half of the new entry is there, the second one still the old
    for (const half of [100, 4, 8, 200]) {
      table.region.bytes.set(before);
      table.region.bytes.set(after.subarray(0, half));
      const torn = client.tornReads;
      const reading = client.get(key);
      await until(() => client.tornReads > torn + 2);
      table.region.bytes.set(after);
      assertEquals(text(await reading), "new".repeat(70));
    }
    table.region.bytes.set(before.subarray(100), 100);
    await assertRejects(() => client.get(key), Error, "torn reads in a row");
  });
});

Deno.test("key-value store: clients cannot write to it", async () => {
  await withTable(1, async (table, client) => {
    table.set(bytes("key"), bytes("value"));
    using buffer = client.pool.take(16);
    buffer.bytes.fill(0xff);
    await client.queuePair.write([buffer.sge()], client.table);
    const error = await within(client.queuePair.closed);
    assert(error instanceof RdmaError && error.code === "PeerTerminated");
    assert(table.region.bytes.subarray(0, 16).some((byte) => byte !== 0xff));
  });
});

Deno.test("key-value store: a server that is busy changing entries, in a process of its own", async () => {
  await using server = new Example("key_value_store", "serve", 0);
  const port = await server.port();
  await server.type("key a\nother one\n");
  await using client = await TableClient.connect({ hostname: "127.0.0.1", port });
  const got = async (key: string) => text(await client.get(bytes(key)));
  while (await got("other") === undefined); // typed, but not yet read
  assertEquals(await got("other"), "one");

  // values of one letter each, so that a mixture of two would show, until many of them have been seen
  let changes = 0;
  const typing = (async () => {
    const lines = Array.from({ length: 250 }, (_, i) => `key ${String.fromCharCode(97 + i % 25).repeat(240)}\n`);
    while (changes < 100) await server.type(lines.join(""));
    await server.type("key done\n");
  })();
  let version = 0;
  for (let value = ""; value !== "done";) {
    const entry = (await client.get(bytes("key")))!;
    value = text(entry)!;
    assert(/^(.)\1*$|^done$/.test(value), `a mixture: ${value}`);
    assert(entry.version >= version, "an older entry behind a newer one");
    if (entry.version > version) changes++;
    version = entry.version;
  }
  await typing;

  await using get = new Example("key_value_store", "get", "127.0.0.1", port, "other");
  assertEquals(await get.end(), ["one"]);
  await using none = new Example("key_value_store", "get", "127.0.0.1", port, "none");
  assertEquals(await none.end(), ["no none"]);
});

Deno.test("key-value store: a line that cannot be stored is explained, and the next one is taken", async () => {
  await using server = new Example("key_value_store", "serve", 0);
  const port = await server.port();
  await server.type(`\nkey ${"x".repeat(300)}\nkey value\n`);
  assertEquals(await server.line(), "not stored: a key has at least one byte");
  assertEquals(await server.line(), "not stored: key and value have at most 244 bytes");
  await using client = await TableClient.connect({ hostname: "127.0.0.1", port });
  let found: string | undefined;
  while ((found = text(await client.get(bytes("key")))) === undefined); // typed, but not yet read
  assertEquals(found, "value");
});
