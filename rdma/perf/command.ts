/**
 * `weft perf`: measures RDMA between two processes, as perftest does.
 *
 * @module
 */
import type { CommandIo } from "../command_line.ts";
import { parsePerfArguments, PERF_HELP, type PerfOptions } from "./options.ts";

/** Runs either end, as the arguments say. */
export async function perf(args: readonly string[], io: CommandIo): Promise<void> {
  const options = parsePerfArguments(args);
  if (options === undefined) return io.write(PERF_HELP);
  if (options.perftest) await perftest(options, io);
  else if (options.hostname === undefined) await (await import("./server.ts")).runServer(options, io);
  else await (await import("./client.ts")).runClient(options, io);
}

async function perftest(options: PerfOptions, io: CommandIo): Promise<void> {
  if (options.hostname === undefined) await (await import("./perftest/server.ts")).runPerftestServer(options, io);
  else await (await import("./perftest/client.ts")).runPerftestClient(options, io);
}
