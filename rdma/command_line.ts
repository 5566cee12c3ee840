/**
 * What the commands of the verbs share: errors for who called them, values of options, and their surroundings.
 *
 * @module
 */

/** A mistake in how a command was called. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** A failure whose message is for who called the command. */
export class CommandError extends Error {
  override readonly name = "CommandError";
}

/** What a command needs of its surroundings. */
export interface CommandIo {
  /** Writes to standard output. */
  write(text: string): void;
  /** Says something on standard error, as a line of its own. */
  say(text: string): void;
  /** Shows how far it is, where standard error is a terminal; does nothing elsewhere. An empty text takes the line away. */
  progress(text: string): void;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
}

/** The bounds of an option's value. */
export interface Bounds {
  min: number;
  max: number;
}

/** A whole number. Throws {@linkcode UsageError} where it is none, or not within its bounds. */
export function parseInteger(name: string, text: string, { min, max }: Bounds): number {
  const value = /^[0-9]+$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(`'${text}' is no ${name}: a number from ${min} to ${max}`);
}

const UNITS: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** Bytes: "4096", "64K", "8M". Throws {@linkcode UsageError}. */
export function parseSize(name: string, text: string, { min, max }: Bounds): number {
  const match = /^([0-9]+)([KMG]?)$/i.exec(text);
  const value = match === null ? NaN : Number(match[1]) * UNITS[match[2].toUpperCase()];
  if (value >= min && value <= max) return value;
  throw new UsageError(`'${text}' is no ${name}: bytes from ${min} to ${max}, as 4096, 64K or 8M`);
}

/** Seconds, also parts of one. Throws {@linkcode UsageError}. */
export function parseSeconds(name: string, text: string, { min, max }: Bounds): number {
  const value = /^([0-9]+\.?[0-9]*|\.[0-9]+)$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(`'${text}' is no ${name}: seconds from ${min} to ${max}`);
}

/** "on" or "off". Throws {@linkcode UsageError}. */
export function parseSwitch(name: string, text: string): boolean {
  if (text === "on" || text === "off") return text === "on";
  throw new UsageError(`'${text}' is no ${name}: on or off`);
}
