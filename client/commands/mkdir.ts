/**
 * `weft mkdir`: directories on a server.
 *
 * @module
 */
import { defineCommand } from "./command.ts";
import { quote } from "./format.ts";
import { UsageError } from "./options.ts";
import type { Target } from "./target.ts";

/** The command. */
export const mkdir = defineCommand({
  name: "mkdir",
  usage: ["[OPTION]... URL..."],
  description: "Make directories.",
  options: {
    parents: { short: "p", long: "parents", help: "no error if existing, make parent directories as needed" },
    mode: { short: "m", long: "mode", value: "MODE", help: "set the permissions (octal), not 0777 less the umask" },
    verbose: { short: "v", long: "verbose", help: "say what was made" },
  },
  examples: ["-p nfs://server/a/b/c", "-m 700 nfs://server/private"],
  async run(context, { options, operands }): Promise<void> {
    if (operands.length === 0) throw new UsageError("missing operand");
    const mode = parseMode(options.mode);
    for (const operand of operands) {
      context.io.signal.throwIfAborted();
      const target = await context.locateServed(operand);
      if (target === undefined) continue;
      try {
        if (options.parents && await isDirectory(target)) continue;
        await target.api.mkdir(target.path, { recursive: options.parents });
        // A mode that is given is set as it is, whatever the umask.
        if (mode !== undefined) await target.api.chmod(target.path, mode);
        if (options.verbose) await context.print(`weft mkdir: created directory ${quote(target.display)}`);
      } catch (error) {
        context.fail(`cannot create directory ${quote(target.display)}`, error);
      }
    }
  },
});

async function isDirectory(target: Target): Promise<boolean> {
  const info = await target.api.stat(target.path).catch(() => undefined);
  return info?.isDirectory ?? false;
}

/** An octal mode. */
export function parseMode(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[0-7]{1,4}$/.test(text)) throw new UsageError(`invalid mode ${quote(text)}`);
  return parseInt(text, 8);
}
