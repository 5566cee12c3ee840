/**
 * The marks of a ping-pong of Writes: the last byte of a message tells that it is there.
 *
 * @module
 */

/** Either end of it. */
export class Marks {
  readonly #from: Uint8Array;
  readonly #into: Uint8Array;
  readonly #next: (mark: number) => number;
  #sent: number;
  #seen: number;

  /**
   * `from`: the message that is sent. `into`: where the peer's arrive. `next`: from one mark to the following one. `last`: the mark before the first one; the default
   * is what is there now.
   */
  constructor(from: Uint8Array, into: Uint8Array, { next, last }: { next: (mark: number) => number; last?: number }) {
    this.#from = from;
    this.#into = into;
    this.#next = next;
    this.#seen = last ?? into[into.length - 1];
    this.#sent = this.#seen;
  }

  /** Marks the message that is sent next. */
  mark(): void {
    this.#sent = this.#next(this.#sent);
    this.#from[this.#from.length - 1] = this.#sent;
  }

  /** Whether the peer's next message is there. */
  arrived(): boolean {
    if (Atomics.load(this.#into, this.#into.length - 1) === this.#seen) return false;
    this.#seen = this.#next(this.#seen);
    return true;
  }
}
