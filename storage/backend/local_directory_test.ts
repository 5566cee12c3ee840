import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  create,
  descriptors,
  fails,
  IS_ROOT,
  ME,
  name,
  readAll,
  Scratch,
  string,
  testEach,
  writeText,
} from "./_testing/scratch.ts";
import { Access, FileType, Stability } from "./file_system.ts";

testEach("what was written is read, in pieces and past the end", async (scratch) => {
  const fs = scratch.open();
  const file = await create(fs, "f", { mode: 0o640 });
  assertEquals(file.attributes.type, FileType.Regular);
  assertEquals(file.attributes.mode, 0o640);
  for (const stability of [Stability.Unstable, Stability.DataSync, Stability.FileSync]) {
    const written = await fs.write(file.handle, 10n, [name("ab"), new Uint8Array(0), name("cd")], stability, ME);
    assertEquals(written, { bytesWritten: 4, committed: stability });
  }
  assertEquals(await fs.write(file.handle, 99n, [], Stability.Unstable, ME), { bytesWritten: 0, committed: 0 });
  await fs.commit(file.handle, 0n, 0, ME);
  const into = new Uint8Array(20).fill(0xee);
  assertEquals(await fs.read(file.handle, 9n, into.subarray(0, 4), ME), { bytesRead: 4, eof: false });
  assertEquals(string(into.subarray(0, 4)), "\0abc");
  assertEquals(await fs.read(file.handle, 11n, into.subarray(0, 3), ME), { bytesRead: 3, eof: true });
  assertEquals(await fs.read(file.handle, 12n, into, ME), { bytesRead: 2, eof: true });
  assertEquals([...into.subarray(0, 5)], [0x63, 0x64, 0x64, 0x63, 0xee]);
  assertEquals(await fs.read(file.handle, 14n, into, ME), { bytesRead: 0, eof: true });
  assertEquals(await fs.read(file.handle, 2n ** 64n - 1n, into, ME), { bytesRead: 0, eof: true });
  assertEquals(await fs.read(file.handle, 0n, new Uint8Array(0), ME), { bytesRead: 0, eof: false });
  await fails("EFBIG", () => fs.write(file.handle, 2n ** 63n - 2n, [name("abc")], 0, ME));
  assertEquals(Deno.readTextFileSync(scratch.path("f")), "\0".repeat(10) + "abcd");
});

testEach("large writes and reads are whole, wherever they are carried out", async (scratch) => {
  const fs = scratch.open();
  const file = await create(fs, "f");
  const data = crypto.getRandomValues(new Uint8Array(60_000));
  const pieces = Array.from({ length: 50 }, (_, index) => data.subarray(index * 7, 60_000 - index));
  const length = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  assertEquals((await fs.write(file.handle, 5n, pieces, 0, ME)).bytesWritten, length);
  const into = new Uint8Array(length + 100);
  assertEquals(await fs.read(file.handle, 5n, into, ME), { bytesRead: length, eof: true });
  let at = 0;
  for (const piece of pieces) {
    assertEquals(into.subarray(at, at + piece.byteLength), piece);
    at += piece.byteLength;
  }
});

testEach("files are sparse and larger than 4 GiB", async (scratch) => {
  const fs = scratch.open();
  const file = await create(fs, "f");
  const far = 5n * 2n ** 30n;
  assertEquals((await fs.write(file.handle, far, [name("end")], 0, ME)).bytesWritten, 3);
  const attributes = await fs.getAttributes(file.handle, ME);
  assertEquals(attributes.size, far + 3n);
  assert(attributes.used < 1_000_000n, `uses ${attributes.used} bytes`);
  const into = new Uint8Array(10).fill(1);
  assertEquals(await fs.read(file.handle, far - 4n, into, ME), { bytesRead: 7, eof: true });
  assertEquals(string(into), "\0\0\0\0end\x01\x01\x01");
});

