/**
 * Queue pairs: iWARP connections.
 *
 * @module
 */
import { INLINE_MAX, WorkFlag, WorkOpcode } from "./_ffi/layout.ts";
import {
  type Completed,
  type CompletionStatus,
  Connection,
  type QueuePairState,
  type WorkCompletion,
} from "./connection.ts";
import type { CompletionQueue } from "./completion_queue.ts";
import type { Device } from "./device.ts";
import { RdmaError, type TerminateInfo } from "./errors.ts";
import type { AsyncEventType } from "./async_events.ts";
import type {
  AddressingOptions,
  LocalMemory,
  MemoryRegion,
  MemoryWindow,
  Registration,
  StagChange,
} from "./memory_region.ts";
import type { ProtectionDomain } from "./protection_domain.ts";
import type { SharedReceiveQueue } from "./shared_receive_queue.ts";

/** When a peer that has said nothing yet is nudged, counted from our first work. */
const NUDGES_MS = [50, 200, 600];

/** One element of a scatter/gather list: a part of a registered region. */
export interface Sge {
  /** The region. */
  region: MemoryRegion;
  /** First byte, relative to the region. */
  offset: number;
  /** Length in bytes. */
  length: number;
}

/** One element of a scatter/gather list of the send queue: a part of a region, or of a window on one. */
export interface LocalSge {
  /** The region or window. */
  region: LocalMemory;
  /** First byte, relative to it. */
  offset: number;
  /** Length in bytes. */
  length: number;
}

/** Memory of the peer's, as it told us. */
export interface RemoteMemory {
  /** Steering tag. */
  stag: number;
  /** Tagged offset of the first byte. */
  address: bigint;
}

/** What work for the send queue has in common. */
export interface WorkRequestOptions {
  /** The application's name for it, which its completion in a completion queue carries. */
  id?: unknown;
  /** Whether success is reported, to the callback or the completion queue; failures and flushes always are. Default: true. */
  signalled?: boolean;
  /** Waits until the Reads and atomic operations that were posted before are done; without, they may be overtaken (RFC 5040 §5.5). */
  fence?: boolean;
}

/** How a payload is taken. */
export interface InlineOptions {
  /**
   * Copies the payload, of at most 256 bytes, when the work is posted: the application may change or deregister its memory at once, instead of at the completion.
   * Default: false.
   */
  inline?: boolean;
}

/** Where completions go that have no callback. */
export interface Queues {
  /** For the send queue. */
  sendQueue?: CompletionQueue;
  /** For receives. */
  receiveQueue?: CompletionQueue;
  /** Where receives come from: then none can be posted to the queue pair itself. */
  receives?: SharedReceiveQueue;
}

/** Work for the send queue that moves memory. */
export type TransferRequest<Element = Sge> =
  & WorkRequestOptions
  & (
    | { opcode: "send"; local: readonly Element[]; invalidate?: number; solicited?: boolean } & InlineOptions
    | { opcode: "write"; local: readonly Element[]; remote: RemoteMemory } & InlineOptions
    | {
      opcode: "read";
      local: readonly Element[];
      remote: RemoteMemory;
      /** Whether the STag of `local` becomes invalid when the Read is done. */
      invalidateLocal?: boolean;
    }
  );

/** Work for the send queue. */
export type WorkRequest =
  | TransferRequest<LocalSge>
  | WorkRequestOptions
    & (AtomicWork | MemoryWork | { opcode: "immediate"; local?: undefined; data: bigint; solicited?: boolean });

/**
 * Work on steering tags of our own, in order with other work: it waits for what was posted before, and takes effect before what is posted behind it leaves. The STag
 * that "bind" and "register" make is known as soon as the work is posted, so that a Send behind it can carry it; it is valid from then on that the work is done.
 * The one that the window or region had before becomes invalid with it.
 */
export type MemoryWork =
  | ({
    opcode: "bind";
    local?: undefined;
    window: MemoryWindow;
    region: MemoryRegion;
    /** First byte, relative to the region. */
    offset: number;
    length: number;
    access: number;
    /** Whether peers may use it on every connection of the domain, instead of this one only. */
    shared?: boolean;
  } & AddressingOptions)
  | ({ opcode: "register"; local?: undefined; region: MemoryRegion } & Registration)
  | {
    opcode: "invalidateLocal";
    local?: undefined;
    /** Whose STag is to become invalid. The memory of a region remains its owner's, who can register it anew. */
    target: MemoryRegion | MemoryWindow;
  };

