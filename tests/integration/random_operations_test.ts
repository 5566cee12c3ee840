/**
 * Random file operations by the client against a model in memory, and against the served directory as it lies on disk.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { mount, type NfsFileSystem } from "../../client/mod.ts";
import { codeOf } from "../../client/errors.ts";
import { WeftServer } from "../weft_server.ts";

const STEPS = 1500;

/** What a name stands for. Hard links share one. */
type Node =
  | { kind: "file"; data: Uint8Array<ArrayBuffer>; mode: number }
  | { kind: "link"; target: string }
  | { kind: "directory"; entries: Map<string, Node> };

class ModelError extends Error {
  constructor(readonly code: string) {
    super(code);
  }
}

/** All links dangle: what lies behind one does not exist. */
const notDirectory = (node: Node): ModelError => new ModelError(node.kind === "link" ? "ENOENT" : "ENOTDIR");

/** A tree of files, written for clarity; paths have no links in the middle. */
class Model {
  readonly root: Node & { kind: "directory" } = { kind: "directory", entries: new Map() };

  /** The directory and the name of a path. */
  place(path: string): { entries: Map<string, Node>; name: string } {
    const parts = path.split("/").filter((part) => part !== "");
    const name = parts.pop()!;
    let directory: Node = this.root;
    for (const part of parts) {
      if (directory.kind !== "directory") throw notDirectory(directory);
      const next: Node | undefined = directory.entries.get(part);
      if (next === undefined) throw new ModelError("ENOENT");
      directory = next;
    }
    if (directory.kind !== "directory") throw notDirectory(directory);
    return { entries: directory.entries, name };
  }

  find(path: string): Node {
    const { entries, name } = this.place(path);
    const node = entries.get(name);
    if (node === undefined) throw new ModelError("ENOENT");
    return node;
  }

  file(path: string): Node & { kind: "file" } {
    const node = this.find(path);
    if (node.kind === "directory") throw new ModelError("EISDIR");
    if (node.kind === "link") throw notDirectory(node);
    return node;
  }

  write(path: string, offset: number, data: Uint8Array): void {
    const node = this.file(path);
    const longer = new Uint8Array(Math.max(node.data.byteLength, offset + data.byteLength));
    longer.set(node.data);
    longer.set(data, offset);
    node.data = longer;
  }

  create(path: string, data: Uint8Array<ArrayBuffer>): void {
    const { entries, name } = this.place(path);
    const old = entries.get(name);
    if (old === undefined) entries.set(name, { kind: "file", data, mode: 0o644 });
    else this.file(path).data = data;
  }

  truncate(path: string, size: number): void {
    const node = this.file(path);
    const data = new Uint8Array(size);
    data.set(node.data.subarray(0, size));
    node.data = data;
  }

  add(path: string, node: Node): void {
    const { entries, name } = this.place(path);
    if (entries.has(name)) throw new ModelError("EEXIST");
    entries.set(name, node);
  }

  remove(path: string, recursive: boolean): void {
    const node = this.find(path);
    if (node.kind === "directory" && !recursive && node.entries.size > 0) throw new ModelError("ENOTEMPTY");
    const { entries, name } = this.place(path);
    entries.delete(name);
  }

  rename(from: string, to: string): void {
    const source = this.place(from);
    const target = this.place(to);
    const node = this.find(from);
    const old = target.entries.get(target.name);
    if (to === from) return;
    if (to.startsWith(`${from}/`)) throw new ModelError("EINVAL");
    if (from.startsWith(`${to}/`)) throw new ModelError("ENOTEMPTY");
    if (node.kind === "directory") {
      if (old !== undefined && old.kind !== "directory") throw new ModelError("ENOTDIR");
      if (old?.kind === "directory" && old.entries.size > 0) throw new ModelError("ENOTEMPTY");
    } else if (old?.kind === "directory") {
      throw new ModelError("EISDIR");
    }
    if (old === node) return; // two names of one file: both stay
    source.entries.delete(source.name);
    target.entries.set(target.name, node);
  }
}

/** Reproducible choices. */
class Choices {
  #state: number;

  constructor(readonly seed: number) {
    this.#state = seed;
  }

  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor(((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32 * limit);
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)];
  }

  /** Few names, so that they meet. */
  path(): string {
    const depth = 1 + this.below(3);
    return Array.from({ length: depth }, () => `/${this.pick(["a", "b", "c", "grün"])}`).join("");
  }

  bytes(): Uint8Array<ArrayBuffer> {
    const length = this.pick([0, 1, 100, 4095, 8192, 70_000, 300_000]);
    return new Uint8Array(length).fill(1 + this.below(255));
  }
}

type Step = {
  name: string;
  client: (fs: NfsFileSystem) => Promise<unknown>;
  model: (model: Model) => unknown;
};

