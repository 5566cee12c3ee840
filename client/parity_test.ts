/**
 * The same code over `Deno` on a temporary directory and over a mounted file system: same results, same errors.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { MemoryServer } from "../tests/integration/memory_server.ts";
import type { FileApi } from "./file_api.ts";
import { mount } from "./mount.ts";

/** Runs an operation; a failure becomes a value that can be compared. */
async function outcome(directory: string, run: () => unknown): Promise<unknown> {
  const hide = (text: string) => text.replaceAll(directory, "DIR");
  try {
    const value = await run();
    return typeof value === "string" ? hide(value) : value;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const { code } = error as Error & { code?: unknown };
    return { class: error.constructor.name, name: error.name, message: hide(error.message), code };
  }
}

/** What is comparable of a `FileInfo`. */
function brief(info: Deno.FileInfo): unknown {
  const { isFile, isDirectory, isSymlink, size, mode, nlink } = info;
  return { isFile, isDirectory, isSymlink, size: isDirectory ? 0 : size, mode, nlink: isDirectory ? 0 : nlink };
}

async function names(fs: FileApi, path: string): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of fs.readDir(path)) {
    found.push(`${entry.name}${entry.isDirectory ? "/" : ""}${entry.isSymlink ? "@" : ""}`);
  }
  return found.sort();
}

/** Files to try things on. */
async function populate(fs: FileApi, d: string): Promise<void> {
  await fs.writeTextFile(`${d}/f`, "hello");
  await fs.mkdir(`${d}/dir`);
  await fs.mkdir(`${d}/full`);
  await fs.writeTextFile(`${d}/full/x`, "x");
  await fs.symlink("f", `${d}/ln`);
  await fs.symlink("full", `${d}/lndir`);
  await fs.symlink("nowhere", `${d}/dangling`);
  await fs.symlink("loop", `${d}/loop`);
}

type Operation = (fs: FileApi, d: string) => unknown;

const text = (content: string) => new TextEncoder().encode(content);

