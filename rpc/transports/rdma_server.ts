/**
 * The server's end of RPC-over-RDMA version 1 (RFC 8166).
 *
 * A call's Read chunks are pulled into memory of the pool before it is handed over, but a long bulk item while the handler takes it
 * (`pull_stream.ts`); the bulk item of its results is pushed into its Write chunk from where the handler left it, and the reply follows as a Send, which invalidates the call's STag where it has just one and the
 * client can take that. A call that cannot be processed is answered with RDMA_ERROR; one that cannot even be answered ends the connection.
 *
 * @module
 */
import { ProtocolError } from "../errors.ts";
import {
  lengthOf,
  planPulls,
  type PullChunk,
  type PullPlan,
  type Push,
  sharedStag,
  spread,
  unused,
} from "../protocol/chunks.ts";
import { clampCredits, CREDITS_MAX } from "../protocol/credits.ts";
import type { IncomingCall, PeerInfo, ServerTransport, XdrMessage } from "../transport.ts";
import {
  decodeFixedHeader,
  decodeMessage,
  encodeError,
  encodeHeader,
  type FixedHeader,
  headerBytes,
  RdmaError,
  type RdmaMessage,
  RdmaProc,
  RPC_RDMA_VERSION,
} from "../wire/rpc_rdma.ts";
import {
  decodeCmPrivateData,
  type InlineSettings,
  type InlineThresholds,
  negotiate,
  OUR_SETTINGS,
} from "../wire/rpc_rdma_cm.ts";
import { XdrWriter } from "../xdr/xdr_writer.ts";
import type { PieceOperations, Reservation } from "./pieces.ts";
import { PullStream, type StreamOperations } from "./pull_stream.ts";
import { PushSink, type SinkOperations } from "./push_sink.ts";
import { type CallOperations, RdmaCall } from "./rdma_call.ts";
import {
  type Domain,
  type FindRegion,
  type LentMemory,
  pack,
  type ReceiveCompletion,
  type RegisteredPool,
  slice,
  type Slot,
  SlotPool,
  type Verbs,
  type Work,
} from "./verbs.ts";

/** The most bytes that a call may have the server pull. */
export const READ_BYTES_MAX = 4 * 1024 * 1024;
/**
 * Bytes of payload, pulled and to be pushed, for calls of one connection that are under way; further ones wait. So little that memory is still
 * in the processor's cache when what was received goes to the file, or what was read from it to the socket: 32 MiB took a third longer.
 */
export const PAYLOAD_BUDGET_BYTES = 4 * 1024 * 1024;

/** Choices for a server's connection. */
export interface RdmaServerOptions {
  /** Where memory is registered. */
  pd: Domain;
  /** Payload memory. */
  pool: RegisteredPool;
  /** How to find the registration of memory that a handler replies from and that is not from `allocateBulk`. */
  findRegion?: FindRegion;
  /** The peer's private data from the connection request. */
  privateData: Uint8Array;
  /** What the request was accepted with; `OUR_SETTINGS` where left out. */
  settings?: InlineSettings;
  /** The most credits granted. */
  creditsMax?: number;
  /** The most bytes that a call may have the server pull. */
  readBytesMax?: number;
  /** Bulk items of arguments that are longer than this are handed over as streams of such pieces. All come whole if absent. */
  pieceBytes?: number;
  /** Bytes of payload for calls that are under way. */
  payloadBudgetBytes?: number;
}

/** One connection of an RPC-over-RDMA client. Make it in `onReady` of `accept`, and set `onCall` there: it posts its receives at once. */
export class RdmaServerTransport implements ServerTransport {
  /** The client. */
  readonly peer: PeerInfo;
  onCall: (call: IncomingCall) => void = (call) => call.reply(undefined);
  readonly closed: Promise<Error | undefined>;

  readonly #qp: Verbs;
  readonly #options: RdmaServerOptions;
  readonly #thresholds: InlineThresholds;
  readonly #creditsMax: number;
  readonly #receives: SlotPool;
  readonly #sends: SlotPool;
  readonly #writer = new XdrWriter();
  /** Receives that are not posted for want of a slot. */
  #receivesOwed = 0;
  #callsUnderWay = 0;
  #payloadBytes = 0;
  /** Calls, and pieces of them, that wait for others to give memory back. */
  readonly #waiting: Reservation[] = [];
  #isClosing = false;
  #isEnded = false;
  #fault: Error | undefined;
  #whenIdle: (() => void) | undefined;

