/**
 * Server: faults on standard error, few enough that no peer can fill a disk with them.
 *
 * @module
 */
import type { PeerInfo } from "../rpc/transport.ts";

/** Lines that are printed in one interval; the rest are counted. */
const LINES_MAX = 10;
const INTERVAL_MS = 10_000;

/** Prints faults as lines. */
export class FaultLog {
  readonly #write: (line: string) => void;
  readonly #now: () => number;
  #since = -Infinity;
  #printed = 0;
  #omitted = 0;

  /** `write`: takes a line without its end. `now`: milliseconds that only grow. */
  constructor(options: { write: (line: string) => void; now?: () => number }) {
    this.#write = options.write;
    this.#now = options.now ?? (() => performance.now());
  }

  /** Prints a fault, or counts it where there were many. */
  report(error: unknown, { peer, procedure }: { peer: PeerInfo; procedure?: string }): void {
    const now = this.#now();
    if (now - this.#since >= INTERVAL_MS) {
      if (this.#omitted > 0) this.#write(`${this.#omitted} more faults like these`);
      this.#since = now;
      this.#printed = this.#omitted = 0;
    }
    if (this.#printed++ >= LINES_MAX) {
      this.#omitted++;
      return;
    }
    const from = `${peer.transport} client ${peer.address} port ${peer.port}`;
    this.#write(`${from}${procedure === undefined ? "" : `, ${procedure}`}: ${describe(error)}`);
  }
}

/** What went wrong, on one line, without anything that could steer a terminal. */
function describe(error: unknown): string {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x00-\x1f\x7f-\x9f]+/g, " ");
}
