/**
 * The server's end of ONC RPC over TCP (RFC 5531 §11): record marking, received into place.
 *
 * A record of up to 8 KiB is received into a small buffer. Of a longer one the first 1024 bytes are, and the rest goes straight into
 * memory of the pool, from where the handler takes it; replies leave from where they lie.
 *
 * @module
 */
import { ProtocolError } from "../errors.ts";
import type { Bulk, IncomingCall, PeerInfo, ServerTransport, XdrMessage } from "../transport.ts";
import { XdrWriter } from "../xdr/xdr_writer.ts";
import {
  type BulkPool,
  type ByteStream,
  plainMemory,
  recordPieces,
  RecordReceiver,
  SMALL_BYTES,
  SmallBuffers,
  takeExactly,
} from "./byte_stream.ts";

/** How much of a long record is received in front of what goes into the pool's memory. Holds any call header and NFS arguments. */
export const HEAD_BYTES = 1024;
/** Calls of one connection that are under way at most; further ones wait in the socket. */
export const CALLS_MAX = 64;

/** Choices for a server's connection. */
export interface TcpServerOptions {
  /** Where payload memory comes from; the garbage-collected heap where left out. */
  pool?: BulkPool;
  /** The longest record taken. */
  recordBytesMax?: number;
  /** Calls under way at most. */
  callsMax?: number;
}

/** One connection of a TCP client. Starts at once; set `onCall` in the same turn. */
export class TcpServerTransport implements ServerTransport {
  /** The client. */
  readonly peer: PeerInfo;
  onCall: (call: IncomingCall) => void = (call) => call.reply(undefined);
  readonly closed: Promise<Error | undefined>;

  readonly #stream: ByteStream;
  readonly #pool: BulkPool;
  readonly #callsMax: number;
  readonly #receiver: RecordReceiver;
  readonly #buffers = new SmallBuffers();
  readonly #writer = new XdrWriter();
  #callsUnderWay = 0;
  /** True while no receive is posted because there are enough calls. */
  #isPaused = false;
  #isClosing = false;
  /** Nothing can be sent any more. */
  #isEnded = false;
  #fault: Error | undefined;
  #whenIdle: (() => void) | undefined;

  /** Takes the stream over. */
  constructor(stream: ByteStream, options: TcpServerOptions = {}) {
    this.#stream = stream;
    this.#pool = options.pool ?? plainMemory;
    this.#callsMax = options.callsMax ?? CALLS_MAX;
    this.peer = { transport: "tcp", address: stream.remoteAddress, port: stream.remotePort };
    this.closed = stream.closed.then((error) => {
      this.#end();
      return this.#fault ?? error;
    });
    this.#receiver = new RecordReceiver(stream, {
      bytesMax: options.recordBytesMax,
      sink: {
        handleRecord: (lengthBytes) => this.#receiveRecord(lengthBytes),
        handleFragmented: (record) => this.#begin(record),
        handleFault: (error) => this.#fail(error),
      },
    });
    this.#receiver.next();
  }

  async close(): Promise<void> {
    if (this.#isClosing) return void await this.closed;
    this.#isClosing = true;
    if (this.#callsUnderWay > 0) {
      const idle = new Promise<void>((resolve) => this.#whenIdle = resolve);
      await Promise.race([idle, this.#stream.closed]);
    }
    if (!this.#isEnded) {
      this.#end();
      await this.#stream.close();
    }
    await this.closed;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #fail(error: Error): void {
    this.#fault ??= error;
    this.#end();
    this.#stream.abort();
  }

  #receiveRecord(lengthBytes: number): void {
    const buffer = this.#buffers.take();
    const head = buffer.subarray(0, lengthBytes > SMALL_BYTES ? HEAD_BYTES : lengthBytes);
    let rest: Bulk | undefined;
    try {
      if (lengthBytes > SMALL_BYTES) rest = takeExactly(this.#pool, lengthBytes - HEAD_BYTES);
    } catch (cause) {
      return this.#fail(new ProtocolError("TooLarge", `no memory for a record of ${lengthBytes} bytes`, { cause }));
    }
    this.#receiver.receive(rest === undefined ? [head] : [head, rest.bytes], (isWhole) => {
      if (isWhole) return this.#begin(head, { buffer, rest });
      rest?.release();
      this.#buffers.put(buffer);
    });
  }

  #begin(message: Uint8Array, received: { buffer?: Uint8Array; rest?: Bulk } = {}): void {
    this.#callsUnderWay++;
    const call = new TcpCall({
      peer: this.peer,
      message,
      bulk: received.rest && { position: message.byteLength, data: received.rest.bytes },
      pool: this.#pool,
      send: (reply, done) => this.#send(reply, done),
      end: () => {
        received.rest?.release();
        if (received.buffer !== undefined) this.#buffers.put(received.buffer);
        this.#endCall();
      },
    });
    // Before the call is handed over, so that the next record is on its way while this one is worked on.
    if (this.#callsUnderWay < this.#callsMax) this.#receiver.next();
    else this.#isPaused = true;
    if (this.#isClosing) call.reply(undefined);
    else this.onCall(call);
  }

  #send(reply: XdrMessage | undefined, done: () => void): void {
    if (reply === undefined || this.#isEnded) return done();
    try {
      this.#stream.send(recordPieces(this.#writer, reply), done);
    } catch {
      // Closed; `closed` of the stream is about to tell why.
      done();
    }
  }

  /** From now on nothing is sent or received. */
  #end(): void {
    this.#isEnded = true;
    this.#receiver.stop();
  }

  #endCall(): void {
    this.#callsUnderWay--;
    if (this.#isPaused) {
      this.#isPaused = false;
      this.#receiver.next();
    }
    if (this.#callsUnderWay === 0) this.#whenIdle?.();
  }
}

interface TcpCallParts {
  peer: PeerInfo;
  message: Uint8Array;
  bulk: IncomingCall["bulk"];
  pool: BulkPool;
  /** Sends a reply; `done` is called when its memory is free. */
  send: (reply: XdrMessage | undefined, done: () => void) => void;
  /** Called when all memory of the call is free. */
  end: () => void;
}

class TcpCall implements IncomingCall {
  readonly #parts: TcpCallParts;
  readonly #lent: Bulk[] = [];
  #isReplied = false;

  constructor(parts: TcpCallParts) {
    this.#parts = parts;
  }

  get peer(): PeerInfo {
    return this.#parts.peer;
  }

  get message(): Uint8Array {
    return this.#parts.message;
  }

  get bulk(): IncomingCall["bulk"] {
    return this.#parts.bulk;
  }

  allocateBulk(lengthBytes: number): Bulk {
    if (this.#isReplied) throw new TypeError("the call has been replied to");
    const memory = takeExactly(this.#parts.pool, lengthBytes);
    this.#lent.push(memory);
    return memory;
  }

  reply(message: XdrMessage | undefined): void {
    if (this.#isReplied) throw new TypeError("the call has been replied to");
    this.#isReplied = true;
    this.#parts.send(message, () => {
      for (const memory of this.#lent) memory.release();
      this.#parts.end();
    });
  }
}
