/**
 * `weft cp`: copies between here and servers, and between servers.
 *
 * @module
 */
import { defineCommand } from "./command.ts";
import { TreeCopier } from "./copy_tree.ts";
import { planDestinations } from "./destination.ts";
import { UsageError } from "./options.ts";

/** The command. */
export const cp = defineCommand({
  name: "cp",
  usage: ["[OPTION]... SOURCE DEST", "[OPTION]... SOURCE... DIRECTORY", "[OPTION]... -t DIRECTORY SOURCE..."],
  description: "Copy files, here or on servers: each operand is a path or a URL.",
  options: {
    archive: { short: "a", long: "archive", help: "same as -rpP" },
    continue: {
      long: "continue",
      help: "go on with what an interrupted copy left (on a server all but the last 160 MiB), skip what is complete",
    },
    force: { short: "f", long: "force", help: "if a file cannot be opened, remove it and try again" },
    dereference: { short: "L", long: "dereference", help: "always follow symbolic links in SOURCE" },
    noDereference: {
      short: "P",
      long: "no-dereference",
      help: "never follow symbolic links in SOURCE (default with -r)",
    },
    noClobber: { short: "n", long: "no-clobber", help: "leave files that exist alone" },
    preserve: { short: "p", long: "preserve", help: "keep mode, times, and owner where possible" },
    recursive: { short: "r", long: "recursive", help: "copy directories with what is in them" },
    recursiveToo: { short: "R", help: "the same as -r" },
    sparse: { long: "sparse", value: "WHEN", help: "make holes: auto (where SOURCE has some), always, never" },
    into: { short: "t", long: "target-directory", value: "DIRECTORY", help: "copy all SOURCEs into DIRECTORY" },
    asIs: { short: "T", long: "no-target-directory", help: "do not copy into DEST even if it is a directory" },
    verbose: { short: "v", long: "verbose", help: "say what is copied" },
  },
  examples: [
    "disk.img nfs://server/images/",
    "-r nfs://server/photos ~/",
    "--continue nfs://server/big.iso .",
    "-rp nfs://old/data nfs://new/data",
  ],
  isGraceful: true,
  async run(context, { options, operands }): Promise<void> {
    const sparse = options.sparse ?? "auto";
    if (sparse !== "auto" && sparse !== "always" && sparse !== "never") {
      throw new UsageError(`invalid argument '${sparse}' for '--sparse': use auto, always or never`);
    }
    const plan = await planDestinations(context, operands, options);
    if (plan === undefined) return;
    const recursive = (options.recursive ?? options.recursiveToo ?? options.archive) === true;
    const copier = new TreeCopier(context, {
      recursive,
      dereference: options.dereference ?? !(recursive || options.noDereference === true),
      force: options.force ?? false,
      noClobber: options.noClobber ?? false,
      preserve: (options.preserve ?? options.archive) === true,
      resume: options.continue ?? false,
      verbose: options.verbose ?? false,
      sparse,
    });
    for (const { source, destination } of plan.pairs) await copier.copy(source, destination);
  },
});
