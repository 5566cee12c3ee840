/**
 * Descriptions of RPC programs that a client and a server share (RFC 5531 §12).
 *
 * ```ts
 * import { defineProgram, procedure } from "./program.ts";
 * import { string, uint32 } from "./xdr/mod.ts";
 *
 * const LENGTHS = defineProgram({
 *   name: "LENGTHS",
 *   number: 0x20000001,
 *   version: 1,
 *   procedures: { LENGTH: procedure({ number: 1, args: string(255), results: uint32, idempotent: true }) },
 * });
 * ```
 *
 * @module
 */
import type { BulkPlacement } from "./transport.ts";
import { voidType, type XdrType } from "./xdr/mod.ts";

/** A procedure: its number, types, and what a transport needs to know of it. */
export interface Procedure<A, R> {
  /** Its number within the program. */
  readonly number: number;
  /** Type of the arguments. */
  readonly args: XdrType<A>;
  /** Type of the results. */
  readonly results: XdrType<R>;
  /** True where doing it twice is as good as once; otherwise its replies go to the reply cache. */
  readonly idempotent: boolean;
  /** True where the handler takes a bulk item that comes as a `BulkStream` (a long one is refused otherwise), or gives one to a `BulkSink`. */
  readonly streams?: boolean;
  /** The most bytes that results take, bulk contents not counted. */
  readonly resultsBytesMax: number;
  /** How a stream transport finds the bulk item of the results. Set on every procedure whose results have one. */
  readonly placement?: Omit<BulkPlacement, "into">;
}

/** Declares a procedure. `resultsBytesMax` is that of the type of the results where it is left out. */
export function procedure<A, R>(
  options: Omit<Procedure<A, R>, "resultsBytesMax"> & { readonly resultsBytesMax?: number },
): Procedure<A, R> {
  return { ...options, resultsBytesMax: options.resultsBytesMax ?? options.results.bytesMax };
}

/** Procedures by their name in the RFC. */
export type Procedures = Readonly<Record<string, Procedure<unknown, unknown>>>;

/** One version of a program. */
export interface Program<P extends Procedures = Procedures> {
  /** For messages to people. */
  readonly name: string;
  /** The program number. */
  readonly number: number;
  /** The version of the program. */
  readonly version: number;
  /** Its procedures, without number 0, which every program has. */
  readonly procedures: P;
}

/** Declares a program; keeps the types of its procedures. */
export function defineProgram<P extends Procedures>(program: Program<P>): Program<P> {
  return program;
}

/** The procedure that every program has: number 0, does nothing (RFC 5531 §12.1). */
export const NULL_PROCEDURE: Procedure<void, void> = procedure({
  number: 0,
  args: voidType,
  results: voidType,
  idempotent: true,
});

/** What a procedure's arguments are. */
export type ArgsOf<P> = P extends Procedure<infer A, infer _R> ? A : never;
/** What a procedure's results are. */
export type ResultsOf<P> = P extends Procedure<infer _A, infer R> ? R : never;
