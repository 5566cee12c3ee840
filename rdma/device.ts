/**
 * Devices: an instance of the engine, where everything else of the verbs begins.
 *
 * @module
 */
import {
  CONGESTIONS,
  COUNTERS,
  EntryKind,
  LIMITS_WORDS,
  MULPDU_SEGMENT,
  PeerToPeer,
  SETTINGS_WORDS,
  SettingsFlag,
} from "./_ffi/layout.ts";
import { type Native, openLibrary } from "./_ffi/library.ts";
import { type AsyncEvent, AsyncEvents } from "./async_events.ts";
import { CompletionQueue, type CompletionQueueOptions } from "./completion_queue.ts";
import { type Connection, readFacts } from "./connection.ts";
import { check, codeOf, RdmaError, startupError } from "./errors.ts";
import { checkPrivateData, ConnectionRequest, Listener, type ListenOptions, type StartupOptions } from "./listener.ts";
import { endRegistrations } from "./memory_region.ts";
import { MemoryHold } from "./memory_hold.ts";
import { ProtectionDomain } from "./protection_domain.ts";
import { checkPolling, type PollingOptions, Pump, type RingEntry } from "./pump.ts";
import { QueuePair, type Queues } from "./queue_pair.ts";
import { SharedReceiveQueue, type SharedReceiveQueueOptions } from "./shared_receive_queue.ts";
import { Stream } from "./stream.ts";

/** RDMA Read depths that are offered unless told otherwise. */
const READ_DEPTH = 64;
/** The largest that MPA can state (RFC 6581 §9). */
const READ_DEPTH_MAX = 0x3ffe;
/** The smallest MULPDU that there may be (RFC 5044 §4.5). */
const MULPDU_MIN = 128;
/** The largest that a length field can state (RFC 5044 §4.1). */
const MULPDU_MAX = 65_535;

/** The longest that one call may spin, microseconds. */
const SPIN_MAX_US = 1_000_000;

/** What the engine counts. Each number only grows, but for `regions` and `liveConnections`: how many there are now, in whatever state. */
export type DeviceCounters = Record<typeof COUNTERS[number], number>;

/** How a device is opened. */
export interface DeviceOptions {
  /** The native library; the default is what `WEFT_LIBRARY` names, else what was built. */
  libraryPath?: string;
  /** How it waits for completions. */
  polling?: PollingOptions;
}

/** Where to connect to. */
export interface ConnectOptions extends StartupOptions, Queues {
  /** Name or address of the peer. */
  hostname: string;
  /** Its port. */
  port: number;
  /** Ask for MPA peer-to-peer mode (RFC 6581), so that either side may speak first. Default: true. */
  peerToPeer?: boolean;
  /** The MPA revision to ask for. The default: 2, and 1 on a second connection where the peer answers that it speaks no other (RFC 6581 §6). */
  revision?: 1 | 2;
  /** How long TCP may take to connect, milliseconds, over all addresses of the name, which share it; the default is 10 seconds. */
  connectTimeoutMs?: number;
  /** How long the peer may take to answer the MPA request, milliseconds; the default is 5 seconds. */
  replyTimeoutMs?: number;
  /** Called before anything can arrive: the place to post receives. */
  onReady?: (qp: QueuePair) => void;
  /** Ends the attempt. */
  signal?: AbortSignal;
}

/**
 * An instance of the core, with a background thread that serves the peers' one-sided operations while JavaScript is busy or asleep.
 *
 * The event loop stays alive while there is a connection or a listener.
 */
export class Device implements AsyncDisposable {
  /**
   * The engine's functions. For the classes of this directory.
   *
   * @internal
   */
  readonly native: Native;
  /** The engine's handle. */
  readonly handle: number;
  /** Scratch space for results of native calls. */
  readonly out: Float64Array<ArrayBuffer> = new Float64Array(4);
  readonly #pump: Pump;
  readonly #endpoints: (Connection | SharedReceiveQueue | ListenOptions | undefined)[] = [undefined];
  readonly #freeTags: number[] = [];
  readonly #listeners = new Map<number, Listener>();
  readonly #events = new Set<AsyncEvents>();
  /**
   * Keeps the memory of registered buffers. For protection domains.
   *
   * @internal
   */
  readonly hold: MemoryHold = new MemoryHold(endRegistrations);
  readonly #shared = new Set<SharedReceiveQueue>();
  readonly #dirty: { flush(): void }[] = [];
  #flushScheduled = false;
  #inBatch = false;
  readonly #domains = new Set<ProtectionDomain>();
  #domainCount = 0;
  #queueCount = 0;
  #open = true;
  /** Set once it is being closed: nothing new may begin. */
  #closing: Promise<void> | undefined;
  /** Those that somebody waits for. */
  readonly #awaited = new Set<CompletionQueue>();