/**
 * An atomic operation on the 8 bytes at `remote.address`, a multiple of 8 (RFC 7306 §5). What was there before comes with the completion, and into `local`
 * where that is given, in the byte order of this machine. Masks have all bits set unless given, and none for the carry stops of FetchAdd.
 */
export type AtomicWork =
  & { local?: readonly LocalSge[]; remote: RemoteMemory }
  & (
    | { opcode: "fetchAdd"; add: bigint; mask?: bigint }
    | { opcode: "swap"; swap: bigint; mask?: bigint }
    | { opcode: "compareSwap"; compare: bigint; swap: bigint; mask?: bigint; compareMask?: bigint }
  );

const ALL_BITS = 0xffff_ffff_ffff_ffffn;
const NO_ELEMENTS: readonly LocalSge[] = [];

/** Words of 64 bits. Throws for what is no bigint. */
function words64(...values: readonly bigint[]): readonly bigint[] {
  return values.map((value) => BigInt.asUintN(64, value));
}

function operandsOf(work: AtomicWork): [opcode: number, operands: readonly bigint[]] {
  switch (work.opcode) {
    case "fetchAdd":
      return [WorkOpcode.FetchAdd, words64(work.add, work.mask ?? 0n, 0n, 0n)];
    case "swap":
      return [WorkOpcode.Swap, words64(work.swap, work.mask ?? ALL_BITS, 0n, 0n)];
    case "compareSwap": {
      const { swap, compare, mask = ALL_BITS, compareMask = ALL_BITS } = work;
      return [WorkOpcode.CmpSwap, words64(swap, mask, compare, compareMask)];
    }
  }
}

/**
 * A connected iWARP queue pair (RFC 5040). Memory named in a work request must stay registered until its completion.
 *
 * Completions of the send queue come in the order of posting; a Write or Send is complete when the kernel has taken its last byte, a Read when its last byte has
 * been placed.
 */
export class QueuePair extends Connection {
  /** The domain of the memory that its work and its peer may name. */
  readonly pd: ProtectionDomain;
  /** Where completions of the send queue go that have no callback. */
  readonly sendQueue: CompletionQueue | undefined;
  /** Where completions of receives go that have no callback. */
  readonly receiveQueue: CompletionQueue | undefined;
  /** Whether our first work is to start {@linkcode nudgeUntilHeard}'s timers. */
  #nudges = false;

  /** For the device's use. */
  constructor(device: Device, fields: { tag: number; handle: number; queues: Queues & { pd: ProtectionDomain } }) {
    super(device, fields.tag, fields.handle, fields.queues.receives);
    this.pd = fields.queues.pd;
    this.sendQueue = fields.queues.sendQueue;
    this.receiveQueue = fields.queues.receiveQueue;
  }

  /** Where it is in its life. */
  get state(): QueuePairState {
    return this.phase;
  }

  /** Tells of it. */
  protected override onReadyToSend(): void {
    this.device.tell({ type: "communicationEstablished", queuePair: this });
  }

  /** Tells of it. */
  protected override onEnd(error: RdmaError | undefined): void {
    this.device.tell({ type: endOf(error, this.phase), queuePair: this, error });
    if (this.receives !== undefined) this.device.tell({ type: "lastWorkRequestReached", queuePair: this });
  }

  /** The peer's private data of the MPA start-up. */
  get privateData(): Uint8Array {
    return this.facts.privateData;
  }
  /** RDMA Reads of the peer's that are served at once (IRD). */
  get inboundReadDepth(): number {
    return this.facts.inboundReadDepth;
  }
  /** RDMA Reads of ours that are outstanding at once (ORD); more wait in the queue. */
  get outboundReadDepth(): number {
    return this.facts.outboundReadDepth;
  }
  /** Whether every FPDU carries a CRC. */
  get crc(): boolean {
    return this.facts.crc;
  }

