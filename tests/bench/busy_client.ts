/**
 * Measures Reads from a process whose JavaScript never yields: `busy_client.ts TARGET`, what `rdma/_testing/busy_server.ts` prints. Prints one line of JSON, a
 * {@linkcode BusyFigures}.
 *
 * @module
 */
import { Device } from "../../rdma/mod.ts";

/** RDMA Reads of 64 bytes, one behind the other, medians in µs. */
export interface BusyFigures {
  /** The target's JavaScript is asleep. */
  readLatency: number;
  /** It is in a loop. */
  readLatencyBusy: number;
}

const READS = 3000;
const WARM_UP = 1000;
/** Until the target is in its loop. */
const SETTLE_MS = 50;

const { port, stag, address } = JSON.parse(Deno.args[0]);
const device = Device.open();
const pd = device.allocateProtectionDomain();
const queuePair = await device.connect({ hostname: "127.0.0.1", port, pd, crc: false });
const local = [{ region: pd.allocate(64), offset: 0, length: 64 }];
const remote = { stag, address: BigInt(address) };

async function latency(): Promise<number> {
  const micros: number[] = [];
  for (let i = 0; i < WARM_UP + READS; i++) {
    const started = performance.now();
    await queuePair.read(local, remote);
    if (i >= WARM_UP) micros.push((performance.now() - started) * 1000);
  }
  return micros.sort((a, b) => a - b)[READS >> 1];
}

const readLatency = await latency();
await queuePair.send([]); // from now on it is busy
await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
const figures: BusyFigures = { readLatency, readLatencyBusy: await latency() };
console.log(JSON.stringify(figures));
Deno.exit(0);
