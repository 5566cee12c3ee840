/**
 * The client's end of RPC-over-RDMA version 1 (RFC 8166).
 *
 * Short calls and replies are Sends. A long bulk item of the arguments is offered as a Read chunk, memory for the results' as a Write chunk,
 * each under an STag of its own that is revoked when the reply has come, unless the server did so by Send with Invalidate. Calls and
 * replies that are long otherwise travel as a position-zero Read chunk and a Reply chunk.
 *
 * @module
 */
import { ProtocolError } from "../errors.ts";
import { decodeReply, encodeCall } from "../protocol/call_message.ts";
import { CallTable } from "../protocol/call_table.ts";
import { writtenLength } from "../protocol/chunks.ts";
import { CREDITS_MAX, CreditWindow } from "../protocol/credits.ts";
import type { Bulk, ClientTransport, RpcRequest, RpcResponse, XdrMessage } from "../transport.ts";
import {
  type ChunkLists,
  decodeError,
  decodeFixedHeader,
  decodeMessage,
  encodeHeader,
  headerBytes,
  MIN_HEADER_BYTES,
  RdmaError,
  RdmaProc,
  type RdmaSegment,
  READ_SEGMENT_BYTES,
  type ReadSegment,
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
import { ABORT_GRACE_MS } from "./byte_stream.ts";
import {
  Access,
  type Domain,
  expose,
  type FindRegion,
  pack,
  type ReceiveCompletion,
  type RegisteredPool,
  type Slot,
  SlotPool,
  type Verbs,
  type Window,
} from "./verbs.ts";

/** The usual size of the header of a reply: one with an empty verifier. */
const REPLY_HEADER_BYTES = 24;
/** The largest Reply chunk that is offered, for results that have no bound of their own. */
export const REPLY_CHUNK_BYTES_MAX = 2 * 1024 * 1024;
/** Choices for a client's connection. */
export interface RdmaClientOptions {
  /** Where memory is registered. */
  pd: Domain;
  /** Memory for `allocateBulk` and for long messages. */
  pool: RegisteredPool;
  /** How to find memory that the application has registered. */
  findRegion?: FindRegion;
  /** What the connection was made with; `OUR_SETTINGS` where left out. */
  settings?: InlineSettings;
  /** Calls outstanding at most. */
  creditsMax?: number;
  /** How long an aborted call waits for its reply before its memory is withdrawn, milliseconds. */
  abortGraceMs?: number;
}

interface Pending {
  readonly request: RpcRequest;
  resolve(response: RpcResponse): void;
  reject(error: unknown): void;
  /** STags that the call has given the server. */
  readonly windows: Window[];
  /** Memory of ours that holds a long call or reply. */
  readonly lent: Bulk[];
  /** The chunks that were offered. */
  writes: readonly (readonly RdmaSegment[])[];
  reply?: { segments: readonly RdmaSegment[]; bytes: Uint8Array };
  /** True where the caller's own memory is open to the server. */
  isExposed: boolean;
  isSettled: boolean;
  /** Set by an abort that has to wait for the reply. */
  aborted?: { reason: unknown };
  graceTimer?: ReturnType<typeof setTimeout>;
  /** Stops listening to the signal. */
  forgetSignal(): void;
}

/** A connection to an RPC-over-RDMA server. Posts its receives at once. */
export class RdmaClientTransport implements ClientTransport {
  readonly kind = "rdma";
  readonly closed: Promise<Error | undefined>;

  readonly #qp: Verbs;
  readonly #options: RdmaClientOptions;
  readonly #thresholds: InlineThresholds;
  readonly #creditsMax: number;
  readonly #credits: CreditWindow;
  readonly #calls = new CallTable<Pending>();
  readonly #queue = new Set<Pending>();
  readonly #receives: SlotPool;
  readonly #sends: SlotPool;
  readonly #writer = new XdrWriter();
  #error: Error | undefined;
  #isEnded = false;

  /** Takes the queue pair over. */
  constructor(qp: Verbs, options: RdmaClientOptions) {
    this.#qp = qp;
    this.#options = options;
    const settings = options.settings ?? OUR_SETTINGS;
    this.#thresholds = negotiate(settings, decodeCmPrivateData(qp.privateData));
    this.#creditsMax = options.creditsMax ?? CREDITS_MAX;
    this.#credits = new CreditWindow(this.#creditsMax);
    this.#receives = new SlotPool(options.pd, { count: this.#creditsMax, slotBytes: settings.receiveBytes });
    // A reply may come before the Send that it answers has been reported done.
    this.#sends = new SlotPool(options.pd, { count: 2 * this.#creditsMax, slotBytes: settings.sendBytes });
    this.closed = qp.closed.then((error) => this.#handleEnd(error));
    for (let slot = this.#receives.take(); slot !== undefined; slot = this.#receives.take()) this.#postReceive(slot);
  }

  /** The largest Sends, as agreed with the server. */
  get thresholds(): InlineThresholds {
    return this.#thresholds;
  }

  call(request: RpcRequest): Promise<RpcResponse> {
    const { signal } = request;
    return new Promise((resolve, reject) => {
      if (this.#isEnded) throw this.#lost();
      signal?.throwIfAborted();
      const call: Pending = {
        request,
        resolve,
        reject,
        windows: [],
        lent: [],
        writes: [],
        isExposed: false,
        isSettled: false,
        forgetSignal: () => {},
      };
      if (signal !== undefined) {
        const abort = () => this.#abort(call, signal.reason);
        signal.addEventListener("abort", abort, { once: true });
        call.forgetSignal = () => signal.removeEventListener("abort", abort);
      }
      this.#queue.add(call);
      this.#pump();
    });
  }

  allocateBulk(lengthBytes: number): Bulk {
    return this.#options.pool.take(lengthBytes);
  }

  /** Ends the connection; calls under way are rejected. */
  async close(): Promise<void> {
    if (!this.#isEnded) {
      this.#isEnded = true;
      await this.#qp.close();
    }
    await this.closed;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #lost(): Error {
    return this.#error ?? new ProtocolError("ConnectionLost", "the connection was closed");
  }

  #fail(error: Error): void {
    this.#error ??= error;
    this.#isEnded = true;
    this.#qp.abort();
  }

  /** The verbs are done with all memory. */
  #handleEnd(error: Error | undefined): Error | undefined {
    if (error !== undefined || !this.#isEnded) {
      this.#error ??= error ?? new ProtocolError("ConnectionLost", "the server closed the connection");
    }
    this.#isEnded = true;
    for (const call of [...this.#calls.drain(), ...this.#queue]) {
      this.#withdraw(call);
      this.#reject(call, call.aborted === undefined ? this.#lost() : call.aborted.reason);
    }
    this.#queue.clear();
    this.#receives.dispose();
    this.#sends.dispose();
    return this.#error;
  }

  /** Starts calls as far as there are credits. */
  #pump(): void {
    for (const call of this.#queue) {
      if (this.#isEnded || !this.#credits.take()) return;
      this.#queue.delete(call);
      const xid = call.request.xid ?? this.#calls.nextXid();
      try {
        this.#start(call, xid);
      } catch (error) {
        this.#calls.take(xid);
        this.#credits.put();
        this.#withdraw(call);
        this.#reject(call, error);
      }
    }
  }

  #start(call: Pending, xid: number): void {
    const message = encodeCall(this.#writer, xid, call.request);
    this.#offerReplyMemory(call);
    const { writes } = call;
    const results: ChunkLists = { reads: [], writes, reply: call.reply?.segments };
    const { proc, reads, inline } = this.#offerArguments(call, { message, headerBytes: headerBytes(results) });
    const slot = this.#sends.take();
    if (slot === undefined) throw new ProtocolError("NoCredit", "no buffer for a call");
    this.#writer.begin();
    encodeHeader(this.#writer, { xid, credits: this.#creditsMax, proc, chunks: { ...results, reads } });
    const length = pack(slot.bytes, [this.#writer.finish().bytes, ...inline]);
    this.#calls.add(xid, call);
    this.#post(slot, length);
  }

  #post(slot: Slot, length: number): void {
    try {
      this.#qp.postSend(
        { opcode: "send", local: [{ region: slot.region, offset: slot.offset, length }] },
        () => this.#sends.put(slot),
      );
    } catch (error) {
      this.#sends.put(slot);
      throw error;
    }
  }

  /** Opens memory for a reply that may not fit a Send. */
  #offerReplyMemory(call: Pending): void {
    const { placement, resultsBytesMax } = call.request;
    const room = this.#thresholds.receive - MIN_HEADER_BYTES - REPLY_HEADER_BYTES;
    const into = placement?.into;
    if (resultsBytesMax + (into === undefined ? 0 : padded(into.byteLength)) <= room) return;
    if (into !== undefined && into.byteLength > 0) {
      call.writes = [[this.#open(call, into, Access.RemoteWrite)]];
    }
    if (resultsBytesMax <= room - headerBytes({ reads: [], writes: call.writes }) + MIN_HEADER_BYTES) return;
    const memory = this.#options.pool.take(
      Math.min(REPLY_HEADER_BYTES + padded(resultsBytesMax), REPLY_CHUNK_BYTES_MAX),
    );
    call.lent.push(memory);
    const { region, offset, bytes } = memory;
    const window = region.bind({ offset, length: bytes.byteLength, access: Access.RemoteWrite, connection: this.#qp });
    call.windows.push(window);
    call.reply = { segments: [{ stag: window.stag, length: bytes.byteLength, offset: window.address }], bytes };
  }

  /** Decides how the call travels: what goes inline behind the header, and what the server is to read. */
  #offerArguments(
    call: Pending,
    { message, headerBytes }: { message: XdrMessage; headerBytes: number },
  ): { proc: 0 | 1; reads: ReadSegment[]; inline: Uint8Array[] } {
    const { bytes, bulk } = message;
    const room = this.#thresholds.send - headerBytes;
    const whole = bulk === undefined
      ? [bytes]
      : [bytes.subarray(0, bulk.position), bulk.data, padding(bulk.data), bytes.subarray(bulk.position)];
    const length = whole.reduce((sum, piece) => sum + piece.byteLength, 0);
    if (length <= room) return { proc: RdmaProc.RDMA_MSG, reads: [], inline: whole };
    if (bulk !== undefined && bytes.byteLength <= room - READ_SEGMENT_BYTES) {
      const segment = this.#open(call, bulk.data, Access.RemoteRead);
      return { proc: RdmaProc.RDMA_MSG, reads: [{ position: bulk.position, ...segment }], inline: [bytes] };
    }
    // All of it is for the server to read: the bulk item from where it is, the rest from a copy.
    const reads: ReadSegment[] = [];
    for (const pieces of bulk === undefined ? [whole] : [whole.slice(0, 1), whole.slice(1, 2), whole.slice(2)]) {
      const isContents = bulk !== undefined && pieces[0] === bulk.data;
      const segment = isContents ? this.#open(call, bulk.data, Access.RemoteRead) : this.#copyOut(call, pieces);
      if (segment.length > 0) reads.push({ position: 0, ...segment });
    }
    return { proc: RdmaProc.RDMA_NOMSG, reads, inline: [] };
  }

  /** Opens the caller's memory to the server. */
  #open(call: Pending, bytes: Uint8Array, access: number): RdmaSegment {
    const { pd, findRegion } = this.#options;
    const window = expose(bytes, { pd, findRegion, access, connection: this.#qp });
    call.windows.push(window);
    call.isExposed = true;
    return { stag: window.stag, length: bytes.byteLength, offset: window.address };
  }

  /** Opens a copy of `pieces` to the server. */
  #copyOut(call: Pending, pieces: readonly Uint8Array[]): RdmaSegment {
    const length = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
    if (length === 0) return { stag: 0, length, offset: 0n };
    const memory = this.#options.pool.take(length);
    call.lent.push(memory);
    pack(memory.bytes, pieces);
    const window = memory.region.bind({
      offset: memory.offset,
      length,
      access: Access.RemoteRead,
      connection: this.#qp,
    });
    call.windows.push(window);
    return { stag: window.stag, length, offset: window.address };
  }

  #postReceive(slot: Slot): void {
    if (this.#isEnded) return this.#receives.put(slot);
    const local = [{ region: slot.region, offset: slot.offset, length: slot.bytes.byteLength }];
    try {
      this.#qp.postRecv(local, (completion) => this.#handleReceive(slot, completion));
    } catch {
      // The connection has ended, which `closed` is about to tell.
      this.#receives.put(slot);
    }
  }

  #handleReceive(slot: Slot, completion: ReceiveCompletion): void {
    if (completion.status !== "success") return this.#receives.put(slot);
    try {
      this.#handleReply(slot, completion);
    } catch (error) {
      this.#receives.put(slot);
      this.#fail(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #handleReply(slot: Slot, { byteLength, invalidatedStag }: ReceiveCompletion): void {
    const message = slot.bytes.subarray(0, byteLength);
    const fixed = decodeFixedHeader(message);
    if (fixed.version !== RPC_RDMA_VERSION) {
      throw new ProtocolError("BadVersion", `version ${fixed.version} in a reply`);
    }
    const call = this.#calls.get(fixed.xid);
    if (call === undefined) throw new ProtocolError("UnknownXid", `a reply to xid ${fixed.xid}, which was not asked`);
    if (invalidatedStag !== undefined && !call.windows.some(({ stag }) => stag === invalidatedStag)) {
      throw new ProtocolError("BadInvalidation", "the server invalidated an STag that the call did not offer");
    }
    const outcome = this.#readReply(call, message);
    this.#calls.take(fixed.xid);
    this.#credits.handleGrant(fixed.credits);
    for (const window of call.windows) window.revoke();
    // The credit goes back together with the receive buffer: there are as many receives posted as calls can be outstanding.
    const release = () => {
      for (const memory of call.lent) memory.release();
      this.#credits.put();
      this.#postReceive(slot);
      this.#pump();
    };
    if (call.isSettled || call.aborted !== undefined || "error" in outcome) {
      release();
      this.#reject(call, call.aborted?.reason ?? ("error" in outcome ? outcome.error : undefined));
      return;
    }
    this.#settled(call);
    let isReleased = false;
    call.resolve({
      ...outcome,
      release: () => {
        if (!isReleased) release();
        isReleased = true;
      },
    });
  }

  /** What a reply says. Throws where the server broke the rules. */
  #readReply(call: Pending, message: Uint8Array): { results: Uint8Array; placedBytes?: number } | { error: Error } {
    const fixed = decodeFixedHeader(message);
    if (fixed.proc === RdmaProc.RDMA_ERROR) {
      const error = decodeError(message);
      return {
        error: error.code === RdmaError.ERR_VERS
          ? new ProtocolError("BadVersion", `the server speaks versions ${error.low} to ${error.high} of RPC-over-RDMA`)
          : new ProtocolError("BadChunk", "the server could not process the chunks of the call"),
      };
    }
    const { chunks, body, proc } = decodeMessage(fixed, message);
    if (chunks.reads.length > 0) throw new ProtocolError("BadChunk", "a reply with a Read list");
    const placed = placedLength(chunks, call);
    const long = chunks.reply === undefined ? 0 : writtenLength(chunks.reply, call.reply?.segments ?? []);
    const isLong = proc === RdmaProc.RDMA_NOMSG;
    if (isLong !== long > 0) {
      throw new ProtocolError("BadChunk", isLong ? "a long reply without a Reply chunk" : "a short reply with one");
    }
    try {
      const reply = decodeReply(isLong ? call.reply!.bytes.subarray(0, long) : body);
      return "error" in reply ? reply : { results: reply.results, placedBytes: placed > 0 ? placed : undefined };
    } catch (error) {
      return { error: error as Error };
    }
  }

  /** Lets go of all that a call held. */
  #withdraw(call: Pending): void {
    for (const window of call.windows) window.revoke();
    for (const memory of call.lent) memory.release();
  }

  #settled(call: Pending): void {
    call.isSettled = true;
    call.forgetSignal();
    clearTimeout(call.graceTimer);
  }

  #reject(call: Pending, error: unknown): void {
    this.#settled(call);
    call.reject(error);
  }

  /**
   * An aborted call whose memory the server cannot touch rejects at once, and its reply is dropped. Otherwise the reply is waited for, but not for
   * long: then the memory is withdrawn, and if the server still wants it the connection ends.
   */
  #abort(call: Pending, reason: unknown): void {
    if (this.#queue.delete(call) || !call.isExposed) return this.#reject(call, reason);
    call.aborted = { reason };
    call.graceTimer = setTimeout(() => {
      for (const window of call.windows) window.revoke();
      this.#reject(call, reason);
    }, this.#options.abortGraceMs ?? ABORT_GRACE_MS);
  }
}

/** How many bytes the server wrote into the Write chunk. A reply that returns none of an offered chunk wrote nothing. */
function placedLength({ writes }: ChunkLists, call: Pending): number {
  if (writes.length === 0) return 0;
  if (writes.length > call.writes.length) {
    throw new ProtocolError("BadPlacement", "more Write chunks than were offered");
  }
  return writtenLength(writes[0], call.writes[0]);
}

function padded(length: number): number {
  return Math.ceil(length / 4) * 4;
}

const ZEROS = new Uint8Array(4);

function padding(data: Uint8Array): Uint8Array {
  return ZEROS.subarray(0, -data.byteLength & 3);
}