  /**
   * Queues work. It leaves with everything else that is posted in the same batch of completions, or the same turn, or at the next {@linkcode flush} or
   * {@linkcode Device.progress}. Work that is not signalled, or has neither callback nor completion queue, costs no completion, but for work on steering tags.
   *
   * @throws {RdmaError} `Closed` in a {@linkcode state} that takes no work, or `Exhausted` where too much is outstanding
   */
  postSend(work: TransferRequest, done?: Completed): void;
  /** Queues work of any kind, as above. */
  postSend(work: WorkRequest, done?: Completed): void;
  postSend(work: WorkRequest, done: Completed | undefined = this.#toSendQueue(work)): void {
    const { local = NO_ELEMENTS } = work;
    checkElements(local, this.pd);
    if (this.#nudges) this.#startNudging();
    let signal: number = WorkFlag.Signalled;
    if (done === undefined || work.signalled === false) {
      signal = 0;
      done = done && unlessSuccess(done);
    }
    if (work.fence) signal |= WorkFlag.Fence;
    switch (work.opcode) {
      case "send": {
        if (work.inline) return this.#postInline(work, signal, done);
        const flags = signal | (work.invalidate === undefined ? 0 : WorkFlag.Invalidate) |
          (work.solicited ? WorkFlag.Solicited : 0);
        this.begin(WorkOpcode.Send, flags, local.length, done, local, 0, 0n, work.invalidate ?? 0);
        break;
      }
      case "write":
        if (work.inline) return this.#postInline(work, signal, done);
        this.begin(WorkOpcode.Write, signal, local.length, done, local, work.remote.stag, work.remote.address);
        break;
      case "read":
        if (local.length > 1) throw new RangeError("a Read has one sink (RFC 5040 §5.4)");
        this.#needReadDepth();
        if (work.invalidateLocal) signal |= WorkFlag.InvalidateSink;
        this.begin(WorkOpcode.Read, signal, local.length, done, local, work.remote.stag, work.remote.address);
        break;
      case "immediate": {
        const flags = signal | (work.solicited ? WorkFlag.Solicited : 0);
        this.begin(WorkOpcode.Immediate, flags, 0, done, local, 0, BigInt.asUintN(64, work.data));
        return;
      }
      case "bind":
      case "register":
      case "invalidateLocal":
        this.#postMemoryWork(work, signal, done);
        return;
      default: {
        const [opcode, operands] = operandsOf(work);
        if (local.length > 1 || (local.length === 1 && local[0].length !== 8)) {
          throw new RangeError("an atomic operation has one sink of 8 bytes, or none");
        }
        this.#needReadDepth();
        this.begin(opcode, signal, local.length, done, local, work.remote.stag, work.remote.address);
        this.#elements(local);
        this.operands(operands);
        return;
      }
    }
    this.#elements(local);
  }

  #postInline(
    work: TransferRequest<LocalSge> & { opcode: "send" | "write" },
    signal: number,
    done: Completed | undefined,
  ): void {
    const length = work.local.reduce((sum, element) => sum + element.length, 0);
    if (length > INLINE_MAX) throw new RangeError(`at most ${INLINE_MAX} bytes can be inline`);
    const bytes = gather(work.local, length); // may throw, which nothing may between `begin` and `payload`
    let flags = signal | WorkFlag.Inline;
    if (work.opcode === "write") {
      this.begin(WorkOpcode.Write, flags, length, done, undefined, work.remote.stag, work.remote.address);
    } else {
      if (work.invalidate !== undefined) flags |= WorkFlag.Invalidate;
      if (work.solicited) flags |= WorkFlag.Solicited;
      this.begin(WorkOpcode.Send, flags, length, done, undefined, 0, 0n, work.invalidate ?? 0);
    }
    this.payload(bytes);
  }

  /**
   * Has a peer that keeps silent behind our first work look again, by a zero-length Write, which touches no memory. Linux's siw overlooks what arrives while
   * it is still busy with its MPA reply (`siw_accept`), until something more comes: without this both sides may wait for ever.
   *
   * @internal
   */
  nudgeUntilHeard(): void {
    this.#nudges = true;
  }

