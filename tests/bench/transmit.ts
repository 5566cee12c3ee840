/**
 * Other ways into the kernel than the engine's: MSG_ZEROCOPY beside `send`, and io_uring beside epoll and beside calls that ask again and again. All of
 * it is the floor's program at both ends, so that nothing of ours is in it.
 *
 * @module
 */
import {
  congestionControls,
  type FloorFigures,
  type FloorOrder,
  FloorServer,
  measureFloor,
} from "../../rdma/perf/floor.ts";
import type { Link } from "./link.ts";
import { pinned } from "./processes.ts";
import { median, type Row } from "./report.ts";

const SIZES = { "64 KiB": 64 * 1024, "1 MiB": 1024 * 1024, "8 MiB": 8 * 1024 * 1024 } as const;
/** Bytes of a stream: loopback carries more. */
const LOCAL_BYTES = 512 * 1024 * 1024;
const LINK_BYTES = 256 * 1024 * 1024;
const PINGS = 5_000;

/** One measurement of a round. */
export interface TransmitFigure {
  name: string;
  unit: Row["unit"];
  /** NaN where there is none. */
  ours: number;
  against?: { name: string; value: number };
  /** Why there is none. */
  failure?: string;
}

/** Where the two ends are. */
interface Place {
  name: string;
  bytes: number;
  congestion: string | undefined;
  hostname?: string;
  server: readonly string[];
  client: readonly string[];
}

/** Takes one round: on loopback, and over every kind of link that there is, with the system's congestion control and cubic: what pays depends on it. */
export async function measureTransmit(link: Link | undefined): Promise<TransmitFigure[]> {
  const congestions = await congestionControls();
  const local = { name: "loopback", bytes: LOCAL_BYTES, congestion: congestions.at(-1) };
  const figures = await measureAt({ ...local, server: pinned("server"), client: pinned("client") });
  for (const kind of link?.kinds ?? []) {
    const ends = { hostname: link!.serverAddress, server: link!.at("server"), client: link!.at("client") };
    for (const congestion of congestions) {
      const place = { name: `${kind.name}, ${congestion}`, bytes: LINK_BYTES, congestion, ...ends };
      figures.push(...await link!.over(kind, () => measureAt(place)));
    }
  }
  return figures;
}

async function measureAt(place: Place): Promise<TransmitFigure[]> {
  await using server = await FloorServer.start({ hostname: place.hostname, prefix: place.server });
  const { congestion, hostname } = place;
  const take = (order: FloorOrder) =>
    measureFloor({ hostname, port: server.port }, { ...order, congestion }, { prefix: place.client });
  const figures: TransmitFigure[] = [];
  const withoutCopies = { "MSG_ZEROCOPY": [] as FloorFigures[], "io_uring SEND_ZC": [] as FloorFigures[] };
  for (const [size, sizeBytes] of Object.entries(SIZES)) {
    const count = place.bytes / sizeBytes;
    const stream = (by?: FloorOrder["by"]) => take({ kind: "stream", sizeBytes, count, by });
    const [send, epoll] = [await stream(), await stream("epoll")];
    const [zeroCopy, ring, ringZeroCopy] = [
      await stream("zero-copy"),
      await stream("ring"),
      await stream("ring-zero-copy"),
    ];
    const about = `${size}, ${place.name}`;
    figures.push(
      ...streamFigures(`MSG_ZEROCOPY ${about}`, zeroCopy, "send", send, place.bytes),
      ...streamFigures(`io_uring SEND ${about}`, ring, "epoll", epoll, place.bytes),
      ...streamFigures(`io_uring SEND_ZC ${about}`, ringZeroCopy, "epoll", epoll, place.bytes),
    );
    withoutCopies["MSG_ZEROCOPY"].push(zeroCopy);
    withoutCopies["io_uring SEND_ZC"].push(ringZeroCopy);
  }
  for (const [means, all] of Object.entries(withoutCopies)) {
    const taken = all.filter((figure) => figure.failure === undefined);
    const sum = (value: (figure: FloorFigures) => number) => taken.reduce((total, figure) => total + value(figure), 0);
    const share = 100 * sum((figure) => figure.copied) / sum((figure) => figure.completions);
    figures.push({ name: `${means}, ${place.name}: sends that the kernel copied after all`, unit: "%", ours: share });
  }
  const ping = (kind: "block" | "poll", by?: FloorOrder["by"]) => take({ kind, sizeBytes: 64, count: PINGS, by });
  const roundTrip = (about: string, ours: FloorFigures, against: string, theirs: FloorFigures) =>
    figures.push({
      name: `io_uring, 64-byte round trip, ${about}, ${place.name}`,
      unit: "µs",
      ...paired(ours, against, theirs, (figure) => figure.roundTripMicros),
    });
  const blocking = await ping("block", "ring");
  roundTrip("blocking", blocking, "epoll", await ping("block", "epoll"));
  roundTrip("blocking", blocking, "recv", await ping("block"));
  roundTrip("polling", await ping("poll", "ring"), "recv", await ping("poll"));
  return figures;
}

function streamFigures(
  name: string,
  ours: FloorFigures,
  against: string,
  theirs: FloorFigures,
  bytes: number,
): TransmitFigure[] {
  const rate = paired(ours, against, theirs, (figure) => figure.gigabytesPerSecond);
  if (rate.failure !== undefined) return [{ name, unit: "GB/s", ...rate }];
  const cpu = paired(ours, against, theirs, (figure) => figure.senderCpuSeconds / (bytes / 1e9));
  return [
    { name, unit: "GB/s", ...rate },
    { name: `${name}: processor time of the sender`, unit: "s/GB", ...cpu },
  ];
}

function paired(
  ours: FloorFigures,
  name: string,
  theirs: FloorFigures,
  value: (figures: FloorFigures) => number,
): Omit<TransmitFigure, "name" | "unit"> {
  const figure = (figures: FloorFigures) => figures.failure === undefined ? value(figures) : NaN;
  return { ours: figure(ours), against: { name, value: figure(theirs) }, failure: ours.failure ?? theirs.failure };
}

/** The rows of the report: medians over the rounds. What this kernel does not have is a row that says so. */
export function transmitRows(rounds: readonly (readonly TransmitFigure[])[]): Row[] {
  const [first = []] = rounds;
  return first.map(({ name, unit, against }) => {
    const isSame = (other: TransmitFigure) =>
      other.name === name && other.unit === unit && other.against?.name === against?.name;
    const all = rounds.flatMap((round) => round.filter(isSame));
    const failure = all.find((figure) => figure.failure !== undefined)?.failure;
    return {
      name: failure === undefined ? name : `${name}: NOT MEASURED: ${failure}`,
      unit,
      ours: median(all.map((figure) => figure.ours)),
      against: against && { name: against.name, value: median(all.flatMap((figure) => figure.against?.value ?? [])) },
    };
  });
}
