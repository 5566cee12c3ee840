/**
 * A key-value store whose server does nothing for a lookup: clients find keys in its memory by RDMA Read.
 *
 * ```sh
 * deno run -A rdma/examples/key_value_store.ts serve 7180                       # then type lines: KEY VALUE
 * deno run -A rdma/examples/key_value_store.ts get 127.0.0.1 7180 KEY
 * ```
 *
 * The server keeps a hash table in one region that peers may read. A client that knows where it is computes where a key must be, and fetches that part of the table:
 * one Read, answered by the server's core even while its JavaScript is busy.
 *
 * Nothing keeps the server from changing a slot while it is being read, so a client may see half of the old entry and half of the new one: a *torn* read. Every slot
 * has a checksum of all that is in it. What does not match its checksum is read again.
 *
 * @module
 */
import { TextLineStream } from "@std/streams";
import {
  Access,
  BufferPool,
  decodeAdvertisement,
  Device,
  encodeAdvertisement,
  type MemoryRegion,
  type ProtectionDomain,
  type QueuePair,
  type RemoteBuffer,
} from "../mod.ts";

// A slot: checksum of the rest (4 bytes), version (4), length of key and value (2 each), key, value. Integers are little-endian.
const SLOT_BYTES = 256;
const HEADER_BYTES = 12;
/** A key is in one of so many slots, which begin at its hash, so that one Read finds it or shows that it is not there. */
const NEIGHBOURS = 4;
const NEIGHBOURHOOD_BYTES = NEIGHBOURS * SLOT_BYTES;
/** Torn reads in a row after which a client gives up: its server may have stopped in the middle of a change. */
const READS_MAX = 1000;

/** What is stored under a key. */
export interface Entry {
  value: Uint8Array;
  /** The number of the change that put it there: later ones have greater numbers. */
  version: number;
}