  #startNudging(): void {
    this.#nudges = false;
    if (this.heard) return;
    const timers = NUDGES_MS.map((delayMs) =>
      setTimeout(() => {
        if (!this.heard && !this.isClosed) this.#nudge();
      }, delayMs)
    );
    timers.forEach(Deno.unrefTimer);
    this.closed.then(() => timers.forEach(clearTimeout));
  }

  /** Nobody hears of it: it is none of the application's work. */
  #nudge(): void {
    try {
      this.postSend({ opcode: "write", local: [], remote: { stag: 0, address: 0n }, signalled: false }, () => {});
    } catch (error) {
      // whoever has that much on its way to the peer needs no more
      if (!(error instanceof RdmaError && error.code === "Exhausted")) throw error;
    }
  }

  #postMemoryWork(work: MemoryWork, flags: number, done: Completed | undefined): void {
    if (this.isClosed) throw this.closedError();
    // in any case: until it is known how the work ended, both the STag before and the one after it are their owner's to revoke
    flags |= WorkFlag.Signalled;
    let change: StagChange | undefined;
    const completed: Completed = (completion) => {
      change?.end(completion.status === "success");
      done?.(completion);
    };
    if (work.opcode === "invalidateLocal") {
      const { target } = work;
      if (!target.live) throw new TypeError("the memory is not registered or bound");
      const isWindow = "unbind" in target;
      this.begin(WorkOpcode.Invalidate, flags, 0, completed, target, target.stag, 0n, Number(isWindow));
      if (isWindow) change = target.unbind();
      return;
    }
    change = work.opcode === "bind"
      ? work.window.bind(work.region, work, { connection: work.shared ? undefined : this, active: false })
      : work.region.renew(work, { active: false });
    const { stag } = work.opcode === "bind" ? work.window : work.region;
    try {
      this.begin(WorkOpcode.Activate, flags, 0, completed, work, stag, 0n, change.old);
    } catch (error) {
      change.end(false);
      throw error;
    }
  }

  #needReadDepth(): void {
    if (this.outboundReadDepth === 0) {
      throw new RdmaError("Invalid", {
        message: "no RDMA Read or atomic operation may be outstanding on this connection",
      });
    }
  }

  /**
   * Queues memory for one incoming Send. Sends fill receives in the order of posting; a Send that finds none, or one too small, ends the connection. Give a
   * callback, or an `id` that the completion in the receive queue will carry.
   */
  postRecv(local: readonly Sge[], done: Completed | { id: unknown }): void {
    checkElements(local, this.pd);
    if (this.receives !== undefined) throw new TypeError("the queue pair takes its receives from a shared queue");
    const callback = typeof done === "function" ? done : this.#toReceiveQueue(done.id);
    this.begin(WorkOpcode.Receive, WorkFlag.Signalled, local.length, callback, local);
    this.#elements(local);
  }

  #toSendQueue({ id, opcode }: WorkRequest): Completed | undefined {
    const queue = this.sendQueue;
    if (queue === undefined) return undefined;
    return (completion) => queue.push({ ...completion, id, opcode, queuePair: this });
  }

  #toReceiveQueue(id: unknown): Completed {
    const queue = this.receiveQueue;
    if (queue === undefined) throw new TypeError("the queue pair has no completion queue for receives");
    return (completion) => queue.push({ ...completion, id, opcode: "receive", queuePair: this });
  }

  #elements(local: readonly LocalSge[]): void {
    for (const { region, offset, length } of local) this.sge(region.stag, region.addressNumber + offset, length);
  }

  /** Sends a message. Rejects with `RdmaError` on failure. */
  send(local: readonly LocalSge[], options: { invalidate?: number; solicited?: boolean } = {}): Promise<void> {
    return this.#promise({ opcode: "send", local, ...options });
  }

  /** RDMA Write: puts local bytes into the peer's memory, without the peer taking part. */
  write(local: readonly LocalSge[], remote: RemoteMemory): Promise<void> {
    return this.#promise({ opcode: "write", local, remote });
  }

  /** RDMA Read: fetches bytes of the peer's memory, without the peer taking part. */
  read(local: readonly LocalSge[], remote: RemoteMemory, options: { invalidateLocal?: boolean } = {}): Promise<void> {
    return this.#promise({ opcode: "read", local, remote, ...options });
  }

  /** Adds to 8 bytes of the peer's, atomically. Resolves to what was there before. */
  fetchAdd(remote: RemoteMemory, add: bigint): Promise<bigint> {
    return this.#atomic({ opcode: "fetchAdd", remote, add });
  }

  /** Exchanges 8 bytes of the peer's, atomically. Resolves to what was there before. */
  swap(remote: RemoteMemory, swap: bigint): Promise<bigint> {
    return this.#atomic({ opcode: "swap", remote, swap });
  }

  /** Exchanges 8 bytes of the peer's if they equal `compare`, atomically. Resolves to what was there before. */
  compareSwap(remote: RemoteMemory, { compare, swap }: { compare: bigint; swap: bigint }): Promise<bigint> {
    return this.#atomic({ opcode: "compareSwap", remote, compare, swap });
  }

  /** Sends 8 bytes that arrive in the completion of a receive of the peer's (RFC 7306 §6). */
  sendImmediate(data: bigint, options: { solicited?: boolean } = {}): Promise<void> {
    return this.#promise({ opcode: "immediate", data, ...options });
  }

  #atomic(work: AtomicWork): Promise<bigint> {
    return new Promise((resolve, reject) => {
      this.postSend(work, (done) => done.status === "success" ? resolve(done.original!) : reject(failure(done.status)));
    });
  }

  #promise(work: WorkRequest): Promise<void> {
    return new Promise((resolve, reject) => {
      this.postSend(work, ({ status }) => status === "success" ? resolve() : reject(failure(status)));
    });
  }

  /** Receives one Send. Rejects with `RdmaError` where the connection ends first. */
  recv(local: readonly Sge[]): Promise<WorkCompletion> {
    return new Promise((resolve, reject) => {
      this.postRecv(local, (done) => done.status === "success" ? resolve(done) : reject(failure(done.status)));
    });
  }
}

