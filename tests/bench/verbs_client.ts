/**
 * The measuring end of the verbs' benchmark: `verbs_client.ts PORT`. Prints one line of JSON, a {@linkcode VerbsFigures}.
 *
 * @module
 */
import { Device, type QueuePair } from "../../rdma/mod.ts";
import { Pinger } from "./pings.ts";
import {
  ASK_COUNTERS,
  ASK_CPU,
  ASLEEP,
  cpuMicros,
  IDLE_GAP_MS,
  IDLE_PINGS,
  IN_EVENT_LOOP,
  Purpose,
  TRANSFER_BYTES,
} from "./verbs_protocol.ts";

/** What one round of the verbs gives. */
export interface VerbsFigures {
  /** RDMA Write of 1 MiB, GB/s. */
  write: number;
  writeCrc: number;
  /** RDMA Read of 1 MiB, GB/s. */
  read: number;
  readCrc: number;
  /** Processor time of both processes for the Writes and the Reads of 1 MiB, s/GB. */
  writeCpu: number;
  readCpu: number;
  /** The same where both sleep, as a blocking program does. */
  writeAsleepCpu: number;
  readAsleepCpu: number;
  /** RDMA Write of 64 KiB, GB/s. */
  write64KiB: number;
  /** The same in FPDUs of 1448 bytes. */
  write64KiBShort: number;
  write64KiBShortCrc: number;
  /** 64-byte Send there and back while both ends are hot, µs, median. */
  hotRoundTrip: number;
  hotRoundTripP99: number;
  /** The same with devices that never poll on their own: every message finds its receiver asleep, as with blocking TCP. */
  coldRoundTrip: number;
  /** The same where both sleep nowhere but in the event loop. */
  eventLoopRoundTrip: number;
  /** The same when nothing has happened for a while in between. */
  idleRoundTrip: number;
  /** Payload bytes of transfers of 8 KiB and more that were copied in user space, both ends. */
  bytesCopied: number;
  /** Payload bytes that were received straight into place, both ends. */
  bytesPlaced: number;
}

/** What a measurement transfers, and how many requests are outstanding. */
const TOTAL_BYTES = 1536 * TRANSFER_BYTES;
const DEPTH = 16;
/** What is transferred before the measurement, until memory, caches and the congestion window are what they will be. */
const WARM_UP_BYTES = 512 * TRANSFER_BYTES;
/** The ULPDU of an FPDU of 1448 bytes, which is a segment of TCP's where the MTU is 1500 (RFC 5044 §4.1). */
const SHORT_MULPDU = 1442;
const HOT_PINGS = 20_000;
const COLD_PINGS = 3000;

/** A device of ours, and the port of its like at the other end. */
interface Path {
  device: Device;
  port: number;
}

const [port, asleepPort, inEventLoopPort] = Deno.args[0].split(" ").map(Number);
const polling: Path = { device: Device.open(), port };
const asleep: Path = { device: Device.open({ polling: ASLEEP }), port: asleepPort };
const inEventLoop: Path = { device: Device.open({ polling: IN_EVENT_LOOP }), port: inEventLoopPort };

/** What the peer has counted. */
async function peerCounters(pinger: Pinger): Promise<{ bytesPlaced: number; bytesStagedLarge: number }> {
  const counted = await pinger.ask(ASK_COUNTERS);
  return { bytesPlaced: counted.getFloat64(0), bytesStagedLarge: counted.getFloat64(8) };
}

async function connect(
  purpose: number,
  { crc = false, mulpdu, path: { device, port } = polling }: { crc?: boolean; mulpdu?: number; path?: Path } = {},
): Promise<{ queuePair: QueuePair; pinger: Pinger }> {
  const pd = device.allocateProtectionDomain();
  let pinger: Pinger | undefined;
  const queuePair = await device.connect({
    hostname: "127.0.0.1",
    port,
    pd,
    crc,
    mulpdu,
    privateData: Uint8Array.of(purpose),
    onReady: (queuePair) => pinger = new Pinger(queuePair, pd),
  });
  queuePair.closed.then((error) => {
    if (error === undefined) return;
    console.error(error);
    Deno.exit(1);
  });
  return { queuePair, pinger: pinger! };
}

/** Round trips with pauses in which both ends go to sleep; sorted. */
async function pingIdle(pinger: Pinger, count: number): Promise<number[]> {
  const micros: number[] = [];
  for (let i = 0; i < count; i++) {
    await new Promise((resolve) => setTimeout(resolve, IDLE_GAP_MS));
    const started = performance.now();
    await new Promise((resolve) => pinger.ping(resolve));
    micros.push((performance.now() - started) * 1000);
  }
  return micros.sort((a, b) => a - b);
}