/** Pages of a file that the kernel has in memory; `undefined` where nothing tells. */
function pagesInMemory(path: string): number | undefined {
  try {
    const { success, stdout } = new Deno.Command("fincore", { args: ["-nbo", "PAGES", path] }).outputSync();
    if (success) return Number(string(stdout));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  console.error("NOT SHOWN, NO fincore(1): that what is not in memory is read elsewhere");
  return undefined;
}

testEach("the disk is waited for elsewhere", async (scratch) => {
  const fs = scratch.open();
  const file = await create(fs, "f");
  const data = crypto.getRandomValues(new Uint8Array(3 << 20).subarray(0, 65536));
  for (let at = 0; at < 48; at++) await fs.write(file.handle, BigInt(at * 65536), [data], 0, ME);
  await fs.commit(file.handle, 0n, 0, ME);
  // Has the kernel forget the file's pages, on a file system that can.
  const dd = new Deno.Command("dd", { args: [`if=${scratch.path("f")}`, "iflag=nocache", "count=0", "status=none"] });
  assert((await dd.output()).success);
  const into = new Uint8Array(3 << 20);
  const isCold = pagesInMemory(scratch.path("f")) === 0;
  const read = fs.read(file.handle, 0n, into, ME);
  // A thread of its own waits for the disk, and others are answered meanwhile.
  if (isCold && !fs.traits.memoryBacked) assert(read instanceof Promise);
  assert(!(fs.getAttributes(fs.root, ME) instanceof Promise));
  assertEquals(await read, { bytesRead: 3 << 20, eof: true });
  for (let at = 0; at < 48; at++) assertEquals(into.subarray(at * 65536, (at + 1) * 65536), data);
});

testEach("very many operations may be under way", async (scratch) => {
  const fs = scratch.open();
  const file = await create(fs, "f");
  const buffers = Array.from({ length: 3000 }, (_, index) => new Uint8Array(40_000).fill(index % 251));
  const writes = buffers.map((buffer, index) => fs.write(file.handle, BigInt(index) * 40_000n, [buffer], 0, ME));
  for (const { bytesWritten } of await Promise.all(writes)) assertEquals(bytesWritten, 40_000);
  const commits = Array.from({ length: 20 }, () => fs.commit(file.handle, 0n, 0, ME));
  const reads = buffers.map(async (buffer, index) => {
    const into = new Uint8Array(40_000);
    const { bytesRead } = await fs.read(file.handle, BigInt(index) * 40_000n, into, ME);
    assertEquals(bytesRead, 40_000);
    assert(into[0] === buffer[0] && into[39_999] === buffer[0]);
  });
  await Promise.all([...reads, ...commits]);
});

testEach("names are bytes", async (scratch) => {
  const fs = scratch.open();
  const odd = Uint8Array.of(0xff, 0xfe, 0x0a, 0x80);
  const file = await create(fs, odd);
  assertEquals((await fs.lookup(fs.root, odd, ME)).handle, file.handle);
  const { entries } = await fs.readDirectory(fs.root, { cookie: 0n, entriesMax: 9, attributes: true }, ME);
  assertEquals(entries.find((entry) => entry.fileid === file.attributes.fileid)?.name, odd);
  const other = Uint8Array.of(0xc3, 0x28);
  await fs.rename({ directory: fs.root, name: odd }, { directory: fs.root, name: other }, ME);
  await fails("ENOENT", () => fs.lookup(fs.root, odd, ME));
  await fs.remove(fs.root, other, ME);
  await create(fs, "x".repeat(255));
});

testEach("what is no name is refused everywhere", async (scratch) => {
  const fs = scratch.open();
  const file = await create(fs, "f");
  for (const bad of ["", ".", "..", "a/b", "/", "../f", "a\0b", "x".repeat(256), "x".repeat(5000)]) {
    const code = bad.length > 255 ? "ENAMETOOLONG" : "EINVAL";
    const of = name(bad);
    await fails(code, () => create(fs, bad));
    await fails(code, () => fs.makeDirectory(fs.root, of, {}, ME));
    await fails(code, () => fs.symlink(fs.root, of, name("t"), {}, ME));
    await fails(code, () => fs.makeNode(fs.root, of, { type: FileType.Fifo, major: 0, minor: 0 }, {}, ME));
    await fails(code, () => fs.remove(fs.root, of, ME));
    await fails(code, () => fs.removeDirectory(fs.root, of, ME));
    await fails(code, () => fs.link(file.handle, fs.root, of, ME));
    await fails(code, () => fs.rename({ directory: fs.root, name: of }, { directory: fs.root, name: name("n") }, ME));
    await fails(code, () => fs.rename({ directory: fs.root, name: name("f") }, { directory: fs.root, name: of }, ME));
    if (bad !== "." && bad !== "..") await fails(code, () => fs.lookup(fs.root, of, ME));
  }
  assertEquals(Array.from(Deno.readDirSync(scratch.directory), (entry) => entry.name), ["f"]);
});

testEach("'..' leads up to the root and no further", async (scratch) => {
  const fs = scratch.open();
  const a = await fs.makeDirectory(fs.root, name("a"), {}, ME);
  const b = await fs.makeDirectory(a.handle, name("b"), {}, ME);
  const up = name("..");
  assertEquals((await fs.lookup(b.handle, up, ME)).handle, a.handle);
  assertEquals((await fs.lookup(a.handle, up, ME)).handle, fs.root);
  assertEquals((await fs.lookup(fs.root, up, ME)).handle, fs.root);
  assertEquals((await fs.lookup(b.handle, name("."), ME)).handle, b.handle);
  await fs.rename({ directory: a.handle, name: name("b") }, { directory: fs.root, name: name("moved") }, ME);
  assertEquals((await fs.lookup(b.handle, up, ME)).handle, fs.root);
  // Moved by somebody else: into another directory, then out of the export.
  Deno.renameSync(scratch.path("moved"), scratch.path("a/back"));
  assertEquals((await fs.lookup(b.handle, up, ME)).handle, a.handle);
  Deno.renameSync(scratch.path("a/back"), `${scratch.state}/out`);
  await fails("ESTALE", () => fs.lookup(b.handle, up, ME));
  const { entries } = await fs.readDirectory(fs.root, { cookie: 0n, entriesMax: 10, attributes: true }, ME);
  const above = entries.find((entry) => string(entry.name) === "..");
  assertEquals(above?.entry?.handle, fs.root);
  assertEquals(above?.fileid, (await fs.getAttributes(fs.root, ME)).fileid);
});

testEach("symbolic links are never followed", async (scratch) => {
  const fs = scratch.open();
  Deno.writeTextFileSync(`${scratch.state}/secret`, "secret");
  const outside = await fs.symlink(fs.root, name("out"), name(scratch.state), {}, ME);
  assertEquals(outside.attributes.type, FileType.Symlink);
  assertEquals(string(await fs.readLink(outside.handle, ME)), scratch.state);
  const found = await fs.lookup(fs.root, name("out"), ME);
  assertEquals(found.handle, outside.handle);
  await fails("ENOTDIR", () => fs.lookup(found.handle, name("secret"), ME));
  await fails("ENOTDIR", () => fs.readDirectory(found.handle, { cookie: 0n, entriesMax: 9, attributes: false }, ME));
  await fails("ENOTDIR", () => fs.create(found.handle, name("x"), { kind: "unchecked", changes: {} }, ME));
  await fails("ENOTDIR", () => fs.remove(found.handle, name("secret"), ME));
  const file = await fs.symlink(fs.root, name("file"), name(`${scratch.state}/secret`), {}, ME);
  await fails("EINVAL", () => fs.read(file.handle, 0n, new Uint8Array(9), ME));
  await fails("EINVAL", () => fs.write(file.handle, 0n, [name("x")], 0, ME));
  await fails("EINVAL", () => fs.setAttributes(file.handle, { size: 0n }, ME));
  await fails("EEXIST", () => fs.create(fs.root, name("file"), { kind: "unchecked", changes: { size: 0n } }, ME));
  await fs.setAttributes(file.handle, { mtime: { seconds: 5n, nanoseconds: 6 } }, ME);
  assertEquals((await fs.getAttributes(file.handle, ME)).mtime, { seconds: 5n, nanoseconds: 6 });
  assertEquals(Deno.readTextFileSync(`${scratch.state}/secret`), "secret");
  assertNotEquals(Deno.statSync(`${scratch.state}/secret`).mtime?.getTime(), 5000);
  await fails("EINVAL", () => fs.readLink(fs.root, ME));
  await fails("ENOENT", () => fs.symlink(fs.root, name("nowhere"), name(""), {}, ME));
  // A directory that is replaced by a link behind the server's back.
  const directory = await fs.makeDirectory(fs.root, name("d"), {}, ME);
  Deno.renameSync(scratch.path("d"), scratch.path("e"));
  Deno.symlinkSync(scratch.state, scratch.path("d"));
  await fails("ENOENT", () => fs.lookup(directory.handle, name("secret"), ME));
  assertEquals((await fs.lookup(fs.root, name("d"), ME)).attributes.type, FileType.Symlink);
});

testEach("hard links are one file", async (scratch) => {
  const fs = scratch.open();
  const file = await create(fs, "one");
  const directory = await fs.makeDirectory(fs.root, name("d"), {}, ME);
  assertEquals((await fs.link(file.handle, directory.handle, name("two"), ME)).nlink, 2);
  const other = await fs.lookup(directory.handle, name("two"), ME);
  assertEquals(other.handle, file.handle);
  await fails("EEXIST", () => fs.link(file.handle, directory.handle, name("two"), ME));
  await fails("EPERM", () => fs.link(directory.handle, fs.root, name("three"), ME));
  await fs.remove(fs.root, name("one"), ME);
  await writeText(fs, file.handle, "still there");
  assertEquals(await readAll(fs, other.handle), "still there");
  assertEquals((await fs.getAttributes(file.handle, ME)).nlink, 1);
  // A rename of one name onto another of the same file leaves both.
  await fs.link(file.handle, fs.root, name("one"), ME);
  const [one, two] = [{ directory: fs.root, name: name("one") }, { directory: directory.handle, name: name("two") }];
  await fs.rename(one, two, ME);
  assertEquals((await fs.lookup(fs.root, name("one"), ME)).handle, file.handle);
  const link = await fs.symlink(fs.root, name("s"), name("nowhere"), {}, ME);
  assertEquals((await fs.link(link.handle, fs.root, name("s2"), ME)).nlink, 2);
});

testEach("special files are told apart and never waited for", async (scratch) => {
  const fs = scratch.open();
  const make = (of: string, type: FileType) =>
    fs.makeNode(fs.root, name(of), { type, major: 1, minor: 3 }, { mode: 0o640 }, ME);
  const fifo = await make("fifo", FileType.Fifo);
  assertEquals([fifo.attributes.type, fifo.attributes.mode], [FileType.Fifo, 0o640]);
  await fails("EINVAL", () => fs.read(fifo.handle, 0n, new Uint8Array(4), ME));
  await fails("EINVAL", () => fs.write(fifo.handle, 0n, [name("x")], 0, ME));
  await fails("EINVAL", () => fs.commit(fifo.handle, 0n, 0, ME));
  assertEquals((await make("socket", FileType.Socket)).attributes.type, FileType.Socket);
  for (const type of [FileType.BlockDevice, FileType.CharacterDevice]) {
    if (IS_ROOT) {
      const { attributes } = await make(`device${type}`, type);
      assertEquals([attributes.type, attributes.rdevMajor, attributes.rdevMinor], [type, 1, 3]);
    } else {
      await fails("EPERM", () => make("device", type));
    }
  }
  for (const type of [FileType.Regular, FileType.Directory, FileType.Symlink]) {
    await fails("EINVAL", () => make("no", type));
  }
  const directory = await fs.makeDirectory(fs.root, name("d"), { mode: 0o711 }, ME);
  assertEquals(directory.attributes.mode, 0o711);
  await fails("EISDIR", () => fs.read(directory.handle, 0n, new Uint8Array(4), ME));
  await fails("EISDIR", () => fs.write(directory.handle, 0n, [name("x")], 0, ME));
  await fails("EISDIR", () => fs.remove(fs.root, name("d"), ME));
  await fails("ENOTDIR", () => fs.removeDirectory(fs.root, name("fifo"), ME));
});

testEach("attributes are set as asked", async (scratch) => {
  const fs = scratch.open();
  const file = await create(fs, "f");
  await writeText(fs, file.handle, "0123456789");
  const times = { atime: { seconds: -1n, nanoseconds: 999_999_999 }, mtime: { seconds: 2n ** 33n, nanoseconds: 1 } };
  const changed = await fs.setAttributes(file.handle, { mode: 0o4751, size: 4n, ...times }, ME);
  assertEquals([changed.mode, changed.size], [0o4751, 4n]);
  assertEquals({ atime: changed.atime, mtime: changed.mtime }, times);
  assertEquals(await fs.getAttributes(file.handle, ME), changed);
  const before = BigInt(Math.floor(Date.now() / 1000)) - 2n;
  const grown = await fs.setAttributes(file.handle, { size: 8n, atime: "now" }, ME);
  assert(grown.atime.seconds >= before && grown.mtime.seconds >= before);
  assertEquals(await readAll(fs, file.handle), "0123\0\0\0\0");
  assertEquals(await fs.setAttributes(file.handle, {}, ME), await fs.getAttributes(file.handle, ME));
  await fails("EAGAIN", () => fs.setAttributes(file.handle, { mode: 0o600 }, ME, { seconds: 1n, nanoseconds: 1 }));
  const { ctime } = await fs.getAttributes(file.handle, ME);
  assertEquals((await fs.setAttributes(file.handle, { mode: 0o600 }, ME, ctime)).mode, 0o600);
  await fails("EISDIR", () => fs.setAttributes(fs.root, { size: 0n }, ME));
  await fails("EINVAL", () => fs.setAttributes(file.handle, { uid: 0xffffffff }, ME));
  await fails("EINVAL", () => fs.setAttributes(file.handle, { gid: 0xffffffff }, ME));
  await fails("EINVAL", () => fs.setAttributes(file.handle, { atime: { seconds: 0n, nanoseconds: 1e9 } }, ME));
  await fails("EFBIG", () => fs.setAttributes(file.handle, { size: 2n ** 63n }, ME));
  assertEquals((await fs.access(file.handle, 0x3f, ME)) & (Access.Read | Access.Modify), Access.Read | Access.Modify);
});

testEach("create treats a name that exists as it was told", async (scratch) => {
  const fs = scratch.open();
  const made = await create(fs, "f", { mode: 0o600, size: 3n, mtime: { seconds: 9n, nanoseconds: 8 } });
  assertEquals([made.attributes.size, made.attributes.mtime.seconds], [3n, 9n]);
  await fails("EEXIST", () => create(fs, "f"));
  const unchecked = (size?: bigint) =>
    fs.create(fs.root, name("f"), { kind: "unchecked", changes: { mode: 0o777, size } }, ME);
  const kept = await unchecked();
  assertEquals([kept.handle, kept.attributes.size, kept.attributes.mode], [made.handle, 3n, 0o600]);
  assertEquals((await unchecked(0n)).attributes.size, 0n);
  await fs.makeDirectory(fs.root, name("d"), {}, ME);
  await fails("EEXIST", () => fs.create(fs.root, name("d"), { kind: "unchecked", changes: {} }, ME));
  await fails("EEXIST", () => fs.makeDirectory(fs.root, name("f"), {}, ME));
  await fails("EEXIST", () => fs.symlink(fs.root, name("f"), name("t"), {}, ME));
});

testEach("an exclusive create that is sent again is recognised", async (scratch) => {
  const fs = scratch.open();
  const exclusive = (byte: number) =>
    fs.create(fs.root, name("f"), { kind: "exclusive", verifier: new Uint8Array(8).fill(byte) }, ME);
  const made = await exclusive(0xfe);
  assertEquals((await exclusive(0xfe)).handle, made.handle);
  await fails("EEXIST", () => exclusive(0x11));
  await writeText(fs, made.handle, "in use");
  await fails("EEXIST", () => exclusive(0xfe));
  await fails("EINVAL", () => fs.create(fs.root, name("g"), { kind: "exclusive", verifier: new Uint8Array(7) }, ME));
});

testEach(
  "an exclusive create shows its file with the verifier only, so that one killed at any moment can be sent again",
  async (scratch) => {
    const fs = scratch.open();
    const count = 1000;
    const watcher = new Worker(new URL("./_testing/watcher.ts", import.meta.url), { type: "module" });
    try {
      const next = () => new Promise<unknown>((resolve) => watcher.onmessage = ({ data }) => resolve(data));
      const watches = next();
      watcher.postMessage({ prefix: scratch.path("f"), count });
      await watches;
      const seen = next();
      for (let at = 0; at < count; at++) {
        await fs.create(fs.root, name(`f${at}`), { kind: "exclusive", verifier: new Uint8Array(8).fill(1) }, ME);
      }
      assertEquals(await seen, new Array(count).fill(0x01010101));
    } finally {
      watcher.terminate();
    }
  },
);

testEach("a directory is listed in parts, whatever happens meanwhile", async (scratch) => {
  const fs = scratch.open();
  const directory = await fs.makeDirectory(fs.root, name("d"), {}, ME);
  const expected = Array.from({ length: 500 }, (_, index) => `file-${index}-${"x".repeat(index % 100)}`);
  await Promise.all(
    expected.map((of) => fs.create(directory.handle, name(of), { kind: "guarded", changes: { mode: 0o640 } }, ME)),
  );
  for (const attributes of [false, true]) {
    const seen: string[] = [];
    let cookie = 0n;
    for (let parts = 0;; parts++) {
      assert(parts < 1000, "the listing does not end");
      const part = await fs.readDirectory(directory.handle, { cookie, entriesMax: 7, attributes }, ME);
      assert(part.entries.length <= 7);
      for (const entry of part.entries) {
        cookie = entry.cookie;
        seen.push(string(entry.name));
        assertEquals(entry.entry !== undefined, attributes);
        assertEquals(entry.entry?.attributes.fileid ?? entry.fileid, entry.fileid);
      }
      if (part.eof) break;
      // Files already listed go away under way.
      if (attributes && parts === 10) {
        for (const gone of seen.filter((of) => of.startsWith("file"))) {
          await fs.remove(directory.handle, name(gone), ME);
        }
      }
    }
    assertEquals(seen.sort(), [".", "..", ...expected].sort());
  }
  const all = await fs.readDirectory(directory.handle, { cookie: 0n, entriesMax: 100_000, attributes: true }, ME);
  assert(all.entries.length > 100 && all.entries.length < 500);
  await fails(
    "EINVAL",
    () => fs.readDirectory(directory.handle, { cookie: 2n ** 64n - 1n, entriesMax: 9, attributes: false }, ME),
  );
  await fails("ENOTEMPTY", () => fs.removeDirectory(fs.root, name("d"), ME));
  const none = await fs.readDirectory(directory.handle, { cookie: 0n, entriesMax: 0, attributes: false }, ME);
  assertEquals(none, { entries: [], eof: false });
});

testEach("rename replaces, moves and refuses as rename(2) does", async (scratch) => {
  const fs = scratch.open();
  const [a, b] = [await create(fs, "a"), await create(fs, "b")];
  const directory = await fs.makeDirectory(fs.root, name("d"), {}, ME);
  const at = (of: string, where = fs.root) => ({ directory: where, name: name(of) });
  await fs.rename(at("a"), at("b"), ME);
  assertEquals((await fs.lookup(fs.root, name("b"), ME)).handle, a.handle);
  await fails("ESTALE", () => fs.getAttributes(b.handle, ME));
  await fs.rename(at("b"), at("c", directory.handle), ME);
  assertEquals((await fs.lookup(directory.handle, name("c"), ME)).handle, a.handle);
  await fails("EINVAL", () => fs.rename(at("d"), at("e", directory.handle), ME));
  await fails("ENOTEMPTY", () => fs.rename(at("c", directory.handle), at("d"), ME));
  await fails("ENOENT", () => fs.rename(at("none"), at("x"), ME));
  await create(fs, "plain");
  await fails("EISDIR", () => fs.rename(at("plain"), at("d"), ME));
  await fails("ENOTDIR", () => fs.rename(at("d"), at("plain"), ME));
  const full = await fs.makeDirectory(fs.root, name("full"), {}, ME);
  await fs.create(full.handle, name("f"), { kind: "guarded", changes: {} }, ME);
  await fails("ENOTEMPTY", () => fs.rename(at("d"), at("full"), ME));
});

testEach("room and limits are told", async (scratch) => {
  const fs = scratch.open();
  const status = await fs.status(fs.root, ME);
  assert(status.totalBytes >= status.freeBytes && status.freeBytes >= status.availableBytes);
  assert(status.totalFiles >= status.freeFiles);
  assertEquals(fs.limits.nameBytesMax, 255);
  assert(fs.limits.linkMax > 1000 && fs.limits.fileBytesMax > 2n ** 40n);
});

testEach("nothing is left open, and what is closed stays so", async (scratch) => {
  await using warm = new Scratch();
  await create(warm.open(), "f"); // starts what stays: pool threads, the library
  const before = descriptors();
  const fs = scratch.open({ stable: true });
  const made = await Promise.all(Array.from({ length: 300 }, (_, index) => create(fs, `f${index}`)));
  for (const { handle } of made) await writeText(fs, handle, "text");
  for (const { handle } of made) assertEquals(await readAll(fs, handle), "text");
  await fs.readDirectory(fs.root, { cookie: 0n, entriesMax: 1000, attributes: true }, ME);
  for (let index = 0; index < 300; index += 2) await fs.remove(fs.root, name(`f${index}`), ME);
  assert(descriptors() > before + 100);
  const last = fs.write(made[1].handle, 0n, [new Uint8Array(1 << 20)], Stability.FileSync, ME);
  await fs[Symbol.asyncDispose]();
  await fs[Symbol.asyncDispose]();
  assertEquals((await last).bytesWritten, 1 << 20);
  assertEquals(descriptors(), before);
  await fails("EBADF", () => fs.getAttributes(fs.root, ME));
});
