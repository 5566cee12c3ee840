import { assert, assertEquals, assertRejects } from "@std/assert";
import { Example } from "../_testing/example.ts";
import { until, within } from "../_testing/pair.ts";
import {
  Access,
  ADVERTISEMENT_BYTES,
  decodeAdvertisement,
  Device,
  encodeAdvertisement,
  type ProtectionDomain,
  type QueuePair,
  RdmaError,
} from "../mod.ts";
import { mandelbrotRow, ownPicture, work } from "./direct_write.ts";

const SIZE = { width: 50, height: 20 };

/** The picture, computed here. */
function expected(): Uint16Array {
  const rows = Array.from({ length: SIZE.height }, (_, row) => [...mandelbrotRow(row, SIZE)]);
  return Uint16Array.from(rows.flat());
}

/** A worker that takes a task and does nothing: its queue pair, and where its band is. */
async function takeTask(pd: ProtectionDomain, owner: { hostname: string; port: number }) {
  const task = pd.allocate(100);
  const received = Promise.withResolvers<unknown>();
  const onReady = (qp: QueuePair) => qp.postRecv([task.sge()], received.resolve);
  const qp = await pd.device.connect({ ...owner, pd, onReady });
  await within(received.promise);
  return { qp, band: decodeAdvertisement(task.bytes)! };
}

Deno.test("direct write: the owner's array fills up, row by row, each complete when it is told of", async () => {
  await using device = Device.open();
  await using workers = Device.open();
  const picture = { ...SIZE, points: new Uint16Array(SIZE.width * SIZE.height) };
  const rows: number[] = [];
  const onRow = (row: number) => {
    const points = picture.points.subarray(row * SIZE.width, (row + 1) * SIZE.width);
    assertEquals(points, mandelbrotRow(row, SIZE));
    rows.push(row);
  };
  const { port, done } = ownPicture(device, picture, { port: 0, bandRows: 3, onRow });
  const owner = { hostname: "127.0.0.1", port };
  const lazy = await takeTask(workers.allocateProtectionDomain(), owner); // keeps the others waiting, until both are there
  const working = Promise.all([work(workers, owner), work(workers, owner)]);
  await until(() => rows.length === SIZE.height - 3 && device.counters().liveConnections === 3);
  lazy.qp.abort();
  const bands = await within(working);
  await within(done);
  assertEquals(bands[0] + bands[1], 7);
  assertEquals(rows.sort((a, b) => a - b), Array.from({ length: SIZE.height }, (_, i) => i));
  assertEquals(picture.points, expected());
  assertEquals(device.counters().regions, 0);
});

Deno.test("direct write: a worker reaches no band but its own, and what it leaves undone another does", async () => {
  await using device = Device.open();
  await using workers = Device.open();
  const picture = { ...SIZE, points: new Uint16Array(SIZE.width * SIZE.height) };
  const rows: number[] = [];
  const { port, done } = ownPicture(device, picture, { port: 0, bandRows: 10, onRow: (row) => rows.push(row) });
  const owner = { hostname: "127.0.0.1", port };
  const pd = workers.allocateProtectionDomain();
  const wild = await takeTask(pd, owner);
  assertEquals(wild.band.byteLength, 10 * SIZE.width * 2);
  const source = pd.register(new Uint16Array(SIZE.width).fill(0xffff));
  await wild.qp.write([source.sge()], wild.band);
  await wild.qp.sendImmediate(0n);
  const behind = { stag: wild.band.stag, address: wild.band.address + BigInt(wild.band.byteLength) };
  await wild.qp.write([source.sge()], behind).catch(() => {});
  assertEquals((await within(wild.qp.closed))?.code, "PeerTerminated");

  const liar = await takeTask(pd, owner);
  const lazy = await takeTask(pd, owner); // now both bands are taken
  const waiting = work(workers, owner);
  await liar.qp.sendImmediate(99n).catch(() => {}); // no row of this band
  await within(liar.qp.closed);
  lazy.qp.abort();
  assertEquals(rows, [0]);
  assert(picture.points.subarray(SIZE.width).every((point) => point === 0));

  assertEquals(await within(waiting), 2);
  await within(done);
  assertEquals(picture.points, expected());
  await assertRejects(() => work(workers, owner), RdmaError, "refused");
});

Deno.test("direct write: processes", async () => {
  await using owner = new Example("direct_write", "own", 0);
  const port = await owner.port();
  await using worker = new Example("direct_write", "work", "127.0.0.1", port);
  assertEquals(await worker.end(), ["6 bands"]);
  const lines = await owner.end();
  assertEquals([lines.length, lines[0].length], [36, 100]);
  assert(lines[18].includes("#########"), lines.join("\n"));
});

Deno.test("direct write: a worker whose task makes no sense fails", async () => {
  await using device = Device.open();
  await using workers = Device.open();
  const pd = device.allocateProtectionDomain();
  const [band, task] = [pd.allocate(5, Access.RemoteWrite), pd.allocate(ADVERTISEMENT_BYTES + 12)];
  task.bytes.set(encodeAdvertisement(band));
  new DataView(task.bytes.buffer).setUint32(ADVERTISEMENT_BYTES + 4, 2); // rows of 4 bytes, which 5 are no number of
  const onReady = (worker: QueuePair) => {
    for (let i = 0; i < 2; i++) worker.postRecv([], () => {});
    worker.postSend({ opcode: "send", local: [task.sge()] });
  };
  const { port } = device.listen({ port: 0, onRequest: (request) => void request.accept({ pd, onReady }) });
  await assertRejects(() => within(work(workers, { hostname: "127.0.0.1", port })), RangeError, "not within");
});
