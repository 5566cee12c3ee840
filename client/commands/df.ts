/**
 * `weft df`: how full the file systems of servers are.
 *
 * @module
 */
import { defineCommand } from "./command.ts";
import { formatSize } from "./format.ts";
import { UsageError } from "./options.ts";

/** The command. */
export const df = defineCommand({
  name: "df",
  usage: ["[OPTION]... URL..."],
  description: "Show how much space there is on the file systems that URLs lie on.",
  options: {
    human: { short: "h", long: "human-readable", help: "print sizes in powers of 1024 (e.g., 1023M)" },
    inodes: { short: "i", long: "inodes", help: "list numbers of files instead of space" },
  },
  examples: ["-h nfs://server/"],
  async run(context, { options, operands }): Promise<void> {
    if (operands.length === 0) throw new UsageError("missing operand");
    const head = options.inodes
      ? ["Inodes", "IUsed", "IFree", "IUse%"]
      : [options.human ? "Size" : "1K-blocks", "Used", "Available", "Use%"];
    const rows = [["Filesystem", ...head]];
    const size = (value: bigint): string => {
      if (options.inodes) return options.human ? formatSize(value) : String(value);
      return options.human ? formatSize(value) : String((value + 1023n) / 1024n);
    };
    for (const operand of operands) {
      context.io.signal.throwIfAborted();
      const target = await context.locateServed(operand);
      if (target === undefined) continue;
      try {
        const status = await target.files.api.status(target.path);
        const total = options.inodes ? status.totalFiles : status.totalBytes;
        const free = options.inodes ? status.freeFiles : status.freeBytes;
        const available = options.inodes ? status.availableFiles : status.availableBytes;
        const used = total > free ? total - free : 0n;
        rows.push([target.display, size(total), size(used), size(available), formatUse(used, available)]);
      } catch (error) {
        context.fail(target.display, error);
      }
    }
    if (rows.length === 1) return;
    const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
    for (const row of rows) {
      const cells = row.map((cell, at) => at === 0 ? cell.padEnd(widths[at]) : cell.padStart(widths[at]));
      await context.print(context.shown(cells.join(" ")));
    }
  },
});

/** Used of what we may use, in percent, rounded up. */
function formatUse(used: bigint, available: bigint): string {
  const usable = used + available;
  return usable === 0n ? "-" : `${(used * 100n + usable - 1n) / usable}%`;
}
