/**
 * Random calls of NFSv3, the same ones to a local directory served over RDMA or TCP and to the in-memory model: both must say the same.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { createmode3, nfsstat3, stable_how } from "../../storage/nfs/mod.ts";
import { memorySubject } from "../conformance/nfs3/memory_subject.ts";
import { servedSubject } from "../conformance/nfs3/served_subject.ts";
import { bytes, Caller, callers, type Fixture, joined, NO_CHANGES, ok, text } from "../conformance/nfs3/subject.ts";
import { encodeAuthSys } from "../../rpc/mod.ts";

const STEPS = 1500;
const NAMES = ["a", "b", "c", "d", "e", "f"];
const FILE_BYTES_MAX = 300_000;

/** A file as either server knows it. */
interface Known {
  model: Uint8Array;
  real: Uint8Array;
}

/** What a call came to, in terms that both servers share. */
type Outcome = Record<string, unknown>;

const seed = Number(Deno.env.get("WEFT_TEST_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);

for (const proto of ["rdma", "tcp"] as const) {
  Deno.test(`a directory served over ${proto} does what the model does, at every step, WEFT_TEST_SEED=${seed}`, async () => {
    await using modelServer = await memorySubject({ name: "model", bulk: "reduced" }).open({});
    await using realServer = await servedSubject({ proto, backend: "local directory" }).open({});
    const run = new Run(await callers(modelServer), await callers(realServer), seed);
    await run.start();
    for (let step = 0; step < STEPS; step++) await run.step(step);
  });
}

class Run {
  readonly #random: () => number;
  readonly #callers: { model: Caller; real: Caller }[];
  readonly #model: Fixture;
  readonly #real: Fixture;
  /** Files and directories met so far, gone ones among them. */
  readonly #known: Known[] = [];

  constructor(model: Fixture, real: Fixture, seed: number) {
    this.#model = model;
    this.#real = real;
    this.#random = randomNumbers(seed);
    // An ordinary user's server takes everybody for that user.
    const me = { uid: Deno.uid() ?? 0, gid: Deno.gid() ?? 0 };
    const who = me.uid === 0
      ? [{ uid: 0, gid: 0 }, { uid: 1000, gid: 1000, gids: [50] }, { uid: 1001, gid: 50 }]
      : [me];
    this.#callers = who.map((each) => ({
      model: new Caller(model.transport, encodeAuthSys(each)),
      real: new Caller(real.transport, encodeAuthSys(each)),
    }));
  }

  async start(): Promise<void> {
    const { uid, gid } = await this.#real.superuser.getattr(this.#real.root);
    ok(await this.#model.superuser.setattr(this.#model.root, { mode: 0o777, uid, gid }));
    ok(await this.#real.superuser.setattr(this.#real.root, { mode: 0o777 }));
    this.#known.push({ model: this.#model.root, real: this.#real.root });
  }

  /** One random call to both. */
  async step(step: number): Promise<void> {
    const caller = this.#pick(this.#callers);
    const { name, call } = this.#operation();
    const model = await call(caller.model, "model");
    const real = await call(caller.real, "real");
    const { handle: modelHandle, ...modelOutcome } = model;
    const { handle: realHandle, ...realOutcome } = real;
    assertEquals(realOutcome, modelOutcome, `step ${step}: ${name}`);
    if (modelHandle === undefined || realHandle === undefined) return;
    if (this.#known.length > 40) this.#known.splice(1 + this.#below(this.#known.length - 1), 1);
    this.#known.push({ model: modelHandle as Uint8Array, real: realHandle as Uint8Array });
  }

  #below(limit: number): number {
    return this.#random() % limit;
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#below(from.length)];
  }

  /** A random call, with what it is made of chosen already. */
  #operation(): { name: string; call: (caller: Caller, side: keyof Known) => Promise<Outcome> } {
    const file = this.#pick(this.#known);
    const dir = this.#below(3) === 0 ? this.#known[0] : this.#pick(this.#known);
    const other = this.#below(2) === 0 ? this.#known[0] : this.#pick(this.#known);
    const name = bytes(this.#pick(NAMES));
    const otherName = bytes(this.#pick(NAMES));
    const mode = this.#pick([0o755, 0o700, 0o644, 0o750, 0o777, 0o711, 0o1777, 0o000]);
    const offset = BigInt(this.#below(FILE_BYTES_MAX));
    const data = new Uint8Array(this.#below(this.#pick([10, 5000, 70_000]))).fill(this.#below(256));
    const stable = this.#pick([stable_how.UNSTABLE, stable_how.UNSTABLE, stable_how.FILE_SYNC]);
    const choices: Record<string, (caller: Caller, side: keyof Known) => Promise<Outcome>> = {
      create: async (caller, side) =>
        made(
          await caller.call("CREATE", {
            where: { dir: dir[side], name },
            how: {
              mode: this.#isGuarded ? createmode3.GUARDED : createmode3.UNCHECKED,
              value: { ...NO_CHANGES, mode },
            },
          }),
        ),
      mkdir: async (caller, side) => made(await caller.mkdir(dir[side], text(name), { mode })),
      symlink: async (caller, side) => made(await caller.symlink(dir[side], text(name), otherName)),
      lookup: async (caller, side) => {
        const result = await caller.call("LOOKUP", { what: { dir: dir[side], name } });
        return result.status !== nfsstat3.NFS3_OK
          ? told(result.status)
          : { ...told(result.status), ...seen(result.value.obj_attributes), handle: result.value.object };
      },
      getattr: async (caller, side) => {
        const result = await caller.call("GETATTR", { object: file[side] });
        return { ...told(result.status), ...seen(result.value?.obj_attributes) };
      },
      access: async (caller, side) => {
        const result = await caller.call("ACCESS", { object: file[side], access: 0x3f });
        return { ...told(result.status), ...result.status === nfsstat3.NFS3_OK ? { access: result.value.access } : {} };
      },
      read: async (caller, side) => {
        const result = await caller.read(file[side], offset, 100_000);
        if (result.status !== nfsstat3.NFS3_OK) return told(result.status);
        const { eof, data } = result.value;
        return { ...told(result.status), eof, hash: await digest(joined(data)), ...seen(result.value.file_attributes) };
      },
      write: async (caller, side) => {
        const result = await caller.write(file[side], offset, data, stable);
        return { ...told(result.status), ...seen(result.value.file_wcc.after) };
      },
      truncate: async (caller, side) => {
        const result = await caller.setattr(file[side], { size: offset });
        return { ...told(result.status), ...seen(result.value.obj_wcc.after) };
      },
      chmod: async (caller, side) => {
        const result = await caller.setattr(file[side], { mode });
        return { ...told(result.status), ...seen(result.value.obj_wcc.after) };
      },
      commit: async (caller, side) =>
        told((await caller.call("COMMIT", { file: file[side], offset: 0n, count: 0 })).status),
      readlink: async (caller, side) => {
        const result = await caller.readlink(file[side]);
        return {
          ...told(result.status),
          ...result.status === nfsstat3.NFS3_OK ? { to: text(joined(result.value.data)) } : {},
        };
      },
      remove: async (caller, side) => told((await caller.call("REMOVE", { object: { dir: dir[side], name } })).status),
      rmdir: async (caller, side) => told((await caller.call("RMDIR", { object: { dir: dir[side], name } })).status),
      rename: async (caller, side) => {
        const from = { dir: dir[side], name };
        return told((await caller.call("RENAME", { from, to: { dir: other[side], name: otherName } })).status);
      },
      list: async (caller, side) => {
        const args = { dir: dir[side], cookie: 0n, cookieverf: new Uint8Array(8), dircount: 65_536, maxcount: 65_536 };
        const result = await caller.call("READDIRPLUS", args);
        if (result.status !== nfsstat3.NFS3_OK) return told(result.status);
        const entries = result.value.reply.entries.filter((entry) => text(entry.name) !== "..");
        const listed = entries.map((entry) => [text(entry.name), seen(entry.name_attributes)] as const);
        return { ...told(result.status), listed: listed.sort(([a], [b]) => a < b ? -1 : 1) };
      },
    };
    this.#isGuarded = this.#below(2) === 0;
    const chosen = this.#pick(Object.keys(choices));
    return { name: chosen, call: choices[chosen] };
  }

  #isGuarded = false;
}

function told(status: nfsstat3): Outcome {
  return { status: nfsstat3.nameOf(status) };
}

function made(
  result: Awaited<ReturnType<Caller["mkdir"]>>,
): Outcome {
  if (result.status !== nfsstat3.NFS3_OK) return told(result.status);
  return { ...told(result.status), ...seen(result.value.obj_attributes), handle: result.value.obj };
}

/** Attributes that do not depend on where the files lie. */
function seen(
  attributes: { type: number; mode: number; nlink: number; uid: number; gid: number; size: bigint } | undefined,
): Outcome {
  if (attributes === undefined) return { attributes: undefined };
  const { type, mode, uid, gid, nlink, size } = attributes;
  const isDirectory = type === 2;
  return { type, mode, uid, gid, nlink: isDirectory ? undefined : nlink, size: isDirectory ? undefined : size };
}

async function digest(data: Uint8Array): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data as Uint8Array<ArrayBuffer>)).toHex();
}

/** Numbers below 2^32 that depend on the seed only (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}