const operations: Record<string, Operation> = {
  "stat file": async (fs, d) => brief(await fs.stat(`${d}/f`)),
  "stat directory": async (fs, d) => brief(await fs.stat(`${d}/dir`)),
  "stat link": async (fs, d) => brief(await fs.stat(`${d}/ln`)),
  "lstat link": async (fs, d) => brief(await fs.lstat(`${d}/ln`)),
  "stat through ..": async (fs, d) => brief(await fs.stat(`${d}/full/../f`)),
  "stat through link and ..": async (fs, d) => brief(await fs.stat(`${d}/lndir/../f`)),
  "stat through dots and slashes": async (fs, d) => brief(await fs.stat(`${d}//.///full/./x`)),
  "stat missing": (fs, d) => fs.stat(`${d}/no`),
  "lstat missing": (fs, d) => fs.lstat(`${d}/no`),
  "stat below file": (fs, d) => fs.stat(`${d}/f/x`),
  "stat file/": (fs, d) => fs.stat(`${d}/f/`),
  "stat file/.": (fs, d) => fs.stat(`${d}/f/.`),
  "stat file/..": (fs, d) => fs.stat(`${d}/f/..`),
  "stat directory/": async (fs, d) => brief(await fs.stat(`${d}/dir/`)),
  "lstat link/": async (fs, d) => brief(await fs.lstat(`${d}/lndir/`)),
  "stat dangling": (fs, d) => fs.stat(`${d}/dangling`),
  "lstat dangling": async (fs, d) => brief(await fs.lstat(`${d}/dangling`)),
  "stat loop": (fs, d) => fs.stat(`${d}/loop`),
  "stat below loop": (fs, d) => fs.stat(`${d}/loop/x`),
  "stat empty path": (fs) => fs.stat(""),
  "stat long name": (fs, d) => fs.stat(`${d}/${"x".repeat(300)}`),
  "stat long path": (fs, d) => fs.stat(`${d}/${"x/".repeat(3000)}`),
  "stat NUL": (fs, d) => fs.stat(`${d}/a\0b`),

  "open missing": (fs, d) => fs.open(`${d}/no`),
  "open directory for writing": (fs, d) => fs.open(`${d}/dir`, { write: true }),
  "open with nothing": (fs, d) => fs.open(`${d}/f`, { read: false }),
  "open with empty options": (fs, d) => fs.open(`${d}/f`, {}),
  "open create only": (fs, d) => fs.open(`${d}/f`, { create: true }),
  "open read and create": (fs, d) => fs.open(`${d}/f`, { read: true, create: true }),
  "open append and truncate": (fs, d) => fs.open(`${d}/f`, { append: true, truncate: true }),
  "open read and truncate": (fs, d) => fs.open(`${d}/f`, { read: true, truncate: true }),
  "open createNew of a file": (fs, d) => fs.open(`${d}/f`, { write: true, createNew: true }),
  "open createNew of a dangling link": (fs, d) => fs.open(`${d}/dangling`, { write: true, createNew: true }),
  "open create of a directory": (fs, d) => fs.open(`${d}/dir`, { write: true, create: true }),
  "open create with a slash": (fs, d) => fs.open(`${d}/new/`, { write: true, create: true }),
  "open create below nothing": (fs, d) => fs.open(`${d}/no/x`, { write: true, create: true }),
  "open create through a dangling link": async (fs, d) => {
    (await fs.open(`${d}/dangling`, { write: true, create: true })).close();
    return await names(fs, d);
  },
  "open createNew mode": async (fs, d) => {
    (await fs.open(`${d}/new`, { write: true, createNew: true, mode: 0o641 })).close();
    return brief(await fs.stat(`${d}/new`));
  },
  "open create mode with umask": async (fs, d) => {
    (await fs.open(`${d}/new`, { write: true, create: true, mode: 0o777 })).close();
    return brief(await fs.stat(`${d}/new`));
  },
  "open truncate": async (fs, d) => {
    (await fs.open(`${d}/f`, { write: true, truncate: true })).close();
    return brief(await fs.stat(`${d}/f`));
  },
  "create": async (fs, d) => {
    using file = await fs.create(`${d}/f`);
    await file.write(text("ab"));
    await file.seek(0, Deno.SeekMode.Start);
    return [await file.read(new Uint8Array(9)), brief(await file.stat())];
  },

  "readFile": (fs, d) => fs.readFile(`${d}/f`),
  "readFile through a link": (fs, d) => fs.readTextFile(`${d}/ln`),
  "readFile missing": (fs, d) => fs.readFile(`${d}/no`),
  "readFile directory": (fs, d) => fs.readFile(`${d}/dir`),
  "readTextFile missing": (fs, d) => fs.readTextFile(`${d}/no`),
  "readTextFile directory": (fs, d) => fs.readTextFile(`${d}/dir`),
  "readTextFile of what is no UTF-8": async (fs, d) => {
    await fs.writeFile(`${d}/b`, Uint8Array.of(0xef, 0xbb, 0xbf, 0x61, 0xff));
    return [await fs.readTextFile(`${d}/b`)];
  },
  "readFile aborted": (fs, d) => fs.readFile(`${d}/f`, { signal: AbortSignal.abort() }),
  "readFile aborted with a reason": (fs, d) => fs.readFile(`${d}/f`, { signal: AbortSignal.abort(new Error("mine")) }),

  "writeFile": async (fs, d) => {
    await fs.writeFile(`${d}/f`, text("hi"));
    return await fs.readTextFile(`${d}/f`);
  },
  "writeFile append": async (fs, d) => {
    await fs.writeFile(`${d}/f`, text("hi"), { append: true });
    return await fs.readTextFile(`${d}/f`);
  },
  "writeFile stream": async (fs, d) => {
    await fs.writeFile(`${d}/f`, ReadableStream.from([text("one"), text("two"), new Uint8Array(0)]));
    return await fs.readTextFile(`${d}/f`);
  },
  "writeTextFile stream": async (fs, d) => {
    await fs.writeTextFile(`${d}/f`, ReadableStream.from(["grü", "ße"]), { append: true });
    return await fs.readTextFile(`${d}/f`);
  },
  "writeFile mode of a new file": async (fs, d) => {
    await fs.writeFile(`${d}/new`, text("x"), { mode: 0o777 });
    return brief(await fs.stat(`${d}/new`));
  },
  "writeFile mode of an old file": async (fs, d) => {
    await fs.writeFile(`${d}/f`, text("x"), { mode: 0o600 });
    return brief(await fs.stat(`${d}/f`));
  },
  "writeFile directory": (fs, d) => fs.writeFile(`${d}/dir`, text("")),
  "writeFile createNew": (fs, d) => fs.writeFile(`${d}/f`, text(""), { createNew: true }),
  "writeFile no create": (fs, d) => fs.writeFile(`${d}/no`, text(""), { create: false }),
  "writeFile aborted": (fs, d) => fs.writeFile(`${d}/f`, text("x"), { signal: AbortSignal.abort() }),
  "writeTextFile below nothing": (fs, d) => fs.writeTextFile(`${d}/no/x`, "x"),

  "readDir": (fs, d) => names(fs, d),
  "readDir through a link": (fs, d) => names(fs, `${d}/lndir`),
  "readDir empty": (fs, d) => names(fs, `${d}/dir`),
  "readDir missing": (fs, d) => names(fs, `${d}/no`),
  "readDir file": (fs, d) => names(fs, `${d}/f`),

  "mkdir": async (fs, d) => {
    await fs.mkdir(`${d}/new`, { mode: 0o770 });
    return brief(await fs.stat(`${d}/new`));
  },
  "mkdir with a slash": async (fs, d) => {
    await fs.mkdir(`${d}/new/`);
    return await names(fs, d);
  },
  "mkdir exists": (fs, d) => fs.mkdir(`${d}/dir`),
  "mkdir over a file": (fs, d) => fs.mkdir(`${d}/f`),
  "mkdir over a dangling link": (fs, d) => fs.mkdir(`${d}/dangling`),
  "mkdir below nothing": (fs, d) => fs.mkdir(`${d}/no/x`),
  "mkdir below a file": (fs, d) => fs.mkdir(`${d}/f/x`),
  "mkdir recursive": async (fs, d) => {
    await fs.mkdir(`${d}/a/b/c`, { recursive: true });
    return await names(fs, `${d}/a/b`);
  },
  "mkdir recursive exists": (fs, d) => fs.mkdir(`${d}/dir`, { recursive: true }),
  "mkdir recursive through a link": async (fs, d) => {
    await fs.mkdir(`${d}/lndir/y/z`, { recursive: true });
    return await names(fs, `${d}/full`);
  },
  "mkdir recursive over a file": (fs, d) => fs.mkdir(`${d}/f`, { recursive: true }),
  "mkdir recursive below a file": (fs, d) => fs.mkdir(`${d}/f/x`, { recursive: true }),

  "remove file": async (fs, d) => {
    await fs.remove(`${d}/f`);
    return await names(fs, d);
  },
  "remove link": async (fs, d) => {
    await fs.remove(`${d}/lndir`);
    return [await names(fs, d), await names(fs, `${d}/full`)];
  },
  "remove recursive link": async (fs, d) => {
    await fs.remove(`${d}/lndir`, { recursive: true });
    return [await names(fs, d), await names(fs, `${d}/full`)];
  },
  "remove directory": async (fs, d) => {
    await fs.remove(`${d}/dir`);
    return await names(fs, d);
  },
  "remove full": (fs, d) => fs.remove(`${d}/full`),
  "remove recursive": async (fs, d) => {
    await fs.mkdir(`${d}/full/a/b/c`, { recursive: true });
    await fs.symlink("../../f", `${d}/full/a/up`);
    await fs.remove(`${d}/full`, { recursive: true });
    return [await names(fs, d), await fs.readTextFile(`${d}/f`)];
  },
  "remove missing": (fs, d) => fs.remove(`${d}/no`),
  "remove recursive missing": (fs, d) => fs.remove(`${d}/no`, { recursive: true }),

  "rename": async (fs, d) => {
    await fs.rename(`${d}/f`, `${d}/full/g`);
    return [await names(fs, d), await names(fs, `${d}/full`)];
  },
  "rename over a file": async (fs, d) => {
    await fs.rename(`${d}/full/x`, `${d}/f`);
    return await fs.readTextFile(`${d}/f`);
  },
  "rename a link": async (fs, d) => {
    await fs.rename(`${d}/ln`, `${d}/link`);
    return await fs.readLink(`${d}/link`);
  },
  "rename to itself": async (fs, d) => {
    await fs.rename(`${d}/f`, `${d}/f`);
    return await names(fs, d);
  },
  "rename directory over an empty one": async (fs, d) => {
    await fs.rename(`${d}/full`, `${d}/dir`);
    return await names(fs, `${d}/dir`);
  },
  "rename missing": (fs, d) => fs.rename(`${d}/no`, `${d}/no2`),
  "rename into nothing": (fs, d) => fs.rename(`${d}/f`, `${d}/no/x`),
  "rename directory over a file": (fs, d) => fs.rename(`${d}/dir`, `${d}/f`),
  "rename file over a directory": (fs, d) => fs.rename(`${d}/f`, `${d}/dir`),
  "rename over a full directory": (fs, d) => fs.rename(`${d}/dir`, `${d}/full`),
  "rename missing below a file": (fs, d) => fs.rename(`${d}/no`, `${d}/f/x`),
  "rename over its own parent": (fs, d) => fs.rename(`${d}/full/x`, `${d}/full`),
  "rename file with a slash": (fs, d) => fs.rename(`${d}/f/`, `${d}/g`),
  "rename file to a name with a slash": (fs, d) => fs.rename(`${d}/f`, `${d}/g/`),
  "rename into itself": (fs, d) => fs.rename(`${d}/dir`, `${d}/dir/sub`),

  "symlink": async (fs, d) => {
    await fs.symlink("some/where else", `${d}/s`);
    return await fs.readLink(`${d}/s`);
  },
  "symlink exists": (fs, d) => fs.symlink("x", `${d}/f`),
  "symlink below nothing": (fs, d) => fs.symlink("x", `${d}/no/s`),
  "symlink to nothing": (fs, d) => fs.symlink("", `${d}/s`),
  "link": async (fs, d) => {
    await fs.link(`${d}/f`, `${d}/g`);
    await fs.writeTextFile(`${d}/f`, "changed");
    return [await fs.readTextFile(`${d}/g`), brief(await fs.stat(`${d}/g`))];
  },
  "link to a link": async (fs, d) => {
    await fs.link(`${d}/ln`, `${d}/g`);
    return await fs.readLink(`${d}/g`);
  },
  "link missing": (fs, d) => fs.link(`${d}/no`, `${d}/g`),
  "link exists": (fs, d) => fs.link(`${d}/f`, `${d}/ln`),
  "link directory": (fs, d) => fs.link(`${d}/dir`, `${d}/g`),
  "link directory over a file": (fs, d) => fs.link(`${d}/dir`, `${d}/f`),
  "stat below dangling": (fs, d) => fs.stat(`${d}/dangling/x`),
  "readLink": (fs, d) => fs.readLink(`${d}/ln`),
  "readLink of a file": (fs, d) => fs.readLink(`${d}/f`),
  "readLink missing": (fs, d) => fs.readLink(`${d}/no`),
  "realPath": (fs, d) => fs.realPath(`${d}/lndir/../full/./x`),
  "realPath missing": (fs, d) => fs.realPath(`${d}/no`),
  "realPath dangling": (fs, d) => fs.realPath(`${d}/dangling`),

  "chmod": async (fs, d) => {
    await fs.chmod(`${d}/ln`, 0o4711);
    return brief(await fs.stat(`${d}/f`));
  },
  "chmod missing": (fs, d) => fs.chmod(`${d}/no`, 0o600),
  "chown": async (fs, d) => {
    await fs.chown(`${d}/f`, null, null);
    const { uid, gid } = await fs.stat(`${d}/f`);
    return uid === Deno.uid() && gid === Deno.gid();
  },
  "chown missing": (fs, d) => fs.chown(`${d}/no`, 1, 1),
  "utime": async (fs, d) => {
    await fs.utime(`${d}/f`, 1_000_000_000.5, new Date(1_234_567_890_123));
    const { atime, mtime } = await fs.stat(`${d}/f`);
    return [atime?.getTime(), mtime?.getTime()];
  },
  "utime missing": (fs, d) => fs.utime(`${d}/no`, 1, 1),
  "truncate": async (fs, d) => {
    await fs.truncate(`${d}/f`, 8);
    const longer = await fs.readFile(`${d}/f`);
    await fs.truncate(`${d}/f`, 2);
    const shorter = await fs.readTextFile(`${d}/f`);
    await fs.truncate(`${d}/f`);
    return [longer, shorter, (await fs.stat(`${d}/f`)).size];
  },
  "truncate negative": async (fs, d) => {
    await fs.truncate(`${d}/f`, -1);
    return (await fs.stat(`${d}/f`)).size;
  },
  "truncate missing": (fs, d) => fs.truncate(`${d}/no`, 1),
  "truncate directory": (fs, d) => fs.truncate(`${d}/dir`, 1),

  "copyFile": async (fs, d) => {
    await fs.chmod(`${d}/f`, 0o641);
    await fs.copyFile(`${d}/ln`, `${d}/copy`);
    return [await fs.readTextFile(`${d}/copy`), brief(await fs.lstat(`${d}/copy`))];
  },
  "copyFile over a longer one": async (fs, d) => {
    await fs.writeTextFile(`${d}/long`, "much longer than that");
    await fs.copyFile(`${d}/f`, `${d}/long`);
    return await fs.readTextFile(`${d}/long`);
  },
  "copyFile missing": (fs, d) => fs.copyFile(`${d}/no`, `${d}/copy`),
  "copyFile directory": (fs, d) => fs.copyFile(`${d}/dir`, `${d}/copy`),
  "copyFile to a directory": (fs, d) => fs.copyFile(`${d}/f`, `${d}/dir`),
  "copyFile to itself": (fs, d) => fs.copyFile(`${d}/f`, `${d}/ln`),
  "copyFile below nothing": (fs, d) => fs.copyFile(`${d}/f`, `${d}/no/x`),

  "makeTempFile": async (fs, d) => {
    const path = await fs.makeTempFile({ dir: d, prefix: "p-", suffix: ".s" });
    return [path.replace(d, "").replace(/[0-9a-f]{8,16}/, "X"), brief(await fs.stat(path))];
  },
  "makeTempDir": async (fs, d) => {
    const path = await fs.makeTempDir({ dir: d, prefix: "p-" });
    return [path.replace(d, "").replace(/[0-9a-f]{8,16}/, "X"), brief(await fs.stat(path))];
  },
  "makeTempFile below nothing": (fs, d) => fs.makeTempFile({ dir: `${d}/no` }),
  "makeTempDir below nothing": (fs, d) => fs.makeTempDir({ dir: `${d}/no` }),
  "makeTempFile with a slash": (fs, d) => fs.makeTempFile({ dir: d, prefix: "a/b" }),

  "file: read and seek": async (fs, d) => {
    using file = await fs.open(`${d}/f`);
    const p = new Uint8Array(3);
    return [
      await file.read(p),
      await file.read(new Uint8Array(0)),
      await file.read(p),
      await file.read(p),
      await file.read(new Uint8Array(0)),
      await file.seek(-2, Deno.SeekMode.End),
      await file.read(p),
      await file.seek(-3, Deno.SeekMode.Current),
      await file.seek(100n, Deno.SeekMode.Start),
      await file.read(p),
      await file.seek(1.5, Deno.SeekMode.Start),
      p,
    ];
  },
  "file: seek before the start": async (fs, d) => {
    using file = await fs.open(`${d}/f`);
    return await file.seek(-9, Deno.SeekMode.End);
  },
  "file: write and seek": async (fs, d) => {
    using file = await fs.open(`${d}/f`, { read: true, write: true });
    await file.seek(2, Deno.SeekMode.Start);
    await file.write(text("XY"));
    await file.seek(9, Deno.SeekMode.Start);
    await file.write(text("Z"));
    await file.write(new Uint8Array(0));
    await file.sync();
    await file.syncData();
    return await fs.readFile(`${d}/f`);
  },
  "file: append": async (fs, d) => {
    using file = await fs.open(`${d}/f`, { append: true });
    await file.write(text("1"));
    await file.seek(0, Deno.SeekMode.Start);
    await file.write(text("2"));
    return await fs.readTextFile(`${d}/f`);
  },
  "file: truncate": async (fs, d) => {
    using file = await fs.open(`${d}/f`, { read: true, write: true });
    await file.truncate(3);
    const size = (await file.stat()).size;
    await file.truncate();
    return [size, (await file.stat()).size];
  },
  "file: utime": async (fs, d) => {
    using file = await fs.open(`${d}/f`, { write: true });
    await file.utime(1, 2);
    const { atime, mtime } = await file.stat();
    return [atime?.getTime(), mtime?.getTime()];
  },
  "file: write to one opened for reading": async (fs, d) => {
    using file = await fs.open(`${d}/f`);
    return await file.write(text("x"));
  },
  "file: truncate one opened for reading": async (fs, d) => {
    using file = await fs.open(`${d}/f`);
    return await file.truncate(0);
  },
  "file: read from one opened for writing": async (fs, d) => {
    using file = await fs.open(`${d}/f`, { write: true });
    return await file.read(new Uint8Array(1));
  },
  "file: read a directory": async (fs, d) => {
    using file = await fs.open(`${d}/dir`);
    return await file.read(new Uint8Array(1));
  },
  "file: close twice": async (fs, d) => {
    const file = await fs.open(`${d}/f`);
    file.close();
    file[Symbol.dispose]();
    return file.close();
  },
  "file: use after close": async (fs, d) => {
    const file = await fs.open(`${d}/f`);
    file.close();
    return await file.read(new Uint8Array(1));
  },
  "file: readable": async (fs, d) => {
    await fs.writeFile(`${d}/big`, new Uint8Array(700_000).map((_, at) => at % 251));
    const file = await fs.open(`${d}/big`);
    let bytes = 0;
    let sum = 0;
    for await (const chunk of file.readable) {
      bytes += chunk.byteLength;
      for (const byte of chunk) sum += byte;
    }
    return [bytes, sum, await outcome(d, () => file.close())];
  },
  "file: writable": async (fs, d) => {
    const file = await fs.open(`${d}/new`, { write: true, createNew: true });
    const writer = file.writable.getWriter();
    await writer.write(text("small"));
    await writer.write(new Uint8Array(100_000).fill(7));
    await writer.write(new Uint8Array(0));
    await writer.write(text("end"));
    await writer.close();
    const contents = await fs.readFile(`${d}/new`);
    return [contents.byteLength, contents.slice(0, 8), contents.slice(-5), await outcome(d, () => file.close())];
  },
  "file: pipe": async (fs, d) => {
    const from = await fs.open(`${d}/f`);
    const to = await fs.open(`${d}/copy`, { write: true, create: true });
    await from.readable.pipeTo(to.writable);
    return await fs.readTextFile(`${d}/copy`);
  },
  "file: a position of its own": async (fs, d) => {
    using one = await fs.open(`${d}/f`);
    using two = await fs.open(`${d}/f`);
    const p = new Uint8Array(2);
    await one.read(p);
    return [await two.read(p), p];
  },
  "file: an open file that is removed or renamed": async (fs, d) => {
    using file = await fs.open(`${d}/f`);
    await fs.rename(`${d}/f`, `${d}/g`);
    const p = new Uint8Array(5);
    return [await file.read(p), p];
  },
};

for (const bulk of ["reduced", "linear"] as const) {
  Deno.test(`as on a local directory (${bulk})`, async (t) => {
    const server = new MemoryServer({ bulk });
    await using fs = await mount("nfs://server/", { dial: server.dial });
    let count = 0;
    for (const [name, operation] of Object.entries(operations)) {
      await t.step(name, async () => {
        const local = await Deno.makeTempDir();
        const served = `/t${count++}`;
        try {
          await fs.mkdir(served);
          await populate(Deno, local);
          await populate(fs, served);
          const expected = await outcome(local, () => operation(Deno, local));
          const actual = await outcome(served, () => operation(fs, served));
          assertEquals(actual, expected);
        } finally {
          await Deno.remove(local, { recursive: true });
        }
      });
    }
  });
}
