/**
 * Storage, tests: directories to serve, in the ways and places that there are.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { storageLibrary } from "../../_ffi/library.ts";
import { type AttributeChanges, type Credentials, type Entry, type FileSystem, FsError } from "../file_system.ts";
import { LocalDirectory, type LocalDirectoryOptions } from "../local_directory.ts";

/** Whether the tests run as root. */
export const IS_ROOT = Deno.uid() === 0;
/** Who runs the tests. */
export const ME: Credentials = { uid: Deno.uid() ?? 0, gid: Deno.gid() ?? 0, gids: [] };
/** A file system in memory, where the machine has one. */
const MEMORY = "/dev/shm";

// Loaded for good: no test's doing.
storageLibrary();

const text = new TextEncoder();

/** A name, as bytes. */
export function name(of: string): Uint8Array {
  return text.encode(of);
}

/** Bytes as text. */
export function string(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

/** A way to serve, and a place. */
export interface Variant {
  title: string;
  handles: "kernel" | "index";
  parent?: string;
}

/** Every kind of handle that this user can have, on disk and in memory. */
export function variants(): Variant[] {
  const kinds: Variant["handles"][] = IS_ROOT ? ["kernel", "index"] : ["index"];
  const places = [undefined, MEMORY].filter((parent) => parent === undefined || isWritable(parent));
  return places.flatMap((parent) =>
    kinds.map((handles) => ({ title: `${handles} handles, ${parent ?? "temporary directory"}`, handles, parent }))
  );
}

function isWritable(path: string): boolean {
  try {
    Deno.removeSync(Deno.makeTempDirSync({ dir: path }));
    return true;
  } catch {
    return false;
  }
}

/** A directory to serve, with a place for the state; both are removed at the end. */
export class Scratch implements AsyncDisposable {
  readonly #base: string;
  readonly #variant: Variant;
  readonly #open: LocalDirectory[] = [];
  /** What is served. */
  readonly directory: string;
  /** Where key and index are. */
  readonly state: string;

  constructor(variant: Variant = { title: "", handles: "kernel" }) {
    this.#variant = variant;
    this.#base = Deno.makeTempDirSync({ dir: variant.parent, prefix: "weft-storage-" });
    this.directory = `${this.#base}/served`;
    this.state = `${this.#base}/state`;
    Deno.mkdirSync(this.directory);
    Deno.chmodSync(this.#base, 0o755);
    Deno.chmodSync(this.directory, 0o777);
  }

  /** Serves it. */
  open(options: LocalDirectoryOptions = {}): LocalDirectory {
    const fs = LocalDirectory.open(this.directory, {
      stateDirectory: this.state,
      handles: this.#variant.handles,
      stable: false,
      ...options,
    });
    this.#open.push(fs);
    return fs;
  }

  /** The path of something in it. */
  path(relative: string): string {
    return `${this.directory}/${relative}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const fs of this.#open) await fs[Symbol.asyncDispose]();
    Deno.removeSync(this.#base, { recursive: true });
  }
}

/** A test for each variant. */
export function testEach(title: string, body: (scratch: Scratch) => void | Promise<void>): void {
  for (const variant of variants()) {
    Deno.test(`LocalDirectory: ${title} (${variant.title})`, async () => {
      await using scratch = new Scratch(variant);
      await body(scratch);
    });
  }
}

/** A test that needs root; without it, it says loudly that it did nothing. */
export function testAsRoot(title: string, body: () => void | Promise<void>): void {
  Deno.test(`LocalDirectory: ${title}`, async () => {
    if (!IS_ROOT) return console.error(`SKIPPED, NEEDS ROOT: ${title}`);
    await body();
  });
}

/** Creates a file in the root. */
export async function create(
  fs: FileSystem,
  of: string | Uint8Array,
  changes: AttributeChanges = {},
  as = ME,
): Promise<Entry> {
  return await fs.create(fs.root, typeof of === "string" ? name(of) : of, { kind: "guarded", changes }, as);
}

/** Reads a whole file of up to a mebibyte. */
export async function readAll(fs: FileSystem, file: Uint8Array, as = ME): Promise<string> {
  const into = new Uint8Array(1 << 20);
  const { bytesRead, eof } = await fs.read(file, 0n, into, as);
  assert(eof);
  return string(into.subarray(0, bytesRead));
}

/** Writes text. */
export async function writeText(fs: FileSystem, file: Uint8Array, contents: string, as = ME): Promise<void> {
  const { bytesWritten } = await fs.write(file, 0n, [name(contents)], 0, as);
  assertEquals(bytesWritten, name(contents).byteLength);
}

/** Names in a directory, sorted. */
export async function names(fs: FileSystem, directory: Uint8Array, as = ME): Promise<string[]> {
  const { entries, eof } = await fs.readDirectory(
    directory,
    { cookie: 0n, entriesMax: 10_000, attributes: false },
    as,
  );
  assert(eof);
  return entries.map((entry) => string(entry.name)).sort();
}

/** The code that an operation fails with. */
export async function codeOf(body: () => unknown): Promise<string> {
  try {
    await body();
  } catch (error) {
    if (error instanceof FsError) return error.code;
    throw error;
  }
  return "no error";
}

/** Asserts that an operation fails with a code. */
export async function fails(code: string, body: () => unknown): Promise<void> {
  assertEquals(await codeOf(body), code);
}

/** Descriptors of this process. */
export function descriptors(): number {
  return Array.from(Deno.readDirSync("/proc/self/fd")).length;
}
