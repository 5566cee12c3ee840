import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  Access,
  type AttributeChanges,
  type Credentials,
  type Entry,
  FileType,
  FsError,
  Stability,
} from "./file_system.ts";
import { MemoryFileSystem } from "./memory.ts";

const ROOT: Credentials = { uid: 0, gid: 0, gids: [] };
const ALICE: Credentials = { uid: 1000, gid: 1000, gids: [50] };
const BOB: Credentials = { uid: 1001, gid: 1001, gids: [50] };
const EVE: Credentials = { uid: 1002, gid: 1002, gids: [] };

const text = new TextEncoder();

function name(of: string): Uint8Array {
  return text.encode(of);
}

function open(): MemoryFileSystem {
  return new MemoryFileSystem({ root: { mode: 0o777 } });
}

function create(fs: MemoryFileSystem, of: string, as: Credentials, changes: AttributeChanges = {}): Entry {
  return fs.create(fs.root, name(of), { kind: "guarded", changes }, as);
}

function write(fs: MemoryFileSystem, entry: Entry, offset: bigint, contents: string, as: Credentials): number {
  return fs.write(entry.handle, offset, [name(contents)], Stability.Unstable, as).bytesWritten;
}

function fails(code: string, body: () => unknown): void {
  assertEquals(assertThrows(body, FsError).code, code);
}

function names(fs: MemoryFileSystem, as = ROOT): string[] {
  const { entries } = fs.readDirectory(fs.root, { cookie: 0n, entriesMax: 1000, attributes: false }, as);
  return entries.map((entry) => new TextDecoder().decode(entry.name));
}

Deno.test("MemoryFileSystem: what was written is read, holes read as zeros", () => {
  const fs = open();
  const file = create(fs, "f", ALICE);
  assertEquals(write(fs, file, 10_000n, "tail", ALICE), 4);
  assertEquals(fs.write(file.handle, 4094n, [name("ab"), name("cd")], Stability.FileSync, ALICE), {
    bytesWritten: 4,
    committed: Stability.FileSync,
  });
  const into = new Uint8Array(20_000).fill(0xee);
  assertEquals(fs.read(file.handle, 0n, into, ALICE), { bytesRead: 10_004, eof: true });
  const expected = new Uint8Array(10_004);
  expected.set(name("abcd"), 4094);
  expected.set(name("tail"), 10_000);
  assertEquals(into.subarray(0, 10_004), expected);
  assertEquals(into[10_004], 0xee);
  assertEquals(fs.getAttributes(file.handle, ALICE).size, 10_004n);
  assertEquals(fs.getAttributes(file.handle, ALICE).used, 3n * 4096n);
});

Deno.test("MemoryFileSystem: reads around the end", () => {
  const fs = open();
  const file = create(fs, "f", ALICE);
  write(fs, file, 0n, "0123456789", ALICE);
  assertEquals(fs.read(file.handle, 0n, new Uint8Array(9), ALICE), { bytesRead: 9, eof: false });
  assertEquals(fs.read(file.handle, 0n, new Uint8Array(10), ALICE), { bytesRead: 10, eof: true });
  assertEquals(fs.read(file.handle, 10n, new Uint8Array(1), ALICE), { bytesRead: 0, eof: true });
  assertEquals(fs.read(file.handle, 2n ** 64n - 1n, new Uint8Array(1), ALICE), { bytesRead: 0, eof: true });
  assertEquals(fs.read(file.handle, 3n, new Uint8Array(0), ALICE), { bytesRead: 0, eof: false });
});

Deno.test("MemoryFileSystem: truncation frees blocks, and what is cut off does not come back", () => {
  const fs = open();
  const file = create(fs, "f", ALICE);
  const free = fs.status(fs.root, ALICE).freeBytes;
  fs.write(file.handle, 0n, [new Uint8Array(10_000).fill(1)], Stability.Unstable, ALICE);
  assertEquals(free - fs.status(fs.root, ALICE).freeBytes, 3n * 4096n);
  fs.setAttributes(file.handle, { size: 5000n }, ALICE);
  fs.setAttributes(file.handle, { size: 10_000n }, ALICE);
  const into = new Uint8Array(10_000);
  fs.read(file.handle, 0n, into, ALICE);
  assertEquals(into, new Uint8Array(10_000).fill(1, 0, 5000));
  assertEquals(free - fs.status(fs.root, ALICE).freeBytes, 2n * 4096n);
  fs.setAttributes(file.handle, { size: 4096n }, ALICE);
  assertEquals(free - fs.status(fs.root, ALICE).freeBytes, 4096n);
  fs.remove(fs.root, name("f"), ALICE);
  assertEquals(fs.status(fs.root, ALICE).freeBytes, free);
});

