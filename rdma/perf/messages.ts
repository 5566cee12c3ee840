/**
 * What the two ends of `weft perf` tell each other: private data of the MPA start-up, and small Sends beside the measured ones. Big-endian.
 *
 * @module
 */
import { CONGESTIONS } from "../_ffi/layout.ts";
import type { Congestion } from "../listener.ts";
import type { RemoteMemory } from "../queue_pair.ts";

/** "WPRF". */
const MAGIC = 0x57505246;
const VERSION = 1;
const REQUEST_BYTES = 64;
const REPLY_BYTES = 32;
/** Bytes of a control message, unless the measured ones have as many. */
const CONTROL_BYTES = 32;
/** Says "mss" in the place of a MULPDU. */
const MULPDU_MSS = 1;

/** What the client of a run asks for, with each connection. */
export interface RunRequest {
  /** The number of the measurement, of {@linkcode OPERATIONS}. */
  operation: number;
  bidirectional: boolean;
  events: boolean;
  /** Tells one client from another. */
  session: bigint;
  /** Counts the session's runs. */
  run: number;
  /** Which of the run's connections this is. */
  index: number;
  connections: number;
  sizeBytes: number;
  sendDepth: number;
  receiveDepth: number;
  /** 0: as many as there is room for. */
  list: number;
  moderation: number;
  /** The largest ULPDU to send; 0: as suits the connection. */
  mulpdu: number | "mss";
  /** TCP's congestion control. */
  congestion: Congestion;
  /** What the server writes to or reads from. */
  data: RemoteMemory;
  /** Where the server tells how many Sends it has received. */
  credit: RemoteMemory;
}

/** The server's answer on each connection. */
export interface RunReply {
  /** Port of the floor's server; 0 where there is none. */
  floorPort: number;
  data: RemoteMemory;
  credit: RemoteMemory;
}

const Flag = { Bidirectional: 1, Events: 2 } as const;

/** Encodes a request as private data. */
export function encodeRequest(request: RunRequest): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(REQUEST_BYTES));
  view.setUint32(0, MAGIC);
  view.setUint16(4, VERSION);
  view.setUint8(6, request.operation);
  view.setUint8(7, (request.bidirectional ? Flag.Bidirectional : 0) | (request.events ? Flag.Events : 0));
  view.setBigUint64(8, request.session);
  view.setUint32(16, request.run);
  view.setUint16(20, request.index);
  view.setUint16(22, request.connections);
  view.setUint32(24, request.sizeBytes);
  view.setUint16(28, request.sendDepth);
  view.setUint16(30, request.receiveDepth);
  view.setUint16(32, request.list);
  view.setUint16(34, request.moderation);
  setMemory(view, 36, request.data);
  setMemory(view, 48, request.credit);
  view.setUint16(60, request.mulpdu === "mss" ? MULPDU_MSS : request.mulpdu);
  view.setUint8(62, CONGESTIONS.indexOf(request.congestion));
  return new Uint8Array(view.buffer);
}

/** Decodes a request; `undefined` where this is none. Its numbers may be any. */
export function decodeRequest(bytes: Uint8Array): RunRequest | undefined {
  const view = viewOf(bytes, REQUEST_BYTES);
  if (view === undefined) return undefined;
  const flags = view.getUint8(7);
  return {
    operation: view.getUint8(6),
    bidirectional: (flags & Flag.Bidirectional) !== 0,
    events: (flags & Flag.Events) !== 0,
    session: view.getBigUint64(8),
    run: view.getUint32(16),
    index: view.getUint16(20),
    connections: view.getUint16(22),
    sizeBytes: view.getUint32(24),
    sendDepth: view.getUint16(28),
    receiveDepth: view.getUint16(30),
    list: view.getUint16(32),
    moderation: view.getUint16(34),
    mulpdu: view.getUint16(60) === MULPDU_MSS ? "mss" : view.getUint16(60),
    congestion: CONGESTIONS[view.getUint8(62)] ?? "suitable",
    data: getMemory(view, 36),
    credit: getMemory(view, 48),
  };
}

