/**
 * Work queues: what was posted to one direction of a connection, in order, until it is done.
 *
 * @module
 */
import type { Completed } from "./connection.ts";

/** Work of one direction that may be outstanding; the engine has the same limit. */
export const WORK_MAX = 16 * 1024;

/** Places of a new queue; it doubles as it must. */
const CAPACITY = 16;

/**
 * A ring of posted work. Work of one direction is done in the order of posting, so the completion of one request also ends those in front of it that nobody
 * reported: they were unsignalled, and have succeeded.
 *
 * Requests are numbered from 0 and wrap at 2^32; numbers are kept as signed 32-bit integers.
 */
export class WorkQueue {
  #done: (Completed | undefined)[] = new Array(CAPACITY).fill(undefined);
  /** Keeps memory alive until the work is done. */
  #memory: unknown[] = new Array(CAPACITY).fill(undefined);
  #mask = CAPACITY - 1;
  #base = 0;
  #next = 0;
  #handed = 0;

  /** How much is outstanding. */
  get length(): number {
    return (this.#next - this.#base) >>> 0;
  }

  /** Appends work; returns its number. */
  push(done: Completed | undefined, memory: unknown): number {
    if (this.length > this.#mask) this.#grow();
    const number = this.#next;
    const at = number & this.#mask;
    this.#done[at] = done;
    this.#memory[at] = memory;
    this.#next = (number + 1) | 0;
    return number;
  }

  /** Ends the work of this number, and all in front of it. Returns what is to be called; `undefined` also for work that is not outstanding. */
  take(number: number): Completed | undefined {
    if (((number - this.#base) >>> 0) >= this.length) return undefined;
    const mask = this.#mask;
    const done = this.#done[number & mask];
    const end = (number + 1) | 0;
    for (let each = this.#base; each !== end; each = (each + 1) | 0) {
      this.#done[each & mask] = undefined;
      this.#memory[each & mask] = undefined;
    }
    this.#base = end;
    return done;
  }

  /** Everything that waits has been handed to the engine. Returns whether anything did. */
  hand(): boolean {
    if (this.#handed === this.#next) return false;
    this.#handed = this.#next;
    return true;
  }

  /** Takes the callbacks of what waits, in order: the engine does not want it. `andHanded`: of all there is, for the engine will not tell of it any more. */
  recall(andHanded = false): Completed[] {
    const recalled: Completed[] = [];
    if (andHanded) this.#handed = this.#base;
    for (let each = this.#handed; each !== this.#next; each = (each + 1) | 0) {
      const at = each & this.#mask;
      const done = this.#done[at];
      if (done !== undefined) recalled.push(done);
      this.#done[at] = undefined;
      this.#memory[at] = undefined;
    }
    this.#handed = this.#next;
    return recalled;
  }

  #grow(): void {
    const mask = this.#mask * 2 + 1;
    const done: (Completed | undefined)[] = new Array(mask + 1).fill(undefined);
    const memory: unknown[] = new Array(mask + 1).fill(undefined);
    for (let each = this.#base; each !== this.#next; each = (each + 1) | 0) {
      done[each & mask] = this.#done[each & this.#mask];
      memory[each & mask] = this.#memory[each & this.#mask];
    }
    this.#done = done;
    this.#memory = memory;
    this.#mask = mask;
  }
}
