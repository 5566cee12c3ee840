/**
 * A lock for processes on any number of hosts: a word in the memory of a server, taken and given back by atomic operations, and a counter that it guards.
 *
 * ```sh
 * deno run -A rdma/examples/lock.ts serve 7181
 * deno run -A rdma/examples/lock.ts count 127.0.0.1 7181 1000      # as many at once as you like
 * ```
 *
 * The word holds 0 while the lock is free, else the number of the client that has it. Compare-and-swap puts our number there if 0 is there, in one step: of all that
 * try, one succeeds. The server's program takes no part in that. It only clears up behind a client that went without giving the lock back.
 *
 * @module
 */
import {
  Access,
  ADVERTISEMENT_BYTES,
  decodeAdvertisement,
  Device,
  encodeAdvertisement,
  type MemoryRegion,
  type ProtectionDomain,
  type QueuePair,
  type RemoteBuffer,
} from "../mod.ts";

const FREE = 0n;
// The server's memory: two words of 8 bytes.
const LOCK_AT = 0;
const COUNTER_AT = 8;
const SHARED_BYTES = 16;
/** Private data for a client: where the memory is, and the client's number. */
const HELLO_BYTES = ADVERTISEMENT_BYTES + 8;
/** The longest pause between two attempts. */
const PAUSE_MS_MAX = 16;

/** Gives the lock a home. `words` are the lock and the counter. */
export function serveLock(device: Device, port: number): { port: number; words: BigUint64Array } {
  const pd = device.allocateProtectionDomain();
  const region = pd.allocate(SHARED_BYTES, Access.RemoteAtomic | Access.RemoteRead | Access.RemoteWrite);
  const words = new BigUint64Array(region.bytes.buffer);
  let clients = 0n;
  const listener = device.listen({
    port,
    onRequest: (request) => {
      const client = ++clients;
      const privateData = new Uint8Array(HELLO_BYTES);
      privateData.set(encodeAdvertisement(region));
      new DataView(privateData.buffer).setBigUint64(ADVERTISEMENT_BYTES, client);
      const onReady = async (queuePair: QueuePair) => {
        await queuePair.closed;
        // Atomic against peers, too. Where the client has not got the lock, it changes nothing.
        Atomics.compareExchange(words, LOCK_AT / 8, client, FREE);
      };
      void request.accept({ pd, privateData, onReady });
    },
  });
  return { port: listener.port, words };
}

/** One of those that want the lock. */
export class LockClient implements AsyncDisposable {
  /** How often compare-and-swap found that another had the lock. */
  attemptsInVain = 0;
  readonly #word = new BigUint64Array(1);
  /** The word, for RDMA. */
  readonly #region: MemoryRegion;

  private constructor(
    readonly queuePair: QueuePair,
    readonly shared: RemoteBuffer,
    /** Our number. */
    readonly id: bigint,
    pd: ProtectionDomain,
  ) {
    this.#region = pd.register(this.#word);
  }

  /** Connects to the lock's home. */
  static async connect(server: { hostname: string; port: number }): Promise<LockClient> {
    const device = Device.open();
    try {
      const pd = device.allocateProtectionDomain();
      const queuePair = await device.connect({ ...server, pd });
      const hello = queuePair.privateData;
      const shared = decodeAdvertisement(hello);
      if (shared === undefined || hello.byteLength !== HELLO_BYTES) throw new Error("the server has no lock");
      const id = new DataView(hello.buffer, hello.byteOffset).getBigUint64(ADVERTISEMENT_BYTES);
      return new LockClient(queuePair, shared, id, pd);
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  /** Takes the lock as soon as it is free. Rejects with the signal's reason. */
  async acquire(signal?: AbortSignal): Promise<void> {
    for (let pauseMs = 1;; pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX)) {
      signal?.throwIfAborted();
      const before = await this.queuePair.compareSwap(this.shared.at(LOCK_AT, 8), { compare: FREE, swap: this.id });
      if (before === FREE) return;
      this.attemptsInVain++;
      // Not all at once again: a pause of random length, longer each time.
      await new Promise((resolve) => setTimeout(resolve, Math.random() * pauseMs));
    }
  }

  /** Gives the lock back. */
  async release(): Promise<void> {
    const before = await this.queuePair.compareSwap(this.shared.at(LOCK_AT, 8), { compare: this.id, swap: FREE });
    if (before !== this.id) throw new Error("the lock was not ours");
  }

  /**
   * Adds one to the counter, in three steps that would lose counts if two did it at once: read, add, write. (By itself, `queuePair.fetchAdd` does this without a lock.)
   * Only for who has the lock. Resolves to the new value.
   */
  async increment(): Promise<bigint> {
    const counter = this.shared.at(COUNTER_AT, 8);
    await this.queuePair.read([this.#region.sge()], counter);
    const value = ++this.#word[0];
    // When this resolves the bytes have left, but may not have arrived. They do so in front of the compare-and-swap that gives the lock back, as both go the same way.
    await this.queuePair.write([this.#region.sge()], counter);
    return value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.queuePair.close();
    await this.queuePair.device.close();
  }
}

/** Adds one so many times, taking the lock for each. Resolves to the value of the last one. */
export async function count(client: LockClient, times: number): Promise<bigint> {
  let value = 0n;
  for (let i = 0; i < times; i++) {
    await client.acquire();
    try {
      value = await client.increment();
    } finally {
      await client.release();
    }
  }
  return value;
}

if (import.meta.main) {
  const [command, ...args] = Deno.args;
  if (command === "serve" && args.length === 1) {
    const { port } = serveLock(Device.open(), Number(args[0]));
    console.log(`listening on port ${port}`);
  } else if (command === "count" && args.length === 3 && /^[1-9][0-9]*$/.test(args[2])) {
    const [hostname, port, times] = args;
    await using client = await LockClient.connect({ hostname, port: Number(port) });
    console.log(`client ${client.id}`);
    const value = await count(client, Number(times));
    console.log(`the counter is ${value}; the lock was another's ${client.attemptsInVain} times`);
  } else {
    console.error("usage: lock.ts serve PORT | count ADDRESS PORT TIMES, once at least");
    Deno.exit(2);
  }
}