/** Encodes a reply as private data. */
export function encodeReply(reply: RunReply): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(REPLY_BYTES));
  view.setUint32(0, MAGIC);
  view.setUint16(4, VERSION);
  view.setUint16(6, reply.floorPort);
  setMemory(view, 8, reply.data);
  setMemory(view, 20, reply.credit);
  return new Uint8Array(view.buffer);
}

/** Decodes a reply; `undefined` where this is none. */
export function decodeReply(bytes: Uint8Array): RunReply | undefined {
  const view = viewOf(bytes, REPLY_BYTES);
  if (view === undefined) return undefined;
  return { floorPort: view.getUint16(6), data: getMemory(view, 8), credit: getMemory(view, 20) };
}

/** Encodes why a request is refused, as private data of the rejection. */
export function encodeRefusal(reason: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(reason).subarray(0, 400);
  const bytes = new Uint8Array(6 + text.byteLength);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC);
  view.setUint16(4, VERSION);
  bytes.set(text, 6);
  return bytes;
}

/** The reason of a refusal; `undefined` where another program rejected the connection. */
export function decodeRefusal(bytes: Uint8Array): string | undefined {
  const view = viewOf(bytes, 6);
  // a peer's text goes to a terminal: no control characters
  return view && new TextDecoder().decode(bytes.subarray(6)).replace(/\p{Cc}/gu, "?");
}

/** A message beside the measured ones. */
export type Control =
  /** From the client: begin, and go on for so many messages, or for so long where `iterations` is 0. */
  | { kind: "start"; iterations: number; durationMs: number }
  /** The server's answer. */
  | { kind: "ready" }
  /** From the client, on each connection: everything was sent. */
  | { kind: "stop" }
  /**
   * The server's answer on each connection, behind everything that it sent itself: so many messages on all of them, and the processor time that it took. Also its
   * answer to "finish".
   */
  | { kind: "done"; messages: number; cpuMs: number }
  /** From the client: this run is over, and whether it will be back for another one. */
  | { kind: "finish"; more: boolean };

const KINDS = ["start", "ready", "stop", "done", "finish"] as const satisfies readonly Control["kind"][];

/** The length of control messages beside measured ones of `sizeBytes`: it is what tells them apart. */
export function controlBytes(sizeBytes: number): number {
  return sizeBytes === CONTROL_BYTES ? CONTROL_BYTES + 1 : CONTROL_BYTES;
}

/** Writes a control message to the beginning of `bytes`. */
export function encodeControl(control: Control, bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  view.setUint32(0, MAGIC);
  view.setUint32(4, KINDS.indexOf(control.kind));
  switch (control.kind) {
    case "start":
      view.setFloat64(8, control.iterations);
      view.setFloat64(16, control.durationMs);
      break;
    case "done":
      view.setFloat64(8, control.messages);
      view.setFloat64(16, control.cpuMs);
      break;
    case "finish":
      view.setFloat64(8, Number(control.more));
      break;
  }
}

/** Reads a control message; `undefined` where this is none. */
export function decodeControl(bytes: Uint8Array): Control | undefined {
  if (bytes.byteLength < CONTROL_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) !== MAGIC) return undefined;
  const [first, second] = [view.getFloat64(8), view.getFloat64(16)];
  const kind = KINDS[view.getUint32(4)];
  switch (kind) {
    case "start":
      return { kind, iterations: first, durationMs: second };
    case "done":
      return { kind, messages: first, cpuMs: second };
    case "finish":
      return { kind, more: first !== 0 };
    case "ready":
    case "stop":
      return { kind };
    default:
      return undefined;
  }
}

function setMemory(view: DataView, at: number, { stag, address }: RemoteMemory): void {
  view.setUint32(at, stag);
  view.setBigUint64(at + 4, address);
}

function getMemory(view: DataView, at: number): RemoteMemory {
  return { stag: view.getUint32(at), address: view.getBigUint64(at + 4) };
}

function viewOf(bytes: Uint8Array, lengthBytes: number): DataView | undefined {
  if (bytes.byteLength < lengthBytes) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint32(0) === MAGIC && view.getUint16(4) === VERSION ? view : undefined;
}
