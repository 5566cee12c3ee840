/**
 * A call at the server's end of RPC-over-RDMA, and the memory that it holds.
 *
 * @module
 */
import type { Bulk, IncomingCall, PeerInfo, XdrMessage } from "../transport.ts";
import type { ChunkLists, FixedHeader } from "../wire/rpc_rdma.ts";
import { SMALL_BYTES } from "./byte_stream.ts";
import type { PullStream } from "./pull_stream.ts";
import type { PushSink } from "./push_sink.ts";
import { type Domain, type FindRegion, type LentMemory, localMemory, type Sge } from "./verbs.ts";

/** What a call has its transport do. */
export interface CallOperations {
  take(lengthBytes: number): LentMemory;
  reply(call: RdmaCall, message: XdrMessage | undefined): void;
  /** Memory of a call's payload has been given back. */
  returnPayload(bytes: number): void;
}

/** A call, from its Receive to the completion of its reply. */
export class RdmaCall implements IncomingCall {
  readonly peer: PeerInfo;
  readonly fixed: FixedHeader;
  /** What the reply grants. */
  readonly credits: number;
  readonly takesStreams: boolean;
  message: Uint8Array = new Uint8Array(0);
  bulk: IncomingCall["bulk"];
  /** Both end with the call. */
  stream: PullStream | undefined;
  sink: PushSink | undefined;
  chunks: ChunkLists = { reads: [], writes: [] };
  /** Bytes of payload that it may hold: pulled for it, or to be pushed. */
  payloadBytes = 0;
  readonly #operations: CallOperations;
  readonly #lent: LentMemory[] = [];
  readonly #releases: (() => void)[] = [];
  readonly #end: () => void;
  #isReplied = false;
  #isDropped = false;
  #outstanding = 0;

  constructor(
    operations: CallOperations,
    parts: { peer: PeerInfo; credits: number; fixed: FixedHeader; takesStreams: boolean; end: () => void },
  ) {
    this.#operations = operations;
    this.peer = parts.peer;
    this.fixed = parts.fixed;
    this.credits = parts.credits;
    this.takesStreams = parts.takesStreams;
    this.#end = parts.end;
  }

  allocateBulk(lengthBytes: number): Bulk {
    if (this.#isReplied) throw new TypeError("the call has been replied to");
    return this.lend(lengthBytes);
  }

  reply(message: XdrMessage | undefined): void {
    if (this.#isReplied) throw new TypeError("the call has been replied to");
    this.#isReplied = true;
    this.sink?.end();
    const reply = () => this.#operations.reply(this, message);
    if (this.stream === undefined) reply();
    else this.stream.end(reply);
  }

  /** Memory that the call holds until it ends. */
  lend(lengthBytes: number): LentMemory {
    const memory = this.#operations.take(lengthBytes);
    this.#lent.push(memory);
    return memory;
  }

  /** Where pieces lie in registered memory: lent to this call, copied if small, or registered in place until it ends. */
  locate(pieces: readonly Uint8Array[], { pd, findRegion }: { pd: Domain; findRegion?: FindRegion }): Sge[] {
    return pieces.map((piece) => {
      const length = piece.byteLength;
      for (const { bytes, region, offset } of this.#lent) {
        const at = piece.byteOffset - bytes.byteOffset;
        if (piece.buffer === bytes.buffer && at >= 0 && at + length <= bytes.byteLength) {
          return { region, offset: offset + at, length };
        }
      }
      if (length <= SMALL_BYTES) {
        const copy = this.lend(length);
        copy.bytes.set(piece);
        return { region: copy.region, offset: copy.offset, length };
      }
      const local = localMemory(piece, { pd, findRegion });
      this.#releases.push(local.release);
      return { region: local.region, offset: local.offset, length };
    });
  }

  /** Work that uses the call's memory has been posted. */
  hold(): void {
    this.#outstanding++;
  }

  /** Work that used the call's memory is done. */
  unhold(): void {
    this.#outstanding--;
    if (this.#isDropped && this.#outstanding === 0) this.#release();
  }

  /** Ends the call, as soon as no work that uses its memory is outstanding. */
  drop(): void {
    if (this.#isDropped) return;
    this.#isDropped = true;
    this.stream?.end();
    this.sink?.end();
    if (this.#outstanding === 0) this.#release();
  }

  #release(): void {
    for (const release of this.#releases) release();
    for (const memory of this.#lent) memory.release();
    if (this.payloadBytes > 0) this.#operations.returnPayload(this.payloadBytes);
    this.#end();
  }
}