Deno.test("MemoryFileSystem: huge sparse files cost their written blocks only; too large ones are refused", () => {
  const fs = open();
  const file = create(fs, "f", ALICE);
  assertEquals(write(fs, file, 5n * 2n ** 30n, "x", ALICE), 1);
  assertEquals(fs.getAttributes(file.handle, ALICE).used, 4096n);
  fails("EFBIG", () => write(fs, file, 2n ** 63n, "x", ALICE));
  fails("EFBIG", () => write(fs, file, 2n ** 64n - 1n, "xy", ALICE));
  fails("EFBIG", () => fs.setAttributes(file.handle, { size: 2n ** 63n }, ALICE));
});

Deno.test("MemoryFileSystem: a full disk leaves a short count, then ENOSPC", () => {
  const fs = new MemoryFileSystem({ bytesMax: 8192, filesMax: 2, root: { mode: 0o777 } });
  const file = create(fs, "f", ALICE);
  assertEquals(fs.write(file.handle, 0n, [new Uint8Array(10_000)], Stability.Unstable, ALICE).bytesWritten, 8192);
  fails("ENOSPC", () => write(fs, file, 8192n, "x", ALICE));
  assertEquals(write(fs, file, 0n, "over what is there", ALICE), 18);
  fails("ENOSPC", () => create(fs, "g", ALICE));
});

Deno.test("MemoryFileSystem: names are bytes; some are no names", () => {
  const fs = open();
  const odd = Uint8Array.of(0xff, 0xfe, 0x0a, 0x80);
  const made = fs.create(fs.root, odd, { kind: "guarded", changes: {} }, ALICE);
  assertEquals(fs.lookup(fs.root, odd, ALICE).attributes.fileid, made.attributes.fileid);
  for (const wrong of ["", ".", "..", "a/b", "a\0b"]) fails("EINVAL", () => create(fs, wrong, ALICE));
  fails("ENAMETOOLONG", () => create(fs, "x".repeat(256), ALICE));
  create(fs, "x".repeat(255), ALICE);
  fails("EEXIST", () => create(fs, "x".repeat(255), ALICE));
  fails("ENOENT", () => fs.lookup(fs.root, name("nothing"), ALICE));
  assertEquals(fs.lookup(fs.root, name("."), ALICE).handle, fs.root);
  assertEquals(fs.lookup(fs.root, name(".."), ALICE).handle, fs.root);
});

Deno.test("MemoryFileSystem: handles outlive renames and go stale with the file", () => {
  const fs = open();
  const file = create(fs, "f", ALICE);
  fs.rename({ directory: fs.root, name: name("f") }, { directory: fs.root, name: name("g") }, ALICE);
  assertEquals(fs.getAttributes(file.handle, ALICE).fileid, file.attributes.fileid);
  fs.link(file.handle, fs.root, name("h"), ALICE);
  fs.remove(fs.root, name("g"), ALICE);
  assertEquals(fs.getAttributes(file.handle, ALICE).nlink, 1);
  fs.remove(fs.root, name("h"), ALICE);
  fails("ESTALE", () => fs.getAttributes(file.handle, ALICE));
  fails("EBADHANDLE", () => fs.getAttributes(new Uint8Array(3), ALICE));
  fails("EBADHANDLE", () => fs.getAttributes(open().root, ALICE));
  const forged = fs.root.slice();
  forged[23] ^= 1;
  fails("ESTALE", () => fs.getAttributes(forged, ALICE));
});

Deno.test("MemoryFileSystem: exclusive create succeeds again with its own verifier only", () => {
  const fs = open();
  const make = (verifier: Uint8Array): Entry => fs.create(fs.root, name("f"), { kind: "exclusive", verifier }, ALICE);
  const made = make(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  assertEquals(make(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)).handle, made.handle);
  fails("EEXIST", () => make(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 9)));
  fails("EEXIST", () => make(Uint8Array.of(0, 2, 3, 4, 5, 6, 7, 8)));
  write(fs, made, 0n, "x", ALICE);
  fails("EEXIST", () => make(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)));
});

