/**
 * A connection that outlives its connections: when one is lost, a new one is made and every call under way is sent again.
 *
 * A repeated call keeps its xid, so that the server's reply cache answers one that was already carried out (RFC 1813 §4.1,
 * RFC 5531 §9). A server that is gone is tried again with growing pauses until the call's patience ends; one that
 * holds a connection open and answers nothing is treated as gone.
 *
 * @module
 */
import { ProtocolError, RpcError, WireError } from "../../rpc/errors.ts";
import type { Bulk, ClientTransport, RpcRequest, RpcResponse } from "../../rpc/transport.ts";

/** How long calls wait for a server that went away, unless told otherwise. */
export const RETRY_MS = 120_000;
/** A connection on which calls wait and nothing is answered for this long is given up. */
export const SILENCE_MS = 60_000;
/** Pauses between attempts to connect: the first one, and the longest. */
const PAUSE_FIRST_MS = 50;
const PAUSE_MS_MAX = 5_000;
/** One attempt to connect takes no longer than this. */
const DIAL_MS = 15_000;

/** Choices for a transport that reconnects. */
export interface ReconnectingOptions {
  /** Makes a new connection. */
  dial: (signal: AbortSignal) => Promise<ClientTransport>;
  /** How long a call whose connection was lost waits for the server to come back, milliseconds. */
  retryMs?: number;
  /** How long a server may stay silent while calls wait, milliseconds. */
  silenceMs?: number;
}

/** One connection with the calls that wait on it. */
class Connection {
  readonly transport: ClientTransport;
  waiting = 0;
  heardMs = performance.now();
  readonly #watchdog: ReturnType<typeof setInterval>;

