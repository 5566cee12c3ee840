/**
 * Many connections between two processes: what they cost while they are idle, while they are active, and to make.
 *
 * @module
 */
import type { ConnectionFigures } from "./connections_client.ts";
import { runPair } from "./processes.ts";
import { medians, type Row } from "./report.ts";

export type { ConnectionFigures };

/** How many are many. */
const COUNT = 1000;
/** Descriptors of a process for other things, among them those that the core leaves alone. */
const DESCRIPTORS_RESERVED = 200;

/** As many as there may be descriptors for: the runtime has raised its limit as far as it may. */
async function affordable(): Promise<number> {
  const limits = await Deno.readTextFile("/proc/self/limits");
  const most = Number(limits.match(/^Max open files +(\d+)/m)?.[1] ?? Infinity) - DESCRIPTORS_RESERVED;
  if (most >= COUNT) return COUNT;
  if (most < 1) throw new Error("there are too few descriptors for any connections: raise the limit (ulimit -n)");
  console.error(`ONLY ${most} CONNECTIONS in place of ${COUNT}: the limit of descriptors (ulimit -n) allows no more`);
  return most;
}

/** Takes one round, between processes that are new, for the sake of their memory. */
export async function measureConnections(): Promise<ConnectionFigures> {
  const count = String(await affordable());
  return await runPair("tests/bench/connections_server.ts", "tests/bench/connections_client.ts", count);
}

/** The rows of the report. */
export function connectionRows(rounds: readonly ConnectionFigures[]): Row[] {
  const figures = medians(rounds);
  const { count } = figures;
  const worst = (...sides: number[]) => Math.max(...sides);
  return [
    {
      name: `64-byte Send round trip beside ${count} idle connections`,
      unit: "µs",
      ours: figures.roundTripBeside,
      against: { name: "alone", value: figures.roundTripAlone },
      target: { atMost: 1.2 },
    },
    {
      name: `RDMA Write 64 KiB, 2 outstanding on each of ${count} connections`,
      unit: "GB/s",
      ours: figures.shallowMany,
      against: { name: "on one", value: figures.shallowOne },
      target: { atLeast: 0.8 },
    },
    {
      name: `RDMA Write 64 KiB, 16 outstanding on each of ${count} connections`,
      unit: "GB/s",
      ours: figures.deepMany,
      against: { name: "on one", value: figures.deepOne },
      target: { atLeast: 0.8 },
    },
    {
      name: "Memory of an idle connection, the worse side",
      unit: "KiB",
      ours: worst(figures.clientIdle, figures.serverIdle),
      target: { atMost: 32 },
    },
    {
      name: "Memory of a connection that has been active, the worse side",
      unit: "KiB",
      ours: worst(figures.clientUsed, figures.serverUsed),
      target: { atMost: 32 },
    },
    { name: "Memory of the kernel's for an idle connection, a side", unit: "KiB", ours: figures.kernelIdle },
    { name: "Connections made in a second", unit: "/s", ours: figures.setUps, target: { atLeast: 5000 } },
    { name: "TCP connections by the runtime, for comparison", unit: "/s", ours: figures.tcpSetUps },
  ];
}