Deno.test("MemoryFileSystem: unchecked create takes what is there and cuts it when asked", () => {
  const fs = open();
  const file = create(fs, "f", ALICE, { mode: 0o600 });
  write(fs, file, 0n, "contents", ALICE);
  const again = fs.create(fs.root, name("f"), { kind: "unchecked", changes: { mode: 0o777 } }, ALICE);
  assertEquals([again.attributes.size, again.attributes.mode], [8n, 0o600]);
  fails("EACCES", () => fs.create(fs.root, name("f"), { kind: "unchecked", changes: { size: 0n } }, BOB));
  const cut = fs.create(fs.root, name("f"), { kind: "unchecked", changes: { size: 0n } }, ALICE);
  assertEquals(cut.attributes.size, 0n);
  fs.makeDirectory(fs.root, name("d"), {}, ALICE);
  fails("EEXIST", () => fs.create(fs.root, name("d"), { kind: "unchecked", changes: {} }, ALICE));
});

Deno.test("MemoryFileSystem: access is checked by owner, group and others, in this order", () => {
  const fs = open();
  const file = create(fs, "f", ALICE, { mode: 0o640, gid: 50 });
  const all = 0x3f;
  assertEquals(fs.access(file.handle, all, ALICE), Access.Read | Access.Modify | Access.Extend);
  assertEquals(fs.access(file.handle, all, BOB), Access.Read);
  assertEquals(fs.access(file.handle, all, EVE), 0);
  assertEquals(fs.access(file.handle, all, ROOT), Access.Read | Access.Modify | Access.Extend);
  assertEquals(fs.access(fs.root, all, EVE), all & ~Access.Execute);
  assertEquals(fs.access(file.handle, Access.Modify, ALICE), Access.Modify);
  fails("EACCES", () => write(fs, file, 0n, "x", BOB));
  fails("EACCES", () => fs.read(file.handle, 0n, new Uint8Array(1), EVE));
  fails("EACCES", () => fs.commit(file.handle, 0n, 0, BOB));
  // The owner's own bits count, even where the group has more; and yet the owner may always read and write (RFC 1813 §4.4).
  fs.setAttributes(file.handle, { mode: 0o077 }, ALICE);
  assertEquals(fs.access(file.handle, all, ALICE), 0);
  assertEquals(write(fs, file, 0n, "x", ALICE), 1);
  // Who may execute a file may read it: that is how its pages are fetched.
  fs.setAttributes(file.handle, { mode: 0o701 }, ALICE);
  assertEquals(fs.read(file.handle, 0n, new Uint8Array(1), EVE).bytesRead, 1);
});

Deno.test("MemoryFileSystem: directories need search and write permission", () => {
  const fs = open();
  const directory = fs.makeDirectory(fs.root, name("d"), { mode: 0o750 }, ALICE).handle;
  fs.create(directory, name("f"), { kind: "guarded", changes: {} }, ALICE);
  fails("EACCES", () => fs.lookup(directory, name("f"), EVE));
  fails("EACCES", () => fs.lookup(directory, name("."), EVE));
  fails("EACCES", () => fs.readDirectory(directory, { cookie: 0n, entriesMax: 9, attributes: false }, EVE));
  fs.setAttributes(directory, { mode: 0o755 }, ALICE);
  fails("EACCES", () => fs.remove(directory, name("f"), EVE));
  fails("ENOENT", () => fs.remove(directory, name("g"), EVE));
  fails("EACCES", () => fs.makeDirectory(directory, name("e"), {}, EVE));
  fails("EEXIST", () => fs.makeDirectory(directory, name("f"), {}, EVE));
  fails("EACCES", () => fs.rename({ directory, name: name("f") }, { directory: fs.root, name: name("f") }, EVE));
  // Read without search lists names but no attributes.
  fs.setAttributes(directory, { mode: 0o744 }, ALICE);
  const { entries } = fs.readDirectory(directory, { cookie: 0n, entriesMax: 9, attributes: true }, EVE);
  assertEquals(entries.map((entry) => entry.entry), [undefined, undefined, undefined]);
});

