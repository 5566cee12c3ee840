/**
 * Workers write into an array of another process: no message carries the numbers, and nobody copies them to where they belong.
 *
 * ```sh
 * deno run -A rdma/examples/direct_write.ts own 7183                            # waits, and then draws what is in its array
 * deno run -A rdma/examples/direct_write.ts work 127.0.0.1 7183                 # as many as you like, on any host
 * ```
 *
 * The owner has an ordinary typed array, to be filled with the Mandelbrot set. Each worker gets one band of rows after the other to work on. It puts every row into its place
 * in the array by RDMA Write, and says which row that was by Immediate Data behind it: a Write by itself tells the other side nothing. When the number arrives, the row is
 * there.
 *
 * @module
 */
import {
  Access,
  ADVERTISEMENT_BYTES,
  decodeAdvertisement,
  Device,
  encodeAdvertisement,
  type MemoryWindow,
  type QueuePair,
  RdmaError,
} from "../mod.ts";

/** Iterations after which a point counts as one of the set. */
const ITERATIONS_MAX = 1000;
/** What a worker is sent: where its band is, the band's first row, and width and height of the whole. */
const TASK_BYTES = ADVERTISEMENT_BYTES + 12;

/** A picture with a number for each point, row by row. */
export interface Picture {
  width: number;
  height: number;
  /** Two bytes a point, as they are in this machine's memory. A worker of the other byte order would have to swap them. */
  points: Uint16Array;
}

/** Iterations until a row's points leave the circle of radius 2. */
export function mandelbrotRow(row: number, { width, height }: { width: number; height: number }): Uint16Array {
  const y0 = row / height * 2.4 - 1.2;
  return Uint16Array.from({ length: width }, (_, column) => {
    const x0 = column / width * 3.2 - 2.2;
    let [x, y, count] = [0, 0, 0];
    for (; count < ITERATIONS_MAX && x * x + y * y <= 4; count++) [x, y] = [x * x - y * y + x0, 2 * x * y + y0];
    return count;
  });
}

/**
 * Has workers fill a picture. `done` resolves when all of it is there.
 *
 * @param options.bandRows rows that a worker gets at a time
 * @param options.onRow a row has arrived; once more where its worker goes before its band is done
 */
export function ownPicture(
  device: Device,
  picture: Picture,
  options: { port: number; bandRows: number; onRow?: (row: number) => void },
): { port: number; done: Promise<void> } {
  const { width, height, points } = picture;
  const { port, bandRows, onRow } = options;
  const pd = device.allocateProtectionDomain();
  // The application's own array. As a whole it is for this side alone; windows on it let workers in.
  const region = pd.register(points);
  const rowBytes = width * points.BYTES_PER_ELEMENT;
  const rowsLeft = new Set(Array.from({ length: height }, (_, row) => row));
  const bands = Array.from({ length: Math.ceil(height / bandRows) }, (_, i) => i * bandRows).reverse();
  const idle: (() => void)[] = [];
  const workers = new Set<QueuePair>();
  const finished = Promise.withResolvers<void>();

  const employ = async (worker: QueuePair) => {
    using task = pd.allocate(TASK_BYTES);
    let band: { first: number; missing: Set<number>; window: MemoryWindow } | undefined;
    const assign = (): void => {
      if (worker.isClosed) return;
      const first = bands.pop();
      // Should another worker fail, its band will be free again.
      if (first === undefined) return void idle.push(assign);
      const rows = Math.min(bandRows, height - first);
      // All that this worker can write, and only as long as it is at work. (The connection is named so that no other can use it.)
      const window = region.bind({
        offset: first * rowBytes,
        length: rows * rowBytes,
        access: Access.RemoteWrite,
        connection: worker,
      });
      band = { first, window, missing: new Set(Array.from({ length: rows }, (_, i) => first + i)) };
      // Immediate Data takes a receive, as a Send does, but no memory.
      for (let i = 0; i < rows; i++) worker.postRecv([], ({ immediate }) => arrived(immediate));
      task.bytes.set(encodeAdvertisement(window));
      const view = new DataView(task.bytes.buffer, ADVERTISEMENT_BYTES);
      [first, width, height].forEach((value, i) => view.setUint32(i * 4, value));
      worker.postSend({ opcode: "send", local: [task.sge()] });
    };
    const arrived = (immediate: bigint | undefined): void => {
      if (worker.isClosed) return;
      const row = Number(immediate);
      if (!band?.missing.delete(row)) return worker.abort(); // not its business
      rowsLeft.delete(row);
      onRow?.(row);
      if (rowsLeft.size === 0) finished.resolve();
      else if (band.missing.size === 0) {
        band.window.revoke();
        assign();
      }
    };
    workers.add(worker);
    assign();
    await worker.closed;
    workers.delete(worker);
    band?.window.revoke();
    if (!band || band.missing.size === 0) return;
    // It went before it was done: somebody else is to do the band.
    for (let row = band.first; row < Math.min(band.first + bandRows, height); row++) rowsLeft.add(row);
    bands.push(band.first);
    while (bands.length > 0 && idle.length > 0) idle.pop()!();
  };

  const listener = device.listen({
    port,
    onRequest: (request) => void request.accept({ pd, onReady: (worker) => void employ(worker) }),
  });
  const done = finished.promise.then(async () => {
    await listener.close();
    await Promise.all([...workers].map((worker) => worker.close()));
    pd[Symbol.dispose]();
  });
  return { port: listener.port, done };
}