/** GB/s of Writes or Reads, the last one known to have arrived, and the processor time of both processes for them, s/GB. */
async function transfer(
  opcode: "write" | "read",
  { crc = false, bytes = TRANSFER_BYTES, mulpdu, path }: {
    crc?: boolean;
    bytes?: number;
    mulpdu?: number;
    path?: Path;
  } = {},
): Promise<{ rate: number; cpu: number }> {
  const { queuePair, pinger } = await connect(Purpose.Transfers, { crc, mulpdu, path });
  if (queuePair.crc !== crc) throw new Error(`asked for CRC ${crc}, got ${queuePair.crc}`);
  const view = new DataView(queuePair.privateData.buffer, queuePair.privateData.byteOffset);
  const remote = { stag: view.getUint32(0), address: view.getBigUint64(8) };
  const region = pinger.pd.allocate(TRANSFER_BYTES);
  region.bytes.fill(0x5a);
  const local = [{ region, offset: 0, length: bytes }];
  const run = (count: number) =>
    new Promise<void>((resolve, reject) => {
      let posted = 0;
      let done = 0;
      const post = () => {
        posted++;
        queuePair.postSend({ opcode, local, remote }, ({ status }) => {
          if (status !== "success") return reject(new Error(`${opcode}: ${status}`));
          if (++done === count) resolve();
          else if (posted < count) post();
        });
      };
      while (posted < Math.min(DEPTH, count)) post();
    });
  /** Once the peer has everything: the seconds that both processes have had of processors so far. */
  const cpuSoFar = async () => {
    const theirs = (await pinger.ask(ASK_CPU)).getFloat64(0);
    return (cpuMicros() + theirs) / 1e6;
  };
  await run(WARM_UP_BYTES / bytes);
  const cpuBefore = await cpuSoFar();
  const started = performance.now();
  await run(TOTAL_BYTES / bytes);
  const cpu = await cpuSoFar() - cpuBefore;
  const seconds = (performance.now() - started) / 1000;
  await queuePair.close();
  return { rate: TOTAL_BYTES / 1e9 / seconds, cpu: cpu / (TOTAL_BYTES / 1e9) };
}

/** The median round trip between devices that never poll, µs. */
async function roundTrip(path: Path): Promise<number> {
  const { pinger, queuePair } = await connect(Purpose.Pings, { path });
  await pinger.pingInTurn(500);
  const micros = await pinger.pingInTurn(COLD_PINGS);
  await queuePair.close();
  return micros[micros.length >> 1];
}

const figures: Partial<VerbsFigures> = {};
const peer = await connect(Purpose.Pings);
const before = await peerCounters(peer.pinger);
({ rate: figures.write, cpu: figures.writeCpu } = await transfer("write"));
({ rate: figures.writeCrc } = await transfer("write", { crc: true }));
({ rate: figures.read, cpu: figures.readCpu } = await transfer("read"));
({ rate: figures.readCrc } = await transfer("read", { crc: true }));
const after = await peerCounters(peer.pinger);
const own = polling.device.counters();
figures.bytesCopied = after.bytesStagedLarge - before.bytesStagedLarge + own.bytesStagedLarge;
figures.bytesPlaced = after.bytesPlaced - before.bytesPlaced + own.bytesPlaced;
const short = { bytes: 64 * 1024, mulpdu: SHORT_MULPDU };
({ rate: figures.write64KiB } = await transfer("write", { bytes: short.bytes }));
({ rate: figures.write64KiBShort } = await transfer("write", short));
({ rate: figures.write64KiBShortCrc } = await transfer("write", { ...short, crc: true }));
({ cpu: figures.writeAsleepCpu } = await transfer("write", { path: asleep }));
({ cpu: figures.readAsleepCpu } = await transfer("read", { path: asleep }));
await peer.pinger.pingInTurn(2000);
const hot = await peer.pinger.pingInTurn(HOT_PINGS);
figures.hotRoundTrip = hot[hot.length >> 1];
figures.hotRoundTripP99 = hot[Math.floor(hot.length * 0.99)];
const idle = await pingIdle(peer.pinger, IDLE_PINGS);
figures.idleRoundTrip = idle[idle.length >> 1];
await peer.queuePair.close();
figures.coldRoundTrip = await roundTrip(asleep);
figures.eventLoopRoundTrip = await roundTrip(inEventLoop);
console.log(JSON.stringify(figures));
await polling.device.close();
await asleep.device.close();
await inEventLoop.device.close();