  constructor(transport: ClientTransport, silenceMs: number) {
    this.transport = transport;
    const check = () => {
      if (this.waiting > 0 && performance.now() - this.heardMs > silenceMs) void this.end();
    };
    this.#watchdog = setInterval(check, Math.max(10, silenceMs / 4));
    // Its type depends on what else a program imports: a number, or Node's object. This takes both.
    Deno.unrefTimer(this.#watchdog as unknown as number);
    void transport.closed.then(() => clearInterval(this.#watchdog));
  }

  async call(request: RpcRequest): Promise<RpcResponse> {
    if (this.waiting++ === 0) this.heardMs = performance.now();
    try {
      return await this.transport.call(request);
    } finally {
      this.waiting--;
      this.heardMs = performance.now();
    }
  }

  async end(): Promise<void> {
    clearInterval(this.#watchdog);
    await this.transport.close().catch(() => {});
  }
}

/** A `ClientTransport` over one connection after the other. */
export class ReconnectingTransport implements ClientTransport {
  readonly closed: Promise<Error | undefined>;
  readonly #resolveClosed: (error: Error | undefined) => void;
  readonly #dial: (signal: AbortSignal) => Promise<ClientTransport>;
  readonly #retryMs: number;
  readonly #silenceMs: number;
  readonly #closing = new AbortController();
  readonly #xids = new Set<number>();
  #nextXid = crypto.getRandomValues(new Uint32Array(1))[0];
  #connection: Connection;
  #isLost = false;
  #dialing: Promise<void> | undefined;
  #dialers = 0;
  #connections = 1;

  /** Starts on a connection that exists; owns it from now on. */
  constructor(first: ClientTransport, options: ReconnectingOptions) {
    this.#dial = options.dial;
    this.#retryMs = options.retryMs ?? RETRY_MS;
    this.#silenceMs = options.silenceMs ?? SILENCE_MS;
    const { promise, resolve } = Promise.withResolvers<Error | undefined>();
    this.closed = promise;
    this.#resolveClosed = resolve;
    this.#connection = this.#adopt(first);
  }

  get kind(): string {
    return this.#connection.transport.kind;
  }

  /** Whether there is a connection now. */
  get isConnected(): boolean {
    return !this.#isLost;
  }

  /** Connections made so far. A call during which this grew may have been carried out more than once. */
  get connections(): number {
    return this.#connections;
  }

  async call(request: RpcRequest): Promise<RpcResponse> {
    const { signal } = request;
    const xid = this.#takeXid();
    let patienceEndsMs: number | undefined;
    try {
      for (;;) {
        this.#closing.signal.throwIfAborted();
        signal?.throwIfAborted();
        const connection = this.#connection;
        try {
          if (this.#isLost) await this.#reconnect(signal, patienceEndsMs ??= performance.now() + this.#retryMs);
          else return await connection.call({ ...request, xid });
        } catch (error) {
          if (!isConnectionLoss(error) || signal?.aborted || this.#closing.signal.aborted) throw error;
          if (connection === this.#connection) this.#lose(connection);
          patienceEndsMs ??= performance.now() + this.#retryMs;
          if (performance.now() > patienceEndsMs) {
            throw new Deno.errors.TimedOut(`the server has been gone for ${this.#retryMs / 1000} s`, { cause: error });
          }
        }
      }
    } finally {
      this.#xids.delete(xid);
    }
  }

  allocateBulk(lengthBytes: number): Bulk {
    return this.#connection.transport.allocateBulk(lengthBytes);
  }

  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(new ProtocolError("ConnectionLost", "the connection was closed"));
    await this.#connection.end();
    await this.#dialing?.catch(() => {});
    this.#resolveClosed(undefined);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #takeXid(): number {
    for (;;) {
      const xid = this.#nextXid;
      this.#nextXid = (xid + 1) >>> 0;
      if (this.#xids.has(xid)) continue;
      this.#xids.add(xid);
      return xid;
    }
  }

  #adopt(transport: ClientTransport): Connection {
    const connection = new Connection(transport, this.#silenceMs);
    this.#isLost = false;
    void transport.closed.then(() => this.#connection === connection && this.#lose(connection));
    return connection;
  }

  #lose(connection: Connection): void {
    this.#isLost = true;
    void connection.end();
  }

  /** Waits for the next connection, at most until `untilMs`. All waiting calls share the attempts. */
  async #reconnect(signal: AbortSignal | undefined, untilMs: number): Promise<void> {
    this.#dialing ??= this.#keepDialing().finally(() => this.#dialing = undefined);
    const { promise: givenUp, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => reject(new ProtocolError("ConnectionLost", "the server did not come back")),
      Math.max(0, untilMs - performance.now()),
    );
    const abort = () => reject(signal!.reason);
    signal?.addEventListener("abort", abort, { once: true });
    this.#dialers++;
    try {
      await Promise.race([this.#dialing, givenUp]);
    } finally {
      this.#dialers--;
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Tries to connect until it works, nobody waits any more, or this transport is closed. */
  async #keepDialing(): Promise<void> {
    const closing = this.#closing.signal;
    let failure: unknown;
    for (let attempt = 0;; attempt++) {
      if (attempt > 0) await pause(Math.min(PAUSE_MS_MAX, PAUSE_FIRST_MS * 2 ** (attempt - 1)), closing);
      closing.throwIfAborted();
      if (attempt > 0 && this.#dialers === 0) {
        throw new ProtocolError("ConnectionLost", "the server did not come back", { cause: failure });
      }
      const patience = new AbortController();
      const timer = setTimeout(() => patience.abort(new Deno.errors.TimedOut("no answer")), DIAL_MS);
      try {
        const transport = await this.#dial(AbortSignal.any([closing, patience.signal]));
        if (closing.aborted) {
          await transport.close();
          closing.throwIfAborted();
        }
        this.#connection = this.#adopt(transport);
        this.#connections++;
        return;
      } catch (error) {
        closing.throwIfAborted();
        failure = error;
      } finally {
        clearTimeout(timer);
      }
    }
  }
}

/** Whether a call failed for want of a connection, rather than by what the server or the caller did. */
function isConnectionLoss(error: unknown): boolean {
  if (error instanceof ProtocolError) return error.code === "ConnectionLost";
  return !(error instanceof RpcError || error instanceof WireError || error instanceof TypeError ||
    error instanceof RangeError);
}

/** Waits; rejects with the signal's reason when that comes first. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const abort = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}
