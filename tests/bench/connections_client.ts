/**
 * The measuring end of the benchmark of many connections: `connections_client.ts "PORT TCP_PORT" COUNT`. Prints one line of JSON, a {@linkcode ConnectionFigures}.
 *
 * @module
 */
import { Device, type QueuePair } from "../../rdma/mod.ts";
import { PLACES, Purpose, Question, residentMemory, TCP_HELLO_BYTES, TRANSFER_BYTES } from "./connections_protocol.ts";
import { Pinger } from "./pings.ts";

/** What one round gives. "Many" are as many as the command line says. */
export interface ConnectionFigures {
  /** How many are many. */
  count: number;
  /** 64-byte Send there and back on the only connection between two processes, µs, median. */
  roundTripAlone: number;
  /** The same beside many idle ones. */
  roundTripBeside: number;
  /** RDMA Write of 64 KiB by one connection, and by many at once, with two outstanding on each, GB/s. */
  shallowOne: number;
  shallowMany: number;
  /** The same with as many outstanding as make one connection fast. */
  deepOne: number;
  deepMany: number;
  /** Resident memory of a connection that has carried one Send either way, at either end, KiB. */
  clientIdle: number;
  serverIdle: number;
  /** The same after it has been active. */
  clientUsed: number;
  serverUsed: number;
  /** Memory of the kernel's of an idle connection, a side, KiB. */
  kernelIdle: number;
  /** iWARP connections made in a second, some at a time. */
  setUps: number;
  /** The same of TCP connections by the runtime's own functions, with a message of the length of MPA's either way. */
  tcpSetUps: number;
}

const PINGS_BEFORE = 5000;
const PINGS = 20_000;
/** Writes outstanding on each connection. */
const DEPTH = { shallow: 2, deep: 16 } as const;
const RAMP_MS = 500;
const ACTIVE_MS = 1500;
/** Connections that are being made at once. */
const AT_ONCE = 64;
/** How often many are made for the rate, beside one time to begin with. */
const SET_UP_ROUNDS = 4;
const KIB = 1024;

const [port, tcpPort] = Deno.args[0].split(" ").map(Number);
const count = Number(Deno.args[1]);
const device = Device.open();
const pd = device.allocateProtectionDomain();
const source = pd.allocate(PLACES * TRANSFER_BYTES);
const inbox = [{ region: pd.allocate(64), offset: 0, length: 64 }];
const there = { hostname: "127.0.0.1", port, pd };

/** Whether connections are being ended on purpose. */
let ending = false;

async function connectPinger(): Promise<Pinger> {
  let pinger: Pinger | undefined;
  await device.connect({
    ...there,
    privateData: Uint8Array.of(Purpose.Pings),
    onReady: (queuePair) => pinger = new Pinger(queuePair, pd),
  });
  return pinger!;
}

async function connectOne(): Promise<QueuePair> {
  const queuePair = await device.connect({ ...there, privateData: Uint8Array.of(Purpose.Many) });
  queuePair.closed.then((error) => {
    if (ending) return;
    console.error("a connection has ended", error);
    Deno.exit(1);
  });
  return queuePair;
}

