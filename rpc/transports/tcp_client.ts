/**
 * The client's end of ONC RPC over TCP (RFC 5531 §11): record marking, with the bulk item of results received into place.
 *
 * Where a call says where its results' bulk item is to go, the beginning of the reply is received first, as much of it as usually
 * precedes the contents; then the contents go straight into the caller's memory. What was taken for the beginning but
 * belonged to the contents is copied, and counted in `bytesStaged`.
 *
 * @module
 */
import { ProtocolError, WireError } from "../errors.ts";
import { decodeReply, encodeCall } from "../protocol/call_message.ts";
import { CallTable } from "../protocol/call_table.ts";
import type { Bulk, ClientTransport, RpcRequest, RpcResponse } from "../transport.ts";
import { MsgType, peekMessage } from "../wire/rpc_message.ts";
import { XdrWriter } from "../xdr/xdr_writer.ts";
import {
  ABORT_GRACE_MS,
  type BulkPool,
  type ByteStream,
  plainMemory,
  recordPieces,
  RecordReceiver,
  SMALL_BYTES,
  SmallBuffers,
  takeExactly,
} from "./byte_stream.ts";

/** The usual size of the header of a reply: one with an empty verifier. */
const REPLY_HEADER_BYTES = 24;

/** Choices for a client's connection. */
export interface TcpClientOptions {
  /** Where `allocateBulk` takes its memory; the garbage-collected heap where left out. */
  pool?: BulkPool;
  /** The longest record taken. */
  recordBytesMax?: number;
  /** How long an aborted call waits for work on its memory to end before the connection is given up, milliseconds. */
  abortGraceMs?: number;
}

/** A call under way. Its memory is free only when its `send` is done and nothing is being received into it. */
interface Pending {
  readonly request: RpcRequest;
  resolve(response: RpcResponse): void;
  reject(error: unknown): void;
  isSent: boolean;
  /** Contents are on their way into the caller's memory. */
  isPlacing: boolean;
  /** Set by an abort; the reply is received and dropped. */
  aborted?: { reason: unknown };
  /** What is left to do with a reply that came before the call had been sent. */
  whenSent?: () => void;
  /** Stops listening to the signal, or waiting after it. */
  forgetSignal(): void;
}

/** A record whose beginning has been received. */
interface PartialRecord {
  /** Holds the record from its first byte on; without the contents where these are placed. */
  buffer: Uint8Array;
  /** The small buffer that `buffer` is a part of, to be put back. */
  small: Uint8Array | undefined;
  /** Bytes received. */
  received: number;
  /** Bytes of the whole record. */
  total: number;
}

/** A connection to a TCP server. */
export class TcpClientTransport implements ClientTransport {
  readonly kind = "tcp";
  readonly closed: Promise<Error | undefined>;

  readonly #stream: ByteStream;
  readonly #pool: BulkPool;
  readonly #abortGraceMs: number;
  readonly #calls = new CallTable<Pending>();
  readonly #receiver: RecordReceiver;
  readonly #buffers = new SmallBuffers();
  readonly #writer = new XdrWriter();
  /** Calls under way that have a placement. */
  #placements = 0;
  #headBytesMax = 0;
  #bytesStaged = 0;
  #error: Error | undefined;
  #isClosing = false;