Deno.test("MemoryFileSystem: who may change attributes", () => {
  const fs = open();
  const file = create(fs, "f", ALICE, { mode: 0o666 });
  fails("EPERM", () => fs.setAttributes(file.handle, { mode: 0o777 }, BOB));
  fails("EPERM", () => fs.setAttributes(file.handle, { uid: 1001 }, ALICE));
  fails("EPERM", () => fs.setAttributes(file.handle, { gid: 1001 }, ALICE));
  fails("EPERM", () => fs.setAttributes(file.handle, { mtime: { seconds: 1n, nanoseconds: 0 } }, BOB));
  fs.setAttributes(file.handle, { mtime: "now" }, BOB);
  fs.setAttributes(file.handle, { uid: 1000, gid: 50 }, ALICE);
  fs.setAttributes(file.handle, { uid: 1001, gid: 7 }, ROOT);
  const time = { seconds: -1n, nanoseconds: 999_999_999 };
  const after = fs.setAttributes(file.handle, { atime: time, mtime: time }, BOB);
  assertEquals([after.uid, after.gid, after.atime, after.mtime], [1001, 7, time, time]);
  fs.setAttributes(file.handle, { mode: 0o600 }, BOB);
  fails("EACCES", () => fs.setAttributes(file.handle, { mtime: "now" }, EVE));
  fails("EACCES", () => fs.setAttributes(file.handle, { size: 0n }, EVE));
  fails("EISDIR", () => fs.setAttributes(fs.root, { size: 0n }, ROOT));
});

Deno.test("MemoryFileSystem: a guard that is not the ctime changes nothing", () => {
  const fs = open();
  const file = create(fs, "f", ALICE);
  const { ctime } = fs.getAttributes(file.handle, ALICE);
  const changed = fs.setAttributes(file.handle, { mode: 0o600 }, ALICE, ctime);
  assertNotEquals(changed.ctime, ctime);
  fails("EAGAIN", () => fs.setAttributes(file.handle, { mode: 0o644 }, ALICE, ctime));
  assertEquals(fs.getAttributes(file.handle, ALICE).mode, 0o600);
});

Deno.test("MemoryFileSystem: set-uid and set-gid go where POSIX takes them away", () => {
  const fs = open();
  const file = create(fs, "f", ALICE, { mode: 0o6775 });
  fs.setAttributes(file.handle, { mode: 0o6776 }, ALICE);
  assertEquals(write(fs, file, 0n, "x", BOB), 1, "others may write");
  assertEquals(fs.getAttributes(file.handle, ALICE).mode, 0o776);
  fs.setAttributes(file.handle, { mode: 0o6755 }, ALICE);
  write(fs, file, 0n, "x", ROOT);
  assertEquals(fs.getAttributes(file.handle, ALICE).mode, 0o6755);
  assertEquals(fs.setAttributes(file.handle, { gid: 50 }, ALICE).mode, 0o755);
  fs.setAttributes(file.handle, { gid: 7 }, ROOT);
  assertEquals(fs.setAttributes(file.handle, { mode: 0o2755 }, ALICE).mode, 0o755, "not in group 7");
  const shared = fs.makeDirectory(fs.root, name("d"), { gid: 50, mode: 0o2775 }, ALICE).handle;
  const inside = fs.create(shared, name("f"), { kind: "guarded", changes: {} }, BOB);
  assertEquals(inside.attributes.gid, 50);
  const below = fs.makeDirectory(shared, name("d"), { mode: 0o755 }, BOB);
  assertEquals([below.attributes.gid, below.attributes.mode], [50, 0o2755]);
});

Deno.test("MemoryFileSystem: a sticky directory protects what others own", () => {
  const fs = new MemoryFileSystem({ root: { mode: 0o1777 } });
  create(fs, "a", ALICE);
  create(fs, "b", BOB);
  fails("EPERM", () => fs.remove(fs.root, name("a"), BOB));
  fails(
    "EPERM",
    () => fs.rename({ directory: fs.root, name: name("b") }, { directory: fs.root, name: name("a") }, BOB),
  );
  fs.remove(fs.root, name("a"), ALICE);
  fs.remove(fs.root, name("b"), ROOT);
});

