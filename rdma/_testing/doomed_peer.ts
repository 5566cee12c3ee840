/**
 * A process that is killed in the middle of its work: `deno run doomed_peer.ts PORT FRAMING [OPERATION]`. It connects, advertises memory that its peer may use in any
 * way, and has receives posted; given an operation it carries that out on the peer's memory, several at once, for as long as it lives or as the peer has receives.
 *
 * @module
 */
import {
  Access,
  ADVERTISEMENT_BYTES,
  decodeAdvertisement,
  Device,
  encodeAdvertisement,
  type MemoryRegion,
  type MemoryWindow,
  type QueuePair,
  type RemoteMemory,
} from "../mod.ts";
import { whole } from "./pair.ts";

/** What both ends carry out. */
export const OPERATIONS = [
  "write",
  "read",
  "send",
  "sendInvalidate",
  "immediate",
  "fetchAdd",
  "swap",
  "compareSwap",
] as const;

/** One of them. */
export type Operation = typeof OPERATIONS[number];

/** Bytes of the memory on either side, and of a Write, a Read and a Send. */
export const BYTES = 1 << 20;

/** How many are under way at once. */
export const AT_ONCE = 8;

/** Receives that either side posts, and so the most Sends that there may be. */
export const RECEIVES = 4096;

/** Windows of either side that the other may invalidate, each by a Send. */
const WINDOWS = 100;

/** How frames are made. */
export const FRAMINGS = { plain: { crc: false }, "with CRC and markers": { crc: true, markers: true } } as const;

/** One of these ways. */
export type Framing = keyof typeof FRAMINGS;

/** All that a peer may do with memory. */
export const ACCESS_ALL: number = Access.RemoteRead | Access.RemoteWrite | Access.RemoteAtomic;

/** Windows on all of a region, for the peer to invalidate. */
export function openWindows(region: MemoryRegion): MemoryWindow[] {
  return Array.from({ length: WINDOWS }, () => region.bind({ access: Access.RemoteWrite }));
}

/** Private data that tells of a region and its windows. */
export function encodeOffer(region: MemoryRegion, windows: readonly MemoryWindow[]): Uint8Array {
  const bytes = new Uint8Array(ADVERTISEMENT_BYTES + 4 * WINDOWS);
  bytes.set(encodeAdvertisement(region));
  const view = new DataView(bytes.buffer);
  windows.forEach(({ stag }, i) => view.setUint32(ADVERTISEMENT_BYTES + 4 * i, stag));
  return bytes;
}

/** What work is between: memory here, and memory and STags of windows there. */
export interface Field {
  region: MemoryRegion;
  remote: RemoteMemory;
  windows: number[];
}

/** What the peer's private data says, beside memory of our own. */
export function fieldOf(region: MemoryRegion, { privateData }: QueuePair): Field {
  const view = new DataView(privateData.buffer, privateData.byteOffset + ADVERTISEMENT_BYTES, 4 * WINDOWS);
  const windows = Array.from({ length: WINDOWS }, (_, i) => view.getUint32(4 * i));
  return { region, remote: decodeAdvertisement(privateData)!, windows };
}

/** Posts one operation. */
export function post(
  qp: QueuePair,
  operation: Operation,
  { region, remote, windows }: Field,
  done: (status: string) => void,
): void {
  const completed = (completion: { status: string }) => done(completion.status);
  const local = whole(region);
  switch (operation) {
    case "write":
    case "read":
      return qp.postSend({ opcode: operation, local, remote }, completed);
    case "send":
      return qp.postSend({ opcode: "send", local }, completed);
    case "sendInvalidate":
      return qp.postSend({ opcode: "send", local, invalidate: windows.pop(), solicited: true }, completed);
    case "immediate":
      return qp.postSend({ opcode: "immediate", data: 1n }, completed);
    case "fetchAdd":
      return qp.postSend({ opcode: "fetchAdd", remote, add: 1n }, completed);
    case "swap":
      return qp.postSend({ opcode: "swap", remote, swap: 1n }, completed);
    case "compareSwap":
      return qp.postSend({ opcode: "compareSwap", remote, compare: 0n, swap: 1n }, completed);
  }
}

if (import.meta.main) {
  const [port, framing, operation] = Deno.args as [string, Framing, Operation?];
  const device = Device.open();
  const pd = device.allocateProtectionDomain();
  const region = pd.allocate(BYTES, ACCESS_ALL);
  const qp = await device.connect({
    hostname: "127.0.0.1",
    port: Number(port),
    pd,
    ...FRAMINGS[framing],
    privateData: encodeOffer(region, openWindows(region)),
    onReady: (qp) => {
      for (let i = 0; i < RECEIVES; i++) qp.postRecv(whole(region), () => {});
    },
  });
  const field = fieldOf(region, qp);
  if (operation !== undefined) {
    let left = { send: RECEIVES, immediate: RECEIVES, sendInvalidate: WINDOWS }[operation as string] ?? Infinity;
    const again = (status: string) => {
      if (status !== "success" || left-- <= 0) return;
      // so short a message is complete at once: without a pause there would soon be no receive left
      if (operation === "immediate") setTimeout(() => post(qp, operation, field, again), 1);
      else post(qp, operation, field, again);
    };
    for (let i = 0; i < AT_ONCE; i++) again("success");
  }
}
