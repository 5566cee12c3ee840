/**
 * What the RDMA transport needs of the verbs: `QueuePair`, `MemoryRegion`, `ProtectionDomain` and `BufferPool` of rdma/ have these shapes, and
 * so have the fakes of the tests. Also what its two ends do alike with memory.
 *
 * @module
 */
import type { Bulk } from "../transport.ts";
import type { Completion } from "./byte_stream.ts";

/** What a peer may do with memory. */
export const Access = { LocalOnly: 0, RemoteRead: 1, RemoteWrite: 2 } as const;

/** Memory that a peer can be told of. */
export interface Exposed {
  /** Steering tag. */
  readonly stag: number;
  /** Tagged offset of its first byte. */
  readonly address: bigint;
}

/** A revocable STag on a part of a region. */
export interface Window extends Exposed {
  /** Makes the STag invalid, if it still is valid. When this returns nobody touches the memory through it. */
  revoke(): void;
}

/** A connection that memory is open on, and on no other. */
export interface Associated {
  /** The engine's handle of the connection. */
  readonly handle: number;
}

/** Registered memory. */
export interface Region extends Exposed {
  /** Its length. */
  readonly byteLength: number;
  /** The memory itself. */
  readonly bytes: Uint8Array;
  /** Opens a part of it to the peer, under an STag of its own. */
  bind(part: { offset: number; length: number; access: number; connection: Associated }): Window;
  /** Ends the registration. When this returns nobody touches the memory through it. */
  deregister(): void;
}

/** Where memory is registered. */
export interface Domain {
  /** Allocates and registers memory. */
  allocate(lengthBytes: number, access?: number): Region;
  /** Registers memory in place. */
  register(bytes: Uint8Array, access?: number, options?: { connection: Associated }): Region;
}

/** Memory lent from registered memory. */
export interface LentMemory extends Bulk {
  /** The registration that it is a part of. */
  readonly region: Region;
  /** Where in the region it begins. */
  readonly offset: number;
}

/** Lends memory, each time as much as was asked for. */
export interface RegisteredPool {
  /** Lends memory until its `release`. */
  take(lengthBytes: number): LentMemory;
}

/** A part of registered memory. */
export interface Sge {
  /** What it is a part of. */
  region: Region;
  /** First byte, relative to the region. */
  offset: number;
  /** Bytes. */
  length: number;
}

/** Work for the send queue. */
export type Work =
  | { opcode: "send"; local: readonly Sge[]; invalidate?: number }
  | { opcode: "write" | "read"; local: readonly Sge[]; remote: { stag: number; address: bigint } };

/** How a receive ended. */
export interface ReceiveCompletion extends Completion {
  /** The STag that came with a Send with Invalidate. */
  readonly invalidatedStag?: number;
}

/** A connected queue pair. */
export interface Verbs extends Associated {
  /** The peer's, of the connection's start-up. */
  readonly privateData: Uint8Array;
  /** The peer's IP address. */
  readonly remoteAddress: string;
  /** The peer's port. */
  readonly remotePort: number;
  /** Queues work; completions come in the order of posting. */
  postSend(work: Work, done?: (completion: Completion) => void): void;
  /** Queues memory for one incoming Send. */
  postRecv(local: readonly Sge[], done: (completion: ReceiveCompletion) => void): void;
  /** Finishes queued work, then ends the connection. */
  close(): Promise<void>;
  /** Ends the connection at once. */
  abort(): void;
  /** Resolves when the connection has ended and every `done` was called: `undefined` for an orderly end. */
  readonly closed: Promise<Error | undefined>;
}

/** Finds the region that an application has registered `bytes` in, so that they need not be registered again. */
export type FindRegion = (bytes: Uint8Array) => { region: Region; offset: number } | undefined;

/** Regions that a transport made for one transfer: not to be found by another, as they go when it ends. */
const temporary = new WeakSet<Region>();

/** A part of registered memory, and how to let go of it. */
export interface LocalMemory {
  region: Region;
  offset: number;
  /** Ends a registration that was made for it. */
  release(): void;
}

/** Finds the registration of `bytes`, or registers them in place for the time being. */
export function localMemory(
  bytes: Uint8Array,
  options: { pd: Domain; findRegion?: FindRegion; access?: number },
): LocalMemory {
  const found = options.findRegion?.(bytes);
  if (found !== undefined && !temporary.has(found.region)) return { ...found, release: () => {} };
  const region = options.pd.register(bytes, options.access ?? Access.LocalOnly);
  temporary.add(region);
  return { region, offset: 0, release: () => region.deregister() };
}

/** Opens `bytes` to the peer of one connection, by a window on their registration or by one of their own. */
export function expose(
  bytes: Uint8Array,
  options: { pd: Domain; findRegion?: FindRegion; access: number; connection: Associated },
): Window {
  const { access, connection } = options;
  const found = options.findRegion?.(bytes);
  if (found !== undefined && !temporary.has(found.region)) {
    return found.region.bind({ offset: found.offset, length: bytes.byteLength, access, connection });
  }
  const region = options.pd.register(bytes, access, { connection });
  temporary.add(region);
  return { stag: region.stag, address: region.address, revoke: () => region.deregister() };
}

/** A buffer for one inline message. */
export interface Slot {
  readonly region: Region;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Buffers for inline messages, cut from one region. */
export class SlotPool {
  readonly #region: Region;
  readonly #free: Slot[] = [];
  #taken = 0;
  #isDisposed = false;

  /** Room for `count` messages of `slotBytes`. */
  constructor(pd: Domain, { count, slotBytes }: { count: number; slotBytes: number }) {
    this.#region = pd.allocate(count * slotBytes);
    for (let i = count - 1; i >= 0; i--) {
      const offset = i * slotBytes;
      this.#free.push({ region: this.#region, offset, bytes: this.#region.bytes.subarray(offset, offset + slotBytes) });
    }
  }

  /** Lends a slot; `undefined` where there is none. */
  take(): Slot | undefined {
    const slot = this.#free.pop();
    if (slot !== undefined) this.#taken++;
    return slot;
  }

  /** Takes a slot back. */
  put(slot: Slot): void {
    this.#taken--;
    this.#free.push(slot);
    if (this.#isDisposed && this.#taken === 0) this.#region.deregister();
  }

  /** Gives the memory up as soon as no slot is lent. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    if (this.#taken === 0) this.#region.deregister();
  }
}

/** Copies pieces one behind the other into `target`; tells how many bytes they were. */
export function pack(target: Uint8Array, pieces: readonly Uint8Array[]): number {
  let at = 0;
  for (const piece of pieces) {
    target.set(piece, at);
    at += piece.byteLength;
  }
  return at;
}

/** The part of a list of elements from byte `at` on, `length` bytes long. */
export function slice(elements: readonly Sge[], { at, length }: { at: number; length: number }): Sge[] {
  const part: Sge[] = [];
  let skip = at;
  let left = length;
  for (const element of elements) {
    if (left === 0) break;
    if (skip >= element.length) {
      skip -= element.length;
      continue;
    }
    const taken = Math.min(element.length - skip, left);
    part.push({ region: element.region, offset: element.offset + skip, length: taken });
    skip = 0;
    left -= taken;
  }
  return part;
}
