/**
 * `weft ls`: listings of a server's directories.
 *
 * @module
 */
import type { NfsFileInfo } from "../file_info.ts";
import { type Command, defineCommand } from "./command.ts";
import type { CommandContext } from "./context.ts";
import { formatListTime, formatMode, formatSize, quote } from "./format.ts";
import type { ParsedOptions } from "./options.ts";
import type { NfsFiles, Target } from "./target.ts";
import { UserNames } from "./users.ts";

const options = {
  all: { short: "a", long: "all", help: "do not leave out names that begin with ." },
  almostAll: { short: "A", long: "almost-all", help: "as -a, but without . and .." },
  directory: { short: "d", long: "directory", help: "list directories themselves, not their contents" },
  classify: { short: "F", long: "classify", help: "append one of */=@| to names" },
  human: { short: "h", long: "human-readable", help: "with -l, print sizes like 1K 234M 2G" },
  inode: { short: "i", long: "inode", help: "print the file number of each" },
  long: { short: "l", help: "use a long listing format" },
  numeric: { short: "n", long: "numeric-uid-gid", help: "as -l, with numbers for owners and groups" },
  reverse: { short: "r", long: "reverse", help: "reverse the order" },
  recursive: { short: "R", long: "recursive", help: "list subdirectories too" },
  bySize: { short: "S", help: "largest first" },
  byTime: { short: "t", help: "newest first" },
  unsorted: { short: "U", help: "in the order of the directory" },
  single: { short: "1", help: "one name a line" },
} as const;

type Options = ParsedOptions<typeof options>;

interface Item {
  /** As it is shown. */
  name: string;
  info: NfsFileInfo;
  link?: string;
}

/** The command. */
export const ls: Command<typeof options> = defineCommand({
  name: "ls",
  usage: ["[OPTION]... URL..."],
  description: "List files and the contents of directories.",
  options,
  examples: ["nfs://server/", "-lh 'nfs://server/data?proto=tcp'", "-R nfs://server/tree"],
  usageStatus: 2,
  async run(context, args): Promise<void> {
    const listing = new Lister(context, args.options);
    await listing.listOperands(args.operands);
  },
});

class Lister {
  readonly #context: CommandContext;
  readonly #options: Options;
  readonly #users = new UserNames();
  readonly #now = new Date();
  #isFirst = true;

  constructor(context: CommandContext, given: Options) {
    this.#context = context;
    this.#options = given;
  }