/** The event of an end. */
function endOf(error: RdmaError | undefined, state: QueuePairState): AsyncEventType {
  switch (error?.code) {
    case undefined:
      return state === "err" ? "queuePairFatal" : "sendQueueDrained";
    case "Panic":
      return "localCatastrophic";
    case "PeerViolation":
      return isAccessError(error.terminate) ? "accessError" : "requestError";
    default:
      return "queuePairFatal";
  }
}

/** Whether a Terminate tells of memory: RDMAP's remote protection errors, DDP's errors of tagged buffers (RFC 5040 §4.8). */
function isAccessError(terminate: TerminateInfo | undefined): boolean {
  return terminate !== undefined && terminate.layer < 2 && terminate.etype === 1;
}

/** The bytes of a scatter/gather list, `length` altogether. */
function gather(local: readonly LocalSge[], length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const { region, offset, length } of local) {
    const { buffer } = region.bytes;
    if (buffer instanceof ArrayBuffer && buffer.detached) {
      throw new TypeError("the buffer is detached: its bytes cannot be copied");
    }
    bytes.set(region.bytes.subarray(offset, offset + length), at);
    at += length;
  }
  return bytes;
}

/** For work that is not signalled: the engine reports some of it all the same. */
function unlessSuccess(done: Completed): Completed {
  return (completion) => {
    if (completion.status !== "success") done(completion);
  };
}

/** Why work ended that did not succeed. */
export function failure(status: CompletionStatus): RdmaError {
  return new RdmaError(status === "flushed" || status === "success" ? "Flushed" : status);
}

/** Throws for elements that are not whole bytes within a live region of the domain. */
export function checkElements(local: readonly LocalSge[], pd: ProtectionDomain): void {
  let total = 0;
  for (const { region, offset, length } of local) {
    if (!region.live) throw new TypeError("the region is deregistered");
    if (region.pd !== pd) throw new TypeError("the region is of another protection domain");
    const isWhole = Number.isInteger(offset) && Number.isInteger(length);
    if (!(isWhole && offset >= 0 && length >= 0 && offset + length <= region.byteLength)) {
      throw new RangeError("the element is not within its region");
    }
    total += length;
  }
  if (total > 0xffff_ffff) throw new RangeError("a message has at most 2^32 - 1 bytes");
}
