/**
 * iWARP by hand: MPA frames, FPDUs and Terminate messages as bytes, built and read without the code under test (RFC 5040, RFC 5041, RFC 5044, RFC 6581).
 *
 * @module
 */

/** Opcodes of RFC 5040 §4.2 and RFC 7306 §4. */
export const Opcode = {
  Write: 0,
  ReadRequest: 1,
  ReadResponse: 2,
  Send: 3,
  SendInvalidate: 4,
  SendSolicited: 5,
  SendSolicitedInvalidate: 6,
  Terminate: 7,
  Immediate: 8,
  ImmediateSolicited: 9,
  AtomicRequest: 10,
  AtomicResponse: 11,
} as const;

const CRC_TABLE = new Uint32Array(256).map((_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC32C, bit by bit as in RFC 3720 §12.1. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 0xff];
  return ~crc >>> 0;
}

/** Joins byte strings. */
export function concat(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.byteLength;
  }
  return all;
}

/** Big-endian numbers of 8, 16, 32 (numbers) or 64 bits (bigints). */
export function be(...fields: (number | bigint | [bits: 8 | 16, value: number])[]): Uint8Array<ArrayBuffer> {
  return concat(...fields.map((field) => {
    const view = new DataView(new ArrayBuffer(8));
    if (typeof field === "bigint") view.setBigUint64(0, BigInt.asUintN(64, field));
    else if (typeof field === "number") view.setUint32(0, field);
    else if (field[0] === 8) view.setUint8(0, field[1]);
    else view.setUint16(0, field[1]);
    const length = typeof field === "bigint" ? 8 : typeof field === "number" ? 4 : field[0] / 8;
    return new Uint8Array(view.buffer, 0, length);
  }));
}

/** What an MPA frame says; what is left out is as our own engine would have it. */
export interface MpaFrame {
  key?: string;
  markers?: boolean;
  crc?: boolean;
  reject?: boolean;
  enhanced?: boolean;
  revision?: number;
  ird?: number;
  ord?: number;
  peerToPeer?: boolean;
  rtrSend?: boolean;
  rtrWrite?: boolean;
  rtrRead?: boolean;
  privateData?: Uint8Array;
  /** What the length field says, where that is not the truth. */
  length?: number;
}

/** The bytes of an MPA Request or Reply (RFC 5044 §7.1.1, RFC 6581 §9). */
export function mpaFrame(frame: MpaFrame & { key: string }): Uint8Array<ArrayBuffer> {
  const { enhanced = true, revision = 2, ird = 16, ord = 16 } = frame;
  const flags = (frame.markers ? 0x80 : 0) | (frame.crc ? 0x40 : 0) | (frame.reject ? 0x20 : 0) | (enhanced ? 0x10 : 0);
  const depths = be(
    [16, ird | (frame.peerToPeer ? 0x8000 : 0) | (frame.rtrSend ? 0x4000 : 0)],
    [16, ord | (frame.rtrWrite ? 0x8000 : 0) | (frame.rtrRead ? 0x4000 : 0)],
  );
  const data = concat(enhanced ? depths : new Uint8Array(0), frame.privateData ?? new Uint8Array(0));
  const header = be([8, flags], [8, revision], [16, frame.length ?? data.byteLength]);
  return concat(new TextEncoder().encode(frame.key), header, data);
}

/** An MPA Request; in peer-to-peer mode with a zero-length Write unless told otherwise. */
export function mpaRequest(frame: MpaFrame = {}): Uint8Array<ArrayBuffer> {
  return mpaFrame({ key: "MPA ID Req Frame", ...frame });
}

/** An MPA Reply. */
export function mpaReply(frame: MpaFrame = {}): Uint8Array<ArrayBuffer> {
  return mpaFrame({ key: "MPA ID Rep Frame", ...frame });
}

/** Choices for an FPDU that a well-behaved peer would not make. */
export interface FpduOptions {
  last?: boolean;
  /** The CRC field: right, zero, or wrong by one bit. */
  crc?: "right" | "zero" | "wrong";
  ddpVersion?: number;
  rdmapVersion?: number;
  /** Overrides the T bit. */
  tagged?: boolean;
  /** Overrides the ULPDU length. */
  length?: number;
}

function fpdu(opcode: number, tagged: boolean, fields: Uint8Array, payload: Uint8Array, options: FpduOptions) {
  const { last = true, ddpVersion = 1, rdmapVersion = 1, crc = "zero" } = options;
  const ddp = ((options.tagged ?? tagged) ? 0x80 : 0) | (last ? 0x40 : 0) | ddpVersion;
  const ulpdu = concat(be([8, ddp], [8, (rdmapVersion << 6) | opcode]), fields, payload);
  const pad = new Uint8Array((4 - (2 + ulpdu.byteLength) % 4) % 4);
  const covered = concat(be([16, options.length ?? ulpdu.byteLength]), ulpdu, pad);
  const field = new Uint8Array(4);
  if (crc !== "zero") new DataView(field.buffer).setUint32(0, crc32c(covered), true);
  if (crc === "wrong") field[2] ^= 1;
  return concat(covered, field);
}

