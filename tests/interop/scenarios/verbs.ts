/**
 * tshark reads every kind of message that the verbs have, in every framing, and every way in which a connection begins and ends: none malformed, every CRC right.
 *
 * @module
 */
import { connectPair, type PairOptions, whole, within } from "../../../rdma/_testing/pair.ts";
import { Access, Device } from "../../../rdma/mod.ts";
import { freePort } from "../../weft_server.ts";
import type { Scenario } from "../main.ts";
import { captureAndJudge, type Expectation } from "../tshark.ts";

/** Lengths around those of padding and of markers' distance; each fits a segment of the loopback interface. */
const SIZES = [0, 1, 2, 3, 4, 470, 512, 1500, 40_001];
const ALL = Access.RemoteRead | Access.RemoteWrite | Access.RemoteAtomic;

/** By opcode (RFC 5040 §4.2, RFC 7306 §4), and how many of each {@linkcode useEverything} makes. */
const MESSAGES: readonly [name: string, opcode: number, count: number][] = [
  ["RDMA Writes", 0, SIZES.length],
  ["RDMA Read Requests", 1, SIZES.length],
  ["RDMA Read Responses", 2, SIZES.length],
  ["Sends", 3, SIZES.length],
  ["Sends with Invalidate", 4, 1],
  ["Sends with Solicited Event", 5, 1],
  ["Sends with both", 6, 1],
  ["Terminates", 7, 1],
  ["Immediate Data", 8, 1],
  ["Immediate Data with Solicited Event", 9, 1],
  ["Atomic Requests", 10, 3],
  ["Atomic Responses", 11, 3],
];

/** The scenario `verbs`. */
export const verbs: Scenario = {
  name: "verbs",
  needsGuest: false,
  async run(report) {
    const captured = async (label: string, expectations: Expectation[], use: (port: number) => Promise<void>) => {
      const port = freePort();
      // the bytes of these messages are no protocol's
      const judgement = { label, expectations, without: ["rpcordma", "smb_direct"], report };
      await captureAndJudge([port], judgement, () => use(port));
    };
    for (const crc of [false, true]) {
      for (const markers of [false, true]) {
        const expectations = MESSAGES.map(([name, opcode, framesMin]) => {
          return { name, filter: `iwarp_rdma.opcode == ${opcode}`, framesMin };
        });
        if (crc) {
          expectations.push({
            name: "CRCs",
            filter: "iwarp_mpa.fpdu && iwarp_mpa.crc_check",
            framesMin: 4 * SIZES.length,
          });
        }
        if (markers) {
          expectations.push({ name: "markers", filter: "iwarp_mpa.marker_fpduptr", framesMin: 15 });
        }
        const label = `CRC ${crc ? "on" : "off"}, markers ${markers ? "on" : "off"}`;
        await captured(label, expectations, (port) => useEverything(port, { crc, markers }));
      }
    }
    const beginnings = [
      { name: "MPA start-ups", filter: "iwarp_mpa.req || iwarp_mpa.rep", framesMin: 10 },
      { name: "a rejection", filter: "iwarp_mpa.rep && iwarp_mpa.rej_flag == 1", framesMin: 1 },
      { name: "revision 1", filter: "iwarp_mpa.rev == 1", framesMin: 2 },
      ...([["Send", 3], ["Write", 0], ["Read", 1]] as const).map(([name, opcode]) => {
        return { name: `a ready-to-receive ${name}`, filter: `iwarp_rdma.opcode == ${opcode}`, framesMin: 1 };
      }),
    ];
    await captured("start-up", beginnings, beginEveryWay);
  },
};

/** Every kind of message, one at a time, so that each TCP segment begins with an FPDU. The last one is a Terminate. */
async function useEverything(port: number, framing: { crc: boolean; markers: boolean }): Promise<void> {
  await using pair = await connectPair({ port, client: framing, server: framing });
  const { client, server } = pair;
  const source = client.pd.allocate(SIZES.at(-1)!);
  source.bytes.forEach((_, i) => source.bytes[i] = i * 7);
  const target = server.pd.allocate(source.byteLength, ALL);
  const inbox = whole(server.pd.allocate(source.byteLength));
  /** What the server receives while the client does this. */
  const received = async (work: () => Promise<unknown>) => {
    const filled = server.qp.recv(inbox);
    server.qp.flush();
    await within(Promise.all([filled, work()]));
  };
  for (const length of SIZES) {
    const part = [{ region: source, offset: 0, length }];
    await client.qp.write(part, target);
    await client.qp.read(part, target);
    await received(() => client.qp.send(part));
  }
  const windows = [0, 1].map(() => target.bind({ length: 8, access: Access.RemoteWrite }));
  await received(() => client.qp.send(whole(source), { invalidate: windows[0].stag }));
  await received(() => client.qp.send(whole(source), { invalidate: windows[1].stag, solicited: true }));
  await received(() => client.qp.send(whole(source), { solicited: true }));
  await received(() => client.qp.sendImmediate(1n));
  await received(() => client.qp.sendImmediate(2n, { solicited: true }));
  await client.qp.fetchAdd(target, 3n);
  await client.qp.swap(target, 4n);
  await client.qp.compareSwap(target, { compare: 4n, swap: 5n });
  await client.qp.write([source.sge(0, 8)], { stag: windows[0].stag, address: 0n });
  const error = await within(client.qp.closed);
  if (error?.code !== "PeerTerminated") throw new Error(`no Terminate has come: ${error}`);
}

/** Revision 1, every ready-to-receive message, a rejection; every one but that ended in order. */
async function beginEveryWay(port: number): Promise<void> {
  const ways: PairOptions["client"][] = [
    { revision: 1, peerToPeer: false },
    ...(["send", "write", "read"] as const).map((readyToReceive) => ({ readyToReceive })),
  ];
  for (const client of ways) {
    await using pair = await connectPair({ port, client, server: { privateData: new Uint8Array(100) } });
    await pair.client.qp.write([], { stag: 0, address: 0n });
    await pair.client.qp.close();
    await within(pair.server.qp.closed);
  }
  await using device = Device.open();
  using pd = device.allocateProtectionDomain();
  device.listen({ port, onRequest: (request) => request.reject(new Uint8Array(10)) });
  const connecting = device.connect({ hostname: "127.0.0.1", port, pd, privateData: new Uint8Array(508) });
  if (await connecting.then(() => true, () => false)) throw new Error("it was not rejected");
}
