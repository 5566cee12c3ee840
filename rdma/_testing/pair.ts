/**
 * Two devices joined by a queue pair, and memory that tells when something else than the target was touched. For tests of the verbs.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import {
  type ConnectOptions,
  Device,
  type DeviceCounters,
  type Listener,
  type MemoryRegion,
  type ProtectionDomain,
  type QueuePair,
  type RemoteMemory,
  type Sge,
  type StartupOptions,
} from "../mod.ts";

/** One end of a connection. */
export interface End {
  device: Device;
  pd: ProtectionDomain;
  qp: QueuePair;
}

/** Two connected ends, each on a device of its own. */
export interface Pair extends AsyncDisposable {
  client: End;
  server: End;
  listener: Listener;
}

/** What a pair may be asked to be. */
export interface PairOptions {
  client?: Partial<ConnectOptions>;
  server?: Partial<StartupOptions>;
  /** For the accepting side, before anything can arrive. */
  onServer?: (end: End) => void;
  /** Both ends on one device. */
  oneDevice?: boolean;
  /** Where the server listens; any free port unless given. */
  port?: number;
}

/** Connects two ends. Disposing closes both devices. */
export async function connectPair(options: PairOptions = {}): Promise<Pair> {
  const serverDevice = Device.open();
  const clientDevice = options.oneDevice ? serverDevice : Device.open();
  const serverPd = serverDevice.allocateProtectionDomain();
  const clientPd = clientDevice.allocateProtectionDomain();
  const accepted = Promise.withResolvers<QueuePair>();
  const listener = serverDevice.listen({
    port: options.port ?? 0,
    onRequest: (request) => {
      const onServer = options.onServer;
      const onReady = onServer && ((qp: QueuePair) => onServer({ device: serverDevice, pd: serverPd, qp }));
      request.accept({ pd: serverPd, ...options.server, onReady }).then(accepted.resolve, accepted.reject);
    },
  });
  const [client, server] = await Promise.all([
    clientDevice.connect({ hostname: "127.0.0.1", port: listener.port, pd: clientPd, ...options.client }),
    accepted.promise,
  ]);
  return {
    client: { device: clientDevice, pd: clientPd, qp: client },
    server: { device: serverDevice, pd: serverPd, qp: server },
    listener,
    async [Symbol.asyncDispose]() {
      await clientDevice.close();
      await serverDevice.close();
    },
  };
}

const GUARD_BYTES = 64;
const GUARD = 0xa5;

/** A region with guard bytes on both sides of it. */
export interface Guarded {
  region: MemoryRegion;
  /** Throws where a guard byte was changed. */
  check(): void;
}

/** Registers `length` bytes in the middle of a buffer whose other bytes are guards. */
export function guarded(pd: ProtectionDomain, length: number, access?: number): Guarded {
  const all = new Uint8Array(length + 2 * GUARD_BYTES).fill(GUARD);
  const middle = all.subarray(GUARD_BYTES, GUARD_BYTES + length).fill(0);
  return {
    region: pd.register(middle, access),
    check() {
      const guards = [all.subarray(0, GUARD_BYTES), all.subarray(GUARD_BYTES + length)];
      if (guards.some((guard) => guard.some((byte) => byte !== GUARD))) {
        throw new Error(`bytes beside a region of ${length} bytes were written`);
      }
    },
  };
}

/** Fills memory with bytes that differ from place to place and from seed to seed. */
export function fill(bytes: Uint8Array, seed: number): Uint8Array {
  const random = generator(seed);
  const block = Math.min(bytes.byteLength, 64 * 1024 - 1);
  for (let i = 0; i < block; i++) bytes[i] = random() * 256;
  // the rest repeats with an odd period, which is no multiple of any segment's length
  for (let at = block; at < bytes.byteLength; at += block) {
    bytes.copyWithin(at, 0, Math.min(block, bytes.byteLength - at));
  }
  return bytes;
}

/** Whether two stretches of memory have the same bytes. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Random numbers from 0 to 1, the same ones for the same seed. */
export function generator(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A scatter/gather list of the whole region. */
export function whole(region: MemoryRegion): Sge[] {
  return [region.sge()];
}

/** Writes all of `source`, and waits until it is in its place: the answer of a Read comes behind it. */
export async function writePlaced(qp: QueuePair, source: MemoryRegion, remote: RemoteMemory): Promise<void> {
  await qp.write(whole(source), remote);
  await qp.read([], remote);
}

/** What was counted since `before`. */
export function since(device: Device, before: DeviceCounters): DeviceCounters {
  const now = device.counters();
  return Object.fromEntries(
    Object.entries(now).map(([name, value]) => [name, value - before[name as keyof DeviceCounters]]),
  ) as DeviceCounters;
}

/** Waits until `condition` holds; throws when it takes longer than `timeoutMs`. */
export async function until(condition: () => boolean, timeoutMs = 5000): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`still not after ${timeoutMs} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Rejects where `promise` takes longer than `timeoutMs`. */
export async function within<T>(promise: Promise<T>, timeoutMs = 5000): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`took longer than ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Open descriptors of this process. */
export function openDescriptors(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}