  /** Takes the stream over, and waits for replies at once. */
  constructor(stream: ByteStream, options: TcpClientOptions = {}) {
    this.#stream = stream;
    this.#pool = options.pool ?? plainMemory;
    this.#abortGraceMs = options.abortGraceMs ?? ABORT_GRACE_MS;
    this.#receiver = new RecordReceiver(stream, {
      bytesMax: options.recordBytesMax,
      sink: {
        handleRecord: (lengthBytes) => this.#receiveRecord(lengthBytes),
        handleFragmented: (record) => {
          this.#bytesStaged += record.byteLength;
          this.#handleReply(record, { release: () => {} });
        },
        handleFault: (error) => this.#fail(error),
      },
    });
    this.closed = stream.closed.then((error) => this.#handleEnd(error));
    this.#receiver.next();
  }

  /** Payload bytes that were copied because a prediction missed. */
  get bytesStaged(): number {
    return this.#bytesStaged;
  }

  call(request: RpcRequest): Promise<RpcResponse> {
    const { signal } = request;
    return new Promise((resolve, reject) => {
      if (this.#error !== undefined || this.#isClosing) throw this.#lost();
      signal?.throwIfAborted();
      const xid = request.xid ?? this.#calls.nextXid();
      const pieces = recordPieces(this.#writer, encodeCall(this.#writer, xid, request));
      const call: Pending = { request, resolve, reject, isSent: false, isPlacing: false, forgetSignal: () => {} };
      if (signal !== undefined) {
        const abort = () => this.#abort(call, signal.reason);
        signal.addEventListener("abort", abort, { once: true });
        call.forgetSignal = () => signal.removeEventListener("abort", abort);
      }
      this.#stream.send(pieces, () => {
        call.isSent = true;
        settleAborted(call);
        call.whenSent?.();
      });
      this.#calls.add(xid, call);
      if (request.placement !== undefined) {
        this.#placements++;
        this.#headBytesMax = Math.max(this.#headBytesMax, request.placement.headBytes);
      }
    });
  }

  allocateBulk(lengthBytes: number): Bulk {
    return takeExactly(this.#pool, lengthBytes);
  }

  /** Ends the connection; calls under way are rejected. */
  async close(): Promise<void> {
    if (!this.#isClosing) {
      this.#isClosing = true;
      this.#receiver.stop();
      await this.#stream.close();
    }
    await this.closed;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #abort(call: Pending, reason: unknown): void {
    call.aborted = { reason };
    if (settleAborted(call)) return;
    const giveUp = () => this.#fail(new ProtocolError("ConnectionLost", "given up for the sake of an aborted call"));
    const timer = setTimeout(giveUp, this.#abortGraceMs);
    call.forgetSignal = () => clearTimeout(timer);
  }

  #lost(): Error {
    return this.#error ?? new ProtocolError("ConnectionLost", "the connection was closed");
  }

  #fail(error: Error): void {
    this.#error ??= error;
    this.#receiver.stop();
    this.#stream.abort();
  }

  /** No work is left, so the memory of every call is free. */
  #handleEnd(error: Error | undefined): Error | undefined {
    this.#error ??= error ??
      (this.#isClosing ? undefined : new ProtocolError("ConnectionLost", "the server closed the connection"));
    const why = this.#lost();
    this.#isClosing = true;
    this.#receiver.stop();
    for (const call of this.#calls.drain()) {
      call.forgetSignal();
      call.reject(call.aborted === undefined ? why : call.aborted.reason);
    }
    return this.#error;
  }

  #receiveRecord(total: number): void {
    const small = this.#buffers.take();
    const wanted = this.#placements > 0 ? REPLY_HEADER_BYTES + this.#headBytesMax : SMALL_BYTES;
    if (total > SMALL_BYTES && this.#placements === 0) {
      this.#buffers.put(small);
      return this.#receiveRest({ buffer: new Uint8Array(total), small: undefined, received: 0, total });
    }
    this.#receiveHead({ buffer: small, small, received: 0, total }, Math.min(total, wanted, SMALL_BYTES));
  }

  /** Receives a record as far as `until`, and decides. */
  #receiveHead(record: PartialRecord, until: number): void {
    const { buffer, received } = record;
    if (received === until) return this.#handleHead(record);
    this.#receiver.receive([buffer.subarray(received, until)], (isWhole) => {
      if (!isWhole) return this.#putBack(record);
      record.received = until;
      this.#handleHead(record);
    });
  }

  #handleHead(record: PartialRecord): void {
    const { buffer, received, total } = record;
    const head = buffer.subarray(0, received);
    const xid = peekMessage(head)?.xid;
    const call = xid === undefined ? undefined : this.#calls.get(xid);
    const placement = call?.aborted === undefined ? call?.request.placement : undefined;
    if (call === undefined || placement === undefined || total <= received) return this.#receiveRest(record);
    const results = resultsOf(head);
    if (results === undefined) return this.#receiveRest(record);
    const wanted = Math.min(total, head.byteLength - results.byteLength + placement.headBytes, SMALL_BYTES);
    if (received < wanted) return this.#receiveHead(record, wanted);
    const found = placement.locate(results);
    const { into } = placement;
    const start = found && head.byteLength - results.byteLength + found.offset;
    if (found === undefined || start === undefined || start > received || found.length > into.byteLength) {
      return this.#receiveRest(record);
    }
    if (start + found.length > total) {
      this.#putBack(record);
      return this.#fail(new ProtocolError("BadPlacement", `${found.length} bytes of contents in a record of ${total}`));
    }
    this.#place(record, { call, start, length: found.length });
  }

  /** Receives contents into the caller's memory and what follows them behind the head. */
  #place(record: PartialRecord, found: { call: Pending; start: number; length: number }): void {
    const { call, start, length } = found;
    const { into } = call.request.placement!;
    const end = start + length;
    const staged = record.buffer.slice(start, record.received);
    const early = Math.min(staged.byteLength, length);
    into.set(staged.subarray(0, early));
    this.#bytesStaged += early;

    // Padding goes to a place of its own, so that the results are contiguous without it.
    const padBytes = Math.min(-length & 3, record.total - end);
    const tailBytes = record.total - end - padBytes;
    const message = start + tailBytes <= record.buffer.byteLength ? record.buffer : new Uint8Array(start + tailBytes);
    if (message !== record.buffer) message.set(record.buffer.subarray(0, start));
    const tail = message.subarray(start, start + tailBytes);
    const lateTail = staged.subarray(length + padBytes);
    tail.set(lateTail);
    const pieces = [
      into.subarray(early, length),
      new Uint8Array(Math.max(0, padBytes - Math.max(0, staged.byteLength - length))),
      tail.subarray(lateTail.byteLength),
    ].filter((piece) => piece.byteLength > 0);
    const release = () => this.#putBack(record);
    const whole = message.subarray(0, start + tailBytes);
    if (pieces.length === 0) return this.#handleReply(whole, { placedBytes: length, release });
    call.isPlacing = true;
    this.#receiver.receive(pieces, (isWhole) => {
      call.isPlacing = false;
      if (!isWhole) return release();
      this.#handleReply(whole, { placedBytes: length, release });
    });
  }

  /** Receives a record as a whole, contents included. */
  #receiveRest(record: PartialRecord): void {
    const { received, total } = record;
    if (this.#placements > 0 && total > SMALL_BYTES) this.#bytesStaged += total - received;
    if (total > record.buffer.byteLength) {
      const larger = new Uint8Array(total);
      larger.set(record.buffer.subarray(0, received));
      this.#putBack(record);
      record.buffer = larger;
      record.small = undefined;
    }
    const whole = record.buffer.subarray(0, total);
    const release = () => this.#putBack(record);
    if (received === total) return this.#handleReply(whole, { release });
    this.#receiver.receive([whole.subarray(received)], (isWhole) => {
      if (!isWhole) return release();
      this.#handleReply(whole, { release });
    });
  }

  #putBack(record: PartialRecord): void {
    if (record.small !== undefined) this.#buffers.put(record.small);
    record.small = undefined;
  }

  #handleReply(message: Uint8Array, { placedBytes, release }: { placedBytes?: number; release: () => void }): void {
    const start = peekMessage(message);
    if (start === undefined) {
      return this.#fail(new WireError("cut short", { layer: "rpc", offset: message.byteLength }));
    }
    if (start.type !== MsgType.REPLY) {
      return this.#fail(new ProtocolError("UnexpectedMessage", `msg_type ${start.type} from a server`));
    }
    const call = this.#calls.take(start.xid);
    if (call === undefined) {
      return this.#fail(new ProtocolError("UnknownXid", `a reply to xid ${start.xid}, which was not asked`));
    }
    this.#receiver.next();
    if (call.request.placement !== undefined && --this.#placements === 0) this.#headBytesMax = 0;
    const settle = () => settleCall(call, { message, placedBytes, release });
    if (call.isSent) settle();
    else call.whenSent = settle;
  }
}

/** Settles a call whose reply is there and whose memory is free. */
function settleCall(
  call: Pending,
  { message, placedBytes, release }: { message: Uint8Array; placedBytes?: number; release: () => void },
): void {
  call.forgetSignal();
  try {
    if (call.aborted !== undefined) throw call.aborted.reason;
    const reply = decodeReply(message);
    if ("error" in reply) throw reply.error;
    call.resolve({ results: reply.results, placedBytes, release });
  } catch (error) {
    release();
    call.reject(error);
  }
}

/** Rejects an aborted call once its memory is free. Its reply, if it comes, finds it in the table and is dropped. */
function settleAborted(call: Pending): boolean {
  if (call.aborted === undefined || !call.isSent || call.isPlacing) return false;
  call.forgetSignal();
  call.reject(call.aborted.reason);
  return true;
}

/** The results behind a reply's header as far as both are there; `undefined` for a refusal, or where the header is cut or malformed. */
function resultsOf(head: Uint8Array): Uint8Array | undefined {
  try {
    const reply = decodeReply(head);
    return "error" in reply ? undefined : reply.results;
  } catch {
    return undefined;
  }
}