/** An FPDU with a tagged segment (RFC 5041 §4.2). */
export function tagged(
  opcode: number,
  target: { stag: number; address: bigint },
  payload: Uint8Array,
  options: FpduOptions = {},
): Uint8Array<ArrayBuffer> {
  return fpdu(opcode, true, be(target.stag, target.address), payload, options);
}

/** Where an untagged segment belongs. */
export interface Place {
  msn?: number;
  mo?: number;
  queue?: number;
  invalidate?: number;
}

/** An FPDU with an untagged segment (RFC 5041 §4.3). */
export function untagged(
  opcode: number,
  { msn = 1, mo = 0, invalidate = 0, queue = defaultQueue(opcode) }: Place,
  payload: Uint8Array,
  options: FpduOptions = {},
): Uint8Array<ArrayBuffer> {
  return fpdu(opcode, false, be(invalidate, queue, msn, mo), payload, options);
}

function defaultQueue(opcode: number): number {
  if (opcode === Opcode.ReadRequest || opcode === Opcode.AtomicRequest) return 1;
  return opcode === Opcode.Terminate ? 2 : opcode === Opcode.AtomicResponse ? 3 : 0;
}

/** The payload of a Read Request (RFC 5040 §4.4). */
export function readRequest(
  source: { stag: number; address: bigint },
  length: number,
  sink = { stag: 0x5151, address: 0x1000n },
): Uint8Array<ArrayBuffer> {
  return be(sink.stag, sink.address, length, source.stag, source.address);
}

/** The payload of an Atomic Request (RFC 7306 §5.1) that puts ones everywhere. */
export function atomicRequest(target: { stag: number; address: bigint }, operation: number): Uint8Array<ArrayBuffer> {
  return be(operation, 0x0a70, target.stag, target.address, -1n, -1n, 0n, 0n);
}

/** An FPDU, taken apart. */
export interface Fpdu {
  bytes: Uint8Array;
  tagged: boolean;
  last: boolean;
  opcode: number;
  /** Of a tagged segment. */
  stag: number;
  to: bigint;
  /** Of an untagged segment. */
  queue: number;
  msn: number;
  mo: number;
  payload: Uint8Array;
  /** Whether the CRC field is right, zero, or neither. */
  crc: "right" | "zero" | "wrong";
}

/** Takes the first FPDU of some bytes apart; `undefined` where it is not all there. Throws where it is none. */
export function parseFpdu(bytes: Uint8Array): Fpdu | undefined {
  if (bytes.byteLength < 2) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = view.getUint16(0);
  const covered = 2 + length + (4 - (2 + length) % 4) % 4;
  if (bytes.byteLength < covered + 4) return undefined;
  const isTagged = (bytes[2] & 0x80) !== 0;
  if ((bytes[2] & 0x3f) !== 1 || bytes[3] >> 4 !== 4) {
    throw new Error(`versions or reserved bits: ${bytes.slice(0, 4)}`);
  }
  const header = isTagged ? 16 : 20;
  if (length + 2 < header) throw new Error(`ULPDU of ${length} bytes`);
  if (bytes.subarray(2 + length, covered).some((byte) => byte !== 0)) throw new Error("padding is not zero");
  const crc = view.getUint32(covered, true);
  return {
    bytes: bytes.slice(0, covered + 4),
    tagged: isTagged,
    last: (bytes[2] & 0x40) !== 0,
    opcode: bytes[3] & 0x0f,
    stag: view.getUint32(4),
    to: isTagged ? view.getBigUint64(8) : 0n,
    queue: isTagged ? 0 : view.getUint32(8),
    msn: isTagged ? 0 : view.getUint32(12),
    mo: isTagged ? 0 : view.getUint32(16),
    payload: bytes.slice(header, 2 + length),
    crc: crc === crc32c(bytes.subarray(0, covered)) ? "right" : crc === 0 ? "zero" : "wrong",
  };
}

/** A Terminate message, taken apart (RFC 5040 §4.8). */
export interface TerminateMessage {
  layer: number;
  etype: number;
  code: number;
  /** The DDP segment length, where the M bit is set. */
  length?: number;
  /** The DDP header of the segment to blame, where the D bit is set. */
  ddpHeader?: Uint8Array;
  /** Its Read Request, where the R bit is set. */
  rdmapHeader?: Uint8Array;
}

/** Takes the payload of a Terminate apart, strictly: nothing may be missing, left over or reserved. */
export function parseTerminate(payload: Uint8Array): TerminateMessage {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const [first, code, flags, reserved] = payload;
  const message: TerminateMessage = { layer: first >> 4, etype: first & 0x0f, code };
  if ((flags & 0x1f) !== 0 || reserved !== 0) throw new Error("reserved bits of a Terminate are set");
  let at = 4;
  if (flags & 0xc0) {
    if (flags & 0x80) message.length = view.getUint16(at);
    at += 2;
  }
  if (flags & 0x40) {
    const length = payload[at] & 0x80 ? 14 : 18;
    message.ddpHeader = payload.slice(at, at += length);
  }
  if (flags & 0x20) message.rdmapHeader = payload.slice(at, at += 28);
  if (at !== payload.byteLength) throw new Error(`Terminate of ${payload.byteLength} bytes, ${at} expected`);
  return message;
}
