/**
 * `deno task bench`: our figures beside a TCP floor that is taken in the same run.
 *
 * Every round takes the floor and then our own figures; medians over the rounds are compared, for on a shared machine only paired figures and
 * their ratios mean something.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { Files } from "./files.ts";
import { Floor } from "./floor.ts";
import { deno, firstLine, pinned, runForJson, spawn } from "./processes.ts";
import { formatTable, median, medians, meetsTarget, ratio, type Row } from "./report.ts";
import type { CopyFigures } from "./files.ts";
import type { FloorFigures } from "./floor.ts";
import type { VerbsFigures } from "./verbs_client.ts";

const HELP = `usage: deno task bench [--rounds N] [--only verbs|files] [--json FILE]

Two processes on loopback, each on a core of its own. Prints medians over the rounds (default 5), their ratio to the floor of the same
run, and whether the project's target is met.`;

/** The figures of one round. */
interface Round {
  floor: FloorFigures;
  verbs: VerbsFigures;
  files?: CopyFigures;
}

async function main(): Promise<number> {
  const args = parseArgs(Deno.args, { boolean: ["help"], string: ["rounds", "only", "json"] });
  if (args.help) return console.log(HELP), 0;
  const count = Number(args.rounds ?? 5);
  if (!(count >= 1) || ![undefined, "verbs", "files"].includes(args.only)) return console.error(HELP), 2;

  await using floor = await Floor.start();
  const verbsServer = spawn(pinned("server", ...deno("tests/bench/verbs_server.ts")));
  const verbsPort = await firstLine(verbsServer.stdout);
  await using files = args.only === "verbs" ? undefined : await Files.start();
  const rounds: Round[] = [];
  try {
    for (let i = 0; i < count; i++) {
      console.error(`round ${i + 1} of ${count}`);
      rounds.push({
        floor: await floor.measure(),
        verbs: await runForJson<VerbsFigures>(pinned("client", ...deno("tests/bench/verbs_client.ts", verbsPort))),
        files: await files?.measure(),
      });
    }
  } finally {
    verbsServer.kill("SIGKILL");
    await verbsServer.status;
  }

  const rows = makeRows(rounds).filter((row) => args.only !== "files" || row.name.match(/NFS|cp/));
  console.log(formatTable(rows));
  if (args.json !== undefined) {
    const withRatios = rows.map((row) => ({ ...row, ratio: ratio(row), met: meetsTarget(row) }));
    await Deno.writeTextFile(
      args.json,
      JSON.stringify({ machine: await machine(), rows: withRatios, rounds }, null, 2) + "\n",
    );
  }
  return 0;
}

function makeRows(rounds: readonly Round[]): Row[] {
  const floor = medians(rounds.map((round) => round.floor));
  const verbs = medians(rounds.map((round) => round.verbs));
  const copied = Math.max(...rounds.map((round) => round.verbs.bytesCopied));
  const streams = { name: "1 MiB TCP stream", value: floor.stream1MiB };
  const polling = { name: "polling TCP", value: floor.pollingRoundTrip };
  const rows: Row[] = [
    { name: "RDMA Write 1 MiB", unit: "GB/s", ours: verbs.write, against: streams, target: { atLeast: 0.7 } },
    { name: "RDMA Write 1 MiB, CRC", unit: "GB/s", ours: verbs.writeCrc, against: streams, target: { atLeast: 0.6 } },
    { name: "RDMA Read 1 MiB", unit: "GB/s", ours: verbs.read, against: streams, target: { atLeast: 0.7 } },
    { name: "RDMA Read 1 MiB, CRC", unit: "GB/s", ours: verbs.readCrc, against: streams, target: { atLeast: 0.6 } },
    {
      name: "64-byte Send round trip, hot",
      unit: "µs",
      ours: verbs.hotRoundTrip,
      against: polling,
      target: { atMost: 2 },
    },
    {
      name: "64-byte Send round trip, cold",
      unit: "µs",
      ours: verbs.coldRoundTrip,
      against: { name: "blocking TCP", value: floor.blockingRoundTrip },
      target: { atMost: 1.5 },
    },
    {
      name: "64-byte Send round trip after a pause of 4 ms",
      unit: "µs",
      ours: verbs.idleRoundTrip,
      against: { name: "blocking TCP, with pauses", value: floor.blockingIdleRoundTrip },
    },
    { name: "Payload copied in user space, both ends", unit: "bytes", ours: copied, target: { atMost: 0 } },
    { name: "TCP stream of 64 KiB, for comparison", unit: "GB/s", ours: floor.stream64KiB },
  ];
  const measured = rounds.flatMap((round) => round.files ?? []);
  if (measured.length === 0) return rows;
  const files = medians(measured);
  rows.push(
    {
      name: "NFS READ, 1 GiB file",
      unit: "GB/s",
      ours: files.read,
      against: { name: "RDMA Write", value: verbs.write },
      target: { atLeast: 0.5 },
    },
    {
      name: "NFS WRITE, 1 GiB file",
      unit: "GB/s",
      ours: files.write,
      against: { name: "RDMA Read", value: verbs.read },
      target: { atLeast: 0.5 },
    },
    { name: "NFS WRITE and its COMMIT to the disk", unit: "GB/s", ours: files.writeAndCommit },
  );
  const copies = (name: string, ours: number, theirs: (number | undefined)[]): Row => {
    const known = theirs.filter((value) => value !== undefined);
    if (known.length < theirs.length) {
      return { name: `${name} (nfs-cp of libnfs-utils is not installed)`, unit: "s", ours };
    }
    return { name, unit: "s", ours, against: { name: "nfs-cp over TCP", value: median(known) }, target: { atMost: 1 } };
  };
  rows.push(copies("weft cp of 1 GiB from the server", files.weftCopyIn, measured.map((round) => round.nfsCopyIn)));
  rows.push(copies("weft cp of 1 GiB to the server", files.weftCopyOut, measured.map((round) => round.nfsCopyOut)));
  return rows;
}

async function machine(): Promise<Record<string, string | number>> {
  const congestion = await Deno.readTextFile("/proc/sys/net/ipv4/tcp_congestion_control").catch(() => "");
  return {
    cores: navigator.hardwareConcurrency,
    kernel: Deno.osRelease(),
    congestion: congestion.trim(),
    deno: Deno.version.deno,
  };
}

if (import.meta.main) Deno.exit(await main());
