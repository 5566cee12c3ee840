/**
 * What chunk lists mean (RFC 8166 §3.4, §4.3): which segments form the message, which hold its bulk item, how results are spread over
 * the segments that a client gave.
 *
 * @module
 */
import { ProtocolError } from "../errors.ts";
import { type ChunkLists, type RdmaMessage, RdmaProc, type RdmaSegment, type ReadSegment } from "../wire/rpc_rdma.ts";

/** What a server has to pull before it can look at a call. */
export interface PullPlan {
  /** The message itself: a position-zero Read chunk. */
  message?: PullChunk;
  /** The bulk item of the arguments. */
  bulk?: PullChunk & { position: number };
}

/** Segments to be read one behind the other. */
export interface PullChunk {
  segments: readonly RdmaSegment[];
  /** Bytes in all of them. */
  length: number;
}

/**
 * Sorts the Read list of a call. Throws `ProtocolError` ("BadChunk") where it does not make a message: a long call without a
 * position-zero chunk or a short one with it, chunks at several positions, a position behind the end, more than `bytesMax` in all.
 */
export function planPulls(message: RdmaMessage, bytesMax: number): PullPlan {
  const { chunks, proc, body } = message;
  const zero: ReadSegment[] = [];
  const others: ReadSegment[] = [];
  let total = 0;
  for (const segment of chunks.reads) {
    total += segment.length;
    (segment.position === 0 ? zero : others).push(segment);
  }
  if (total > bytesMax) throw new ProtocolError("BadChunk", `Read chunks of ${total} bytes`);
  const isLong = proc === RdmaProc.RDMA_NOMSG;
  if (isLong !== zero.length > 0) {
    throw new ProtocolError("BadChunk", isLong ? "a long call without a position-zero chunk" : "a short call with one");
  }
  const plan: PullPlan = isLong ? { message: chunkOf(zero) } : {};
  if (plan.message?.length === 0) throw new ProtocolError("BadChunk", "an empty position-zero chunk");
  if (others.length === 0) return plan;
  const { position } = others[0];
  if (others.some((segment) => segment.position !== position)) {
    throw new ProtocolError("BadChunk", "Read chunks at several positions");
  }
  if (position > (plan.message?.length ?? body.byteLength)) {
    throw new ProtocolError("BadChunk", `a Read chunk at position ${position}, behind the message`);
  }
  return { ...plan, bulk: { position, ...chunkOf(others) } };
}

function chunkOf(segments: readonly RdmaSegment[]): PullChunk {
  return { segments, length: lengthOf(segments) };
}

/** Cuts a chunk into parts of at most `bytesMax`. */
export function cut({ segments }: PullChunk, bytesMax: number): PullChunk[] {
  const parts: PullChunk[] = [];
  let part: RdmaSegment[] = [];
  let room = bytesMax;
  for (const { stag, length, offset } of segments) {
    for (let at = 0; at < length;) {
      const taken = Math.min(room, length - at);
      part.push({ stag, length: taken, offset: offset + BigInt(at) });
      at += taken;
      room -= taken;
      if (room > 0) continue;
      parts.push(chunkOf(part));
      part = [];
      room = bytesMax;
    }
  }
  if (part.length > 0) parts.push(chunkOf(part));
  return parts;
}

/** Bytes in all the segments. */
export function lengthOf(segments: readonly RdmaSegment[]): number {
  let length = 0;
  for (const segment of segments) length += segment.length;
  return length;
}

/** A part of what is to be written, and where it goes. */
export interface Push {
  /** Where it begins in what is to be written. */
  at: number;
  length: number;
  remote: { stag: number; address: bigint };
}

/**
 * Spreads `length` bytes over segments. Tells what to write where, and the segments as the reply returns them: each with the length
 * that was used of it (RFC 8166 §4.3.2). `undefined` where there is not enough room.
 */
export function spread(
  length: number,
  segments: readonly RdmaSegment[],
): { pushes: Push[]; returned: RdmaSegment[] } | undefined {
  const pushes: Push[] = [];
  const returned: RdmaSegment[] = [];
  let at = 0;
  for (const { stag, length: room, offset } of segments) {
    const used = Math.min(room, length - at);
    returned.push({ stag, length: used, offset });
    if (used > 0) pushes.push({ at, length: used, remote: { stag, address: offset } });
    at += used;
  }
  return at === length ? { pushes, returned } : undefined;
}

/** What to write where, of the bytes from `at` to `at + length` of all that goes to the segments. The segments have room for them. */
export function pushesAt(segments: readonly RdmaSegment[], at: number, length: number): Push[] {
  const pushes: Push[] = [];
  let begin = 0;
  for (const { stag, length: room, offset } of segments) {
    const from = Math.max(at, begin);
    const to = Math.min(at + length, begin + room);
    if (to > from) {
      pushes.push({ at: from - at, length: to - from, remote: { stag, address: offset + BigInt(from - begin) } });
    }
    begin += room;
  }
  return pushes;
}

/** Segments as a reply returns them that uses none of them. */
export function unused(segments: readonly RdmaSegment[]): RdmaSegment[] {
  return segments.map(({ stag, offset }) => ({ stag, length: 0, offset }));
}

/**
 * The STag that a reply may invalidate: the one that all segments of the call share, so that it cannot be one that the client keeps for
 * several calls. `undefined` where there are none, or several.
 */
export function sharedStag({ reads, writes, reply }: ChunkLists): number | undefined {
  let shared: number | undefined;
  for (const segments of [reads, ...writes, reply ?? []]) {
    for (const { stag } of segments) {
      if (shared === undefined) shared = stag;
      else if (shared !== stag) return undefined;
    }
  }
  return shared;
}

/**
 * Checks a chunk that a reply returned against the one that the call offered, and tells how many bytes were written: the same segments in
 * the same order, each filled before the next one is begun. Throws `ProtocolError` ("BadPlacement").
 */
export function writtenLength(returned: readonly RdmaSegment[], offered: readonly RdmaSegment[]): number {
  if (returned.length !== offered.length) {
    throw new ProtocolError(
      "BadPlacement",
      `${returned.length} segments returned where ${offered.length} were offered`,
    );
  }
  let written = 0;
  let isFull = true;
  for (const [i, segment] of returned.entries()) {
    const { stag, offset, length } = offered[i];
    if (segment.stag !== stag || segment.offset !== offset) {
      throw new ProtocolError("BadPlacement", "a segment returned that was not offered");
    }
    if (segment.length > length || (segment.length > 0 && !isFull)) {
      throw new ProtocolError("BadPlacement", `${segment.length} bytes in a segment of ${length}`);
    }
    written += segment.length;
    isFull = segment.length === length;
  }
  return written;
}