  /** Takes the queue pair over. */
  constructor(qp: Verbs, options: RdmaServerOptions) {
    this.#qp = qp;
    this.#options = options;
    const settings = options.settings ?? OUR_SETTINGS;
    this.#thresholds = negotiate(settings, decodeCmPrivateData(options.privateData));
    this.#creditsMax = options.creditsMax ?? CREDITS_MAX;
    this.peer = { transport: "rdma", address: qp.remoteAddress, port: qp.remotePort };
    // One for each call under way and one for each receive that is posted meanwhile.
    const count = 2 * this.#creditsMax;
    this.#receives = new SlotPool(options.pd, { count, slotBytes: settings.receiveBytes });
    this.#sends = new SlotPool(options.pd, { count, slotBytes: settings.sendBytes });
    this.closed = qp.closed.then((error) => {
      this.#end();
      this.#dropWaiting();
      this.#receives.dispose();
      this.#sends.dispose();
      return this.#fault ?? error;
    });
    this.#receivesOwed = this.#creditsMax;
    this.#postReceives();
  }

  /** The largest Sends, as agreed with the client. */
  get thresholds(): InlineThresholds {
    return this.#thresholds;
  }

  /** Takes no more calls, waits for the replies under way, ends the connection. */
  async close(): Promise<void> {
    if (this.#isClosing) return void await this.closed;
    this.#isClosing = true;
    if (this.#callsUnderWay > 0) {
      const idle = new Promise<void>((resolve) => this.#whenIdle = resolve);
      await Promise.race([idle, this.#qp.closed]);
    }
    if (!this.#isEnded) {
      this.#end();
      await this.#qp.close();
    }
    await this.closed;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #end(): void {
    this.#isEnded = true;
  }

  #fail(error: unknown): void {
    this.#fault ??= error instanceof Error ? error : new Error(String(error));
    if (this.#isEnded) return;
    this.#end();
    this.#qp.abort();
  }

  #postReceives(): void {
    while (this.#receivesOwed > 0 && !this.#isEnded) {
      const slot = this.#receives.take();
      if (slot === undefined) return;
      this.#receivesOwed--;
      const local = [{ region: slot.region, offset: slot.offset, length: slot.bytes.byteLength }];
      try {
        this.#qp.postRecv(local, (completion) => this.#handleReceive(slot, completion));
      } catch (error) {
        this.#receives.put(slot);
        return this.#fail(error);
      }
    }
  }

  #handleReceive(slot: Slot, completion: ReceiveCompletion): void {
    if (completion.status !== "success") return this.#receives.put(slot);
    this.#receivesOwed++;
    this.#postReceives();
    this.#callsUnderWay++;
    const message = slot.bytes.subarray(0, completion.byteLength);
    const endCall = () => {
      this.#receives.put(slot);
      this.#postReceives();
      this.#endCall();
    };
    let fixed: FixedHeader;
    try {
      fixed = decodeFixedHeader(message);
    } catch (error) {
      endCall();
      return this.#fail(error);
    }
    // A client that gives up, and a message of old, ask for no answer.
    if (this.#isClosing || this.#isEnded || fixed.proc === RdmaProc.RDMA_ERROR || fixed.proc === RdmaProc.RDMA_DONE) {
      return endCall();
    }
    const call = new RdmaCall(this.#operations, {
      peer: this.peer,
      credits: this.#grant(fixed),
      fixed,
      takesStreams: this.#options.pieceBytes !== undefined,
      end: endCall,
    });
    try {
      this.#begin(call, decodeMessage(fixed, message));
    } catch (error) {
      this.#refuse(call, error);
    }
  }

  #grant({ credits }: FixedHeader): number {
    return clampCredits(credits, this.#creditsMax);
  }

  /** Pulls what a call's Read chunks hold, then hands it over. */
  #begin(call: RdmaCall, message: RdmaMessage): void {
    const plan = planPulls(message, this.#options.readBytesMax ?? READ_BYTES_MAX);
    const length = (plan.message?.length ?? 0) + (plan.bulk?.length ?? 0) + lengthOf(message.chunks.writes[0] ?? []);
    call.chunks = message.chunks;
    call.message = message.body;
    if (length === 0) return this.#handOver(call);
    const { pieceBytes = Infinity } = this.#options;
    if (plan.bulk !== undefined && plan.bulk.length > pieceBytes && plan.bulk.length === length) {
      call.stream = new PullStream(plan.bulk, pieceBytes, this.#streamOperations(call));
      call.stream.start();
      return this.#handOver(call);
    }
    if (plan.message === undefined && plan.bulk === undefined && length > pieceBytes) {
      call.sink = new PushSink(message.chunks.writes[0], pieceBytes, this.#sinkOperations(call));
      return this.#handOver(call);
    }
    this.#reserve({
      length,
      start: () => {
        call.payloadBytes = length;
        this.#pull(call, plan);
      },
      drop: () => call.drop(),
    });
  }

  /** `drop`: has the item fail whose pieces wait for room. */
  #pieceOperations(drop: () => void): PieceOperations {
    return {
      reserve: (length, start) => this.#reserve({ length, start, drop }),
      giveBack: this.#operations.returnPayload,
    };
  }