Deno.test("MemoryFileSystem: directories count their subdirectories and must be empty to go", () => {
  const fs = open();
  const directory = fs.makeDirectory(fs.root, name("d"), {}, ALICE);
  assertEquals(directory.attributes.nlink, 2);
  assertEquals(fs.getAttributes(fs.root, ALICE).nlink, 3);
  const file = fs.create(directory.handle, name("f"), { kind: "guarded", changes: {} }, ALICE);
  fails("ENOTEMPTY", () => fs.removeDirectory(fs.root, name("d"), ALICE));
  fails("EISDIR", () => fs.remove(fs.root, name("d"), ALICE));
  fails("ENOTDIR", () => fs.removeDirectory(directory.handle, name("f"), ALICE));
  fails("ENOTDIR", () => fs.lookup(file.handle, name("x"), ALICE));
  fails("EPERM", () => fs.link(directory.handle, fs.root, name("e"), ALICE));
  fs.remove(directory.handle, name("f"), ALICE);
  fs.removeDirectory(fs.root, name("d"), ALICE);
  assertEquals(fs.getAttributes(fs.root, ALICE).nlink, 2);
  fails("ESTALE", () => fs.lookup(directory.handle, name("."), ALICE));
});

Deno.test("MemoryFileSystem: rename replaces what may be replaced", () => {
  const fs = open();
  const at = (of: string, directory = fs.root): { directory: Uint8Array; name: Uint8Array } => ({
    directory,
    name: name(of),
  });
  const file = create(fs, "f", ALICE);
  create(fs, "g", ALICE);
  const outer = fs.makeDirectory(fs.root, name("outer"), {}, ALICE).handle;
  const inner = fs.makeDirectory(outer, name("inner"), {}, ALICE).handle;
  const empty = fs.makeDirectory(fs.root, name("empty"), {}, ALICE).handle;
  fails("ENOENT", () => fs.rename(at("nothing"), at("f"), ALICE));
  fails("EISDIR", () => fs.rename(at("f"), at("empty"), ALICE));
  fails("ENOTDIR", () => fs.rename(at("empty"), at("f"), ALICE));
  fails("ENOTEMPTY", () => fs.rename(at("empty"), at("outer"), ALICE));
  fails("EINVAL", () => fs.rename(at("outer"), at("x", inner), ALICE));
  fails("ENOTEMPTY", () => fs.rename(at("inner", outer), at("outer"), ALICE));
  fs.rename(at("outer"), at("outer"), ALICE);
  fs.rename(at("f"), at("g"), ALICE);
  assertEquals(fs.lookup(fs.root, name("g"), ALICE).handle, file.handle);
  fs.link(file.handle, fs.root, name("same"), ALICE);
  fs.rename(at("same"), at("g"), ALICE);
  assertEquals(names(fs).sort(), [".", "..", "empty", "g", "outer", "same"]);
  fs.rename(at("inner", outer), at("empty"), ALICE);
  fails("ESTALE", () => fs.getAttributes(empty, ALICE));
  assertEquals(fs.lookup(inner, name(".."), ALICE).handle, fs.root);
  assertEquals(fs.getAttributes(outer, ALICE).nlink, 2);
  assertEquals(fs.getAttributes(fs.root, ALICE).nlink, 4);
});

Deno.test("MemoryFileSystem: symbolic links and special files", () => {
  const fs = open();
  const link = fs.symlink(fs.root, name("l"), name("../anywhere/at all"), { mode: 0o600 }, ALICE);
  assertEquals([link.attributes.type, link.attributes.mode, link.attributes.size], [FileType.Symlink, 0o777, 18n]);
  assertEquals(fs.readLink(link.handle, EVE), name("../anywhere/at all"));
  fails("EINVAL", () => fs.readLink(fs.root, ALICE));
  fails("EOPNOTSUPP", () => fs.setAttributes(link.handle, { mode: 0o600 }, ALICE));
  fs.setAttributes(link.handle, { mtime: "now" }, ALICE);
  fails("EINVAL", () => fs.read(link.handle, 0n, new Uint8Array(1), ALICE));
  fails("EISDIR", () => fs.read(fs.root, 0n, new Uint8Array(1), ALICE));
  fails("ENOENT", () => fs.symlink(fs.root, name("m"), name(""), {}, ALICE));
  fails("ENAMETOOLONG", () => fs.symlink(fs.root, name("m"), new Uint8Array(4096).fill(65), {}, ALICE));
  fails("EINVAL", () => fs.symlink(fs.root, name("m"), name("a\0b"), {}, ALICE));
  const node = { type: FileType.BlockDevice, major: 8, minor: 1 };
  fails("EPERM", () => fs.makeNode(fs.root, name("sda1"), node, {}, ALICE));
  const device = fs.makeNode(fs.root, name("sda1"), node, { mode: 0o660 }, ROOT).attributes;
  assertEquals([device.type, device.rdevMajor, device.rdevMinor], [FileType.BlockDevice, 8, 1]);
  const fifo = fs.makeNode(fs.root, name("p"), { type: FileType.Fifo, major: 3, minor: 4 }, {}, ALICE).attributes;
  assertEquals([fifo.type, fifo.rdevMajor, fifo.uid], [FileType.Fifo, 0, 1000]);
  fails("EINVAL", () => fs.makeNode(fs.root, name("q"), { type: FileType.Regular, major: 0, minor: 0 }, {}, ALICE));
});

