/**
 * `deno task bench`: our figures beside a TCP floor that is taken in the same run.
 *
 * Every round takes the floor and then our own figures; medians over the rounds are compared, for on a shared machine only paired figures and
 * their ratios mean something.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { coreDistance } from "../../rdma/perf/floor.ts";
import { type ConnectionFigures, connectionRows, measureConnections } from "./connections.ts";
import { type CrossingFigures, crossingRows, measureCrossing } from "./crossing.ts";
import { type CopyFigures, Files } from "./files.ts";
import { Link, type LinkFigure, linkRows } from "./link.ts";
import { CORES } from "./processes.ts";
import { formatTable, median, medians, meetsTarget, ratio, type Row } from "./report.ts";
import { measureTransmit, type TransmitFigure, transmitRows } from "./transmit.ts";
import { type PairedFigures, Verbs } from "./verbs.ts";

const HELP = `usage: deno task bench [--rounds N] [--only verbs|files|connections|link|transmit|crossing] [--json FILE]

Two processes on loopback, each on a core of its own. Prints medians over the rounds (default 5), their ratio to the floor of the same
run, and whether the project's target is met. Two are taken only by their names: transmit, which measures MSG_ZEROCOPY and io_uring against
what the core uses, and has nothing of ours in it; crossing, what work and completions cost between JavaScript and the core.`;

/** The figures of one round. */
interface Round extends Partial<PairedFigures> {
  files?: CopyFigures;
  connections?: ConnectionFigures;
  link?: LinkFigure[];
  transmit?: TransmitFigure[];
  crossing?: CrossingFigures;
  /** Nanoseconds between the two cores, before the round and after it. */
  distances: [number, number];
}

const PARTS = ["verbs", "files", "connections", "link"];
/** Parts that compare ways which the core might go: taken when they are asked for. */
const OTHER_PARTS = ["transmit", "crossing"];

async function main(): Promise<number> {
  const args = parseArgs(Deno.args, { boolean: ["help"], string: ["rounds", "only", "json"] });
  if (args.help) return console.log(HELP), 0;
  const count = Number(args.rounds ?? 5);
  if (!(count >= 1) || ![undefined, ...PARTS, ...OTHER_PARTS].includes(args.only)) return console.error(HELP), 2;

  const parts = args.only === undefined ? PARTS : [args.only];
  // files are compared with the verbs
  await using verbs = parts.includes("verbs") || parts.includes("files") ? await Verbs.start() : undefined;
  await using files = parts.includes("files") ? await Files.start() : undefined;
  await using link = parts.includes("link") || parts.includes("transmit") ? await Link.start() : undefined;
  const rounds: Round[] = [];
  for (let i = 0; i < count; i++) {
    console.error(`round ${i + 1} of ${count}`);
    const before = await distance();
    const figures = {
      ...await verbs?.measure(),
      files: await files?.measure(),
      connections: parts.includes("connections") ? await measureConnections() : undefined,
      link: link && parts.includes("link") ? await measureLink(link) : undefined,
      transmit: parts.includes("transmit") ? await measureTransmit(link) : undefined,
      crossing: parts.includes("crossing") ? await measureCrossing() : undefined,
    };
    rounds.push({ ...figures, distances: [before, await distance()] });
  }

  const rows = [
    ...(parts.includes("verbs") ? verbsRows(rounds) : []),
    ...(parts.includes("files") ? fileRows(rounds) : []),
    ...(parts.includes("connections") ? connectionRows(rounds.flatMap((round) => round.connections ?? [])) : []),
    ...linkRows(rounds.flatMap((round) => round.link === undefined ? [] : [round.link])),
    ...transmitRows(rounds.flatMap((round) => round.transmit === undefined ? [] : [round.transmit])),
    ...crossingRows(rounds.flatMap((round) => round.crossing ?? [])),
  ];
  console.log(formatTable(rows));
  console.log(
    `ns between the cores, before and after each round: ${
      rounds.map(({ distances }) => distances.join(" ")).join(", ")
    }`,
  );
  if (args.json !== undefined) {
    const withRatios = rows.map((row) => ({ ...row, ratio: ratio(row), met: meetsTarget(row) }));
    await Deno.writeTextFile(
      args.json,
      JSON.stringify({ machine: await machine(), rows: withRatios, rounds }, null, 2) + "\n",
    );
  }
  return 0;
}

/** Nanoseconds between the cores of the two ends; 0 where they have only one. */
async function distance(): Promise<number> {
  return CORES.client === CORES.server ? 0 : await coreDistance([CORES.client, CORES.server]);
}

