/**
 * The duplicate-request cache: a call that must not be carried out twice and comes again, on a new connection after the old one
 * broke, gets the reply that it had (RFC 1813 §4.1).
 *
 * A hit needs the same peer, xid and procedure and the same bytes: the call as a whole up to `COMPARED_BYTES_MAX`, its length,
 * and the beginning of its bulk item. Addresses count without the port, which changes as a client connects anew.
 *
 * @module
 */
import type { IncomingCall, XdrMessage } from "../transport.ts";
import { flatten } from "../xdr/xdr_writer.ts";

/** Replies remembered by default. */
export const REPLY_CACHE_ENTRIES_MAX = 2048;
/** Memory for replies and compared bytes by default. */
export const REPLY_CACHE_BYTES_MAX = 8 * 1024 * 1024;
/** How much of a call is compared. */
export const COMPARED_BYTES_MAX = 1024;
/** The longest reply worth remembering. */
const REPLY_BYTES_MAX = 64 * 1024;
/** What an entry costs besides its bytes, roughly. */
const ENTRY_OVERHEAD_BYTES = 256;

/** A call that the cache knows. */
export interface CachedCall {
  /** Peer, xid and procedure. */
  readonly key: string;
  /** The beginning of the message. */
  readonly head: Uint8Array;
  /** Its length. */
  readonly messageBytes: number;
  /** The beginning of its bulk item. */
  readonly bulkHead: Uint8Array;
  /** The length of that. */
  readonly bulkBytes: number;
  /** The whole reply; `undefined` while the call is being carried out. */
  reply: Uint8Array | undefined;
  /** Duplicates that came in the meantime. */
  waiting: IncomingCall[];
}

/** What the cache says to a call: carry it out, it has its answer already, or it will get the answer of the one under way. */
export type Admission = { kind: "new"; entry: CachedCall } | { kind: "answered"; reply: Uint8Array } | {
  kind: "waiting";
};

/** Bounded memory of calls and their replies, oldest forgotten first. */
export class ReplyCache {
  readonly #entries = new Map<string, CachedCall>();
  readonly #entriesMax: number;
  readonly #bytesMax: number;
  #bytes = 0;

  /** An empty cache; limits in calls and bytes. */
  constructor(options: { entriesMax?: number; bytesMax?: number } = {}) {
    this.#entriesMax = options.entriesMax ?? REPLY_CACHE_ENTRIES_MAX;
    this.#bytesMax = options.bytesMax ?? REPLY_CACHE_BYTES_MAX;
  }

  /** Calls remembered, those under way included. */
  get size(): number {
    return this.#entries.size;
  }

  /** Looks a call up and enters it if it is new. A new one must be ended by `finish`, refused or not. */
  admit(call: IncomingCall): Admission {
    const key = keyOf(call);
    const known = this.#entries.get(key);
    if (known !== undefined && isSame(known, call)) {
      if (known.reply !== undefined) return { kind: "answered", reply: known.reply };
      known.waiting.push(call);
      return { kind: "waiting" };
    }
    const entry: CachedCall = {
      key,
      head: call.message.slice(0, COMPARED_BYTES_MAX),
      messageBytes: call.message.byteLength,
      bulkHead: call.bulk?.data.slice(0, COMPARED_BYTES_MAX) ?? NOTHING,
      bulkBytes: call.bulk?.data.byteLength ?? 0,
      reply: undefined,
      waiting: [],
    };
    // A call that reuses an xid takes the place of the one that had it, whose own end then changes nothing here.
    if (known !== undefined) this.#forget(known);
    this.#entries.set(key, entry);
    this.#bytes += costOf(entry);
    this.#evict();
    return { kind: "new", entry };
  }

  /** Remembers the reply (a copy) where it is not too large, and sends it to the duplicates that wait for it. */
  finish(entry: CachedCall, reply: XdrMessage): void {
    const whole = flatten(reply);
    const waiting = entry.waiting;
    entry.waiting = [];
    for (const call of waiting) call.reply({ bytes: whole });
    if (this.#entries.get(entry.key) !== entry) return;
    if (whole.byteLength > REPLY_BYTES_MAX) return this.#forget(entry);
    entry.reply = whole;
    this.#bytes += whole.byteLength;
    this.#evict();
  }

  #forget(entry: CachedCall): void {
    this.#entries.delete(entry.key);
    this.#bytes -= costOf(entry) + (entry.reply?.byteLength ?? 0);
  }

  /** Makes room. Calls under way stay: the transports bound their number. */
  #evict(): void {
    if (this.#entries.size <= this.#entriesMax && this.#bytes <= this.#bytesMax) return;
    for (const entry of this.#entries.values()) {
      if (entry.reply !== undefined) this.#forget(entry);
      if (this.#entries.size <= this.#entriesMax && this.#bytes <= this.#bytesMax) return;
    }
  }
}

const NOTHING = new Uint8Array(0);
/** xid, msg_type, rpcvers, prog, vers and proc: the first six words of a call. */
const KEY_WORDS = 6;

function keyOf(call: IncomingCall): string {
  const { message, peer } = call;
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  let key = `${peer.transport} ${peer.address}`;
  for (let word = 0; word < KEY_WORDS; word++) key += ` ${view.getUint32(word * 4)}`;
  return key;
}

function isSame(entry: CachedCall, call: IncomingCall): boolean {
  return entry.messageBytes === call.message.byteLength &&
    entry.bulkBytes === (call.bulk?.data.byteLength ?? 0) &&
    startsWith(call.message, entry.head) &&
    startsWith(call.bulk?.data ?? NOTHING, entry.bulkHead);
}

function startsWith(bytes: Uint8Array, beginning: Uint8Array): boolean {
  return beginning.every((byte, i) => bytes[i] === byte);
}

function costOf(entry: CachedCall): number {
  return entry.head.byteLength + entry.bulkHead.byteLength + ENTRY_OVERHEAD_BYTES;
}
