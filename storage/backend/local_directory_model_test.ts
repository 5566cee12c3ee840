/**
 * Random operations on a local directory and on the file system in memory, which must agree at every step.
 * `WEFT_TEST_SEED` repeats a run.
 */
import { assertEquals } from "@std/assert";
import { IS_ROOT, ME, name, type Scratch, string, testEach } from "./_testing/scratch.ts";
import {
  type AttributeChanges,
  type CreateMode,
  type Credentials,
  type Entry,
  type FileAttributes,
  type FileHandle,
  type FileSystem,
  FileType,
  FsError,
  type Stability,
} from "./file_system.ts";
import { MemoryFileSystem } from "./memory.ts";

const STEPS = 600;
const FILE_BYTES_MAX = 300_000;
const CALLERS: Credentials[] = IS_ROOT
  ? [
    { uid: 0, gid: 0, gids: [] },
    { uid: 1000, gid: 1000, gids: [50] },
    { uid: 1001, gid: 1001, gids: [50] },
    { uid: 1002, gid: 50, gids: [] },
  ]
  : [ME];

/** Small, and the same everywhere: mulberry32. */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** An integer from 0 up to, not including, the limit. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let value = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return Math.floor(((value ^ (value >>> 14)) >>> 0) / 2 ** 32 * limit);
  }

  pick<T>(of: readonly T[]): T {
    return of[this.below(of.length)];
  }
}

/** A file as each of the two knows it. */
type Pair = [real: FileHandle, model: FileHandle];

/** What both must agree on. */
function visible(attributes: FileAttributes): unknown {
  const { type, mode, nlink, uid, gid, size, rdevMajor, rdevMinor } = attributes;
  return { type, mode, nlink, uid, gid, size: type === FileType.Directory ? 0n : size, rdevMajor, rdevMinor };
}

/** Something to do on one side. */
type Operation<T> = (fs: FileSystem, side: 0 | 1) => T | Promise<T>;

class Comparison {
  readonly #sides: readonly [FileSystem, FileSystem];
  readonly #random: Random;
  readonly #pairs: Pair[];
  readonly #known = new Map<string, string>();
  #step = "";

  constructor(sides: readonly [FileSystem, FileSystem], random: Random) {
    this.#sides = sides;
    this.#random = random;
    this.#pairs = [[sides[0].root, sides[1].root]];
  }

  /** One operation on both. */
  async step(number: number): Promise<void> {
    const random = this.#random;
    const operations = [
      () => this.#lookup(),
      () => this.#create(),
      () => this.#create(),
      () => this.#makeDirectory(),
      () => this.#makeOther(),
      () => this.#remove(),
      () => this.#rename(),
      () => this.#link(),
      () => this.#setAttributes(),
      () => this.#write(),
      () => this.#read(),
      () => this.#inspect(),
    ];
    this.#step = `step ${number}`;
    await random.pick(operations)();
    await this.#compareTrees(CALLERS[0], [this.#sides[0].root, this.#sides[1].root], "");
  }

