/**
 * Server, NFS: operations in steps that go on at once where the backend answers at once and wait where it must, written once for both.
 *
 * An `async` function would cost every READ from the page cache several turns of the event loop; a generator costs them only
 * where there is something to wait for.
 *
 * ```ts
 * import { run, type Steps, wait } from "./steps.ts";
 *
 * function* sum(a: number | Promise<number>, b: number | Promise<number>): Steps<number> {
 *   return (yield* wait(a)) + (yield* wait(b));
 * }
 * run(sum(1, 2)); // 3
 * await run(sum(1, Promise.resolve(2))); // 3
 * ```
 *
 * @module
 */
import type { MaybePromise } from "../../storage/backend/file_system.ts";

/** An operation under way. It yields what it must wait for. */
export type Steps<T> = Generator<Promise<unknown>, T, unknown>;

/** The value, waited for where it is a promise. A rejection is thrown here. */
export function* wait<T>(value: MaybePromise<T>): Steps<T> {
  return value instanceof Promise ? (yield value) as T : value;
}

/** Carries the steps out: the result, or a promise of it from the first step on that had to wait. */
export function run<T>(steps: Steps<T>): MaybePromise<T> {
  const first = steps.next();
  return first.done ? first.value : resume(steps, first.value);
}

async function resume<T>(steps: Steps<T>, first: Promise<unknown>): Promise<T> {
  let pending = first;
  while (true) {
    const settled = await pending.then((value) => ({ value }), (error: unknown) => ({ error }));
    const step = "error" in settled ? steps.throw(settled.error) : steps.next(settled.value);
    if (step.done) return step.value;
    pending = step.value;
  }
}
