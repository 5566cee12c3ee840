/**
 * A process that is killed in the middle of its work: `deno run doomed_peer.ts PORT [OPERATION]`. It connects, advertises memory that its peer may use in any way,
 * and has receives posted; given an operation it carries that out on the peer's memory, several at once, for as long as it lives or as the peer has receives.
 *
 * @module
 */
import { Access, decodeAdvertisement, Device, encodeAdvertisement, type QueuePair, type RemoteMemory } from "../mod.ts";
import { whole } from "./pair.ts";

/** What both ends carry out. */
export const OPERATIONS = ["write", "read", "send", "fetchAdd", "compareSwap"] as const;

/** One of them. */
export type Operation = typeof OPERATIONS[number];

/** Bytes of the memory on either side, and of a Write, a Read and a Send. */
export const BYTES = 1 << 20;

/** How many are under way at once. */
export const AT_ONCE = 8;

/** Receives that either side posts, and so the most Sends that there may be. */
export const RECEIVES = 4096;

/** All that a peer may do with memory. */
export const ACCESS_ALL: number = Access.RemoteRead | Access.RemoteWrite | Access.RemoteAtomic;

/** Posts one operation between `local`, which has {@linkcode BYTES}, and the peer's memory. */
export function post(
  qp: QueuePair,
  operation: Operation,
  local: { region: Parameters<typeof whole>[0]; remote: RemoteMemory },
  done: (status: string) => void,
): void {
  const { remote } = local;
  const completed = (completion: { status: string }) => done(completion.status);
  switch (operation) {
    case "write":
    case "read":
      return qp.postSend({ opcode: operation, local: whole(local.region), remote }, completed);
    case "send":
      return qp.postSend({ opcode: "send", local: whole(local.region) }, completed);
    case "fetchAdd":
      return qp.postSend({ opcode: "fetchAdd", remote, add: 1n }, completed);
    case "compareSwap":
      return qp.postSend({ opcode: "compareSwap", remote, compare: 0n, swap: 1n }, completed);
  }
}

if (import.meta.main) {
  const [port, operation] = Deno.args;
  const device = Device.open();
  const pd = device.allocateProtectionDomain();
  const region = pd.allocate(BYTES, ACCESS_ALL);
  const qp = await device.connect({
    hostname: "127.0.0.1",
    port: Number(port),
    pd,
    privateData: encodeAdvertisement(region),
    onReady: (qp) => {
      for (let i = 0; i < RECEIVES; i++) qp.postRecv(whole(region), () => {});
    },
  });
  const remote = decodeAdvertisement(qp.privateData)!;
  if (operation !== undefined) {
    let left = operation === "send" ? RECEIVES : Infinity;
    const again = (status: string) => {
      if (status === "success" && left-- > 0) post(qp, operation as Operation, { region, remote }, again);
    };
    for (let i = 0; i < AT_ONCE; i++) again("success");
  }
}
