/**
 * perftest's programs over siw against `weft perf --perftest`, in both directions.
 *
 * @module
 */
import { Weft, weft } from "../../../rdma/_testing/weft.ts";
import { HOST_ADDRESS, pause, runGuest, type RunningGuest } from "../guest.ts";
import type { Report, Scenario } from "../main.ts";
import { captureAndJudge } from "../tshark.ts";
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

/** A server of ours, for one run. */
interface Serving {
  tool: string;
  server: Weft;
  port: number;
}

/** The scenario `perftest`. */
export const perftest: Scenario = {
  name: "perftest",
  needsGuest: true,
  async run(report) {
    await using servers = new AsyncDisposableStack();
    const serve = (tools: readonly string[], options: (tool: string) => string[]): Promise<Serving[]> =>
      Promise.all(tools.map(async (tool) => {
        const args = ["perf", tool, "--perftest", ...options(tool), "-p", "0", "--listen", "127.0.0.1"];
        const server = servers.use(new Weft(...args));
        return { tool, server, port: await server.port() };
      }));
    const whole = await serve([...TOOLS, "atomic_lat"], (tool) => [
      ...(tool === "atomic_lat" ? [] : ["-a"]),
      ...["-n", String(ITERATIONS)],
    ]);
    const short = await serve(
      TOOLS.filter((tool) => !(tool in REFUSALS)),
      () => ["-s", "64", "-n", String(ITERATIONS)],
    );
    const timed = await serve(["write_bw"], () => ["-s", "4K", "-D", "2"]);
    const theirs: Served[] = [...TOOLS, ...TOOLS].map((tool, i) => ({ tool, guest: GUEST_PORT + i, host: freePort() }));
    const [theirWhole, theirShort] = [theirs.slice(0, TOOLS.length), theirs.slice(TOOLS.length)];
    const words = (list: readonly { tool: string }[], port: (i: number) => number) =>
      list.map(({ tool }, i) => `${tool}:${port(i)}`).join(" ");
    // few and short messages, so that each segment begins with an FPDU
    const ports = [...short.map(({ port }) => port), ...theirShort.map(({ host }) => host)];
    const expectations = [
      { name: "MPA start-up", filter: "iwarp_mpa.req || iwarp_mpa.rep", framesMin: 4 * ports.length },
      { name: "RDMA Writes", filter: "iwarp_rdma.opcode == 0", framesMin: 4 * ITERATIONS },
      { name: "RDMA Reads", filter: "iwarp_rdma.opcode == 1", framesMin: 2 * ITERATIONS },
      { name: "Sends", filter: "iwarp_rdma.opcode == 3", framesMin: 20 * ports.length },
    ];
    // perftest's short messages are neither RPC nor SMB
    const judgement = { label: "perftest", expectations, without: ["rpcordma", "smb_direct"], report };
    await captureAndJudge(ports, judgement, () =>
      runGuest({
        script: "perftest.sh",
        env: {
          SERVER: HOST_ADDRESS,
          N: ITERATIONS,
          TIMED: timed[0].port,
          CLIENTS: words(whole, (i) => whole[i].port),
          SHORT_CLIENTS: words(short, (i) => short[i].port),
          SERVERS: words(theirWhole, (i) => theirWhole[i].guest),
          SHORT_SERVERS: words(theirShort, (i) => theirShort[i].guest),
        },
        forwards: theirs,
        timeoutSeconds: 900,
        onResult: report,
        during: async (guest) => {
          for (const served of theirWhole) await measure(guest, served, { options: ["-a"], sizes: SIZES, report });
          for (const served of theirShort) await measure(guest, served, { options: ["-s", "64"], sizes: [64], report });
        },
      }));
    for (const serving of [...whole, ...timed, ...short]) await end(serving, report);
  },
};

/** Sees how one of our servers has ended. */
async function end({ tool, server }: Serving, report: Report): Promise<void> {
  const ended = await Promise.race([server.outcome, pause(5000)]);
  const { code, stderr } = ended ?? { code: "it has not ended", stderr: "" };
  const isWell = tool in REFUSALS ? code === 1 && REFUSALS[tool].test(stderr) : code === 0;
  const what = tool in REFUSALS ? "says why it could not be measured" : "ends well";
  report({ name: `our ${tool} server ${what}`, outcome: isWell ? "ok" : "failed", detail: `${code}: ${stderr}` });
}

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
