/**
 * Storage, backends: operations that native threads carry out, and how JavaScript learns that they are done.
 *
 * Native code writes one byte to a socket when there is something to collect and nobody knows yet; a drain then takes
 * all there is. The socket keeps the process alive only while something is under way.
 *
 * @module
 */
import { Socket } from "node:net";
import type { StorageSymbols } from "../_ffi/symbols.ts";
import { EBUSY, fsError } from "./errno.ts";
import { FsError } from "./file_system.ts";
import { type Operation, REPLY_BYTES_MAX, ReplyReader, type RequestWriter } from "./local_message.ts";

/** Bytes collected at once; the longest reply must fit. */
const COLLECT_BYTES = 4 * REPLY_BYTES_MAX;
/** Operations that wait here for room in the native queue. */
const BACKLOG_MAX = 1 << 14;

/** Turns a reply into what the operation returns. */
export type Decode<T> = (status: number, reply: ReplyReader) => T;

interface Pending {
  settle(status: number, reply: ReplyReader): void;
  /** Memory that native code works on, held until it is done. */
  keep: unknown;
}

/** The pool's side of one served directory. */
export class LocalQueue {
  readonly #symbols: StorageSymbols;
  readonly #id: number;
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  readonly #backlog: { operation: Operation; request: Uint8Array<ArrayBuffer>; token: number }[] = [];
  readonly #collected = new Uint8Array(COLLECT_BYTES);
  readonly #reader = new ReplyReader(this.#collected);
  #nextToken = 0;
  #whenIdle: (() => void) | undefined;

  /** @param wakeFd the descriptor to wait on; closed with the queue. */
  constructor(symbols: StorageSymbols, id: number, wakeFd: number) {
    this.#symbols = symbols;
    this.#id = id;
    this.#socket = new Socket({ fd: wakeFd, readable: true, writable: false });
    this.#socket.on("data", () => this.#drain());
    this.#socket.unref();
  }

  /** Has an operation carried out by the pool. `keep` stays referenced until then. Rejects with `FsError`. */
  submit<T>(operation: Operation, request: RequestWriter, decode: Decode<T>, keep?: unknown): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const token = this.#nextToken;
      this.#nextToken = (token + 1) >>> 0;
      const bytes = request.bytes.subarray(0, request.length);
      const sent = this.#backlog.length > 0 ? -EBUSY : this.#send(operation, bytes, token);
      if (sent === -EBUSY) {
        if (this.#backlog.length >= BACKLOG_MAX) throw new FsError("EAGAIN", "too many operations under way");
        this.#backlog.push({ operation, request: bytes.slice(), token });
      } else if (sent < 0) {
        throw fsError(sent);
      }
      const settle = (status: number, reply: ReplyReader): void => {
        if (status < 0) reject(fsError(status));
        else resolve(decode(status, reply));
      };
      if (this.#pending.size === 0) this.#socket.ref();
      this.#pending.set(token, { settle, keep });
    });
  }

  /** Resolves when nothing is under way; then the socket may be closed. */
  idle(): Promise<void> {
    if (this.#pending.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle = resolve);
  }

  /** Closes the socket. Nothing may be under way. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#socket.once("close", () => resolve());
      this.#socket.destroy();
    });
  }

  #send(operation: Operation, request: Uint8Array<ArrayBuffer>, token: number): number {
    return this.#symbols.weft_fs_submit(this.#id, operation, request, request.byteLength, token);
  }

  #settle(token: number, status: number): void {
    const pending = this.#pending.get(token);
    this.#pending.delete(token);
    pending?.settle(status, this.#reader);
  }

  #drain(): void {
    const reader = this.#reader;
    for (;;) {
      const filled = this.#symbols.weft_fs_poll(this.#id, this.#collected, COLLECT_BYTES);
      if (filled <= 0) break;
      for (let at = 0; at < filled;) {
        reader.at(at);
        const token = reader.u32();
        const status = reader.i32();
        at += 12 + reader.u32();
        this.#settle(token, status);
      }
      this.#sendBacklog();
    }
    if (this.#pending.size > 0) return;
    this.#socket.unref();
    this.#whenIdle?.();
  }

  #sendBacklog(): void {
    let sent = 0;
    for (const { operation, request, token } of this.#backlog) {
      const status = this.#send(operation, request, token);
      if (status === -EBUSY) break;
      sent++;
      if (status < 0) this.#settle(token, status);
    }
    this.#backlog.splice(0, sent);
  }
}