/** Works on bands until the owner needs no more. Resolves to how many there were. */
export async function work(device: Device, owner: { hostname: string; port: number }): Promise<number> {
  using pd = device.allocateProtectionDomain();
  const message = pd.allocate(TASK_BYTES);
  let bands = 0;
  let failure: unknown;
  const doTask = async (queuePair: QueuePair) => {
    const task = message.bytes.slice();
    awaitTask(queuePair); // the owner sends the next one when this is done
    const band = decodeAdvertisement(task)!;
    const view = new DataView(task.buffer, ADVERTISEMENT_BYTES);
    const [first, width, height] = [0, 4, 8].map((at) => view.getUint32(at));
    for (let at = 0, row = first; at < band.byteLength; row++) {
      using source = pd.register(mandelbrotRow(row, { width, height }));
      // Two work requests that leave together; the number arrives behind the row.
      queuePair.postSend({ opcode: "write", local: [source.sge()], remote: band.at(at, source.byteLength) });
      await queuePair.sendImmediate(BigInt(row));
      at += source.byteLength;
    }
    bands++;
  };
  const awaitTask = (queuePair: QueuePair): void => {
    queuePair.postRecv([message.sge()], ({ status, byteLength }) => {
      if (status !== "success" || byteLength !== TASK_BYTES) return;
      doTask(queuePair).catch((error) => {
        if (!(error instanceof RdmaError)) failure = error; // else the connection has ended, and tells why itself
        queuePair.abort();
      });
    });
  };
  const queuePair = await device.connect({ ...owner, pd, onReady: awaitTask });
  const error = await queuePair.closed ?? failure;
  if (error !== undefined) throw error;
  return bands;
}

if (import.meta.main) {
  const [command, ...args] = Deno.args;
  const device = Device.open();
  if (command === "own" && args.length === 1) {
    const picture = { width: 100, height: 36, points: new Uint16Array(100 * 36) };
    const { port, done } = ownPicture(device, picture, { port: Number(args[0]), bandRows: 6 });
    console.log(`listening on port ${port}`);
    await done;
    for (let row = 0; row < picture.height; row++) {
      const points = picture.points.subarray(row * picture.width, (row + 1) * picture.width);
      console.log(Array.from(points, (count) => " .:-=+*%@#"[Math.floor(Math.log10(count) * 3)]).join(""));
    }
  } else if (command === "work" && args.length === 2) {
    const bands = await work(device, { hostname: args[0], port: Number(args[1]) });
    console.log(`${bands} bands`);
  } else {
    console.error("usage: direct_write.ts own PORT | work ADDRESS PORT");
    Deno.exit(2);
  }
  await device.close();
}
