/**
 * Rows of `weft perf`, as perftest's tables or as JSON.
 *
 * @module
 */
import type { QueuePair } from "../queue_pair.ts";
import type { PerfOptions } from "./options.ts";
import type { LatencySummary } from "./statistics.ts";

/** Bytes of perftest's MB. */
export const MEGABYTE: number = 2 ** 20;

/** One row's figures. */
export interface Row {
  sizeBytes: number;
  crc: boolean;
  /** The largest ULPDU that this end sends. */
  mulpdu: number;
  /** TCP's congestion control at this end. */
  congestion: string;
  /** RDMA Reads and atomic operations of this end that are outstanding at once, at the most. */
  readDepth: number;
  /** Messages, or round trips. */
  iterations: number;
  /** Of bandwidth: those of both ends together, where both send. */
  bandwidth?: {
    bytesPerSecond: number;
    peakBytesPerSecond: number;
    messagesPerSecond: number;
    /**
     * Processor time of both processes, all their threads, for 10^9 bytes of payload: of both directions, where both send. Absent where the other end
     * does not tell. Ends that poll take whole cores, however much they move.
     */
    cpuSecondsPerGB?: number;
    /** What the server has of it. */
    serverCpuSecondsPerGB?: number;
  };
  /** Of latency. */
  latency?: LatencySummary;
  /** What the same measurement of a TCP socket gives: bytes a second, or the median in µs. */
  floor?: number;
  /** Of bandwidth: the processor time of both of its ends, which sleep while they wait, for 10^9 bytes of payload. */
  floorCpuSecondsPerGB?: number;
}

/** A row of what is measured on a connection, or on several that are alike, without figures so far. */
export function newRow(sizeBytes: number, { crc, facts, outboundReadDepth }: QueuePair): Row {
  const { mulpdu, congestion } = facts;
  return { sizeBytes, crc, mulpdu, congestion, readDepth: outboundReadDepth, iterations: 0 };
}

/** What is ours over the floor. */
function ratioOf({ bandwidth, latency, floor }: Row): number | undefined {
  return floor === undefined ? undefined : (bandwidth?.bytesPerSecond ?? latency?.median ?? 0) / floor;
}

/** Our processor time over the floor's. */
function cpuRatioOf({ bandwidth, floorCpuSecondsPerGB: floor }: Row): number | undefined {
  return floor === undefined ? undefined : (bandwidth?.cpuSecondsPerGB ?? NaN) / floor;
}

/** A row as one JSON object. */
export function formatJson(row: Row, { operation, connections, bidirectional, events }: PerfOptions): string {
  const { bandwidth, latency, floor, floorCpuSecondsPerGB } = row;
  return JSON.stringify({
    op: operation.name,
    size: row.sizeBytes,
    crc: row.crc,
    mulpdu: row.mulpdu,
    congestion: row.congestion,
    readDepth: row.readDepth,
    iterations: row.iterations,
    ...bandwidth,
    ...latency && {
      usMin: latency.min,
      usMax: latency.max,
      usMedian: latency.median,
      usMean: latency.mean,
      usDeviation: latency.deviation,
      usP99: latency.p99,
      usP999: latency.p999,
    },
    ...bandwidth && { connections, bidirectional },
    events,
    ...floor !== undefined && { floor, ratio: ratioOf(row) },
    ...floorCpuSecondsPerGB !== undefined && { floorCpuSecondsPerGB, cpuRatio: cpuRatioOf(row) },
  });
}

/** The table's head: what is measured, and the columns. */
export function formatHead(options: PerfOptions, facts: { crc: boolean; peer: string }): string {
  const { operation, connections, sendDepth, bidirectional, events } = options;
  const isBandwidth = operation.measure === "bandwidth";
  const how = [
    ...(isBandwidth ? [`${connections} connection${connections > 1 ? "s" : ""}`, `depth ${sendDepth}`] : []),
    ...(bidirectional ? ["both directions"] : []),
    `CRC ${facts.crc ? "on" : "off"}`,
    events ? "events" : "polling",
  ];
  const names = headings(options);
  return `${operation.title} with ${facts.peer}: ${how.join(", ")}\n${line(names, names)}`;
}

/** A row of the table. */
export function formatRow(row: Row, options: PerfOptions): string {
  const rate = (bytesPerSecond: number) =>
    (options.gbits ? bytesPerSecond * 8 / 1e9 : bytesPerSecond / MEGABYTE).toFixed(2);
  const micros = (value: number) => value.toFixed(2);
  const seconds = (value: number | undefined) => value?.toFixed(4) ?? "-";
  const { bandwidth, latency, floor } = row;
  const cells = [String(row.sizeBytes), String(row.iterations)];
  if (bandwidth !== undefined) {
    const { peakBytesPerSecond, bytesPerSecond, messagesPerSecond } = bandwidth;
    cells.push(rate(peakBytesPerSecond), rate(bytesPerSecond), (messagesPerSecond / 1e6).toFixed(6));
    if (showsCpu(options)) cells.push(seconds(bandwidth.cpuSecondsPerGB));
  }
  if (latency !== undefined) {
    const { min, max, median, mean, deviation, p99, p999 } = latency;
    cells.push(...[min, max, median, mean, deviation, p99, p999].map(micros));
  }
  if (floor !== undefined) {
    cells.push((bandwidth === undefined ? micros : rate)(floor), ratioOf(row)!.toFixed(2));
    if (showsCpu(options)) cells.push(seconds(row.floorCpuSecondsPerGB), cpuRatioOf(row)?.toFixed(2) ?? "-");
  }
  return line(cells, headings(options));
}

/** Whether the table has columns of processor time. */
function showsCpu({ operation, cpuUtil, floor }: PerfOptions): boolean {
  return operation.measure === "bandwidth" && (cpuUtil || floor);
}

function headings(options: PerfOptions): string[] {
  const { operation, gbits, floor } = options;
  const isBandwidth = operation.measure === "bandwidth";
  const unit = !isBandwidth ? "usec" : gbits ? "Gb/sec" : "MB/sec";
  const hasCpu = showsCpu(options);
  const figures = isBandwidth
    ? [`BW peak[${unit}]`, `BW average[${unit}]`, "MsgRate[Mpps]", ...(hasCpu ? ["CPU[s/GB]"] : [])]
    : ["t_min", "t_max", "t_typical", "t_avg", "t_stdev", "99%", "99.9%"].map((name) => `${name}[${unit}]`);
  const floors = [`floor[${unit}]`, "ratio", ...(hasCpu ? ["floor CPU[s/GB]", "CPU ratio"] : [])];
  return ["#bytes", "#iterations", ...figures, ...(floor ? floors : [])];
}

function line(cells: readonly string[], names: readonly string[]): string {
  return ` ${cells.map((cell, i) => cell.padEnd(Math.max(10, names[i].length))).join("  ").trimEnd()}\n`;
}
