/**
 * `weft stat`: everything that a server tells of files.
 *
 * @module
 */
import type { NfsFileInfo } from "../file_info.ts";
import { defineCommand } from "./command.ts";
import { formatFullTime, formatMode, quote } from "./format.ts";
import { UsageError } from "./options.ts";
import type { Target } from "./target.ts";
import { UserNames } from "./users.ts";

/** The command. */
export const stat = defineCommand({
  name: "stat",
  usage: ["[OPTION]... URL..."],
  description: "Show what is known of files.",
  options: {
    dereference: { short: "L", long: "dereference", help: "follow links" },
    format: {
      short: "c",
      long: "format",
      value: "FORMAT",
      help:
        "print FORMAT for each: %n name, %N quoted, %s size, %b blocks, %f mode in hex, %a permissions, %A in letters, " +
        "%F type, %u %g %U %G owner and group, %i inode, %h links, %x %y %z times, %X %Y %Z in seconds",
    },
  },
  examples: ["nfs://server/file", "-c '%n %s' nfs://server/*.log"],
  async run(context, { options, operands }): Promise<void> {
    if (operands.length === 0) throw new UsageError("missing operand");
    const users = new UserNames();
    for (const operand of operands) {
      context.io.signal.throwIfAborted();
      const target = await context.locateServed(operand);
      if (target === undefined) continue;
      const fs = target.files.api;
      try {
        const info = options.dereference ? await fs.stat(target.path) : await fs.lstat(target.path);
        const link = info.isSymlink ? await fs.readLink(target.path) : undefined;
        const values = await describe(target, info, { link, users });
        const text = options.format === undefined ? formatLong(values, info) : expand(options.format, values);
        await context.print(text.split("\n").map((line) => context.shown(line)).join("\n"));
      } catch (error) {
        if (error instanceof Deno.errors.BrokenPipe) throw error;
        context.fail(`cannot stat ${quote(target.display)}`, error);
      }
    }
  },
});

/** What each directive of a format stands for. */
type Values = Record<string, string>;

async function describe(
  target: Target,
  info: NfsFileInfo,
  { link, users }: { link: string | undefined; users: UserNames },
): Promise<Values> {
  const { attributes } = info;
  const mode = info.mode ?? 0;
  const time = (at: { seconds: number; nseconds: number }) =>
    formatFullTime(new Date(at.seconds * 1000 + at.nseconds / 1e6), at.nseconds);
  return {
    n: target.display,
    N: quote(target.display) + (link === undefined ? "" : ` -> ${quote(link)}`),
    s: String(attributes.size),
    b: String((attributes.used + 511n) / 512n),
    B: "512",
    o: String(info.blksize),
    f: mode.toString(16),
    a: (mode & 0o7777).toString(8),
    A: formatMode(mode),
    F: describeType(info),
    u: String(info.uid),
    g: String(info.gid),
    U: await users.user(info.uid ?? 0),
    G: await users.group(info.gid ?? 0),
    i: String(attributes.fileid),
    d: String(attributes.fsid),
    h: String(info.nlink),
    x: time(attributes.atime),
    y: time(attributes.mtime),
    z: time(attributes.ctime),
    X: String(attributes.atime.seconds),
    Y: String(attributes.mtime.seconds),
    Z: String(attributes.ctime.seconds),
    t: attributes.rdev.specdata1.toString(16),
    T: attributes.rdev.specdata2.toString(16),
    "%": "%",
  };
}

function expand(format: string, values: Values): string {
  return format.replace(
    /%(.)/gs,
    (directive, letter: string) => Object.hasOwn(values, letter) ? values[letter] : directive,
  );
}

function formatLong(values: Values, info: NfsFileInfo): string {
  const isDevice = info.isBlockDevice || info.isCharDevice;
  return [
    info.isSymlink ? "  File: %N" : "  File: %n",
    `  Size: ${values.s.padEnd(15)} Blocks: ${values.b.padEnd(10)} IO Block: ${values.o.padEnd(6)} %F`,
    `Device: ${values.d.padEnd(15)} Inode: ${values.i.padEnd(11)} Links: ${isDevice ? "%h  Device type: %t,%T" : "%h"}`,
    `Access: (${values.a.padStart(4, "0")}/%A)  Uid: (${values.u.padStart(5)}/${values.U.padStart(8)})   ` +
    `Gid: (${values.g.padStart(5)}/${values.G.padStart(8)})`,
    "Access: %x",
    "Modify: %y",
    "Change: %z",
  ].map((line) => expand(line, values)).join("\n");
}

function describeType(info: NfsFileInfo): string {
  if (info.isDirectory) return "directory";
  if (info.isSymlink) return "symbolic link";
  if (info.isFifo) return "fifo";
  if (info.isSocket) return "socket";
  if (info.isBlockDevice) return "block special file";
  if (info.isCharDevice) return "character special file";
  return info.size === 0 ? "regular empty file" : "regular file";
}