async function measureLink(link: Link): Promise<LinkFigure[]> {
  const figures: LinkFigure[] = [];
  for (const kind of link.kinds) figures.push(...await link.measure(kind));
  return figures;
}

function verbsRows(rounds: readonly Round[]): Row[] {
  const floor = medians(rounds.flatMap((round) => round.floor ?? []));
  const measured = rounds.flatMap((round) => round.verbs ?? []);
  const verbs = medians(measured);
  const copied = Math.max(...measured.map(({ bytesCopied }) => bytesCopied));
  const busy = medians(rounds.flatMap((round) => round.busy ?? []));
  const streams = { name: "1 MiB TCP stream", value: floor.stream1MiB };
  const cpu = { name: streams.name, value: floor.stream1MiBCpu };
  const blocking = { name: "blocking TCP", value: floor.blockingRoundTrip };
  const polling = { name: "polling TCP", value: floor.pollingRoundTrip };
  return [
    { name: "RDMA Write 1 MiB", unit: "GB/s", ours: verbs.write, against: streams, target: { atLeast: 0.7 } },
    { name: "RDMA Write 1 MiB, CRC", unit: "GB/s", ours: verbs.writeCrc, against: streams, target: { atLeast: 0.6 } },
    { name: "RDMA Read 1 MiB", unit: "GB/s", ours: verbs.read, against: streams, target: { atLeast: 0.7 } },
    { name: "RDMA Read 1 MiB, CRC", unit: "GB/s", ours: verbs.readCrc, against: streams, target: { atLeast: 0.6 } },
    { name: "RDMA Write 1 MiB: processor time, polling", unit: "s/GB", ours: verbs.writeCpu, against: cpu },
    { name: "RDMA Read 1 MiB: processor time, polling", unit: "s/GB", ours: verbs.readCpu, against: cpu },
    {
      name: "RDMA Write 1 MiB: processor time, asleep",
      unit: "s/GB",
      ours: verbs.writeAsleepCpu,
      against: cpu,
      target: { atMost: 1.1 },
    },
    {
      name: "RDMA Read 1 MiB: processor time, asleep",
      unit: "s/GB",
      ours: verbs.readAsleepCpu,
      against: cpu,
      target: { atMost: 1.1 },
    },
    {
      name: "RDMA Write 64 KiB in FPDUs of 1448 bytes",
      unit: "GB/s",
      ours: verbs.write64KiBShort,
      against: { name: "in whole ones", value: verbs.write64KiB },
      target: { atLeast: 0.8 },
    },
    {
      name: "RDMA Write 64 KiB in FPDUs of 1448 bytes, CRC",
      unit: "GB/s",
      ours: verbs.write64KiBShortCrc,
      against: { name: "in whole ones, no CRC", value: verbs.write64KiB },
    },
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
      against: blocking,
      target: { atMost: 1.5 },
    },
    {
      name: "64-byte Send round trip, cold, in the event loop",
      unit: "µs",
      ours: verbs.eventLoopRoundTrip,
      against: blocking,
    },
    {
      name: "64-byte Send round trip after a pause of 4 ms",
      unit: "µs",
      ours: verbs.idleRoundTrip,
      against: { name: "blocking TCP, with pauses", value: floor.blockingIdleRoundTrip },
    },
    {
      name: "64-byte RDMA Read while the target's JavaScript is in a loop",
      unit: "µs",
      ours: busy.readLatencyBusy,
      against: { name: "while it sleeps", value: busy.readLatency },
      target: { atMost: 3 },
    },
    { name: "Payload copied in user space, both ends", unit: "bytes", ours: copied, target: { atMost: 0 } },
    { name: "TCP stream of 64 KiB, for comparison", unit: "GB/s", ours: floor.stream64KiB },
  ];
}

function fileRows(rounds: readonly Round[]): Row[] {
  const verbs = medians(rounds.flatMap((round) => round.verbs ?? []));
  const measured = rounds.flatMap((round) => round.files ?? []);
  const files = medians(measured);
  const rows: Row[] = [
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
    // what the page cache itself costs: no target, for it is not ours
    {
      name: "NFS READ, beside a plain program",
      unit: "GB/s",
      ours: files.read,
      against: { name: "pread and TCP", value: files.floorRead },
    },
    {
      name: "NFS WRITE, beside a plain program",
      unit: "GB/s",
      ours: files.write,
      against: { name: "TCP and pwrite", value: files.floorWrite },
    },
    { name: "NFS WRITE and its COMMIT to the disk", unit: "GB/s", ours: files.writeAndCommit },
  ];
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
