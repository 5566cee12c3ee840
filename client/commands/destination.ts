/**
 * Where `cp` and `mv` put things: the last operand, or what `-t` names.
 *
 * @module
 */
import type { CommandContext } from "./context.ts";
import { quote } from "./format.ts";
import { UsageError } from "./options.ts";
import type { Target } from "./target.ts";

/** What there is to move, each with where it goes. */
export interface Plan {
  pairs: { source: Target; destination: Target }[];
}

/** Options that say where to. */
export interface DestinationOptions {
  /** `-t DIRECTORY`. */
  into?: string;
  /** `-T`: the destination is no directory to put things into. */
  asIs?: boolean;
}

/** Pairs sources with their places. Says what is wrong, and leaves out sources that cannot be reached; `undefined`: nothing can be done. */
export async function planDestinations(
  context: CommandContext,
  operands: readonly string[],
  options: DestinationOptions,
): Promise<Plan | undefined> {
  const sources = [...operands];
  const last = options.into ?? sources.pop();
  if (last === undefined) throw new UsageError("missing file operand");
  if (sources.length === 0) throw new UsageError(`missing destination file operand after ${quote(last)}`);
  if (options.asIs && sources.length > 1) throw new UsageError(`extra operand ${quote(sources[1])}`);
  const destination = await context.locate(last);
  if (destination === undefined) return undefined;
  const isDirectory = !options.asIs && await isDirectoryNow(destination);
  if (!isDirectory && (sources.length > 1 || options.into !== undefined)) {
    const info = await destination.api.stat(destination.path).catch(() => undefined);
    const why = info === undefined ? "No such file or directory" : "Not a directory";
    context.fail(`target ${quote(destination.display)}: ${why}`);
    return undefined;
  }
  const pairs: Plan["pairs"] = [];
  for (const operand of sources) {
    const source = await context.locate(operand);
    if (source === undefined) continue;
    pairs.push({ source, destination: isDirectory ? placeIn(destination, source) : destination });
  }
  return { pairs };
}

/** The place of a source in a directory: under its own name, if it has one. */
function placeIn(directory: Target, source: Target): Target {
  const { name } = source;
  return ["", ".", ".."].includes(name) ? directory : directory.child(name);
}

async function isDirectoryNow(target: Target): Promise<boolean> {
  const info = await target.api.stat(target.path).catch(() => undefined);
  return info?.isDirectory ?? false;
}
