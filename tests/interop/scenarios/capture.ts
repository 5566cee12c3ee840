/**
 * tshark, an independent decoder, reads a capture of our client and our server: every frame down to NFS, none malformed.
 *
 * @module
 */
import { mount } from "../../../client/mod.ts";
import { ROOT } from "../../../rdma/_ffi/build.ts";
import { WeftServer } from "../../weft_server.ts";
import type { Scenario } from "../main.ts";
import { captureAndJudge, type Expectation, findTshark, framesMatching } from "../tshark.ts";

const PIECES = 40;
const PIECE_BYTES = 40_003;

/**
 * What tshark 4.0 calls malformed in the Linux kernel's own traffic too (tests/vectors/nfs3.pcap): a READ reply whose data went ahead by RDMA
 * Write, which it does not put back in.
 */
const READ_BY_WRITE_CHUNK = "nfs.procedure_v3 == 6 && rpc.msgtyp == 1 && rpcordma.writes_count > 0";
const KERNEL_CAPTURE = `${ROOT}/tests/vectors/nfs3.pcap`;

const OVER_RDMA: readonly Expectation[] = [
  { name: "MPA start-up", filter: "iwarp_mpa.req || iwarp_mpa.rep", framesMin: 2 },
  { name: "RDMA Writes", filter: "iwarp_rdma.opcode == 0", framesMin: 16 },
  { name: "RDMA Reads", filter: "iwarp_rdma.opcode == 1", framesMin: 1 },
  { name: "Sends", filter: "iwarp_rdma.opcode == 3 || iwarp_rdma.opcode == 4", framesMin: 40 },
  { name: "RPC-over-RDMA", filter: "rpcordma", framesMin: 40 },
];
const WITH_CRC: readonly Expectation[] = [
  { name: "CRCs asked for and granted", filter: "iwarp_mpa.crc_flag == 1", framesMin: 2 },
  { name: "a CRC in every FPDU", filter: "iwarp_mpa.fpdu && iwarp_mpa.crc_check", framesMin: 40 },
];
const NFS: readonly Expectation[] = [
  ...[
    ["WRITE", 7, 2],
    ["READ", 6, 2],
    ["CREATE", 8, 2],
    ["MKDIR", 9, 2],
    ["READDIRPLUS", 17, 2],
    ["RENAME", 14, 2],
    ["SYMLINK", 10, 2],
    ["REMOVE", 12, 2],
    ["COMMIT", 21, 2],
  ].map(([name, procedure, framesMin]) => ({
    name: `NFS ${name}`,
    filter: `nfs && nfs.procedure_v3 == ${procedure}`,
    framesMin: Number(framesMin),
  })),
  { name: "MOUNT", filter: "mount", framesMin: 2 },
];

/** The scenario `capture`. */
export const capture: Scenario = {
  name: "capture",
  needsGuest: false,
  async run(report) {
    const tshark = await findTshark("tshark decodes our traffic", report);
    if (tshark === undefined) return;
    const missesWriteChunks =
      (await framesMatching(tshark, KERNEL_CAPTURE, `_ws.malformed && ${READ_BY_WRITE_CHUNK}`)).length > 0;
    const unjust = missesWriteChunks ? ` && !(${READ_BY_WRITE_CHUNK})` : "";
    for (const [proto, crc] of [["rdma", "off"], ["rdma", "on"], ["tcp", "off"]]) {
      await using server = await WeftServer.start();
      const { port } = server;
      const expectations = proto === "tcp"
        ? NFS
        : crc === "on"
        ? [...OVER_RDMA, ...WITH_CRC, ...NFS]
        : [...OVER_RDMA, ...NFS];
      const use = () => useServer(`nfs://127.0.0.1:${port}/?proto=${proto}&crc=${crc}`);
      await captureAndJudge([port], { label: `${proto}, CRC ${crc}`, expectations, unjust, report }, use);
    }
  },
};

/**
 * A little of everything, files of one inline message and of many chunks among it.
 *
 * One call at a time, none of more than PIECE_BYTES: tshark follows FPDUs only where TCP segments begin with one, which holds as long as what
 * is sent at once fits a segment of the loopback interface.
 */
async function useServer(url: string): Promise<void> {
  await using fs = await mount(url, { signal: AbortSignal.timeout(30_000) });
  await fs.mkdir("d");
  const large = new Uint8Array(PIECES * PIECE_BYTES).map((_, i) => i * 7 + (i >> 8));
  {
    await using file = await fs.open("d/large", { write: true, create: true });
    for (let at = 0; at < large.length; at += PIECE_BYTES) {
      const piece = large.subarray(at, at + PIECE_BYTES);
      if (at < large.length / 2) await file.writeAt(piece, at);
      else await file.writeUnstable(piece, at);
    }
    await file.commit();
  }
  {
    await using file = await fs.open("d/large", { read: true });
    const piece = new Uint8Array(PIECE_BYTES);
    for (let at = 0; at < large.length; at += PIECE_BYTES) {
      if (await file.read(piece) !== PIECE_BYTES) throw new Error(`a short read at ${at}`);
      if (piece.some((byte, i) => byte !== large[at + i])) throw new Error("it came back changed");
    }
  }
  await fs.writeTextFile("d/small", "a few words");
  for (let i = 0; i < 100; i++) await fs.writeTextFile(`d/${i}`, String(i));
  const names = await Array.fromAsync(fs.readDir("d"), (entry) => entry.name);
  if (names.length !== 102) throw new Error(`${names.length} names instead of 102`);
  await fs.rename("d/small", "d/renamed");
  await fs.symlink("renamed", "d/link");
  await fs.stat("d/link");
  await fs.remove("d", { recursive: true });
}
