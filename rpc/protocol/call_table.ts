/**
 * The calls of a client that wait for their reply, by xid (RFC 5531 §9).
 *
 * @module
 */

/** Calls under way. An xid is never given out twice while its first owner waits. */
export class CallTable<T> {
  readonly #calls = new Map<number, T>();
  #nextXid: number;

  /** `firstXid`: unpredictable by default, so that a restarted client does not meet its former self's cached replies. */
  constructor(firstXid = crypto.getRandomValues(new Uint32Array(1))[0]) {
    this.#nextXid = firstXid >>> 0;
  }

  /** Calls under way. */
  get size(): number {
    return this.#calls.size;
  }

  /** Picks an xid that no call under way has. */
  nextXid(): number {
    for (;;) {
      const xid = this.#nextXid;
      this.#nextXid = (xid + 1) >>> 0;
      if (!this.#calls.has(xid)) return xid;
    }
  }

  /** Enters a call under the xid that `nextXid` gave. */
  add(xid: number, call: T): void {
    this.#calls.set(xid, call);
  }

  /** The call with this xid, left where it is. */
  get(xid: number): T | undefined {
    return this.#calls.get(xid);
  }

  /** Takes a call out; `undefined` where there is none (any more). */
  take(xid: number): T | undefined {
    const call = this.#calls.get(xid);
    if (call !== undefined) this.#calls.delete(xid);
    return call;
  }

  /** Takes every call out, oldest first. */
  drain(): T[] {
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    return calls;
  }
}
