/**
 * The three kinds of memory that files are read into and written from: registered by the application, lent by the library, and any
 * plain `Uint8Array`. Over every kind of connection payload goes between them and the wire without a copy.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { mount } from "../../client/mod.ts";
import { Device, ProtectionDomain } from "../../rdma/mod.ts";
import { WeftServer } from "../weft_server.ts";

const MIB = 1 << 20;
const LENGTHS = [8192, 8193, 65_536, MIB + 3, 5 * MIB];
/** What is no payload, of a call and its reply. */
const HEADER_BYTES_MAX = 2048;

/** Counts registrations and keeps the devices that are opened, until it is disposed of. */
function watch(): Disposable & { devices: Device[]; registered: number } {
  const { open } = Device;
  const { register } = ProtectionDomain.prototype;
  const watched = {
    devices: [] as Device[],
    registered: 0,
    [Symbol.dispose]() {
      Device.open = open;
      ProtectionDomain.prototype.register = register;
    },
  };
  Device.open = (...args) => {
    const device = open.apply(Device, args);
    watched.devices.push(device);
    return device;
  };
  ProtectionDomain.prototype.register = function (...args) {
    watched.registered++;
    return register.apply(this, args);
  };
  return watched;
}

function pattern(length: number): Uint8Array {
  return new Uint8Array(length).map((_, at) => at * 7 + (at >> 8));
}

for (const connection of ["proto=rdma&crc=off", "proto=rdma&crc=on", "proto=tcp"]) {
  Deno.test(`files are read into and written from memory of every kind, in place: ${connection}`, async () => {
    await using server = await WeftServer.start();
    using watched = watch();
    await using fs = await mount(`nfs://127.0.0.1:${server.port}/?${connection}`);
    const isRdma = fs.transport === "rdma";
    const [device] = watched.devices;
    const room = LENGTHS.at(-1)! + 64;
    const own = new Uint8Array(room);
    using _registration = fs.register(own);
    assertEquals(watched.registered, 1, "what the application registers is registered at once");
    using lent = fs.allocate(room);
    const kinds: [string, Uint8Array, boolean][] = [
      ["registered", own, false],
      ["lent", lent.bytes, false],
      ["plain", new Uint8Array(room), true],
    ];
    for (const [kind, memory, isRegisteredForEach] of kinds) {
      for (const length of LENGTHS) {
        const about = `${kind}, ${length} bytes`;
        const data = memory.subarray(13, 13 + length);
        const expected = pattern(length);
        const before = { ...device.counters(), registered: watched.registered };
        memory.fill(0xee);
        data.set(expected);
        await using file = await fs.open("file", { read: true, write: true, create: true, truncate: true });
        assertEquals(await file.write(data), length, about);
        assertEquals(await Deno.readFile(`${server.directory}/file`), expected, about);
        data.fill(0);
        assertEquals(await file.readAt(data, 0), length, about);
        assertEquals(data, expected, about);
        assert(memory.subarray(0, 13).every((byte) => byte === 0xee), about);
        assert(memory.subarray(13 + length).every((byte) => byte === 0xee), about);
        const { bytesPlaced, bytesStaged } = device.counters();
        assert(
          bytesPlaced - before.bytesPlaced >= length,
          `${about}: ${bytesPlaced - before.bytesPlaced} bytes placed`,
        );
        const transfers = 2 * Math.ceil(length / fs.blockBytes) + 8;
        const staged = bytesStaged - before.bytesStaged;
        assert(staged < transfers * HEADER_BYTES_MAX, `${about}: ${staged} bytes copied`);
        const registered = watched.registered - before.registered;
        assertEquals(registered > 0, isRdma && isRegisteredForEach, `${about}: ${registered} registrations`);
      }
    }
    const { regions } = device.counters();
    await (await fs.open("file")).read(new Uint8Array(MIB));
    assertEquals(device.counters().regions, regions, "a registration for a transfer ends with it");
  });
}
