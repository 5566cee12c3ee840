/** What a failed assertion throws. */
export declare class AssertionError extends Error {
  /** `message`: what differed. */
  constructor(message: string, options?: ErrorOptions);
}

/** A class, abstract or not, whose instances are `T`. */
// deno-lint-ignore no-explicit-any
export type AnyConstructor<T = unknown> = abstract new (...args: any[]) => T;

/** Asserts that `expr` is truthy. */
export declare function assert(expr: unknown, msg?: string): asserts expr;
/** Asserts that `expr` is falsy. */
export declare function assertFalse(
  expr: unknown,
  msg?: string,
): asserts expr is false | 0 | "" | 0n | null | undefined;
/** Asserts that two values are deeply equal. */
export declare function assertEquals<T>(actual: T, expected: T, msg?: string): void;
/** Asserts that two values are not deeply equal. */
export declare function assertNotEquals<T>(actual: T, expected: T, msg?: string): void;
/** Asserts that two values are the same by `Object.is`. */
export declare function assertStrictEquals<T>(actual: unknown, expected: T, msg?: string): asserts actual is T;
/** Asserts that two values are not the same by `Object.is`. */
export declare function assertNotStrictEquals<T>(actual: T, expected: T, msg?: string): void;
/** Asserts that two numbers differ by no more than `tolerance` (relative 1e-7 when absent). */
export declare function assertAlmostEquals(actual: number, expected: number, tolerance?: number, msg?: string): void;
/** Asserts that a value is neither `null` nor `undefined`. */
export declare function assertExists<T>(actual: T, msg?: string): asserts actual is NonNullable<T>;
/** Asserts that a value is an instance of a class. */
export declare function assertInstanceOf<T>(
  actual: unknown,
  expectedType: AnyConstructor<T>,
  msg?: string,
): asserts actual is T;
/** Asserts that a value is not an instance of a class. */
export declare function assertNotInstanceOf<T, U>(
  actual: T,
  unexpectedType: AnyConstructor<U>,
  msg?: string,
): asserts actual is Exclude<T, U>;
/** Asserts that a value is an error, of a class and with a message where these are given. */
export declare function assertIsError<E extends Error = Error>(
  error: unknown,
  errorClass?: AnyConstructor<E>,
  msgMatches?: string | RegExp,
  msg?: string,
): asserts error is E;
/** Asserts that a string matches a pattern. */
export declare function assertMatch(actual: string, expected: RegExp, msg?: string): void;
/** Asserts that a string does not match a pattern. */
export declare function assertNotMatch(actual: string, expected: RegExp, msg?: string): void;
/** Asserts that a string contains another. */
export declare function assertStringIncludes(actual: string, expected: string, msg?: string): void;
/** Asserts that an array-like contains every one of the expected values. */
export declare function assertArrayIncludes<T>(actual: ArrayLike<T>, expected: ArrayLike<T>, msg?: string): void;
/** Asserts that an object has the properties of another, recursively. */
export declare function assertObjectMatch(
  actual: object,
  expected: Record<PropertyKey, unknown>,
  msg?: string,
): void;
/** Asserts `actual > expected`. */
export declare function assertGreater<T>(actual: T, expected: T, msg?: string): void;
/** Asserts `actual >= expected`. */
export declare function assertGreaterOrEqual<T>(actual: T, expected: T, msg?: string): void;
/** Asserts `actual < expected`. */
export declare function assertLess<T>(actual: T, expected: T, msg?: string): void;
/** Asserts `actual <= expected`. */
export declare function assertLessOrEqual<T>(actual: T, expected: T, msg?: string): void;
/** Asserts that a function throws, and returns what it threw. */
export declare function assertThrows(fn: () => unknown, msg?: string): unknown;
/** Asserts that a function throws an error of a class, whose message contains a text, and returns it. */
export declare function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  errorClass: AnyConstructor<E>,
  msgIncludes?: string,
  msg?: string,
): E;
/** Asserts that a promise is rejected, and resolves with the reason. */
export declare function assertRejects(fn: () => PromiseLike<unknown>, msg?: string): Promise<unknown>;
/** Asserts that a promise is rejected with an error of a class, whose message contains a text, and resolves with it. */
export declare function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  errorClass: AnyConstructor<E>,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;
/** Fails. */
export declare function fail(msg?: string): never;
/** Fails, for places that cannot be reached. */
export declare function unreachable(msg?: string): never;
/** Tells whether two values are deeply equal. */
export declare function equal(a: unknown, b: unknown): boolean;
