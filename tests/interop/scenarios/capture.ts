/**
 * tshark, an independent decoder, reads a capture of our client and our server: every frame down to NFS, none malformed.
 *
 * @module
 */
import { mount } from "../../../client/mod.ts";
import { ROOT } from "../../../rdma/_ffi/build.ts";
import { findExecutable } from "../../../rdma/_ffi/toolchain.ts";
import { WeftServer } from "../../weft_server.ts";
import { pause } from "../guest.ts";
import type { Report, Scenario } from "../main.ts";

/** What a capture must hold: a display filter, and how many frames of it at the least. */
interface Expectation {
  name: string;
  filter: string;
  framesMin: number;
}

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
    const tshark = await findExecutable("tshark");
    if (tshark === undefined) {
      report({
        name: "tshark decodes our traffic",
        outcome: "skipped",
        detail: "tshark is not installed (Debian: apt install tshark)",
      });
      return;
    }
    const missesWriteChunks =
      (await framesMatching(tshark, KERNEL_CAPTURE, `_ws.malformed && ${READ_BY_WRITE_CHUNK}`)).length > 0;
    const unjust = missesWriteChunks ? ` && !(${READ_BY_WRITE_CHUNK})` : "";
    for (const [proto, crc] of [["rdma", "off"], ["rdma", "on"], ["tcp", "off"]]) {
      const directory = await Deno.makeTempDir({ prefix: "weft-capture-" });
      try {
        const file = `${directory}/${proto}.pcapng`;
        await record(tshark, file, (port) => useServer(`nfs://127.0.0.1:${port}/?proto=${proto}&crc=${crc}`));
        await judge(tshark, file, {
          label: `${proto}, CRC ${crc}`,
          expectations: proto === "tcp"
            ? NFS
            : crc === "on"
            ? [...OVER_RDMA, ...WITH_CRC, ...NFS]
            : [...OVER_RDMA, ...NFS],
          unjust,
          report,
        });
      } finally {
        await Deno.remove(directory, { recursive: true });
      }
    }
  },
};

/** Captures what `body` does on a server's port. */
async function record(tshark: string, file: string, body: (port: number) => Promise<void>): Promise<void> {
  await using server = await WeftServer.start();
  // full frames and a large buffer: a capture with gaps would be judged unjustly
  const capturing = new Deno.Command(tshark, {
    args: ["-i", "lo", "-f", `tcp port ${server.port}`, "-s", "0", "-B", "256", "-q", "-w", file],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const said = new Response(capturing.stderr).text();
  const isThere = () => Deno.stat(file).then((info) => info.size > 0, () => false);
  for (let tries = 0; !await isThere(); tries++) {
    if (tries === 100) {
      capturing.kill("SIGKILL");
      throw new Error(`tshark does not capture: ${await said}`);
    }
    await pause(100);
  }
  await pause(300);
  await body(server.port);
  await pause(500);
  capturing.kill("SIGINT");
  await capturing.status;
}

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

async function judge(
  tshark: string,
  file: string,
  { label, expectations, unjust, report }: {
    label: string;
    expectations: readonly Expectation[];
    unjust: string;
    report: Report;
  },
): Promise<void> {
  const noTrouble = [
    { name: "no malformed frame", filter: `_ws.malformed${unjust}` },
    { name: "no error that its experts see", filter: `_ws.expert.severity == error${unjust}` },
    { name: "the capture lost nothing", filter: "tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment" },
  ];
  for (const { name, filter } of noTrouble) {
    const frames = await framesMatching(tshark, file, filter);
    report({
      name: `tshark (${label}): ${name}`,
      outcome: frames.length === 0 ? "ok" : "failed",
      detail: frames.slice(0, 10).join("\n"),
    });
  }
  const bad = await badChecksums(tshark, file);
  report({
    name: `tshark (${label}): no bad CRC`,
    outcome: bad.length === 0 ? "ok" : "failed",
    detail: bad.slice(0, 10).join("\n"),
  });
  for (const { name, filter, framesMin } of expectations) {
    const { length } = await framesMatching(tshark, file, filter);
    const detail = `${length} frames match ${filter}, instead of ${framesMin} at the least`;
    report({ name: `tshark (${label}): it sees ${name}`, outcome: length >= framesMin ? "ok" : "failed", detail });
  }
}

/** What tshark says of the CRCs that are not right. */
async function badChecksums(tshark: string, file: string): Promise<string[]> {
  const { success, stdout } = await new Deno.Command(tshark, { args: ["-r", file, "-O", "iwarp_mpa"] }).output();
  if (!success) throw new Error("tshark cannot read the capture");
  return new TextDecoder().decode(stdout).split("\n").filter((line) =>
    line.includes("CRC check:") && !line.includes("(Good CRC32)")
  );
}

async function framesMatching(tshark: string, file: string, filter: string): Promise<string[]> {
  const { success, stdout, stderr } = await new Deno.Command(tshark, { args: ["-r", file, "-Y", filter] }).output();
  if (!success) throw new Error(`tshark cannot read the capture with ${filter}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout).split("\n").filter((line) => line !== "");
}
