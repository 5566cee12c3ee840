/**
 * Listeners, and the requests that they bring.
 *
 * @module
 */
import type { ConnectionFacts } from "./connection.ts";
import type { Device } from "./device.ts";
import { codeOf, RdmaError, startupError } from "./errors.ts";
import type { ProtectionDomain } from "./protection_domain.ts";
import { QueuePair, type Queues } from "./queue_pair.ts";
import type { Stream } from "./stream.ts";

/** How a listener is set up. */
export interface ListenOptions {
  /** An IP address; the default is 127.0.0.1. */
  hostname?: string;
  /** 0: any free port. */
  port: number;
  /** How long a peer that connects may take to say what it wants, milliseconds; the default is 10 seconds. */
  requestTimeoutMs?: number;
  /** How many peers may be at that at once; who comes then takes the place of the one that has been at it for the longest time. The default is 1024. */
  startingMax?: number;
  /**
   * Keeps addresses away whose peers try what they may not, such as guessing steering tags (RFC 5042 §6.1.1): after `max` refused accesses to memory, each of which
   * has cost a connection, more connections of the address are closed at once until `periodMs` after the first of them. An IPv6 address stands for its
   * /64. The default: nobody is kept away.
   */
  protectionErrors?: { max: number; periodMs: number };
  /** A peer asks for an iWARP connection: accept or reject it, now or later. Without this they are rejected. */
  onRequest?: (request: ConnectionRequest) => void;
  /** A peer opened a plain TCP connection. Without this they are closed. */
  onStream?: (stream: Stream) => void;
}

/** MPA start-up, from either side. */
export interface StartupOptions {
  /** The domain of the queue pair: memory of others cannot be reached through it. */
  pd: ProtectionDomain;
  /** For the peer; at most 508 bytes, or 512 in MPA revision 1: where `revision` asks for that, or the peer did. */
  privateData?: Uint8Array;
  /** Whether to ask for CRCs. The default: with other hosts only. */
  crc?: boolean;
  /**
   * Whether to ask the peer for markers in what it sends (RFC 5044 §4.3), which costs both sides; a peer that asks for them gets them in any case. Linux's siw refuses
   * them. Default: false.
   */
  markers?: boolean;
  /** RDMA Reads of the peer's to serve at once. */
  inboundReadDepth?: number;
  /** RDMA Reads of ours to have outstanding. */
  outboundReadDepth?: number;
  /**
   * The only ready-to-receive message to offer in peer-to-peer mode, or the one to pick where a peer offers it (RFC 6581 §9). The default: Write, else Read, and
   * Send where nothing else is offered; a side that serves no Reads takes a Send before a Read. Neither side's application sees it.
   */
  readyToReceive?: "send" | "write" | "read";
  /**
   * Receives wake a sleeping JavaScript only where the peer asked for it by Solicited Event, or they fail (RFC 5040 §5.3); the others are there at its next wake-up.
   */
  solicitedOnly?: boolean;
  /**
   * The largest ULPDU to send, 128 to 65,535 bytes, or "mss" for an FPDU that is one segment of TCP's (RFC 5044 §4.5). The default: the largest there is within this
   * host; to others what makes an FPDU as many whole segments as 16 KiB have room for.
   */
  mulpdu?: number | "mss";
  /**
   * TCP's congestion control. "suitable", the default, is cubic within this host and the system's choice elsewhere. The start-up is refused with `Invalid` where the
   * system has not got it.
   */
  congestion?: Congestion;
}

/** TCP's congestion control: by name, "system" for the system's choice, "suitable" for what serves the connection best. */
export type Congestion = "suitable" | "system" | "cubic" | "reno" | "bbr" | "dctcp";

/** The most private data of an MPA frame (RFC 5044 §7.1.1), and what revision 2 takes of it for the read depths (RFC 6581 §9). */
const PRIVATE_DATA_MAX = 512;
const ENHANCED_BYTES = 4;

