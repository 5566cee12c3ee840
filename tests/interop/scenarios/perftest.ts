/**
 * perftest's programs over siw against `weft perf --perftest`, in both directions.
 *
 * @module
 */
import { Weft, weft } from "../../../rdma/_testing/weft.ts";
import { HOST_ADDRESS, pause, runGuest, type RunningGuest } from "../guest.ts";
import type { Report, Scenario } from "../main.ts";
import { findTshark, judge, startCapture } from "../tshark.ts";
import { freePort } from "../../weft_server.ts";

/** Messages of a row. */
const ITERATIONS = 5;
const TOOLS = ["write_bw", "write_lat", "read_bw", "read_lat", "send_bw", "send_lat"] as const;
/** perftest's port, and those behind it. */
const GUEST_PORT = 18515;
const SIZES = Array.from({ length: 23 }, (_, i) => 2 ** (i + 1));

/** How our server ends where it does not end well, as it must. */
const REFUSALS: Readonly<Record<string, RegExp>> = {
  write_lat: /may not \(RFC 5044 §7\.1\.2\)/,
  atomic_lat: /the other end has gone in the middle of a run|the connection was reset/,
};

/** A tool, with the port that it is used on in the guest and the one that leads there. */
interface Served {
  tool: string;
  guest: number;
  host: number;
}

/** The scenario `perftest`. */
export const perftest: Scenario = {
  name: "perftest",
  needsGuest: true,
  async run(report) {
    const ours = await Promise.all([...TOOLS, "atomic_lat"].map(async (tool) => {
      const sizes = tool === "atomic_lat" ? [] : ["-a"];
      // what ends before its first message is of no size
      const iterations = tool in REFUSALS ? 5 : ITERATIONS;
      const server = new Weft(
        ...["perf", tool, "--perftest", ...sizes, "-n", String(iterations), "-p", "0", "--listen", "127.0.0.1"],
      );
      return { tool, server, port: await server.port() };
    }));
    const theirs: Served[] = [...TOOLS, ...TOOLS].map((tool, i) => ({
      tool,
      guest: GUEST_PORT + i,
      host: freePort(),
    }));
    const words = (served: readonly Served[]) => served.map(({ tool, guest }) => `${tool}:${guest}`).join(" ");
    const [whole, captured] = [theirs.slice(0, TOOLS.length), theirs.slice(TOOLS.length)];
    await runGuest({
      script: "perftest.sh",
      env: {
        SERVER: HOST_ADDRESS,
        N: ITERATIONS,
        CLIENTS: ours.map(({ tool, port }) => `${tool}:${port}`).join(" "),
        SERVERS: words(whole),
        CAPTURED: words(captured),
      },
      forwards: theirs,
      timeoutSeconds: 400,
      onResult: report,
      during: async (guest) => {
        for (const served of whole) await measure(guest, served, { options: ["-a"], sizes: SIZES, report });
        await capture(guest, captured, report);
      },
    });
    for (const { tool, server } of ours) {
      await using _ = server;
      const ended = await Promise.race([server.outcome, pause(5000)]);
      const { code, stderr } = ended ?? { code: "it has not ended", stderr: "" };
      const isWell = tool in REFUSALS ? code === 1 && REFUSALS[tool].test(stderr) : code === 0;
      const what = tool in REFUSALS ? "says why it could not be measured" : "ends well";
      report({ name: `our ${tool} server ${what}`, outcome: isWell ? "ok" : "failed", detail: `${code}: ${stderr}` });
    }
  },
};

/** Our client with a server in the guest. */
async function measure(
  guest: RunningGuest,
  { tool, guest: guestPort, host }: Served,
  { options, sizes, report }: { options: string[]; sizes: number[]; report: Report },
): Promise<void> {
  await guest.waitFor(`listening_${guestPort}`);
  const { code, stdout, stderr } = await weft(
    ...["perf", tool, "--perftest", ...options, "-n", String(ITERATIONS), "--json", "-p", String(host), "127.0.0.1"],
  );
  const rows = stdout.trimEnd().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
  const isWhole = code === 0 && rows.length === sizes.length &&
    rows.every(({ op, size, iterations }, i) => op === tool && size === sizes[i] && iterations === ITERATIONS);
  report({
    name: `our ${tool} client has ${sizes.length === 1 ? "its row" : "every row"} (${options.join(" ")})`,
    outcome: isWhole ? "ok" : "failed",
    detail: `exit code ${code}\n${stderr}${stdout}`,
  });
}

/** A little of everything under tshark's eyes: few and short messages, so that each segment begins with an FPDU. */
async function capture(guest: RunningGuest, captured: readonly Served[], report: Report): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "weft-capture-" });
  try {
    const tshark = await findTshark("tshark decodes perftest's traffic", report);
    const file = `${directory}/perftest.pcapng`;
    const filter = captured.map(({ host }) => `tcp port ${host}`).join(" or ");
    const capturing = tshark && await startCapture(tshark, file, filter);
    for (const served of captured) await measure(guest, served, { options: ["-s", "64"], sizes: [64], report });
    if (tshark === undefined || !capturing) return;
    await capturing.stop();
    const expectations = [
      { name: "MPA start-up", filter: "iwarp_mpa.req || iwarp_mpa.rep", framesMin: 4 * captured.length },
      { name: "RDMA Writes", filter: "iwarp_rdma.opcode == 0", framesMin: 2 * ITERATIONS },
      { name: "RDMA Reads", filter: "iwarp_rdma.opcode == 1", framesMin: ITERATIONS },
      { name: "Sends", filter: "iwarp_rdma.opcode == 3", framesMin: 20 * captured.length },
    ];
    // perftest's short messages are neither RPC nor SMB
    await judge(tshark, file, { label: "perftest", expectations, without: ["rpcordma", "smb_direct"], report });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