Deno.test("MemoryFileSystem: cookies resume behind the same entry whatever came and went since", () => {
  const fs = open();
  for (let i = 0; i < 10; i++) create(fs, `f${i}`, ALICE);
  const seen: string[] = [];
  let cookie = 0n;
  for (let eof = false; !eof;) {
    const page = fs.readDirectory(fs.root, { cookie, entriesMax: 3, attributes: true }, ALICE);
    for (const entry of page.entries) {
      seen.push(new TextDecoder().decode(entry.name));
      assertEquals(entry.entry?.attributes.fileid, entry.fileid);
      cookie = entry.cookie;
    }
    eof = page.eof;
    if (seen.length === 6) {
      fs.remove(fs.root, name("f0"), ALICE);
      fs.remove(fs.root, name("f3"), ALICE);
      fs.remove(fs.root, name("f4"), ALICE);
      create(fs, "late", ALICE);
    }
  }
  assertEquals(seen, [".", "..", "f0", "f1", "f2", "f3", "f5", "f6", "f7", "f8", "f9", "late"]);
  const end = fs.readDirectory(fs.root, { cookie, entriesMax: 3, attributes: false }, ALICE);
  assertEquals(end, { entries: [], eof: true });
  fails("EINVAL", () => fs.readDirectory(fs.root, { cookie: cookie + 1n, entriesMax: 1, attributes: false }, ALICE));
  fails("EINVAL", () => fs.readDirectory(fs.root, { cookie: 2n ** 64n - 1n, entriesMax: 1, attributes: false }, ALICE));
});

Deno.test("MemoryFileSystem: eof is told with the last entry, however small the pages", () => {
  const fs = open();
  const page = (cookie: bigint, entriesMax: number): [number, boolean] => {
    const { entries, eof } = fs.readDirectory(fs.root, { cookie, entriesMax, attributes: false }, ALICE);
    return [entries.length, eof];
  };
  assertEquals(page(0n, 0), [0, false]);
  assertEquals(page(0n, 1), [1, false]);
  assertEquals(page(1n, 1), [1, true]);
  assertEquals(page(0n, 2), [2, true]);
  create(fs, "f", ALICE);
  assertEquals(page(0n, 2), [2, false]);
  assertEquals(page(2n, 1), [1, true]);
});

Deno.test("MemoryFileSystem: every change shows in the times", () => {
  const fs = open();
  const file = create(fs, "f", ALICE);
  const before = fs.getAttributes(file.handle, ALICE);
  write(fs, file, 0n, "x", ALICE);
  const after = fs.getAttributes(file.handle, ALICE);
  assertNotEquals(after.mtime, before.mtime);
  assertNotEquals(after.ctime, before.ctime);
  const root = fs.getAttributes(fs.root, ALICE);
  fs.remove(fs.root, name("f"), ALICE);
  assertNotEquals(fs.getAttributes(fs.root, ALICE).mtime, root.mtime);
  assert(fs.getAttributes(fs.root, ALICE).ctime.seconds >= root.ctime.seconds);
});

Deno.test("MemoryFileSystem: disposed, it knows no handle", async () => {
  const fs = open();
  await fs[Symbol.asyncDispose]();
  fails("ESTALE", () => fs.getAttributes(fs.root, ALICE));
});
