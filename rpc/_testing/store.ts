/**
 * A small RPC program for tests.
 *
 * @module
 */
import {
  array,
  type AuthSys,
  bulk,
  type BulkPlacement,
  defineProgram,
  type Handlers,
  opaque,
  procedure,
  RpcError,
  SentPieces,
  struct,
  uint32,
  voidType,
} from "../mod.ts";
import { join } from "./bytes.ts";

const DATA_BYTES_MAX = 1 << 20;

const placement: Omit<BulkPlacement, "into"> = {
  headBytes: 8,
  locate(results) {
    if (results.byteLength < 8) return undefined;
    return { offset: 8, length: new DataView(results.buffer, results.byteOffset).getUint32(4) };
  },
};

/** A program with every kind of procedure that transports must carry. */
export const STORE = defineProgram({
  name: "STORE",
  number: 0x20000099,
  version: 2,
  procedures: {
    PUT: procedure({
      number: 1,
      args: struct({ name: opaque(64), data: bulk(DATA_BYTES_MAX), after: uint32 }),
      results: uint32,
      idempotent: false,
    }),
    GET: procedure({
      number: 2,
      args: opaque(64),
      results: struct({ tag: uint32, data: bulk(DATA_BYTES_MAX), after: uint32 }),
      idempotent: true,
      placement,
    }),
    SUM: procedure({ number: 3, args: array(uint32, 100_000), results: uint32, idempotent: true }),
    FAIL: procedure({ number: 4, args: uint32, results: voidType, idempotent: false }),
    POUR: procedure({
      number: 6,
      args: struct({ name: opaque(64), data: bulk(DATA_BYTES_MAX), after: uint32 }),
      results: uint32,
      idempotent: true,
      streams: true,
    }),
    DRAW: procedure({
      number: 7,
      args: struct({ name: opaque(64), most: uint32 }),
      results: struct({ tag: uint32, data: bulk(DATA_BYTES_MAX), after: uint32 }),
      idempotent: true,
      streams: true,
      placement,
    }),
    WHO: procedure({ number: 5, args: voidType, results: uint32, idempotent: true }),
  },
});

/** Its handlers, and what they saw. */
export class Store {
  /** By name. */
  readonly data = new Map<string, Uint8Array>();
  puts = 0;
  readonly credentials: (AuthSys | undefined)[] = [];
  /** Bytes of the pieces that POUR took, or DRAW made. */
  readonly pieces: number[] = [];
  /** After so many of them it fails. */
  enough = Infinity;
  /** Answers to PUT wait for it, and POUR and DRAW with each piece. */
  wait: Promise<void> | undefined;

  readonly handlers: Handlers<typeof STORE.procedures> = {
    PUT: ({ name, data, after }) => {
      this.puts++;
      const joined = join(data);
      this.data.set(name.join(), joined);
      const value = joined.byteLength + after;
      return this.wait === undefined ? value : this.wait.then(() => value);
    },
    GET: (name, context) => {
      const found = this.data.get(name.join()) ?? new Uint8Array(0);
      const memory = context.allocateBulk(found.byteLength + 10);
      memory.bytes.set(found);
      return { tag: 7, data: [memory.bytes.subarray(0, found.byteLength)], after: 9 };
    },
    SUM: (numbers) => numbers.reduce((sum, number) => sum + number, 0),
    FAIL: (how) => {
      if (how === 0) throw new Error("broken");
      if (how === 1) return Promise.reject(new Error("broken later"));
      throw new RpcError("AUTH_ERROR", { authStatus: 5 });
    },
    POUR: async ({ name, data, after }, { stream }) => {
      const pieces = [...data];
      for (let piece = await stream?.next(); piece !== undefined; piece = await stream?.next()) {
        this.pieces.push(piece.byteLength);
        pieces.push(piece.slice());
        await this.wait;
        if (this.pieces.length === this.enough) throw new RpcError("SYSTEM_ERR");
      }
      const joined = join(pieces);
      this.data.set(name.join(), joined);
      return joined.byteLength + after;
    },
    DRAW: async ({ name, most }, { sink }) => {
      const found = (this.data.get(name.join()) ?? new Uint8Array(0)).subarray(0, most);
      if (sink === undefined) return { tag: 7, data: [found], after: 9 };
      for (let at = 0; at < found.byteLength; at = sink.sentBytes) {
        const into = await sink.take(found.byteLength - at);
        const piece = found.subarray(at, at + into.byteLength);
        into.set(piece);
        this.pieces.push(piece.byteLength);
        await this.wait;
        if (this.pieces.length === this.enough) throw new RpcError("SYSTEM_ERR");
        sink.put(piece.byteLength);
      }
      return { tag: 7, data: new SentPieces(found.byteLength), after: 9 };
    },
    WHO: (_, { credential }) => {
      this.credentials.push(credential);
      return credential?.uid ?? 65534;
    },
  };
}