  private constructor(native: Native, polling: PollingOptions | undefined) {
    this.native = native;
    check(native.weft_device_open(this.out));
    const [handle, ringAddress, ringBytes] = this.out;
    this.handle = handle;
    this.#pump = new Pump(native, {
      handle,
      ringAddress,
      ringBytes,
      polling,
      handler: (entry) => this.#handle(entry),
      batchEnd: () => this.#flush(),
    });
  }

  /** Opens a device. The native library is loaded at the first one. Throws `RangeError` for polling that cannot be done. */
  static open(options: DeviceOptions = {}): Device {
    checkPolling(options.polling ?? {});
    return new Device(openLibrary(options.libraryPath), options.polling);
  }

  /** What happens from now on beside completions, to be iterated over. Several streams have the same events each. */
  events(): AsyncEvents {
    const events = new AsyncEvents(() => this.#events.delete(events));
    this.usable().#events.add(events);
    return events;
  }

  /** Something has happened. For the classes of this directory. */
  tell(event: AsyncEvent): void {
    for (const events of this.#events) events.push(event);
  }

  /** Whether there is something of it still: until its connections have ended, when it is closed. */
  get open(): boolean {
    return this.#open;
  }

  /** Whether it is closed, or is being closed. */
  get closing(): boolean {
    return this.#closing !== undefined;
  }

  /** Itself, where something new may begin. Throws `TypeError` where it is closed, or is being closed. */
  usable(): this {
    if (this.#closing !== undefined) throw new TypeError("the device is closed");
    return this;
  }

  #whileOpen(): this {
    if (!this.#open) throw new TypeError("the device is closed");
    return this;
  }

  /** A new protection domain. */
  allocateProtectionDomain(): ProtectionDomain {
    return new ProtectionDomain(this.usable(), ++this.#domainCount);
  }

  /** Notes whether a domain has regions. For the domain. */
  track(domain: ProtectionDomain, hasRegions: boolean): void {
    if (hasRegions) this.#domains.add(domain);
    else this.#domains.delete(domain);
  }

  /** A completion queue, for work whose completions are polled instead of called back. */
  createCompletionQueue(options: CompletionQueueOptions = {}): CompletionQueue {
    return new CompletionQueue(this.usable(), ++this.#queueCount, options);
  }

  /** Notes whether somebody waits for a completion queue. For the queue. */
  trackAwaited(queue: CompletionQueue, isAwaited: boolean): void {
    if (isAwaited) this.#awaited.add(queue);
    else this.#awaited.delete(queue);
  }

  /** A queue of receives that several queue pairs use. */
  createSharedReceiveQueue(options: SharedReceiveQueueOptions): SharedReceiveQueue {
    return new SharedReceiveQueue(this.usable(), options);
  }

  /** Has entries with `tag` delivered to a shared receive queue. For the queue. */
  attachShared(tag: number, queue: SharedReceiveQueue): void {
    this.#endpoints[tag] = queue;
    this.#shared.add(queue);
  }

  /** Forgets a shared receive queue. For the queue. */
  releaseShared(tag: number, queue: SharedReceiveQueue): void {
    // The tag stays taken: an event that is in the ring may still name it.
    this.#endpoints[tag] = undefined;
    this.#shared.delete(queue);
  }

  /**
   * Hands on what was posted, takes what completions there are, and calls back for them. Returns how many there were.
   *
   * @param spinMicros how long to poll for one in the core before giving up, microseconds: sooner than by calling again and again. Ends early, too, when payload has
   * come: a program that looks for an RDMA Write looks then. Nothing else of this thread runs meanwhile.
   */
  progress(spinMicros: number = 0): number {
    if (!(spinMicros >= 0 && spinMicros <= SPIN_MAX_US)) throw new RangeError(`it spins for 0 to ${SPIN_MAX_US} µs`);
    if (this.#dirty.length > 0) this.#flush();
    return this.#whileOpen().#pump.poll(spinMicros * 1000);
  }

  /**
   * The same, but asleep until there is a completion, for at most `micros` microseconds. Nothing else of this thread runs meanwhile: for programs that
   * have nothing else to do, which it wakes sooner than the event loop does.
   */
  wait(micros: number): number {
    if (!(micros >= 1)) return this.progress();
    if (this.#dirty.length > 0) this.#flush();
    return this.#whileOpen().#pump.wait(micros);
  }

  /** Everything counted so far. */
  counters(): DeviceCounters {
    const values = new Float64Array(COUNTERS.length);
    check(this.#whileOpen().native.weft_counters(this.handle, values, values.length));
    return Object.fromEntries(COUNTERS.map((name, i) => [name, values[i]])) as DeviceCounters;
  }

  /** Encodes connection settings for the engine. */
  settings(
    options: Partial<Omit<ConnectOptions, "hostname" | "port">> & { stream?: boolean },
  ): Uint32Array<ArrayBuffer> {
    if (options.pd !== undefined && options.pd.device !== this) {
      throw new TypeError("the protection domain belongs to another device");
    }
    for (const depth of [options.inboundReadDepth ?? 0, options.outboundReadDepth ?? 0]) {
      if (!Number.isInteger(depth) || depth < 0 || depth > READ_DEPTH_MAX) {
        throw new RangeError(`a read depth is a number from 0 to ${READ_DEPTH_MAX}`);
      }
    }
    const words = new Uint32Array(SETTINGS_WORDS);
    words[0] = options.stream ? 1 : 0;
    words[1] = options.crc === undefined ? 2 : Number(options.crc);
    words[2] = options.pd?.id ?? 0;
    words[3] = options.inboundReadDepth ?? READ_DEPTH;
    words[4] = options.outboundReadDepth ?? READ_DEPTH;
    words[5] = PeerToPeer[options.peerToPeer === false ? "no" : options.readyToReceive ?? "any"];
    words[6] = options.revision ?? 0;
    const { receives } = options;
    if (receives !== undefined) {
      if (!receives.live || receives.pd !== options.pd) {
        throw new TypeError("the shared receive queue is closed, or of another protection domain");
      }
      words[7] = receives.handle >>> 0;
      words[8] = receives.handle / 2 ** 32;
    }
    const solicitedOnly = options.solicitedOnly ?? (receives ?? options).receiveQueue?.solicitedOnly ?? false;
    words[9] = (solicitedOnly ? SettingsFlag.SolicitedOnly : 0) | (options.markers ? SettingsFlag.Markers : 0);
    const { mulpdu = 0, congestion = "suitable" } = options;
    if (
      mulpdu !== 0 && mulpdu !== "mss" && !(Number.isInteger(mulpdu) && mulpdu >= MULPDU_MIN && mulpdu <= MULPDU_MAX)
    ) {
      throw new RangeError(`the MULPDU is a number from ${MULPDU_MIN} to ${MULPDU_MAX}, or "mss"`);
    }
    words[10] = mulpdu === "mss" ? MULPDU_SEGMENT : mulpdu;
    words[11] = CONGESTIONS.indexOf(congestion);
    words[12] = checkTimeout(options.connectTimeoutMs);
    words[13] = checkTimeout(options.replyTimeoutMs);
    const queues = [options.sendQueue, (receives ?? options).receiveQueue];
    queues.forEach((queue, i) => {
      if (queue === undefined) return;
      if (queue.device !== this) throw new TypeError("the completion queue belongs to another device");
      words.set(queue.terms, 14 + 3 * i);
    });
    return words;
  }

  /**
   * Connects by iWARP. Rejects with {@linkcode RdmaError}: `ConnectionRefused`, `Unreachable`, `TimedOut`, `NotIwarp`, `Rejected` (with the peer's private
   * data), `Incompatible`; with the signal's reason when aborted; with what `onReady` throws, and the connection is aborted then.
   */
  async connect(options: ConnectOptions): Promise<QueuePair> {
    // a copy: the caller may use its memory again before there is something to send it with
    const privateData = checkPrivateData(options.privateData, { revision: options.revision ?? 2 }).slice();
    const settings = this.settings({ ...options });
    await this.hold.begin();
    const queuePair = await this.#connect(
      options,
      settings,
      privateData,
      (tag, handle) => new QueuePair(this, { tag, handle, queues: options }),
    );
    queuePair.nudgeUntilHeard();
    return queuePair;
  }

  /** Connects by plain TCP. Rejects as {@linkcode connect} does. */
  async connectStream(options: { hostname: string; port: number; signal?: AbortSignal }): Promise<Stream> {
    const settings = this.settings({ stream: true });
    return await this.#connect(options, settings, new Uint8Array(0), (tag, handle) => new Stream(this, tag, handle));
  }

  async #connect<C extends Connection>(
    options: Pick<ConnectOptions, "hostname" | "port" | "signal" | "congestion"> & {
      onReady?: (qp: C & QueuePair) => void;
    },
    settings: Uint32Array<ArrayBuffer>,
    privateData: Uint8Array,
    make: (tag: number, handle: number) => C,
  ): Promise<C> {
    const { signal } = options;
    signal?.throwIfAborted();
    checkPort(options.port);
    const { native, handle, out } = this.usable();
    const tag = this.reserve();
    const host = new TextEncoder().encode(options.hostname);
    const status = native.weft_connect(
      handle,
      host,
      host.byteLength,
      options.port,
      tag,
      settings,
      privateData as Uint8Array<ArrayBuffer>,
      privateData.byteLength,
      out,
    );
    if (status < 0) {
      this.unreserve(tag);
      throw startupError(status, options);
    }
    const connection = make(tag, out[0]);
    this.attach(tag, connection);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    connection.established = (error) => {
      connection.established = undefined;
      if (error !== undefined) return reject(error);
      try {
        options.onReady?.(connection as C & QueuePair);
        signal?.throwIfAborted();
      } catch (error) {
        connection.abort();
        return reject(error);
      }
      connection.start(options.onReady !== undefined);
      resolve();
    };
    const abort = () => connection.abort();
    signal?.addEventListener("abort", abort, { once: true });
    this.kick();
    try {
      await promise;
      signal?.throwIfAborted(); // between the outcome and now: the connection is none to be given away
    } catch (error) {
      signal?.throwIfAborted();
      throw error instanceof RdmaError && error.message.length > 0
        ? new RdmaError(error.code, {
          message: `cannot connect to ${options.hostname}:${options.port}: ${error.message}`,
          privateData: error.privateData,
        })
        : error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
    return connection;
  }

  /**
   * Listens for iWARP and plain TCP on one port.
   *
   * @throws {Deno.errors.AddrInUse | Deno.errors.PermissionDenied | RdmaError}
   */
  listen(options: ListenOptions): Listener {
    checkPort(options.port);
    const { native, handle, out } = this.usable();
    const hostname = options.hostname ?? "127.0.0.1";
    const host = new TextEncoder().encode(hostname === "localhost" ? "127.0.0.1" : hostname);
    const limits = encodeLimits(options);
    const tag = this.reserve();
    const status = native.weft_listen(handle, host, host.byteLength, options.port, tag, limits, out);
    if (status < 0) {
      this.unreserve(tag);
      throw listenError(status, native.weft_last_errno(), `${hostname}:${options.port}`);
    }
    this.#endpoints[tag] = options;
    this.#pump.ref();
    const listener = new Listener(this, { hostname, port: out[1], tag, handle: out[0] });
    this.#listeners.set(tag, listener);
    void this.hold.begin();
    this.tell({ type: "portActive", listener });
    return listener;
  }

  /** For {@linkcode Listener.close}. */
  releaseListener(tag: number, handle: number): void {
    if (this.#open) this.native.weft_listener_close(handle);
    this.#listeners.delete(tag);
    // The tag stays taken: requests that are in the ring still name it.
    this.#endpoints[tag] = undefined;
    this.#pump.unref();
  }

  /** Takes a number for a connection or listener. */
  reserve(): number {
    return this.#freeTags.pop() ?? this.#endpoints.push(undefined) - 1;
  }

  /** Gives a number back that was never used. */
  unreserve(tag: number): void {
    this.#freeTags.push(tag);
  }

  /** Has entries with `tag` delivered to a connection, which keeps the event loop alive. */
  attach(tag: number, connection: Connection): void {
    this.#endpoints[tag] = connection;
    this.#pump.ref();
  }

  /** Forgets a connection that has ended. */
  release(tag: number, handle: number): void {
    this.#endpoints[tag] = undefined;
    this.#freeTags.push(tag);
    this.native.weft_release(handle);
    this.#pump.unref();
  }

  /** A connection or shared queue has work to hand to the engine at the end of this batch, or turn. */
  dirty(connection: { flush(): void }): void {
    this.#dirty.push(connection);
    if (this.#inBatch || this.#flushScheduled) return;
    this.#flushScheduled = true;
    queueMicrotask(() => {
      this.#flushScheduled = false;
      this.#flush();
      // completions are due soon: poll for a while
      this.#pump.kick();
    });
  }

  /** Something was done that has consequences in the ring. */
  kick(): void {
    this.#pump.kick();
  }

  /** Work went to a peer, who may answer soon. */
  expectAnswer(): void {
    this.#pump.expectAnswer();
  }

  #flush(): void {
    this.#inBatch = false;
    const dirty = this.#dirty;
    for (let i = 0; i < dirty.length; i++) dirty[i].flush();
    dirty.length = 0;
  }

  #handle(entry: RingEntry): void {
    this.#inBatch = true;
    const endpoint = this.#endpoints[entry.tag];
    switch (entry.kind) {
      case EntryKind.Request: {
        const { onRequest } = (endpoint ?? {}) as ListenOptions;
        const facts = readFacts(this, entry.aux);
        if (facts === undefined) break; // the peer has gone already
        const request = new ConnectionRequest(this, entry.aux, facts);
        if (onRequest === undefined || this.#closing !== undefined) request.reject();
        else if (this.hold.begun) onRequest(request);
        else void this.hold.begin().then(() => onRequest(request)).catch(reportError);
        break;
      }
      case EntryKind.Port:
        this.tell({ type: entry.status === 0 ? "portActive" : "portError", listener: this.#listeners.get(entry.tag) });
        break;
      case EntryKind.Stream:
        this.#acceptStream(entry.aux, (endpoint ?? {}) as ListenOptions);
        break;
      default:
        (endpoint as Connection | SharedReceiveQueue | undefined)?.handleEntry(entry);
    }
  }

  #acceptStream(handle: number, { onStream }: ListenOptions): void {
    if (onStream === undefined || this.#closing !== undefined) {
      this.native.weft_reject(handle, new Uint8Array(0), 0);
      return;
    }
    const tag = this.reserve();
    const stream = new Stream(this, tag, handle);
    if (this.native.weft_accept(handle, tag, this.settings({ stream: true }), new Uint8Array(0), 0) < 0) {
      this.unreserve(tag);
      this.native.weft_release(handle);
      return;
    }
    this.attach(tag, stream);
    onStream(stream);
  }

  /** Closes every listener, resets every connection and ends the background thread. Nothing new can begin from now on. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    await undefined; // `#closing` is to be set before anything is ended
    for (const listener of this.#listeners.values()) await listener.close();
    const ends: Promise<unknown>[] = [];
    for (const endpoint of this.#endpoints) {
      if (endpoint !== undefined && "abort" in endpoint) {
        endpoint.abort();
        ends.push(endpoint.closed);
      }
    }
    this.#pump.poll(0);
    await Promise.all(ends);
    for (const queue of this.#shared) queue[Symbol.dispose]();
    // Memory of the engine's goes with the device: what is left of it must not be seen any more.
    for (const domain of this.#domains) domain[Symbol.dispose]();
    for (const events of this.#events) void events.return();
    for (const queue of [...this.#awaited]) queue.deviceClosed();
    this.#open = false;
    this.#pump.close();
    this.native.weft_device_close(this.handle);
    await this.hold.close();
  }

  /** The same as {@linkcode close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Milliseconds as the engine has them: 0 stands for what is usual. */
function checkTimeout(timeoutMs: number | undefined): number {
  if (timeoutMs === undefined) return 0;
  if (!(timeoutMs > 0 && timeoutMs <= 0xffff_ffff)) {
    throw new RangeError("a time-out is a positive number of milliseconds");
  }
  return Math.ceil(timeoutMs);
}

/** A listener's limits as the engine has them. */
function encodeLimits({ requestTimeoutMs, startingMax, protectionErrors }: ListenOptions): Uint32Array<ArrayBuffer> {
  for (const count of [startingMax, protectionErrors?.max]) {
    if (count !== undefined && !(Number.isInteger(count) && count > 0 && count <= 0xffff_ffff)) {
      throw new RangeError("a limit is a positive number");
    }
  }
  const words = new Uint32Array(LIMITS_WORDS);
  words[0] = checkTimeout(requestTimeoutMs);
  words[1] = startingMax ?? 0;
  words[2] = protectionErrors?.max ?? 0;
  words[3] = checkTimeout(protectionErrors?.periodMs);
  return words;
}

function checkPort(port: number): void {
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new RangeError("a port is a number from 0 to 65535");
}

function listenError(status: number, errno: number, address: string): Error {
  const code = codeOf(status);
  if (code !== "System") { // `errno` is of another failure
    const why = code === "Invalid" ? "that is no IP address" : new RdmaError(code).message;
    return new RdmaError(code, { message: `cannot listen on ${address}: ${why}` });
  }
  switch (errno) {
    case 98:
      return new Deno.errors.AddrInUse(`cannot listen on ${address}: address already in use`);
    case 99:
      return new Deno.errors.AddrNotAvailable(`cannot listen on ${address}: no such address on this host`);
    case 13:
      return new Deno.errors.PermissionDenied(`cannot listen on ${address}: permission denied`);
    default:
      return new RdmaError(code, { message: `cannot listen on ${address} (errno ${errno})` });
  }
}
