/**
 * Server: the connections that there are, their number bounded, and how they end.
 *
 * @module
 */
import type { IncomingCall, ServerTransport } from "../rpc/transport.ts";

/** Connections taken at once, by default. */
export const CONNECTIONS_MAX = 256;

interface Connection {
  readonly transport: ServerTransport;
  /** Which call of all connections its last one was; 0: it has not called yet. */
  lastCall: number;
}

/**
 * Keeps the connections of a server. One more than there may be costs the place of the one that has been silent for longest, as the
 * Linux server does it: a client that loses an idle connection opens another when it needs it.
 */
export class Connections {
  readonly #open = new Map<ServerTransport, Connection>();
  readonly #max: number;
  readonly #onCall: (call: IncomingCall) => void;
  #calls = 0;

  /** `onCall`: takes every call of every connection. */
  constructor(options: { max?: number; onCall: (call: IncomingCall) => void }) {
    this.#max = options.max ?? CONNECTIONS_MAX;
    if (!(this.#max >= 1)) throw new RangeError("a server needs at least one connection");
    this.#onCall = options.onCall;
  }

  /** How many there are. */
  get size(): number {
    return this.#open.size;
  }

  /** Serves a connection until it ends. */
  add(transport: ServerTransport): void {
    if (this.#open.size >= this.#max) this.#dropIdlest();
    const connection: Connection = { transport, lastCall: 0 };
    this.#open.set(transport, connection);
    transport.onCall = (call) => {
      connection.lastCall = ++this.#calls;
      this.#onCall(call);
    };
    transport.closed.then(() => this.#open.delete(transport));
  }

  /** Has every connection answer the calls that it has taken, and closes it. */
  async close(): Promise<void> {
    await Promise.all([...this.#open.keys()].map((transport) => transport.close()));
  }

  #dropIdlest(): void {
    let idlest: Connection | undefined;
    for (const connection of this.#open.values()) {
      if (idlest === undefined || connection.lastCall < idlest.lastCall) idlest = connection;
    }
    if (idlest === undefined) return;
    this.#open.delete(idlest.transport);
    // What it was still asked is answered; how it ends is told by `closed`.
    idlest.transport.close().catch(() => {});
  }
}
