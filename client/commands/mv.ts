/**
 * `weft mv`: renames on a server; to and from other places it copies and removes.
 *
 * @module
 */
import { codeOf } from "../errors.ts";
import { defineCommand } from "./command.ts";
import type { CommandContext } from "./context.ts";
import { TreeCopier } from "./copy_tree.ts";
import { planDestinations } from "./destination.ts";
import { quote } from "./format.ts";
import type { Target } from "./target.ts";

/** The command. */
export const mv = defineCommand({
  name: "mv",
  usage: ["[OPTION]... SOURCE DEST", "[OPTION]... SOURCE... DIRECTORY", "[OPTION]... -t DIRECTORY SOURCE..."],
  description: "Rename files on a server, or move them between here and servers.",
  options: {
    force: { short: "f", long: "force", help: "do not hesitate to overwrite (the default)" },
    noClobber: { short: "n", long: "no-clobber", help: "leave files that exist alone" },
    into: { short: "t", long: "target-directory", value: "DIRECTORY", help: "move all SOURCEs into DIRECTORY" },
    asIs: { short: "T", long: "no-target-directory", help: "do not move into DEST even if it is a directory" },
    verbose: { short: "v", long: "verbose", help: "say what is moved" },
  },
  examples: ["nfs://server/a nfs://server/b", "report.pdf nfs://server/archive/"],
  isGraceful: true,
  async run(context, { options, operands }): Promise<void> {
    const plan = await planDestinations(context, operands, options);
    if (plan === undefined) return;
    for (const { source, destination } of plan.pairs) {
      context.io.signal.throwIfAborted();
      await move(context, source, destination, {
        noClobber: options.noClobber ?? false,
        verbose: options.verbose ?? false,
      });
    }
  },
});

async function move(
  context: CommandContext,
  source: Target,
  destination: Target,
  options: { noClobber: boolean; verbose: boolean },
): Promise<void> {
  const [from, to] = [quote(source.display), quote(destination.display)];
  try {
    await source.api.lstat(source.path);
  } catch (error) {
    return context.fail(`cannot stat ${from}`, error);
  }
  const existing = await destination.api.lstat(destination.path).catch(() => undefined);
  if (options.noClobber && existing !== undefined) return;
  if (source.files.id === destination.files.id) {
    try {
      await source.api.rename(source.path, destination.path);
      if (options.verbose) await context.print(`renamed ${from} -> ${to}`);
      return;
    } catch (error) {
      if (codeOf(error) !== "EXDEV") return context.fail(`cannot move ${from} to ${to}`, error);
    }
  }
  const copier = new TreeCopier(context, {
    recursive: true,
    dereference: false,
    force: true,
    noClobber: false,
    preserve: true,
    resume: false,
    verbose: options.verbose,
    sparse: "auto",
  });
  // Nothing is removed that has not arrived.
  if (!await copier.copy(source, destination)) return;
  try {
    await source.api.remove(source.path, { recursive: true });
  } catch (error) {
    context.fail(`cannot remove ${from}`, error);
  }
}
