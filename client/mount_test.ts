/**
 * The mounted file system over a server in memory: what has no counterpart among local files.
 *
 * @module
 */
import { assert, assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { MemoryServer } from "../tests/integration/memory_server.ts";
import { NfsError, nfsstat3 } from "../storage/nfs/mod.ts";
import { encodeName } from "./names.ts";
import { mount, mountExport } from "./mount.ts";
import { parseNfsUrl } from "./url.ts";

/** Numbers of procedures that tests interfere with. */
const [REMOVE, WRITE, COMMIT, MKDIR, SYMLINK] = [12, 7, 21, 9, 10];

const concat = (...parts: Uint8Array<ArrayBuffer>[]) => new Blob(parts).bytes();

const bytes = (length: number, seed = 1) => new Uint8Array(length).map((_, at) => (at * 31 + seed) & 0xff);

Deno.test("a subdirectory can be mounted, and is the root of its paths", async () => {
  const server = new MemoryServer();
  await using whole = await mount("nfs://s/", { dial: server.dial });
  await whole.mkdir("a/b", { recursive: true });
  await whole.writeTextFile("secret", "outside");
  await whole.writeTextFile("a/b/f", "inside");
  await whole.symlink("/f", "a/b/absolute");
  await whole.symlink("../../secret", "a/b/out");
  await using part = await mount("nfs://s/a/b", { dial: server.dial });
  assertEquals(await part.readTextFile("/../../f"), "inside");
  assertEquals(await part.readTextFile("absolute"), "inside");
  await assertRejects(() => part.readTextFile("out"), Deno.errors.NotFound);
  assertEquals(await part.realPath("./../f"), "/f");
});

Deno.test("what cannot be mounted is an error of Deno's, with the status as its cause", async () => {
  const server = new MemoryServer({ path: "/export" });
  await using fs = await mount("nfs://s/export", { dial: server.dial });
  await fs.writeTextFile("f", "x");
  const missing = await assertRejects(() => mount("nfs://s/export/no", { dial: server.dial }), Deno.errors.NotFound);
  assertInstanceOf(missing.cause, NfsError);
  assertEquals(missing.cause.status, nfsstat3.NFS3ERR_NOENT);
  assertEquals(missing.message, "No such file or directory (os error 2): mount 'nfs://s/export/no'");
  await assertRejects(() => mount("nfs://s/export/f", { dial: server.dial }), Deno.errors.NotADirectory);
  await assertRejects(() => mount("nfs://s/elsewhere", { dial: server.dial }), Deno.errors.NotFound);
});

Deno.test("the export of a path is found, with the way on from there", async () => {
  const server = new MemoryServer({ path: "/export" });
  const { fs, directory, path } = await mountExport(parseNfsUrl("nfs://s/export/a/../b"), { dial: server.dial });
  await using _ = fs;
  assertEquals([directory, path], ["/export", "/a/../b"]);
});

Deno.test("symbolic links on the way to what is mounted are followed", async () => {
  const server = new MemoryServer();
  await using fs = await mount("nfs://s/", { dial: server.dial });
  await fs.mkdir("real/deep", { recursive: true });
  await fs.symlink("real", "link");
  await fs.writeTextFile("real/deep/f", "x");
  await using part = await mount("nfs://s/link/deep", { dial: server.dial });
  assertEquals(await part.readTextFile("f"), "x");
});

Deno.test("directories that somebody else removes or renames are found out", async () => {
  const server = new MemoryServer();
  await using fs = await mount("nfs://s/", { dial: server.dial });
  await using other = await mount("nfs://s/", { dial: server.dial });
  await fs.mkdir("a/b", { recursive: true });
  await fs.writeTextFile("a/b/f", "first");
  await other.remove("a", { recursive: true });
  await assertRejects(() => fs.readTextFile("a/b/f"), Deno.errors.NotFound);
  await other.mkdir("a/b", { recursive: true });
  await other.writeTextFile("a/b/f", "second");
  assertEquals(await fs.readTextFile("a/b/f"), "second");
  await other.remove("a/b", { recursive: true });
  await other.mkdir("a/b");
  await fs.writeFile("a/b/g", ReadableStream.from([bytes(10)]));
  assertEquals((await other.stat("a/b/g")).size, 10);
  // What we do ourselves counts at once.
  await fs.rename("a/b", "a/c");
  await fs.mkdir("a/b");
  await fs.writeTextFile("a/b/g", "new");
  assertEquals((await fs.stat("a/c/g")).size, 10);
  assertEquals(await fs.readTextFile("a/b/g"), "new");
  // A renamed directory of somebody else's is noticed after a second.
  await other.rename("a/b", "a/d");
  await new Promise((resolve) => setTimeout(resolve, 1100));
  await assertRejects(() => fs.readTextFile("a/b/g"), Deno.errors.NotFound);
});

Deno.test("a path costs one LOOKUP for what was there a moment ago", async () => {
  const server = new MemoryServer();
  await using fs = await mount("nfs://s/", { dial: server.dial });
  await fs.mkdir("a/b/c/d", { recursive: true });
  await fs.stat("a/b/c/d");
  let calls = 0;
  server.onCall = () => {
    calls++;
    return true;
  };
  await fs.stat("a/b/c/d");
  assertEquals(calls, 1);
});

Deno.test("names that are not UTF-8 round trip", async () => {
  const server = new MemoryServer();
  await using fs = await mount("nfs://s/", { dial: server.dial });
  const as = { uid: 0, gid: 0, gids: [] };
  const raw = Uint8Array.of(0x61, 0xff, 0xfe);
  server.fileSystem.create(server.fileSystem.root, raw, { kind: "guarded", changes: {} }, as);
  const [entry] = await Array.fromAsync(fs.readDir("/"));
  assertEquals(encodeName(entry.name), raw);
  await fs.writeTextFile(entry.name, "found");
  await fs.rename(entry.name, "plain");
  assertEquals(await fs.readTextFile("plain"), "found");
  await fs.symlink("a\udc80b", "link");
  assertEquals(await fs.readLink("link"), "a\udc80b");
});

Deno.test("reads land in the caller's memory", async () => {
  for (const bulk of ["reduced", "linear"] as const) {
    const server = new MemoryServer({ bulk, transferBytesMax: 4096 });
    await using fs = await mount("nfs://s/", { dial: server.dial });
    const data = bytes(100_003);
    await fs.writeFile("f", data);
    using file = await fs.open("f");
    const buffer = new Uint8Array(data.byteLength + 20).fill(0xee);
    assertEquals(await file.read(buffer.subarray(10)), data.byteLength);
    assertEquals(buffer.subarray(10, 10 + data.byteLength), data);
    assertEquals(buffer.subarray(0, 10), new Uint8Array(10).fill(0xee));
    assertEquals(await file.readAt(buffer.subarray(0, 7), 50_001), 7);
    assertEquals(buffer.subarray(0, 7), data.subarray(50_001, 50_008));
    assertEquals(await file.readAt(buffer, 100_000), 3);
    assertEquals(await file.readAt(buffer, 100_003), null);
    using lent = fs.allocate(5000);
    assertEquals(await file.readAt(lent.bytes, 1), 5000);
    assertEquals(lent.bytes, data.subarray(1, 5001));
  }
});

Deno.test("a whole file is read and written in blocks, several under way", async () => {
  const server = new MemoryServer({ transferBytesMax: 8192 });
  let most = 0;
  let now = 0;
  server.onCall = (_, procedure) => {
    if (procedure === WRITE) most = Math.max(most, ++now);
    return true;
  };
  server.onReply = (procedure) => {
    if (procedure === WRITE) now--;
    return true;
  };
  await using fs = await mount("nfs://s/", { dial: server.dial });
  const data = bytes(1_000_001);
  await fs.writeFile("f", data);
  assertEquals(await fs.readFile("f"), data);
  await fs.writeFile("g", new Blob([data]).stream());
  assertEquals(await fs.readFile("g"), data);
});

Deno.test("an operation, or everything, can be aborted", async () => {
  const server = new MemoryServer();
  const whole = new AbortController();
  await using fs = await mount("nfs://s/", { dial: server.dial, operationsSignal: whole.signal });
  await fs.writeTextFile("f", "x");
  server.onCall = (_, procedure) => procedure !== WRITE; // hangs
  const one = new AbortController();
  const write = fs.writeFile("f", bytes(10), { signal: one.signal });
  setTimeout(() => one.abort(new Error("one")), 5);
  await assertRejects(() => write, Error, "one");
  assertEquals(await fs.readTextFile("f"), "");
  const other = fs.writeFile("f", bytes(10));
  setTimeout(() => whole.abort(new Error("all")), 5);
  await assertRejects(() => other, Error, "all");
  await assertRejects(() => fs.stat("f"), Error, "all");
});

Deno.test("mounting can be aborted, and only that", async () => {
  const server = new MemoryServer();
  const controller = new AbortController();
  await using fs = await mount("nfs://s/", { dial: server.dial, signal: controller.signal });
  controller.abort(new Error("late"));
  assertEquals((await fs.stat("/")).isDirectory, true);
  await assertRejects(() => mount("nfs://s/", { dial: server.dial, signal: controller.signal }), Error, "late");
  server.onCall = () => false;
  const other = new AbortController();
  setTimeout(() => other.abort(new Error("enough")), 5);
  await assertRejects(() => mount("nfs://s/", { dial: server.dial, signal: other.signal }), Error, "enough");
});

Deno.test("a closed file system is closed", async () => {
  const server = new MemoryServer();
  const fs = await mount("nfs://s/", { dial: server.dial });
  const file = await fs.open("f", { create: true, write: true });
  await fs.close();
  await fs[Symbol.asyncDispose]();
  await assertRejects(() => fs.stat("/"), Deno.errors.BadResource);
  await assertRejects(() => file.write(bytes(1)), Deno.errors.BadResource);
  await assertRejects(() => fs.close(), Deno.errors.BadResource);
});

Deno.test("calls go on where the connection breaks", async () => {
  const server = new MemoryServer();
  await using fs = await mount("nfs://s/", { dial: server.dial });
  const data = bytes(3_000_000);
  let count = 0;
  server.onCall = (_, procedure) => {
    // Every so often the connection goes away with calls under way.
    if (procedure === WRITE && ++count % 2 === 0 && count < 6) void server.disconnect();
    return true;
  };
  await fs.writeFile("f", data);
  assertEquals(await fs.readFile("f"), data);
});

Deno.test("a call whose answer got lost is not carried out twice", async () => {
  const server = new MemoryServer();
  await using fs = await mount("nfs://s/", { dial: server.dial });
  await fs.writeTextFile("f", "x");
  const lose = (wanted: number) => {
    let isLost = false;
    server.onReply = (procedure) => {
      if (procedure !== wanted || isLost) return true;
      isLost = true;
      void server.disconnect();
      return false;
    };
  };
  lose(REMOVE);
  await fs.remove("f");
  lose(MKDIR);
  await fs.mkdir("d");
  lose(SYMLINK);
  await fs.symlink("x", "l");
  const names = (await Array.fromAsync(fs.readDir("/"))).map(({ name }) => name);
  assertEquals(names.sort(), ["d", "l"]);
});

Deno.test("a call that a server carried out before it restarted counts as done", async () => {
  const server = new MemoryServer();
  await using fs = await mount("nfs://s/", { dial: server.dial });
  await fs.writeTextFile("f", "x");
  await fs.writeTextFile("old", "y");
  const restartAfter = (wanted: number) => {
    let isDone = false;
    server.onReply = (procedure) => {
      if (procedure !== wanted || isDone) return true;
      isDone = true;
      void server.crash().then(() => server.restart());
      return false;
    };
  };
  const [RENAME, LINK, CREATE] = [14, 15, 8];
  restartAfter(REMOVE);
  await fs.remove("f");
  restartAfter(SYMLINK);
  await fs.symlink("x", "l");
  restartAfter(RENAME);
  await fs.rename("old", "new");
  restartAfter(LINK);
  await fs.link("new", "hard");
  restartAfter(CREATE);
  (await fs.open("created", { write: true, createNew: true })).close();
  const names = (await Array.fromAsync(fs.readDir("/"))).map(({ name }) => name);
  assertEquals(names.sort(), ["created", "hard", "l", "new"]);
  // But what really is there, or is not, is an error also then.
  await assertRejects(() => fs.symlink("other", "l"), Deno.errors.AlreadyExists);
  await assertRejects(() => fs.open("created", { write: true, createNew: true }), Deno.errors.AlreadyExists);
  await assertRejects(() => fs.rename("gone", "new"), Deno.errors.NotFound);
});

Deno.test("what write, writeFile and writable have accepted survives a crash of the server", async () => {
  const server = new MemoryServer({ transferBytesMax: 65536 });
  await using fs = await mount("nfs://s/", { dial: server.dial });
  const crash = async () => {
    await server.crash();
    server.restart();
  };
  const small = bytes(1000, 1);
  const large = bytes(300_000, 2);
  {
    await using file = await fs.open("f", { write: true, create: true });
    await file.write(small);
    await crash();
    await file.write(large);
    await crash();
    await file.write(small);
    await crash();
  }
  await crash();
  assertEquals(await fs.readFile("f"), await concat(small, large, small));
  {
    const file = await fs.open("g", { write: true, create: true });
    const writer = file.writable.getWriter();
    await writer.write(large);
    await crash();
    await writer.write(small.slice());
    await writer.write(large);
    await crash();
    await writer.close();
  }
  await crash();
  assertEquals(await fs.readFile("g"), await concat(large, small, large));
  let count = 0;
  server.onReply = (procedure) => {
    if (procedure === WRITE && ++count === 3) void crash();
    return true;
  };
  await fs.writeFile("h", large);
  await crash();
  assertEquals(await fs.readFile("h"), large);
});

Deno.test("without writeThrough, what a crash loses is told by sync", async () => {
  const server = new MemoryServer();
  await using fs = await mount("nfs://s/", { dial: server.dial, writeThrough: false });
  await using file = await fs.open("f", { write: true, create: true });
  await file.write(bytes(10_000));
  await file.sync();
  await file.write(bytes(20_000));
  await server.crash();
  server.restart();
  const error = await assertRejects(() => file.sync(), Error, "20000 at 10000");
  assertEquals((error as Error & { code: string }).code, "EIO");
  await file.sync();
  assertEquals((await fs.stat("f")).size, 10_000);
});

Deno.test("a file closed without sync is on stable storage when the file system is closed", async () => {
  const server = new MemoryServer();
  {
    await using fs = await mount("nfs://s/", { dial: server.dial });
    const file = await fs.open("f", { write: true, create: true });
    await file.write(bytes(100));
    await server.crash();
    server.restart();
    file.close();
  }
  await server.crash();
  server.restart();
  await using fs = await mount("nfs://s/", { dial: server.dial });
  assertEquals(await fs.readFile("f"), bytes(100));
});

Deno.test("what goes wrong behind a close is thrown when the file system is closed", async () => {
  const server = new MemoryServer();
  const fs = await mount("nfs://s/", { dial: server.dial, retryMs: 50 });
  const file = await fs.open("f", { write: true, create: true });
  await file.write(bytes(100));
  server.onCall = (_, procedure) => {
    if (procedure === COMMIT) void server.crash();
    return procedure !== COMMIT;
  };
  file.close();
  await assertRejects(() => fs.close(), Deno.errors.TimedOut);
});

Deno.test("how long a silent server, and one that went away, is waited for can be set", async () => {
  const server = new MemoryServer();
  const patience = { silenceMs: 50, retryMs: 50, operationsSignal: AbortSignal.timeout(30_000) };
  {
    await using fs = await mount("nfs://s/", { dial: server.dial, ...patience });
    server.onCall = () => false; // hangs
    await assertRejects(() => fs.status(), Deno.errors.TimedOut);
    server.onCall = () => true;
  }
  await using fs = await mount("nfs://s/", { dial: server.dial, ...patience });
  await server.crash();
  await assertRejects(() => fs.status(), Deno.errors.TimedOut);
});

Deno.test("a read-only export refuses changes", async () => {
  const server = new MemoryServer({ readOnly: true });
  await using fs = await mount("nfs://s/", { dial: server.dial });
  const error = await assertRejects(() => fs.writeTextFile("f", "x"), Error, "Read-only file system (os error 30)");
  assertEquals((error as Error & { code: string }).code, "EROFS");
});

Deno.test("permissions are those of the user that we say to be", async () => {
  const server = new MemoryServer({ root: { mode: 0o777 } });
  await using root = await mount("nfs://s/", { dial: server.dial, uid: 0, gid: 0 });
  await root.writeFile("private", bytes(3), { mode: 0o600 });
  await using user = await mount("nfs://s/?uid=1000&gid=1000", { dial: server.dial });
  await assertRejects(() => user.readFile("private"), Deno.errors.PermissionDenied);
  await assertRejects(() => user.open("private"), Deno.errors.PermissionDenied);
  await user.writeTextFile("own", "x");
  const { uid, gid } = await root.stat("own");
  assertEquals([uid, gid], [1000, 1000]);
  await root.chmod("private", 0o640);
  await root.chown("private", null, 50);
  await assertRejects(() => user.readFile("private"), Deno.errors.PermissionDenied);
  await using member = await mount("nfs://s/", { dial: server.dial, uid: 1000, gid: 1000, gids: [7, 50] });
  assertEquals(await member.readFile("private"), bytes(3));
  await root.chown("private", 1000, null);
  await root.chmod("private", 0o400);
  assertEquals(await user.readFile("private"), bytes(3));
  const { uid: owner, gid: group } = await root.stat("private");
  assertEquals([owner, group], [1000, 50]);
});

Deno.test("status, create, readDirInfo, setAttributes, makeFifo", async () => {
  const server = new MemoryServer({ bytesMax: 1 << 20 });
  await using fs = await mount("nfs://s/", { dial: server.dial });
  const status = await fs.status();
  assertEquals(status.totalBytes, 1n << 20n);
  assert(status.availableBytes <= status.totalBytes);
  await fs.makeFifo("fifo", { mode: 0o600 });
  await fs.writeTextFile("f", "abc");
  await fs.setAttributes("f", { mtime: { seconds: 5, nseconds: 123_456_789 }, mode: 0o640 });
  const infos = new Map((await Array.fromAsync(fs.readDirInfo("/"))).map(({ name, info }) => [name, info]));
  assertEquals(infos.get("fifo")?.isFifo, true);
  assertEquals(infos.get("f")?.attributes.mtime, { seconds: 5, nseconds: 123_456_789 });
  assertEquals(infos.get("f")?.mode, 0o100640);
  await assertRejects(() => fs.writeFile("big", bytes(2 << 20)), Error, "No space left on device (os error 28)");
});