  /** Files first, then what the directories hold, as `ls` does. */
  async listOperands(operands: string[]): Promise<void> {
    if (operands.length === 0) this.#context.fail("missing operand: which URL?", undefined, 2);
    const files: Item[] = [];
    const directories: Target<NfsFiles>[] = [];
    for (const operand of operands) {
      const target = await this.#context.locateServed(operand, 2);
      if (target === undefined) continue;
      try {
        const info = await this.#infoOfOperand(target);
        if (info.isDirectory && !this.#options.directory) directories.push(target);
        else files.push(await this.#item(target, target.display, info));
      } catch (error) {
        this.#context.fail(`cannot access ${quote(target.display)}`, error, 2);
      }
    }
    await this.#print(this.#sorted(files));
    if (files.length > 0) this.#isFirst = false;
    const isHeaded = operands.length > 1 || this.#options.recursive === true;
    for (const directory of directories) await this.#listDirectory(directory, isHeaded);
  }

  /** A link that is named is followed to a directory, unless it is to be shown itself. */
  async #infoOfOperand(target: Target<NfsFiles>): Promise<NfsFileInfo> {
    const info = await target.api.lstat(target.path);
    const isFollowed = info.isSymlink && !this.#isLong && !this.#options.directory;
    if (!isFollowed) return info;
    return await target.api.stat(target.path).catch(() => info);
  }

  get #isLong(): boolean {
    return (this.#options.long ?? this.#options.numeric) === true;
  }

  async #listDirectory(target: Target<NfsFiles>, isHeaded: boolean): Promise<void> {
    this.#context.io.signal.throwIfAborted();
    const items: Item[] = [];
    try {
      const fs = target.api;
      if (this.#options.all) {
        items.push({ name: ".", info: await fs.stat(target.path) });
        items.push({ name: "..", info: await fs.stat(`${target.path}/..`) });
      }
      for await (const entry of fs.readDirInfo(target.path)) {
        const isHidden = entry.name.startsWith(".") && !this.#options.all && !this.#options.almostAll;
        if (!isHidden) items.push(await this.#item(target.child(entry.name), entry.name, entry.info));
      }
    } catch (error) {
      this.#context.fail(`cannot open directory ${quote(target.display)}`, error, 2);
      return;
    }
    if (!this.#isFirst) await this.#context.print("");
    this.#isFirst = false;
    if (isHeaded) await this.#context.print(`${this.#context.shown(target.display)}:`);
    const sorted = this.#sorted(items);
    if (this.#isLong) await this.#context.print(`total ${this.#total(sorted)}`);
    await this.#print(sorted);
    if (!this.#options.recursive) return;
    for (const { name, info } of sorted) {
      if (info.isDirectory && name !== "." && name !== "..") await this.#listDirectory(target.child(name), true);
    }
  }

  async #item(target: Target<NfsFiles>, name: string, info: NfsFileInfo): Promise<Item> {
    if (!this.#isLong || !info.isSymlink) return { name, info };
    try {
      return { name, info, link: await target.api.readLink(target.path) };
    } catch (error) {
      this.#context.fail(`cannot read symbolic link ${quote(target.display)}`, error);
      return { name, info };
    }
  }

  #sorted(items: Item[]): Item[] {
    const { bySize, byTime, unsorted, reverse } = this.#options;
    const byName = (a: Item, b: Item) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
    const time = ({ info }: Item) => info.attributes.mtime.seconds + info.attributes.mtime.nseconds / 1e9;
    if (!unsorted) {
      items.sort((a, b) => {
        if (bySize) return b.info.size - a.info.size || byName(a, b);
        if (byTime) return time(b) - time(a) || byName(a, b);
        return byName(a, b);
      });
    }
    return reverse ? items.reverse() : items;
  }

  #total(items: Item[]): string {
    const bytes = items.reduce((sum, { info }) => sum + info.attributes.used, 0n);
    return this.#options.human ? formatSize(bytes) : String((bytes + 1023n) / 1024n);
  }

  #shownName({ name, info }: Item): string {
    const text = this.#context.shown(name);
    if (!this.#options.classify) return text;
    if (info.isDirectory) return `${text}/`;
    if (info.isSymlink) return this.#isLong ? text : `${text}@`;
    if (info.isFifo) return `${text}|`;
    if (info.isSocket) return `${text}=`;
    return info.isFile && ((info.mode ?? 0) & 0o111) !== 0 ? `${text}*` : text;
  }

  async #print(items: Item[]): Promise<void> {
    if (items.length === 0) return;
    if (this.#isLong) {
      await this.#printLong(items);
      return;
    }
    const width = this.#options.inode ? Math.max(...items.map(({ info }) => String(info.attributes.fileid).length)) : 0;
    const cells = items.map((item) => {
      const inode = this.#options.inode ? `${String(item.info.attributes.fileid).padStart(width)} ` : "";
      return inode + this.#shownName(item);
    });
    const { columns } = this.#context.io;
    const lines = columns === undefined || this.#options.single ? cells : inColumns(cells, columns);
    await this.#context.print(lines.join("\n"));
  }

  async #printLong(items: Item[]): Promise<void> {
    const { numeric, human, inode } = this.#options;
    const rows: string[][] = [];
    for (const { info } of items) {
      const { attributes, mode } = info;
      const isDevice = info.isBlockDevice || info.isCharDevice;
      const { specdata1, specdata2 } = attributes.rdev;
      rows.push([
        inode ? String(attributes.fileid) : "",
        formatMode(mode ?? 0),
        String(info.nlink),
        numeric ? String(info.uid) : await this.#users.user(info.uid ?? 0),
        numeric ? String(info.gid) : await this.#users.group(info.gid ?? 0),
        isDevice ? `${specdata1}, ${specdata2}` : human ? formatSize(attributes.size) : String(attributes.size),
        formatListTime(new Date(attributes.mtime.seconds * 1000), this.#now),
      ]);
    }
    const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
    const lines = rows.map((row, at) => {
      const cells = row.map((cell, column) => {
        return column === 3 || column === 4 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]);
      });
      const { link } = items[at];
      const target = link === undefined ? "" : ` -> ${this.#context.shown(link)}`;
      return `${(inode ? cells : cells.slice(1)).join(" ")} ${this.#shownName(items[at])}${target}`;
    });
    await this.#context.print(lines.join("\n"));
  }
}

/** Cells in as few lines as fit the width, filled column by column. */
export function inColumns(cells: readonly string[], width: number): string[] {
  for (let lines = 1; lines < cells.length; lines++) {
    const columns = Math.ceil(cells.length / lines);
    const widths = Array.from({ length: columns }, (_, column) => {
      return Math.max(...cells.slice(column * lines, (column + 1) * lines).map((cell) => cell.length));
    });
    if (widths.reduce((sum, cell) => sum + cell + 2, -2) > width) continue;
    return Array.from({ length: lines }, (_, line) => {
      const row = widths.map((cell, column) => cells[column * lines + line]?.padEnd(cell + 2) ?? "");
      return row.join("").trimEnd();
    });
  }
  return [...cells];
}
