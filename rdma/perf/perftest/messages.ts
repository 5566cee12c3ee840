/**
 * What perftest's ends tell each other beside a measurement, as its protocol 6.06 has it: each message is one Send of a length of its own, numbers are big-endian.
 * Whatever a peer sends decodes to what it says, or to `undefined`.
 *
 * @module
 */
import type { RemoteMemory } from "../../queue_pair.ts";

/** The protocol that is spoken here, and said to the peer. */
export const VERSION = "6.06";
/** perftest itself speaks with no older one. */
const VERSION_MIN = 5.7;

/** Lengths of messages. */
export const MessageBytes = { version: 16, number: 4, mtu: 2, destination: 56, figure: 8 } as const;

/** The largest message. */
export const MESSAGE_BYTES_MAX: number = Math.max(...Object.values(MessageBytes));

/** Where an end's memory is. */
export interface Destination {
  memory: RemoteMemory;
  /** RDMA Reads that it serves at once; perftest prints it. */
  readDepth: number;
}

/** What a client of bandwidth tells when it has measured. */
export interface BandwidthReport {
  sizeBytes: number;
  iterations: number;
  /** MB (2^20 bytes) a second. */
  peak: number;
  average: number;
  /** Millions a second. */
  messageRate: number;
}

/** Encodes the version. */
export function encodeVersion(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(MessageBytes.version);
  new TextEncoder().encodeInto(VERSION, bytes);
  return bytes;
}

/** Decodes a peer's version, ended by a zero; `undefined` where this is none. */
export function decodeVersion(bytes: Uint8Array): string | undefined {
  if (bytes.byteLength !== MessageBytes.version) return undefined;
  const text = String.fromCharCode(...bytes);
  return /^([0-9]{1,3}\.[0-9]{1,3})\0/.exec(text)?.[1];
}

/** Whether a peer of this version can be spoken with. */
export function isSpoken(version: string): boolean {
  return Number(version) >= VERSION_MIN;
}

/** Encodes a number of 32 bits. */
export function encodeNumber(value: number): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(MessageBytes.number));
  view.setInt32(0, value);
  return new Uint8Array(view.buffer);
}

/** Decodes a number of 32 bits, with a sign. */
export function decodeNumber(bytes: Uint8Array): number | undefined {
  return viewOf(bytes, MessageBytes.number)?.getInt32(0);
}

/** Encodes the number of an InfiniBand MTU, 1 (256 bytes) to 5 (4096), as a digit. It means nothing to iWARP. */
export function encodeMtu(number: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(0x30 + number, 0);
}

/** Decodes the number of an MTU. */
export function decodeMtu(bytes: Uint8Array): number | undefined {
  const view = viewOf(bytes, MessageBytes.mtu);
  const number = view === undefined ? 0 : view.getUint8(0) - 0x30;
  return view?.getUint8(1) === 0 && number >= 1 && number <= 5 ? number : undefined;
}

/** Encodes where memory is. What InfiniBand and RoCE need besides (LID, GID, queue pair, packet number) is 0. */
export function encodeDestination({ memory, readDepth }: Destination): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(MessageBytes.destination));
  view.setUint32(4, readDepth);
  view.setUint32(16, memory.stag);
  view.setBigUint64(24, memory.address);
  return new Uint8Array(view.buffer);
}

/** Decodes where memory is. */
export function decodeDestination(bytes: Uint8Array): Destination | undefined {
  const view = viewOf(bytes, MessageBytes.destination);
  if (view === undefined) return undefined;
  return {
    readDepth: view.getUint32(4),
    memory: { stag: view.getUint32(16), address: view.getBigUint64(24) },
  };
}

/** Encodes a report: five messages. */
export function encodeReport(report: BandwidthReport): Uint8Array<ArrayBuffer>[] {
  const figure = (set: (view: DataView) => void) => {
    const view = new DataView(new ArrayBuffer(MessageBytes.figure));
    set(view);
    return new Uint8Array(view.buffer);
  };
  return [
    ...[report.sizeBytes, report.iterations].map((value) => figure((view) => view.setBigUint64(0, BigInt(value)))),
    ...[report.peak, report.average, report.messageRate].map((value) => figure((view) => view.setFloat64(0, value))),
  ];
}

/** Decodes a report; `undefined` where a figure is none that a measurement can have. */
export function decodeReport(messages: readonly Uint8Array[]): BandwidthReport | undefined {
  const views = messages.map((bytes) => viewOf(bytes, MessageBytes.figure));
  const [size, iterations, ...rates] = views;
  if (size === undefined || iterations === undefined || rates.length !== 3) return undefined;
  const numbers = [
    ...[size, iterations].map((view) => Number(view.getBigUint64(0))),
    ...rates.map((view) => view?.getFloat64(0) ?? NaN),
  ];
  if (!numbers.every((value) => Number.isFinite(value) && value >= 0)) return undefined;
  const [sizeBytes, count, peak, average, messageRate] = numbers;
  return { sizeBytes, iterations: count, peak, average, messageRate };
}

function viewOf(bytes: Uint8Array, lengthBytes: number): DataView | undefined {
  if (bytes.byteLength !== lengthBytes) return undefined;
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