/** FNV-1a: spreads keys over the table, and tells whether a slot is all of one piece. */
function hash(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/** Where the slots of a key begin, in a table of so many bytes. The last slots have no neighbourhood of their own. */
function placeOf(key: Uint8Array, tableBytes: number): number {
  return hash(key) % (tableBytes / SLOT_BYTES - NEIGHBOURS + 1) * SLOT_BYTES;
}

/** What a slot holds: `undefined` where it is empty, "torn" where it was changed while it was read. */
function decodeSlot(slot: Uint8Array): (Entry & { key: Uint8Array }) | undefined | "torn" {
  const view = new DataView(slot.buffer, slot.byteOffset, SLOT_BYTES);
  const [checksum, version] = [view.getUint32(0, true), view.getUint32(4, true)];
  if (version === 0 && checksum === 0) return undefined; // never used
  if (checksum !== hash(slot.subarray(4))) return "torn";
  const valueAt = HEADER_BYTES + view.getUint16(8, true);
  if (valueAt === HEADER_BYTES) return undefined; // its key was deleted
  return {
    key: slot.slice(HEADER_BYTES, valueAt),
    value: slot.slice(valueAt, valueAt + view.getUint16(10, true)),
    version,
  };
}

function encodeSlot(key: Uint8Array, { value, version }: Entry): Uint8Array {
  const slot = new Uint8Array(SLOT_BYTES);
  const view = new DataView(slot.buffer);
  view.setUint32(4, version, true);
  view.setUint16(8, key.length, true);
  view.setUint16(10, value.length, true);
  slot.set(key, HEADER_BYTES);
  slot.set(value, HEADER_BYTES + key.length);
  view.setUint32(0, hash(slot.subarray(4)), true);
  return slot;
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** The server's side: a hash table in memory that peers may read, and only read. */
export class Table {
  /** The slots. */
  readonly region: MemoryRegion;
  #version = 0;

  /** A table with room for about so many keys. */
  constructor(pd: ProtectionDomain, slots: number) {
    this.region = pd.allocate((slots + NEIGHBOURS - 1) * SLOT_BYTES, Access.RemoteRead, { volatile: true });
  }

  /**
   * Puts a value under a key, in place of the one that was there.
   *
   * @throws {RangeError} where the key is empty, they do not fit in a slot, or all slots of the key are taken
   */
  set(key: Uint8Array, value: Uint8Array): void {
    if (key.length === 0) throw new RangeError("a key has at least one byte");
    if (HEADER_BYTES + key.length + value.length > SLOT_BYTES) {
      throw new RangeError(`key and value have at most ${SLOT_BYTES - HEADER_BYTES} bytes`);
    }
    const slot = this.#find(key) ?? this.#find(undefined, key);
    if (slot === undefined) throw new RangeError("the table is full");
    slot.set(encodeSlot(key, { value, version: ++this.#version }));
  }

  /** Takes a key out; `false` where it was not there. */
  delete(key: Uint8Array): boolean {
    const slot = this.#find(key);
    slot?.set(encodeSlot(new Uint8Array(0), { value: new Uint8Array(0), version: ++this.#version }));
    return slot !== undefined;
  }

  /** The slot with this key, or an empty one, of those that `of` may be in. */
  #find(key: Uint8Array | undefined, of = key!): Uint8Array | undefined {
    const place = placeOf(of, this.region.byteLength);
    for (let at = place; at < place + NEIGHBOURHOOD_BYTES; at += SLOT_BYTES) {
      const slot = this.region.bytes.subarray(at, at + SLOT_BYTES);
      const entry = decodeSlot(slot);
      if (entry === "torn") throw new Error("nobody else writes to the table");
      if (key === undefined ? entry === undefined : entry !== undefined && isEqual(entry.key, key)) return slot;
    }
    return undefined;
  }
}

/** Lets clients read a table. They are told where it is when they connect. */
export function serveTable(device: Device, table: Table, port: number): { port: number } {
  return device.listen({
    port,
    onRequest: (request) =>
      void request.accept({ pd: table.region.pd, privateData: encodeAdvertisement(table.region) }),
  });
}

/** The client's side. */
export class TableClient implements AsyncDisposable {
  /** Reads that were torn, so far. */
  tornReads = 0;

  private constructor(
    readonly device: Device,
    readonly queuePair: QueuePair,
    readonly table: RemoteBuffer,
    readonly pool: BufferPool,
  ) {}

  /** Connects to a server. */
  static async connect(server: { hostname: string; port: number }): Promise<TableClient> {
    const device = Device.open();
    try {
      const pd = device.allocateProtectionDomain();
      const queuePair = await device.connect({ ...server, pd });
      const table = decodeAdvertisement(queuePair.privateData);
      if (table === undefined) throw new Error("the server has no table");
      return new TableClient(device, queuePair, table, new BufferPool(pd));
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  /** Looks a key up; `undefined` where it is not there. Several may be under way at once. */
  async get(key: Uint8Array): Promise<Entry | undefined> {
    using buffer = this.pool.take(NEIGHBOURHOOD_BYTES);
    const remote = this.table.at(placeOf(key, this.table.byteLength), NEIGHBOURHOOD_BYTES);
    for (let reads = 0; reads < READS_MAX; reads++) {
      await this.queuePair.read([buffer.sge()], remote);
      let isTorn = false;
      for (let at = 0; at < NEIGHBOURHOOD_BYTES; at += SLOT_BYTES) {
        const entry = decodeSlot(buffer.bytes.subarray(at, at + SLOT_BYTES));
        if (entry === "torn") isTorn = true;
        else if (entry !== undefined && isEqual(entry.key, key)) return entry;
      }
      if (!isTorn) return undefined;
      this.tornReads++; // the torn one may be the one
    }
    throw new Error(`${READS_MAX} torn reads in a row`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close();
  }
}

if (import.meta.main) {
  const [command, ...args] = Deno.args;
  const encoder = new TextEncoder();
  if (command === "serve" && args.length === 1) {
    const device = Device.open();
    const table = new Table(device.allocateProtectionDomain(), 4096);
    const { port } = serveTable(device, table, Number(args[0]));
    console.log(`listening on port ${port}`);
    const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
    for await (const line of lines) {
      const [key, ...words] = line.split(" ");
      try {
        table.set(encoder.encode(key), encoder.encode(words.join(" ")));
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        console.log(`not stored: ${error.message}`);
      }
    }
  } else if (command === "get" && args.length === 3) {
    const [hostname, port, key] = args;
    await using client = await TableClient.connect({ hostname, port: Number(port) });
    const entry = await client.get(encoder.encode(key));
    console.log(entry === undefined ? `no ${key}` : new TextDecoder().decode(entry.value));
  } else {
    console.error("usage: key_value_store.ts serve PORT | get ADDRESS PORT KEY");
    Deno.exit(2);
  }
}
