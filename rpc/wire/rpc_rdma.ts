/**
 * RPC-over-RDMA version 1 transport headers (RFC 8166 §4).
 *
 * A header says how the RPC message behind it is to be completed: Read segments to pull, Write chunks to push results to, a Reply
 * chunk for a whole long reply. Lists are decoded with a bound on everything, so that a header costs what its bytes cost.
 *
 * @module
 */
import { ProtocolError, WireError } from "../errors.ts";
import { XdrReader } from "../xdr/xdr_reader.ts";
import type { XdrWriter } from "../xdr/xdr_writer.ts";

/** The version that this is. */
export const RPC_RDMA_VERSION = 1;

/** `rdma_proc`. RDMA_MSGP and RDMA_DONE are of the past and refused (RFC 8166 §4.2.4). */
export const RdmaProc = { RDMA_MSG: 0, RDMA_NOMSG: 1, RDMA_MSGP: 2, RDMA_DONE: 3, RDMA_ERROR: 4 } as const;
/** `rpc_rdma_errcode`. */
export const RdmaError = { ERR_VERS: 1, ERR_CHUNK: 2 } as const;

/** Bytes of the words in front of every header. */
export const FIXED_HEADER_BYTES = 16;
/** Bytes of a header without chunks. */
export const MIN_HEADER_BYTES = 28;
/** Bytes of one segment. */
export const SEGMENT_BYTES = 16;
/** Bytes that a Read segment adds to a header. */
export const READ_SEGMENT_BYTES = 8 + SEGMENT_BYTES;
/** Bytes that a Write chunk adds, its segments apart. A Reply chunk adds 4 less. */
export const WRITE_CHUNK_BYTES = 8;

/** The most Read segments that a header may list. */
export const READ_SEGMENTS_MAX = 256;
/** The most Write chunks. */
export const WRITE_CHUNKS_MAX = 16;
/** The most segments in a Write or Reply chunk. */
export const CHUNK_SEGMENTS_MAX = 256;

/** A stretch of remote memory: `xdr_rdma_segment`. */
export interface RdmaSegment {
  stag: number;
  /** Bytes. */
  length: number;
  /** Tagged offset of the first one. */
  offset: bigint;
}

/** A stretch to be read: `xdr_read_chunk`. All with the same position form one chunk. */
export interface ReadSegment extends RdmaSegment {
  /** Where in the XDR stream the contents belong; 0: they are the stream. */
  position: number;
}

/** The words in front of every header. */
export interface FixedHeader {
  xid: number;
  version: number;
  /** Credits asked for (in a call) or granted (in a reply). */
  credits: number;
  /** `rdma_proc`, as the peer wrote it. */
  proc: number;
}

/** Chunk lists. */
export interface ChunkLists {
  reads: readonly ReadSegment[];
  writes: readonly (readonly RdmaSegment[])[];
  reply?: readonly RdmaSegment[];
}

/** A header that does not need more than its fixed words and empty lists. */
export const NO_CHUNKS: ChunkLists = Object.freeze({ reads: [], writes: [] });

/** A message decoded. */
export interface RdmaMessage extends FixedHeader {
  version: typeof RPC_RDMA_VERSION;
  proc: typeof RdmaProc.RDMA_MSG | typeof RdmaProc.RDMA_NOMSG;
  chunks: ChunkLists;
  /** What stands behind the header: the RPC message, or nothing (RDMA_NOMSG). A view. */
  body: Uint8Array;
}

/** Reads the fixed words. Throws `WireError` for a message that has not even these, and so cannot be answered. */
export function decodeFixedHeader(message: Uint8Array): FixedHeader {
  if (message.byteLength < FIXED_HEADER_BYTES) {
    throw new WireError("cut short", { layer: "rpc-rdma", offset: message.byteLength });
  }
  const view = new DataView(message.buffer, message.byteOffset, FIXED_HEADER_BYTES);
  return { xid: view.getUint32(0), version: view.getUint32(4), credits: view.getUint32(8), proc: view.getUint32(12) };
}

/**
 * Reads an RDMA_MSG or RDMA_NOMSG whose fixed words have been read. Throws `ProtocolError`: "BadVersion" for another version,
 * "BadChunk" for chunk lists that cannot be read or are beyond the limits, "UnexpectedMessage" for any other procedure.
 */
export function decodeMessage(fixed: FixedHeader, message: Uint8Array): RdmaMessage {
  const { version, proc } = fixed;
  if (version !== RPC_RDMA_VERSION) {
    throw new ProtocolError("BadVersion", `version ${version} of RPC-over-RDMA`);
  }
  if (proc !== RdmaProc.RDMA_MSG && proc !== RdmaProc.RDMA_NOMSG) {
    throw new ProtocolError("UnexpectedMessage", `rdma_proc ${proc}`);
  }
  const reader = new XdrReader(message.subarray(FIXED_HEADER_BYTES));
  const chunks = decodeChunkLists(reader);
  const body = message.subarray(FIXED_HEADER_BYTES + reader.offset);
  if (proc === RdmaProc.RDMA_NOMSG && body.byteLength > 0) {
    throw new ProtocolError("BadChunk", `${body.byteLength} bytes behind RDMA_NOMSG`);
  }
  return { ...fixed, version, proc, chunks, body };
}