/** Makes so many, some of them at a time. */
async function several<T>(count: number, make: () => Promise<T>): Promise<T[]> {
  const made: T[] = [];
  let begun = 0;
  const worker = async () => {
    while (begun++ < count) made.push(await make());
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return made;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const pinger = await connectPinger();

interface Progress {
  placed: number;
  atMs: number;
  usable: number;
}

async function peerProgress(): Promise<Progress> {
  const view = await pinger.ask(Question.Progress);
  return { placed: view.getFloat64(0), atMs: view.getFloat64(8), usable: view.getFloat64(16) };
}

/** Waits until the peer can use as many of the many connections. */
async function peerHas(count: number): Promise<void> {
  while ((await peerProgress()).usable !== count) await pause(1);
}

async function connectMany(count: number): Promise<QueuePair[]> {
  const made = await several(count, connectOne);
  await peerHas(count);
  return made;
}

async function end(queuePairs: readonly QueuePair[]): Promise<void> {
  ending = true;
  for (const queuePair of queuePairs) queuePair.abort();
  await Promise.all(queuePairs.map(({ closed }) => closed));
  await peerHas(0);
  ending = false;
}

/** Resident memory of both ends, and the kernel's for sockets, bytes. */
async function memory(): Promise<{ client: number; server: number; kernel: number }> {
  await pause(100); // what is on its way arrives, the runtime's own threads come to rest
  const server = (await pinger.ask(Question.Memory)).getFloat64(0);
  const client = residentMemory();
  const slab = Deno.readTextFileSync("/proc/meminfo").match(/^SUnreclaim: +(\d+) kB/m)!;
  const pages = Deno.readTextFileSync("/proc/net/sockstat").match(/^TCP:.* mem (\d+)/m)!;
  return { client, server, kernel: Number(slab[1]) * KIB + Number(pages[1]) * 4 * KIB };
}

/** GB/s that arrive while each of these connections keeps `depth` Writes outstanding. */
async function throughput(queuePairs: readonly QueuePair[], depth: number): Promise<number> {
  const writes = queuePairs.map(() => 0);
  let active = true;
  const ends = queuePairs.map((queuePair, index) => {
    const at = new DataView(queuePair.privateData.buffer, queuePair.privateData.byteOffset);
    const offset = index % PLACES * TRANSFER_BYTES;
    const remote = { stag: at.getUint32(0), address: at.getBigUint64(8) + BigInt(offset) };
    const local = [{ region: source, offset, length: TRANSFER_BYTES }];
    return new Promise<void>((resolve, reject) => {
      let outstanding = 0;
      const post = () => {
        outstanding++;
        queuePair.postSend({ opcode: "write", local, remote }, ({ status }) => {
          if (status !== "success") return reject(new Error(`Write: ${status}`));
          outstanding--;
          writes[index]++;
          if (active) post();
          else if (outstanding === 0) resolve();
        });
      };
      for (let i = 0; i < depth; i++) post();
    });
  });
  await pause(RAMP_MS);
  const before = await peerProgress();
  const writesBefore = [...writes];
  await pause(ACTIVE_MS);
  const after = await peerProgress();
  if (writes.some((count, index) => count === writesBefore[index])) throw new Error("a connection got no turn");
  active = false;
  await Promise.all(ends);
  await peerProgress();
  return (after.placed - before.placed) / 1e6 / (after.atMs - before.atMs);
}

async function setUpRate(): Promise<number> {
  let seconds = 0;
  for (let round = 0; round <= SET_UP_ROUNDS; round++) {
    const started = performance.now();
    const made = await connectMany(count);
    if (round > 0) seconds += (performance.now() - started) / 1000;
    await end(made);
  }
  return SET_UP_ROUNDS * count / seconds;
}

async function connectTcp(): Promise<Deno.TcpConn> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port: tcpPort });
  const hello = new Uint8Array(TCP_HELLO_BYTES);
  await connection.write(hello);
  for (let received = 0; received < hello.byteLength;) {
    received += await connection.read(hello.subarray(received)) ?? Infinity;
  }
  return connection;
}

async function tcpSetUpRate(): Promise<number> {
  let seconds = 0;
  for (let round = 0; round <= SET_UP_ROUNDS; round++) {
    const started = performance.now();
    const made = await several(count, connectTcp);
    if (round > 0) seconds += (performance.now() - started) / 1000;
    for (const connection of made) connection.close();
    await pause(100);
  }
  return SET_UP_ROUNDS * count / seconds;
}

/** The middle of sorted values. */
const middle = (sorted: readonly number[]) => sorted[sorted.length >> 1];

// code and its memory are to be there before anything is compared
await end(await connectMany(AT_ONCE));
await pinger.pingInTurn(PINGS_BEFORE);
const roundTripAlone = middle(await pinger.pingInTurn(PINGS));
const empty = await memory();
const many = await connectMany(count);
for (const queuePair of many) {
  const answer = queuePair.recv(inbox);
  await queuePair.send(inbox);
  await answer;
}
const idle = await memory();
await pinger.pingInTurn(PINGS_BEFORE);
const roundTripBeside = middle(await pinger.pingInTurn(PINGS));
const shallowMany = await throughput(many, DEPTH.shallow);
const deepMany = await throughput(many, DEPTH.deep);
const used = await memory();
await end(many);
const only = await connectMany(1);
const shallowOne = await throughput(only, DEPTH.shallow);
const deepOne = await throughput(only, DEPTH.deep);
await end(only);
const each = (after: number, before: number) => (after - before) / KIB / count;
const figures: ConnectionFigures = {
  count,
  roundTripAlone,
  roundTripBeside,
  shallowOne,
  shallowMany,
  deepOne,
  deepMany,
  clientIdle: each(idle.client, empty.client),
  serverIdle: each(idle.server, empty.server),
  clientUsed: each(used.client, empty.client),
  serverUsed: each(used.server, empty.server),
  kernelIdle: each(idle.kernel, empty.kernel) / 2,
  setUps: await setUpRate(),
  tcpSetUps: await tcpSetUpRate(),
};
console.log(JSON.stringify(figures));
Deno.exit(0);