  /** Runs a change on both sides. Where there are several reasons to refuse it, either side may give another of them. */
  #change<T>(what: string, operation: Operation<T>, prepare?: (result: T) => unknown): Promise<[T, T] | undefined> {
    return this.#both(what, operation, prepare, true);
  }

  /** Runs it on both sides; results must be equal once prepared, or fail with the same code. */
  async #both<T>(
    what: string,
    operation: Operation<T>,
    prepare: (result: T) => unknown = () => "done",
    severalReasons = false,
  ): Promise<[T, T] | undefined> {
    this.#step += `, ${what}`;
    const results: T[] = [];
    const outcomes: unknown[] = [];
    for (const side of [0, 1] as const) {
      try {
        const result = await operation(this.#sides[side], side);
        results.push(result);
        outcomes.push(prepare(result));
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
        outcomes.push(error.code);
      }
    }
    if (results.length > 0 || !severalReasons) assertEquals(outcomes[0], outcomes[1], this.#step);
    return results.length === 2 ? [results[0], results[1]] : undefined;
  }

  /** Entries that both returned must be the same file again wherever they turn up. */
  #meet(entries: [Entry, Entry] | undefined): Pair | undefined {
    if (!entries) return undefined;
    const pair: Pair = [entries[0].handle, entries[1].handle];
    const [real, model] = pair.map((handle) => handle.toString());
    const before = this.#known.get(real);
    if (before === undefined) {
      this.#known.set(real, model);
      this.#pairs.push(pair);
      if (this.#pairs.length > 60) this.#pairs.splice(1 + this.#random.below(30), 1);
    } else {
      assertEquals(before, model, `${this.#step}: one handle for two files`);
    }
    return pair;
  }

  #as(): Credentials {
    return this.#random.pick(CALLERS);
  }

  #file(): Pair {
    // The root now and then, so that there is something in it.
    return this.#random.below(3) === 0 ? this.#pairs[0] : this.#random.pick(this.#pairs);
  }

  #name(): Uint8Array {
    const odd = [Uint8Array.of(0xff, 0x80), name("x".repeat(255)), name("x".repeat(256)), name("a/b"), name("")];
    return this.#random.below(20) === 0 ? this.#random.pick(odd) : name(this.#random.pick([..."abcdefgh"]));
  }

  #changes(directory: boolean): AttributeChanges {
    const random = this.#random;
    const changes: AttributeChanges = {};
    // An ordinary user's server cannot enter a directory that its mode closes to its owner.
    const least = IS_ROOT ? 0 : 0o700;
    if (random.below(2) === 0) {
      changes.mode = random.pick([0o777, 0o755, 0o700, 0o644, 0o4755, 0o2775, 0o1777, 0]) | least;
    }
    if (random.below(8) === 0) changes.uid = random.pick(CALLERS).uid;
    if (random.below(8) === 0) changes.gid = random.pick(CALLERS).gid;
    if (!directory && random.below(4) === 0) changes.size = BigInt(random.below(FILE_BYTES_MAX));
    if (random.below(6) === 0) changes.mtime = { seconds: BigInt(random.below(1e9)), nanoseconds: random.below(1e9) };
    if (random.below(6) === 0) changes.atime = "now";
    return changes;
  }

  async #lookup(): Promise<void> {
    const [file, as] = [this.#file(), this.#as()];
    const of = this.#random.below(5) === 0 ? name(this.#random.pick([".", ".."])) : this.#name();
    const prepare = (entry: Entry) => visible(entry.attributes);
    this.#meet(
      await this.#both(`${as.uid} lookup ${string(of)}`, (fs, side) => fs.lookup(file[side], of, as), prepare),
    );
  }

  async #create(): Promise<void> {
    const [file, of, as, random] = [this.#file(), this.#name(), this.#as(), this.#random];
    const kind = random.pick(["unchecked", "guarded", "exclusive"] as const);
    const changes = this.#changes(false);
    const verifier = new Uint8Array(8).fill(random.below(3));
    const mode: CreateMode = kind === "exclusive" ? { kind, verifier } : { kind, changes };
    // The mode that an exclusive create begins with is the server's choice.
    const prepare = ({ attributes }: Entry) => visible(kind === "exclusive" ? { ...attributes, mode: 0 } : attributes);
    const made = await this.#change(
      `${as.uid} create ${kind}`,
      (fs, side) => fs.create(file[side], of, mode, as),
      prepare,
    );
    const pair = this.#meet(made);
    if (pair && kind === "exclusive") {
      await this.#both("mode", (fs, side) => fs.setAttributes(pair[side], { mode: 0o640 }, CALLERS[0]), visible);
    }
  }

  async #makeDirectory(): Promise<void> {
    const [file, of, as, changes] = [this.#file(), this.#name(), this.#as(), this.#changes(true)];
    const prepare = ({ attributes }: Entry) => visible(attributes);
    const make = (fs: FileSystem, side: 0 | 1) => fs.makeDirectory(file[side], of, changes, as);
    this.#meet(await this.#change(`${as.uid} mkdir`, make, prepare));
  }

  async #makeOther(): Promise<void> {
    const [file, of, as, changes] = [this.#file(), this.#name(), this.#as(), this.#changes(true)];
    const target = name(this.#random.pick(["a", "../..", "/etc/passwd", ""]));
    const type = this.#random.pick([FileType.Fifo, FileType.Socket, FileType.CharacterDevice]);
    const isLink = this.#random.below(2) === 0;
    const prepare = ({ attributes }: Entry) => visible(attributes);
    const make = (fs: FileSystem, side: 0 | 1) =>
      isLink
        ? fs.symlink(file[side], of, target, { ...changes, mode: undefined }, as)
        : fs.makeNode(file[side], of, { type, major: 1, minor: 3 }, changes, as);
    this.#meet(await this.#change(`${as.uid} ${isLink ? "symlink" : `mknod ${type}`}`, make, prepare));
  }

  async #remove(): Promise<void> {
    const [file, of, as] = [this.#file(), this.#name(), this.#as()];
    if (this.#random.below(3) === 0) {
      await this.#change(`${as.uid} rmdir`, (fs, side) => fs.removeDirectory(file[side], of, as));
    } else {
      await this.#change(`${as.uid} remove`, (fs, side) => fs.remove(file[side], of, as));
    }
  }

  async #rename(): Promise<void> {
    const [from, to, oldName, newName, as] = [this.#file(), this.#file(), this.#name(), this.#name(), this.#as()];
    // Linux does nothing, and checks nothing, where both are names of one file.
    if (await this.#same(from, oldName, to, newName)) return;
    await this.#change(
      `${as.uid} rename ${string(oldName)} to ${string(newName)}`,
      (fs, side) => fs.rename({ directory: from[side], name: oldName }, { directory: to[side], name: newName }, as),
    );
  }

  async #same(one: Pair, oneName: Uint8Array, other: Pair, otherName: Uint8Array): Promise<boolean> {
    const model = this.#sides[1];
    try {
      const found = await model.lookup(one[1], oneName, CALLERS[0]);
      const existing = await model.lookup(other[1], otherName, CALLERS[0]);
      return found.attributes.fileid === existing.attributes.fileid;
    } catch (error) {
      if (error instanceof FsError) return false;
      throw error;
    }
  }

  async #link(): Promise<void> {
    // Whether others may link to a file is the machine's policy; its owner and root always may.
    const [file, directory, of] = [this.#file(), this.#file(), this.#name()];
    const link = (fs: FileSystem, side: 0 | 1) => fs.link(file[side], directory[side], of, CALLERS[0]);
    await this.#change("link", link, visible);
  }

  async #setAttributes(): Promise<void> {
    const [file, as, changes] = [this.#file(), this.#as(), this.#changes(false)];
    // The mode of a symbolic link means nothing; Linux refuses to set it.
    const { type } = await this.#attributes(file);
    if (type === FileType.Symlink) delete changes.mode;
    // Linux lets only one refusal of several be seen, and not always the same one.
    if (type !== FileType.Regular) delete changes.size;
    const prepare = (attributes: FileAttributes) => [
      visible(attributes),
      typeof changes.mtime === "object" ? attributes.mtime : undefined,
    ];
    const set = (fs: FileSystem, side: 0 | 1) => fs.setAttributes(file[side], changes, as);
    const what = Object.entries(changes).map(([key, value]) => `${key} ${value}`).join(" ");
    await this.#change(`${as.uid} set type ${type} ${what}`, set, prepare);
  }

  async #attributes(file: Pair): Promise<{ type?: FileType }> {
    const found = await this.#both("getattr", (fs, side) => fs.getAttributes(file[side], CALLERS[0]), visible);
    return found?.[1] ?? {};
  }

  async #write(): Promise<void> {
    const [file, as, random] = [this.#file(), this.#as(), this.#random];
    const pieces = Array.from({ length: random.below(4) }, () => {
      const length = random.below(3) === 0 ? random.below(60_000) : random.below(100);
      return new Uint8Array(length).fill(random.below(256));
    });
    const offset = BigInt(random.below(FILE_BYTES_MAX));
    const stability = random.below(3) as Stability;
    const write = (fs: FileSystem, side: 0 | 1) => fs.write(file[side], offset, pieces, stability, as);
    await this.#both(`${as.uid} write ${pieces.length}`, write, ({ bytesWritten }) => bytesWritten);
  }

  async #read(): Promise<void> {
    const [file, as] = [this.#file(), this.#as()];
    const offset = BigInt(this.#random.below(FILE_BYTES_MAX));
    const into = [0, 1].map(() => new Uint8Array(this.#random.below(1) + FILE_BYTES_MAX));
    const read = (fs: FileSystem, side: 0 | 1) => fs.read(file[side], offset, into[side], as);
    await this.#both(`${as.uid} read`, read, (result) => result);
    assertEquals(into[0], into[1], this.#step);
  }

  async #inspect(): Promise<void> {
    const [file, as] = [this.#file(), this.#as()];
    const { type } = await this.#attributes(file);
    // Root's verdict on special files differs between file systems.
    if (type === FileType.Regular || type === FileType.Directory) {
      await this.#both(`${as.uid} access`, (fs, side) => fs.access(file[side], 0x3f, as), (bits) => bits);
    }
    await this.#both(`${as.uid} readlink`, (fs, side) => fs.readLink(file[side], as), string);
    await this.#both(`${as.uid} commit`, (fs, side) => fs.commit(file[side], 0n, 0, as));
    const all = { cookie: 0n, entriesMax: 1000, attributes: false };
    const list = (fs: FileSystem, side: 0 | 1) => fs.readDirectory(file[side], all, as);
    await this.#both(`${as.uid} list`, list, ({ entries }) => entries.map((entry) => string(entry.name)).sort());
  }

  /** Everything beneath a directory, with contents now and then. */
  async #compareTrees(as: Credentials, directory: Pair, path: string): Promise<void> {
    const all = { cookie: 0n, entriesMax: 1000, attributes: true };
    const listings = await Promise.all(
      this.#sides.map(async (fs, side) => (await fs.readDirectory(directory[side], all, as)).entries),
    );
    const table = (side: 0 | 1) =>
      new Map(listings[side].map((entry) => [entry.name.toString(), entry.entry] as const));
    const [real, model] = [table(0), table(1)];
    assertEquals([...real.keys()].sort(), [...model.keys()].sort(), `${this.#step}: names in ${path}/`);
    for (const [key, entry] of real) {
      const other = model.get(key);
      if (!entry || !other) throw new Error(`${this.#step}: no attributes in ${path}/`);
      assertEquals(visible(entry.attributes), visible(other.attributes), `${this.#step}: ${path}/${key}`);
      this.#meet([entry, other]);
      const below = key !== name(".").toString() && key !== name("..").toString();
      if (below && entry.attributes.type === FileType.Directory) {
        await this.#compareTrees(as, [entry.handle, other.handle], `${path}/${key}`);
      }
    }
  }
}

const seed = Number(Deno.env.get("WEFT_TEST_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);

testEach(`agrees with the model, WEFT_TEST_SEED=${seed}`, async (scratch: Scratch) => {
  console.log(`WEFT_TEST_SEED=${seed}`);
  await using real = scratch.open();
  await using model = new MemoryFileSystem({ root: { ...ME, mode: 0o777 } });
  const comparison = new Comparison([real, model], new Random(seed));
  for (let number = 1; number <= STEPS; number++) await comparison.step(number);
});
