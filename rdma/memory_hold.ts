/**
 * Keeps memory of application's buffers where it is while it is registered.
 *
 * A reference to an `ArrayBuffer` does not keep its memory: `transfer` to another length, or the end of a buffer that it was transferred to, gives it back to the
 * system, while peers may still write there. But an asynchronous operation that reads into a buffer holds the memory itself. So each registered buffer is the target of
 * a read from a connection, of this process with itself, on which nothing ever comes.
 *
 * @module
 */
import { RdmaError } from "./errors.ts";

/** Bytes of buffers that are held without need, until they are let go. */
const WASTE_BYTES_MAX = 64 * 1024 * 1024;
/** The same in buffers. */
const WASTE_COUNT_MAX = 1024;

/** Holds buffers by reads that go on until it is closed. */
class Holder {
  readonly #ends: readonly Deno.TcpConn[];
  readonly #reads: Promise<unknown>[] = [];
  readonly #held = new Set<ArrayBuffer>();
  /** Of these, still needed. */
  needed = 0;
  #bytes = 0;
  #neededBytes = 0;
  #closing: Promise<unknown> | undefined;

  constructor(ends: readonly Deno.TcpConn[]) {
    this.#ends = ends;
    for (const end of ends) end.unref();
  }

  static async open(): Promise<Holder> {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    // whatever else connects to that port is none of ours
    const accept = async (own: Promise<Deno.TcpConn>) => {
      for (;;) {
        const [theirs, ours] = await Promise.all([listener.accept(), own]);
        if ((theirs.remoteAddr as Deno.NetAddr).port === (ours.localAddr as Deno.NetAddr).port) return [ours, theirs];
        theirs.close();
      }
    };
    return new Holder(await accept(Deno.connect({ hostname: "127.0.0.1", port })));
  }

  add(buffer: ArrayBuffer): void {
    this.needed++;
    this.#neededBytes += buffer.byteLength;
    if (this.#held.has(buffer)) return;
    this.#held.add(buffer);
    this.#bytes += buffer.byteLength;
    this.#reads.push(this.#ends[0].read(new Uint8Array(buffer, 0, 1)).catch(() => {}));
  }

  release(bytes: number): void {
    this.needed--;
    this.#neededBytes -= bytes;
  }

  get isWasteful(): boolean {
    const waste = this.#bytes - this.#neededBytes;
    return waste > Math.max(WASTE_BYTES_MAX, this.#neededBytes) ||
      this.#held.size - this.needed > Math.max(WASTE_COUNT_MAX, this.needed);
  }

  close(): Promise<unknown> {
    return this.#closing ??= this.#close();
  }

  #close(): Promise<unknown> {
    for (const end of this.#ends) {
      end.ref(); // the event loop is to wait for the ends of the reads
      end.close();
    }
    return Promise.all(this.#reads);
  }
}

interface Held {
  /** Registrations of the buffer. */
  count: number;
  /** Its length, which it loses when it is detached. */
  bytes: number;
  /** What holds it; none before there is one. */
  holder: Holder | undefined;
}

/**
 * Holds the memory of registered buffers of a device. No connection is made before it can, so that no peer reaches memory that is not held.
 */
export class MemoryHold {
  readonly #buffers = new Map<ArrayBuffer, Held>();
  #holder: Holder | undefined;
  #beginning: Promise<void> | undefined;
  #failure: unknown;
  #renewing: Promise<void> | undefined;
  #closed = false;
  readonly #lose: (buffer: ArrayBuffer) => void;

  /** `lose` is called for buffers that were registered before they could be held, and cannot be any more: their registrations are to end. */
  constructor(lose: (buffer: ArrayBuffer) => void) {
    this.#lose = lose;
  }

  /** Whether buffers are held, or cannot be. */
  get begun(): boolean {
    return this.#holder !== undefined || this.#failure !== undefined;
  }

  /** Prepares to hold buffers, and holds those that are registered already. Never rejects: where it cannot be, registering throws. */
  begin(): Promise<void> {
    return this.#beginning ??= Holder.open().then((holder) => this.#take(holder), (error) => {
      this.#failure = error;
      [...this.#buffers.keys()].forEach(this.#lose);
    });
  }

  /** A buffer is being registered, which is not detached. Throws where its memory cannot be held. */
  add(buffer: ArrayBuffer): void {
    if (buffer.byteLength === 0) return;
    void this.begin();
    if (this.#failure !== undefined) {
      const message = `a buffer cannot be registered, for its memory cannot be held: ${this.#failure}`;
      throw new RdmaError("System", { message, cause: this.#failure });
    }
    let held = this.#buffers.get(buffer);
    if (held === undefined) {
      held = { count: 0, bytes: buffer.byteLength, holder: this.#holder };
      this.#buffers.set(buffer, held);
      this.#holder?.add(buffer);
    }
    held.count++;
  }

  /** A registration of the buffer has ended. */
  release(buffer: ArrayBuffer): void {
    const held = this.#buffers.get(buffer);
    if (held === undefined || --held.count > 0) return;
    this.#buffers.delete(buffer);
    const { holder } = held;
    if (holder === undefined) return;
    holder.release(held.bytes);
    if (holder !== this.#holder) {
      if (holder.needed === 0) void holder.close();
    } else if (holder.isWasteful && !this.#closed) {
      this.#renewing ??= Holder.open().then((fresh) => this.#take(fresh), () => {}).finally(() => {
        this.#renewing = undefined;
      });
    }
  }

  /** Goes over to another holder, which lets go of what is not needed any more. A buffer that was detached can only stay where it is. */
  #take(fresh: Holder): void {
    const old = this.#holder;
    this.#holder = fresh;
    for (const [buffer, held] of [...this.#buffers]) {
      if (buffer.detached) {
        if (held.holder === undefined) this.#lose(buffer);
        continue;
      }
      fresh.add(buffer);
      held.holder?.release(held.bytes);
      held.holder = fresh;
    }
    if (old?.needed === 0) void old.close();
  }

  /** Lets go of everything. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#beginning;
    await this.#renewing;
    const holders = new Set([this.#holder, ...[...this.#buffers.values()].map((held) => held.holder)]);
    this.#buffers.clear();
    for (const holder of holders) await holder?.close();
  }
}
