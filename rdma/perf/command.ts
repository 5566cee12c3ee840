/**
 * `weft perf`: measures RDMA between two processes, as perftest does.
 *
 * @module
 */
import type { CommandIo } from "../command_line.ts";
import { parsePerfArguments, PERF_HELP } from "./options.ts";

/** Runs either end, as the arguments say. */
export async function perf(args: readonly string[], io: CommandIo): Promise<void> {
  const options = parsePerfArguments(args);
  if (options === undefined) return io.write(PERF_HELP);
  if (options.hostname === undefined) await (await import("./server.ts")).runServer(options, io);
  else await (await import("./client.ts")).runClient(options, io);
}
