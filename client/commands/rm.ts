/**
 * `weft rm`: removes files and trees of a server.
 *
 * @module
 */
import { codeOf } from "../errors.ts";
import { defineCommand } from "./command.ts";
import { quote } from "./format.ts";
import { UsageError } from "./options.ts";

/** The command. */
export const rm = defineCommand({
  name: "rm",
  usage: ["[OPTION]... URL..."],
  description: "Remove files. Directories only with -r, or with -d where they are empty.",
  options: {
    recursive: { short: "r", long: "recursive", help: "remove directories and their contents" },
    recursiveToo: { short: "R", help: "the same as -r" },
    force: { short: "f", long: "force", help: "ignore files that do not exist; never fail for want of operands" },
    directory: { short: "d", long: "dir", help: "remove empty directories" },
    verbose: { short: "v", long: "verbose", help: "say what was removed" },
  },
  examples: ["nfs://server/old.txt", "-rf nfs://server/scratch"],
  async run(context, { options, operands }): Promise<void> {
    if (operands.length === 0 && !options.force) throw new UsageError("missing operand");
    const recursive = (options.recursive ?? options.recursiveToo) === true;
    for (const operand of operands) {
      context.io.signal.throwIfAborted();
      const target = await context.locateServed(operand);
      if (target === undefined) continue;
      if (/^\/*$/.test(target.path)) {
        context.fail(`refusing to remove the root of what is exported: ${quote(target.display)}`);
        continue;
      }
      if (/(^|\/)\.\.?\/*$/.test(target.path)) {
        context.fail(`refusing to remove '.' or '..' directory: skipping ${quote(target.display)}`);
        continue;
      }
      try {
        const { isDirectory } = await target.api.lstat(target.path);
        if (isDirectory && !recursive && !options.directory) {
          context.fail(`cannot remove ${quote(target.display)}: Is a directory`);
          continue;
        }
        await target.api.remove(target.path, { recursive });
        if (options.verbose) await context.print(`removed ${quote(target.display)}`);
      } catch (error) {
        if (options.force && codeOf(error) === "ENOENT") continue;
        context.fail(`cannot remove ${quote(target.display)}`, error);
      }
    }
  },
});