/** Private data that fits in an MPA frame, or none. @throws {RangeError} */
export function checkPrivateData(
  bytes: Uint8Array = new Uint8Array(0),
  options: { revision: number },
): Uint8Array<ArrayBuffer> {
  const most = options.revision === 1 ? PRIVATE_DATA_MAX : PRIVATE_DATA_MAX - ENHANCED_BYTES;
  if (bytes.byteLength > most) {
    throw new RangeError(
      `${bytes.byteLength} bytes of private data: MPA revision ${options.revision} has at most ${most}`,
    );
  }
  return bytes as Uint8Array<ArrayBuffer>;
}

/** A listening port that takes iWARP and plain TCP. */
export class Listener implements AsyncDisposable {
  /** The address listened on. */
  readonly hostname: string;
  /** The port. */
  readonly port: number;
  readonly #device: Device;
  readonly #tag: number;
  readonly #handle: number;
  #closed = false;

  /** Use {@linkcode Device.listen}. */
  constructor(device: Device, options: { hostname: string; port: number; tag: number; handle: number }) {
    this.#device = device;
    this.hostname = options.hostname;
    this.port = options.port;
    this.#tag = options.tag;
    this.#handle = options.handle;
  }

  /** Stops listening. Connections that it brought go on. */
  close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#device.releaseListener(this.#tag, this.#handle);
    }
    return Promise.resolve();
  }

  /** The same as {@linkcode close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A peer's wish for an iWARP connection. */
export class ConnectionRequest {
  readonly #device: Device;
  readonly #handle: number;
  readonly #facts: ConnectionFacts;
  #answered = false;

  /** For the device's use. */
  constructor(device: Device, handle: number, facts: ConnectionFacts) {
    this.#device = device;
    this.#handle = handle;
    this.#facts = facts;
  }

  /** What the peer sent with it. */
  get privateData(): Uint8Array {
    return this.#facts.privateData;
  }
  /** The peer's address. */
  get remoteAddress(): string {
    return this.#facts.remoteAddress;
  }
  /** The peer's port. */
  get remotePort(): number {
    return this.#facts.remotePort;
  }

  /**
   * Accepts. `onReady` is called with the queue pair before anything can arrive on it: the place to post receives. Rejects with what it throws, and the connection
   * is aborted then.
   *
   * @throws {RdmaError} `Closed` where the peer has gone meanwhile, or the device is being closed; `Invalid` for a congestion control that the system has not got:
   * the peer is rejected
   */
  accept(options: StartupOptions & Queues & { onReady?: (qp: QueuePair) => void }): Promise<QueuePair> {
    const device = this.#device;
    const settings = device.settings(options);
    const privateData = checkPrivateData(options.privateData, this.#facts);
    this.#answer();
    if (device.closing) {
      if (device.open) this.#refuse();
      return gone("the device is closed");
    }
    const tag = device.reserve();
    const qp = new QueuePair(device, { tag, handle: this.#handle, queues: options });
    const status = device.native.weft_accept(this.#handle, tag, settings, privateData, privateData.byteLength);
    if (status < 0) {
      device.unreserve(tag);
      options.receives?.detach();
      const code = codeOf(status);
      if (code !== "Closed" && code !== "BadHandle") {
        this.#refuse();
        return Promise.reject(startupError(status, options));
      }
      device.native.weft_release(this.#handle);
      return gone("the peer has gone");
    }
    device.attach(tag, qp);
    try {
      options.onReady?.(qp);
    } catch (error) {
      qp.abort();
      return Promise.reject(error);
    }
    qp.start(options.onReady !== undefined);
    device.kick();
    return Promise.resolve(qp);
  }

  /** Refuses, with private data for the peer: as much as {@linkcode StartupOptions} allows. @throws {RangeError} */
  reject(privateData?: Uint8Array): void {
    const bytes = checkPrivateData(privateData, this.#facts);
    this.#answer();
    this.#refuse(bytes);
  }

  #refuse(bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0)): void {
    // a peer that has gone meanwhile needs no answer
    this.#device.native.weft_reject(this.#handle, bytes, bytes.byteLength);
  }

  #answer(): void {
    if (this.#answered) throw new TypeError("the request was answered already");
    this.#answered = true;
  }
}

/** What becomes of an acceptance that comes too late, which must not end a process that accepts without looking back. */
function gone(message: string): Promise<never> {
  const rejection = Promise.reject(new RdmaError("Closed", { message }));
  rejection.catch(() => {});
  return rejection;
}
