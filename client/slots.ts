/**
 * Bounds on how much happens at once.
 *
 * @module
 */

/** A counting semaphore, first come first served. */
export class Slots {
  readonly #count: number;
  #free: number;
  #waiting: { count: number; resolve: () => void }[] = [];

  constructor(count: number) {
    if (!(count >= 1)) throw new RangeError(`${count} slots`);
    this.#count = count;
    this.#free = count;
  }

  /** Takes slots, once so many are free. Rejects with the signal's reason where that comes first. */
  async take(signal?: AbortSignal, count = 1): Promise<void> {
    signal?.throwIfAborted();
    if (count > this.#count) throw new RangeError(`${count} of ${this.#count} slots`);
    if (this.#waiting.length === 0 && this.#free >= count) {
      this.#free -= count;
      return;
    }
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting = { count, resolve };
    this.#waiting.push(waiting);
    const abort = () => {
      const at = this.#waiting.indexOf(waiting);
      if (at < 0) return; // just got its slots
      this.#waiting.splice(at, 1);
      this.give(0); // those behind may need fewer
      reject(signal!.reason);
    };
    signal?.addEventListener("abort", abort, { once: true });
    try {
      await promise;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Gives slots back. */
  give(count = 1): void {
    this.#free += count;
    while (this.#waiting.length > 0 && this.#waiting[0].count <= this.#free) {
      const { count, resolve } = this.#waiting.shift()!;
      this.#free -= count;
      resolve();
    }
  }

  /** Runs a function in a slot. */
  async run<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    await this.take(signal);
    try {
      return await task();
    } finally {
      this.give();
    }
  }
}

/**
 * Runs tasks with at most `limit` at once and awaits them all. After the first failure no further one is started; that
 * failure is thrown once those under way have ended, so that memory they use is free again.
 */
export async function runBounded(tasks: Iterable<() => Promise<void>>, limit: number): Promise<void> {
  const iterator = tasks[Symbol.iterator]();
  let failure: { error: unknown } | undefined;
  const worker = async () => {
    while (failure === undefined) {
      const next = iterator.next();
      if (next.done) return;
      try {
        await next.value();
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: limit }, worker));
  if (failure !== undefined) throw failure.error;
}