  #streamOperations(call: RdmaCall): StreamOperations {
    return {
      ...this.#pieceOperations(() => call.stream?.fail()),
      pull: (chunk, done) => {
        const memory = call.lend(chunk.length); // given back before the call ends, unless something goes wrong
        this.#read(call, [[chunk, memory]], done);
        return memory;
      },
    };
  }

  #sinkOperations(call: RdmaCall): SinkOperations {
    return {
      ...this.#pieceOperations(() => call.sink?.fail()),
      take: (lengthBytes) => call.lend(lengthBytes),
      push: ({ region, offset }, pushes, done) => {
        let outstanding = 1;
        const settle = () => void (--outstanding === 0 && done());
        try {
          for (const { at, length, remote } of pushes) {
            this.#postWork(call, { opcode: "write", local: [{ region, offset: offset + at, length }], remote }, settle);
            outstanding++;
          }
        } finally {
          settle(); // those that were posted before an error are still to end
        }
      },
    };
  }

  #reserve(reservation: Reservation): void {
    this.#waiting.push(reservation);
    this.#startWaiting();
  }

  #startWaiting(): void {
    const budget = this.#options.payloadBudgetBytes ?? PAYLOAD_BUDGET_BYTES;
    for (let next = this.#waiting[0]; next !== undefined && !this.#isEnded; next = this.#waiting[0]) {
      const { length, start, drop } = next;
      if (this.#payloadBytes > 0 && this.#payloadBytes + length > budget) return;
      this.#waiting.shift();
      this.#payloadBytes += length;
      try {
        start();
      } catch (error) {
        // Nothing of ours: the verbs or the pool refused.
        drop();
        return this.#fail(error);
      }
    }
  }

  #dropWaiting(): void {
    for (const { drop } of this.#waiting.splice(0)) drop();
  }

  #pull(call: RdmaCall, plan: PullPlan): void {
    const message = plan.message === undefined ? undefined : call.lend(plan.message.length);
    const bulk = plan.bulk === undefined ? undefined : call.lend(plan.bulk.length);
    this.#read(call, [[plan.message, message], [plan.bulk, bulk]], (isThere) => {
      if (!isThere) return call.drop();
      if (message !== undefined) call.message = message.bytes;
      if (bulk !== undefined) call.bulk = { position: plan.bulk!.position, data: bulk.bytes };
      this.#handOver(call);
    });
  }

  /** Reads chunks, each into its memory; `done` is told whether all of them are there. */
  #read(call: RdmaCall, pulls: readonly [PullChunk?, LentMemory?][], done: (isThere: boolean) => void): void {
    let outstanding = 1;
    let isThere = true;
    const settle = (status: string) => {
      isThere &&= status === "success";
      if (--outstanding === 0) done(isThere);
    };
    for (const [chunk, memory] of pulls) {
      if (chunk === undefined || memory === undefined) continue;
      let at = memory.offset;
      for (const { stag, length, offset } of chunk.segments) {
        if (length === 0) continue;
        const local = [{ region: memory.region, offset: at, length }];
        this.#postWork(call, { opcode: "read", local, remote: { stag, address: offset } }, settle);
        outstanding++;
        at += length;
      }
    }
    settle("success");
  }

  #handOver(call: RdmaCall): void {
    if (this.#isClosing || this.#isEnded) return call.drop();
    try {
      this.onCall(call);
    } catch (error) {
      call.drop();
      this.#fail(error);
    }
  }

  /** Posts work that uses memory of a call, which holds it until the work is done. */
  #postWork(call: RdmaCall, work: Work, done?: (status: string) => void): void {
    call.hold();
    try {
      this.#qp.postSend(work, ({ status }) => {
        done?.(status);
        call.unhold();
      });
    } catch (error) {
      call.unhold();
      throw error;
    }
  }

  readonly #operations: CallOperations = {
    take: (lengthBytes) => this.#options.pool.take(lengthBytes),
    reply: (call, message) => this.#reply(call, message),
    returnPayload: (bytes) => {
      this.#payloadBytes -= bytes;
      this.#startWaiting();
    },
  };

  #reply(call: RdmaCall, message: XdrMessage | undefined): void {
    if (message === undefined || this.#isEnded) return call.drop();
    try {
      this.#send(call, message);
    } catch (error) {
      call.drop();
      this.#fail(error);
    }
  }

  /** Chooses how a reply travels: contents to the Write chunk where there is one, the rest inline or to the Reply chunk. */
  #send(call: RdmaCall, { bytes, bulk }: XdrMessage): void {
    const { chunks } = call;
    const writes = chunks.writes.map(unused);
    const offered = chunks.reply && unused(chunks.reply);
    let pieces: Uint8Array[] = [bytes];
    let direct: { pushes: Push[]; data: Uint8Array } | undefined;
    const sentBytes = call.sink?.sentBytes ?? 0;
    if (sentBytes > 0) writes[0] = spread(sentBytes, chunks.writes[0])!.returned;
    if (bulk !== undefined && writes.length > 0) {
      const contents = spread(bulk.data.byteLength, chunks.writes[0]);
      if (contents === undefined) return this.#refuse(call, noRoom(bulk.data.byteLength));
      writes[0] = contents.returned;
      direct = { pushes: contents.pushes, data: bulk.data };
    } else if (bulk !== undefined) {
      pieces = [bytes.subarray(0, bulk.position), bulk.data, padding(bulk.data), bytes.subarray(bulk.position)];
    }
    const length = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
    const isShort = headerBytes({ reads: [], writes, reply: offered }) + length <= this.#thresholds.send;
    const long = isShort ? undefined : spread(length, chunks.reply ?? []);
    if (!isShort && long === undefined) return this.#refuse(call, noRoom(length));
    if (direct !== undefined) this.#push(call, direct.pushes, [direct.data]);
    if (long !== undefined) this.#push(call, long.pushes, pieces);
    this.#writer.begin();
    encodeHeader(this.#writer, {
      xid: call.fixed.xid,
      credits: call.credits,
      proc: isShort ? RdmaProc.RDMA_MSG : RdmaProc.RDMA_NOMSG,
      chunks: { reads: [], writes, reply: long?.returned ?? offered },
    });
    this.#post(call, [this.#writer.finish().bytes, ...(isShort ? pieces : [])]);
  }

  /** Writes pieces to the client's memory, from where they lie. */
  #push(call: RdmaCall, pushes: readonly Push[], pieces: readonly Uint8Array[]): void {
    const local = call.locate(pieces.filter((piece) => piece.byteLength > 0), this.#options);
    for (const { at, length, remote } of pushes) {
      this.#postWork(call, { opcode: "write", local: slice(local, { at, length }), remote });
    }
  }

  /** Sends the last message of a call. */
  #post(call: RdmaCall, pieces: readonly Uint8Array[]): void {
    const slot = this.#sends.take();
    if (slot === undefined) throw new ProtocolError("NoCredit", "no buffer for a reply");
    const length = pack(slot.bytes, pieces);
    const local = [{ region: slot.region, offset: slot.offset, length }];
    const invalidate = this.#thresholds.mayInvalidate ? sharedStag(call.chunks) : undefined;
    try {
      this.#postWork(call, { opcode: "send", local, invalidate }, () => {
        this.#sends.put(slot);
        call.drop();
      });
    } catch (error) {
      this.#sends.put(slot);
      throw error;
    }
  }

  /** Answers a call that cannot be processed with RDMA_ERROR (RFC 8166 §4.5). */
  #refuse(call: RdmaCall, error: unknown): void {
    if (!(error instanceof ProtocolError)) {
      call.drop();
      return this.#fail(error);
    }
    const { xid } = call.fixed;
    const { credits } = call;
    this.#writer.begin();
    if (error.code === "BadVersion") {
      const versions = { low: RPC_RDMA_VERSION, high: RPC_RDMA_VERSION };
      encodeError(this.#writer, { xid, credits, code: RdmaError.ERR_VERS, ...versions });
    } else {
      encodeError(this.#writer, { xid, credits, code: RdmaError.ERR_CHUNK });
    }
    call.chunks = { reads: [], writes: [] };
    try {
      this.#post(call, [this.#writer.finish().bytes]);
    } catch (cause) {
      call.drop();
      this.#fail(cause);
    }
  }

  #endCall(): void {
    this.#callsUnderWay--;
    if (this.#callsUnderWay === 0) this.#whenIdle?.();
  }
}

function noRoom(length: number): ProtocolError {
  return new ProtocolError("BadChunk", `no room for ${length} bytes of reply`);
}

const ZEROS = new Uint8Array(4);

function padding(data: Uint8Array): Uint8Array {
  return ZEROS.subarray(0, -data.byteLength & 3);
}