function decodeChunkLists(reader: XdrReader): ChunkLists {
  try {
    const reads: ReadSegment[] = [];
    while (reader.bool()) {
      if (reads.length === READ_SEGMENTS_MAX) throw tooMany("Read segments", READ_SEGMENTS_MAX);
      const position = reader.uint32();
      if ((position & 3) !== 0) throw new ProtocolError("BadChunk", `a Read chunk at position ${position}`);
      reads.push({ position, ...decodeSegment(reader) });
    }
    const writes: RdmaSegment[][] = [];
    while (reader.bool()) {
      if (writes.length === WRITE_CHUNKS_MAX) throw tooMany("Write chunks", WRITE_CHUNKS_MAX);
      writes.push(decodeSegments(reader));
    }
    return reader.bool() ? { reads, writes, reply: decodeSegments(reader) } : { reads, writes };
  } catch (cause) {
    if (cause instanceof WireError) throw new ProtocolError("BadChunk", "unreadable chunk lists", { cause });
    throw cause;
  }
}

function decodeSegments(reader: XdrReader): RdmaSegment[] {
  const count = reader.uint32();
  if (count === 0) throw new ProtocolError("BadChunk", "a chunk without segments");
  if (count > CHUNK_SEGMENTS_MAX) throw tooMany("segments", CHUNK_SEGMENTS_MAX);
  const segments: RdmaSegment[] = [];
  for (let i = 0; i < count; i++) segments.push(decodeSegment(reader));
  return segments;
}

function decodeSegment(reader: XdrReader): RdmaSegment {
  const stag = reader.uint32();
  const length = reader.uint32();
  return { stag, length, offset: reader.uint64() };
}

function tooMany(what: string, max: number): ProtocolError {
  return new ProtocolError("BadChunk", `more than ${max} ${what}`);
}

/** Writes the header of an RDMA_MSG or RDMA_NOMSG; the body follows. */
export function encodeHeader(
  writer: XdrWriter,
  header: { xid: number; credits: number; proc: RdmaMessage["proc"]; chunks?: ChunkLists },
): void {
  const { reads, writes, reply } = header.chunks ?? NO_CHUNKS;
  encodeFixed(writer, header);
  for (const segment of reads) {
    writer.bool(true);
    writer.uint32(segment.position);
    encodeSegment(writer, segment);
  }
  writer.bool(false);
  for (const segments of writes) {
    writer.bool(true);
    encodeSegments(writer, segments);
  }
  writer.bool(false);
  writer.bool(reply !== undefined);
  if (reply !== undefined) encodeSegments(writer, reply);
}

/** Bytes that `encodeHeader` writes. */
export function headerBytes({ reads, writes, reply }: ChunkLists): number {
  let bytes = MIN_HEADER_BYTES + reads.length * READ_SEGMENT_BYTES;
  for (const segments of writes) bytes += WRITE_CHUNK_BYTES + segments.length * SEGMENT_BYTES;
  if (reply !== undefined) bytes += 4 + reply.length * SEGMENT_BYTES;
  return bytes;
}

function encodeFixed(writer: XdrWriter, { xid, credits, proc }: { xid: number; credits: number; proc: number }): void {
  writer.uint32(xid);
  writer.uint32(RPC_RDMA_VERSION);
  writer.uint32(credits);
  writer.uint32(proc);
}

function encodeSegments(writer: XdrWriter, segments: readonly RdmaSegment[]): void {
  writer.uint32(segments.length);
  for (const segment of segments) encodeSegment(writer, segment);
}

function encodeSegment(writer: XdrWriter, { stag, length, offset }: RdmaSegment): void {
  writer.uint32(stag);
  writer.uint32(length);
  writer.uint64(offset);
}

/** Why a message could not be processed: RDMA_ERROR (RFC 8166 §4.5). */
export type RdmaErrorBody = { code: typeof RdmaError.ERR_VERS; low: number; high: number } | {
  code: typeof RdmaError.ERR_CHUNK;
};

/** Writes an RDMA_ERROR. */
export function encodeError(writer: XdrWriter, error: { xid: number; credits: number } & RdmaErrorBody): void {
  encodeFixed(writer, { ...error, proc: RdmaProc.RDMA_ERROR });
  writer.uint32(error.code);
  if (error.code !== RdmaError.ERR_VERS) return;
  writer.uint32(error.low);
  writer.uint32(error.high);
}

/** Reads what an RDMA_ERROR says. Throws `WireError`. */
export function decodeError(message: Uint8Array): RdmaErrorBody {
  const reader = new XdrReader(message.subarray(FIXED_HEADER_BYTES));
  const code = reader.uint32();
  if (code === RdmaError.ERR_CHUNK) return { code };
  if (code !== RdmaError.ERR_VERS) {
    throw new WireError(`rpc_rdma_errcode ${code}`, { layer: "rpc-rdma", offset: FIXED_HEADER_BYTES });
  }
  const low = reader.uint32();
  return { code, low, high: reader.uint32() };
}