function nextStep(choices: Choices): Step {
  const path = choices.path();
  const other = choices.path();
  const data = choices.bytes();
  const offset = choices.below(100_000);
  const size = choices.below(200_000);
  const mode = choices.pick([0o600, 0o644, 0o750]);
  const recursive = choices.below(3) === 0;
  const steps: Step[] = [
    {
      name: `writeFile ${path} ${data.byteLength}`,
      client: (fs) => fs.writeFile(path, data),
      model: (model) => model.create(path, data),
    },
    {
      name: `write ${path} at ${offset}: ${data.byteLength}`,
      client: async (fs) => {
        await using file = await fs.open(path, { write: true });
        await file.seek(offset, Deno.SeekMode.Start);
        await file.write(data);
      },
      model: (model) => {
        model.file(path);
        if (data.byteLength > 0) model.write(path, offset, data);
      },
    },
    {
      name: `append ${path}: ${data.byteLength}`,
      client: (fs) => fs.writeFile(path, data, { append: true, create: false }),
      model: (model) => model.write(path, model.file(path).data.byteLength, data),
    },
    {
      name: `truncate ${path} ${size}`,
      client: (fs) => fs.truncate(path, size),
      model: (model) => model.truncate(path, size),
    },
    { name: `readFile ${path}`, client: (fs) => fs.readFile(path), model: (model) => model.file(path).data },
    {
      name: `mkdir ${path}`,
      client: (fs) => fs.mkdir(path),
      model: (model) => model.add(path, { kind: "directory", entries: new Map() }),
    },
    {
      name: `remove ${path} ${recursive}`,
      client: (fs) => fs.remove(path, { recursive }),
      model: (model) => model.remove(path, recursive),
    },
    {
      name: `rename ${path} ${other}`,
      client: (fs) => fs.rename(path, other),
      model: (model) => model.rename(path, other),
    },
    {
      name: `symlink ${path}`,
      client: (fs) => fs.symlink(`nowhere/${size}`, path),
      model: (model) => model.add(path, { kind: "link", target: `nowhere/${size}` }),
    },
    {
      name: `link ${path} ${other}`,
      client: (fs) => fs.link(path, other),
      model: (model) => {
        const node = model.find(path);
        model.place(other);
        if (node.kind === "directory") {
          throw new ModelError(model.place(other).entries.has(model.place(other).name) ? "EEXIST" : "EPERM");
        }
        model.add(other, node);
      },
    },
    {
      name: `chmod ${path}`,
      client: (fs) => fs.chmod(path, mode),
      model: (model) => {
        const node = model.find(path);
        if (node.kind === "link") throw new ModelError("ENOENT");
        if (node.kind === "file") node.mode = mode;
      },
    },
    {
      name: `readDir ${path}`,
      client: async (fs) => (await Array.fromAsync(fs.readDir(path))).map(({ name }) => name).sort(),
      model: (model) => {
        const node = model.find(path);
        if (node.kind === "link") throw new ModelError("ENOENT");
        if (node.kind === "file") throw new ModelError("ENOTDIR");
        return [...node.entries.keys()].sort();
      },
    },
  ];
  // Something must come to be before it can be worked on.
  return choices.below(4) === 0 ? choices.pick([steps[0], steps[5]]) : choices.pick(steps);
}

async function outcome(run: () => unknown): Promise<unknown> {
  try {
    return await run() ?? "done";
  } catch (error) {
    const code = codeOf(error) ?? (error as ModelError).code;
    if (code === undefined) throw error;
    return code;
  }
}

/** The served directory, as it is on disk. */
async function readTree(path: string): Promise<unknown> {
  const found: Record<string, unknown> = {};
  for await (const { name, isDirectory, isSymlink } of Deno.readDir(path)) {
    const here = `${path}/${name}`;
    if (isDirectory) found[name] = await readTree(here);
    else if (isSymlink) found[name] = `-> ${await Deno.readLink(here)}`;
    else found[name] = { data: await Deno.readFile(here), mode: (await Deno.stat(here)).mode! & 0o7777 };
  }
  return found;
}

function modelTree(node: Node & { kind: "directory" }): unknown {
  return Object.fromEntries([...node.entries].map(([name, entry]) => {
    if (entry.kind === "directory") return [name, modelTree(entry)];
    if (entry.kind === "link") return [name, `-> ${entry.target}`];
    return [name, { data: entry.data, mode: entry.mode }];
  }));
}

Deno.test("random operations against a model", async (t) => {
  for (const proto of ["rdma", "tcp"] as const) {
    await t.step(proto, async () => {
      const seed = Number(Deno.env.get("WEFT_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);
      console.log(`seed ${seed}: repeat with WEFT_SEED=${seed}`);
      await using server = await WeftServer.start();
      await using fs = await mount(`nfs://127.0.0.1:${server.port}/`, { proto });
      assertEquals(fs.transport, proto);
      const choices = new Choices(seed);
      const model = new Model();
      let successes = 0;
      for (let at = 0; at < STEPS; at++) {
        const step = nextStep(choices);
        const expected = await outcome(() => step.model(model));
        const actual = await outcome(() => step.client(fs));
        if (expected === "done") successes++;
        assertEquals(actual, expected, `seed ${seed}, step ${at}: ${step.name}`);
        if (at % 100 === 99) {
          assertEquals(await readTree(server.directory), modelTree(model.root), `seed ${seed}, after step ${at}`);
        }
      }
      assert(successes > STEPS / 10, `only ${successes} operations succeeded`);
    });
  }
});
