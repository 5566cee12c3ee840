import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { create, fails, IS_ROOT, ME, name, readAll, Scratch, testEach, writeText } from "./_testing/scratch.ts";
import { LocalDirectory } from "./local_directory.ts";

testEach("handles survive renames and a restart", async (scratch) => {
  const first = scratch.open();
  const directory = await first.makeDirectory(first.root, name("d"), {}, ME);
  const inner = await first.makeDirectory(directory.handle, name("inner"), {}, ME);
  const file = await first.create(inner.handle, name("f"), { kind: "guarded", changes: {} }, ME);
  await writeText(first, file.handle, "contents");
  assert(file.handle.byteLength <= 64);
  await first.rename({ directory: inner.handle, name: name("f") }, { directory: first.root, name: name("g") }, ME);
  await first.rename({ directory: first.root, name: name("d") }, { directory: first.root, name: name("e") }, ME);
  await first.rename({ directory: first.root, name: name("g") }, { directory: inner.handle, name: name("h") }, ME);
  assertEquals(await readAll(first, file.handle), "contents");
  const { root } = first;
  await first[Symbol.asyncDispose]();

  const second = scratch.open();
  assertEquals(second.root, root);
  assertEquals(await readAll(second, file.handle), "contents");
  assertEquals((await second.lookup(inner.handle, name("h"), ME)).handle, file.handle);
  assertEquals((await second.lookup(inner.handle, name(".."), ME)).handle, directory.handle);
});

testEach("handles that a listing gave out survive a restart", async (scratch) => {
  Deno.mkdirSync(scratch.path("d"));
  for (let index = 0; index < 50; index++) Deno.writeTextFileSync(scratch.path(`d/${index}`), `${index}`);
  const first = scratch.open();
  const directory = await first.lookup(first.root, name("d"), ME);
  const { entries } = await first.readDirectory(
    directory.handle,
    { cookie: 0n, entriesMax: 100, attributes: true },
    ME,
  );
  await first[Symbol.asyncDispose]();
  const second = scratch.open();
  for (const { name: of, entry } of entries) {
    assert(entry);
    const text = new TextDecoder().decode(of);
    if (!text.startsWith(".")) assertEquals(await readAll(second, entry.handle), text);
  }
});

testEach("handles survive a restart however deep the files lie", async (scratch) => {
  const first = scratch.open();
  let deepest = first.root;
  for (let depth = 0; depth < 600; depth++) {
    deepest = (await first.makeDirectory(deepest, name("directory"), {}, ME)).handle;
  }
  const file = await first.create(deepest, name("f"), { kind: "guarded", changes: {} }, ME);
  await writeText(first, file.handle, "deep");
  await first[Symbol.asyncDispose]();
  const second = scratch.open();
  assertEquals(await readAll(second, file.handle), "deep");
  const up = await second.lookup(deepest, name(".."), ME);
  assertEquals((await second.lookup(up.handle, name("directory"), ME)).handle, deepest);
  await second.remove(deepest, name("f"), ME);
});

testEach("a file's owner reads and writes by its handle whatever its mode", async (scratch) => {
  let fs = scratch.open();
  const file = await create(fs, "f", { mode: 0o400 });
  await writeText(fs, file.handle, "written");
  await fs.setAttributes(file.handle, { mode: 0 }, ME);
  await fs[Symbol.asyncDispose]();
  fs = scratch.open();
  await writeText(fs, file.handle, "again");
  assertEquals(await readAll(fs, file.handle), "againen");
  await fs.commit(file.handle, 0n, 0, ME);
  assertEquals((await fs.getAttributes(file.handle, ME)).mode, 0);
});

testEach("handles survive renames by somebody else", async (scratch) => {
  const first = scratch.open();
  const directory = await first.makeDirectory(first.root, name("d"), {}, ME);
  const file = await first.create(directory.handle, name("f"), { kind: "guarded", changes: {} }, ME);
  await writeText(first, file.handle, "contents");
  Deno.renameSync(scratch.path("d/f"), scratch.path("d/other"));
  assertEquals(await readAll(first, file.handle), "contents");
  await first[Symbol.asyncDispose]();
  // While nobody served: both are found again in the directories where they were.
  Deno.renameSync(scratch.path("d/other"), scratch.path("d/third"));
  Deno.renameSync(scratch.path("d"), scratch.path("D"));
  const second = scratch.open();
  assertEquals(await readAll(second, file.handle), "contents");
  assertEquals((await second.lookup(second.root, name("D"), ME)).handle, directory.handle);
});

testEach("handles of deleted files are stale", async (scratch) => {
  const fs = scratch.open();
  const file = await create(fs, "f");
  await writeText(fs, file.handle, "gone");
  const directory = await fs.makeDirectory(fs.root, name("d"), {}, ME);
  const byOthers = await create(fs, "o");
  await writeText(fs, byOthers.handle, "gone");
  await fs.readDirectory(directory.handle, { cookie: 0n, entriesMax: 9, attributes: false }, ME);
  await fs.remove(fs.root, name("f"), ME);
  await fs.removeDirectory(fs.root, name("d"), ME);
  Deno.removeSync(scratch.path("o"));
  const into = new Uint8Array(9);
  for (const { handle } of [file, byOthers]) {
    await fails("ESTALE", () => fs.getAttributes(handle, ME));
    await fails("ESTALE", () => fs.read(handle, 0n, into, ME));
    await fails("ESTALE", () => fs.write(handle, 0n, [into], 0, ME));
    await fails("ESTALE", () => fs.commit(handle, 0n, 0, ME));
    await fails("ESTALE", () => fs.setAttributes(handle, { mode: 0 }, ME));
    await fails("ESTALE", () => fs.link(handle, fs.root, name("l"), ME));
    await fails("ESTALE", () => fs.access(handle, 1, ME));
  }
  const { handle } = directory;
  await fails("ESTALE", () => fs.lookup(handle, name("x"), ME));
  await fails("ESTALE", () => fs.lookup(handle, name(".."), ME));
  await fails("ESTALE", () => fs.create(handle, name("x"), { kind: "guarded", changes: {} }, ME));
  await fails("ESTALE", () => fs.readDirectory(handle, { cookie: 0n, entriesMax: 9, attributes: false }, ME));
  await fails("ESTALE", () => fs.remove(handle, name("x"), ME));
});

testEach("a handle is stale when its inode number belongs to another file", async (scratch) => {
  let fs = scratch.open();
  const old = await create(fs, "old");
  await fs.remove(fs.root, name("old"), ME);
  let reused = false;
  for (let round = 0; round < 200 && !reused; round++) {
    const fresh = await create(fs, `new${round}`);
    assertNotEquals(fresh.handle, old.handle);
    reused = fresh.attributes.fileid === old.attributes.fileid;
    await fails("ESTALE", () => fs.getAttributes(old.handle, ME));
  }
  if (!reused) console.error(`NOT SHOWN: ${scratch.directory} did not use an inode number again`);
  await fs[Symbol.asyncDispose]();
  fs = scratch.open();
  await fails("ESTALE", () => fs.getAttributes(old.handle, ME));
});

testEach("a handle that was deleted while nobody served is stale", async (scratch) => {
  const first = scratch.open();
  const file = await create(first, "f");
  const kept = await create(first, "kept");
  await first[Symbol.asyncDispose]();
  Deno.removeSync(scratch.path("f"));
  Deno.writeTextFileSync(scratch.path("f"), "another");
  const second = scratch.open();
  await fails("ESTALE", () => second.getAttributes(file.handle, ME));
  assertEquals((await second.getAttributes(kept.handle, ME)).fileid, kept.attributes.fileid);
});

testEach("forged handles are refused", async (scratch) => {
  const fs = scratch.open();
  const { handle } = await create(fs, "f");
  for (let index = 0; index < handle.byteLength; index++) {
    for (const bit of [1, 0x80]) {
      const forged = handle.slice();
      forged[index] ^= bit;
      await fails("EBADHANDLE", () => fs.getAttributes(forged, ME));
    }
    await fails("EBADHANDLE", () => fs.read(handle.slice(0, index), 0n, new Uint8Array(1), ME));
  }
  for (const length of [0, 1, 34, 64, 65, 200, 4096]) {
    await fails("EBADHANDLE", () => fs.lookup(crypto.getRandomValues(new Uint8Array(length)), name("f"), ME));
  }
  assertEquals((await fs.lookup(fs.root, name("f"), ME)).handle, handle);
});

testEach("handles of another export, or under another key, are refused", async (scratch) => {
  const fs = scratch.open();
  const { handle } = await create(fs, "f");
  const outer = scratch.directory.replace(/\/served$/, "/other");
  Deno.mkdirSync(outer);
  const options = { stateDirectory: scratch.state, handles: fs.traits.kernelHandles ? "kernel" : "index" } as const;
  {
    await using other = LocalDirectory.open(outer, options);
    await fails("ESTALE", () => other.getAttributes(handle, ME));
    await fails("ESTALE", () => other.getAttributes(fs.root, ME));
  }
  await fs[Symbol.asyncDispose]();
  const stranger = scratch.open({ stateDirectory: `${scratch.state}2` });
  await fails("EBADHANDLE", () => stranger.getAttributes(handle, ME));
});

testEach("the state is kept from others", async (scratch) => {
  const fs = scratch.open();
  assertEquals(Deno.statSync(scratch.state).mode! & 0o777, 0o700);
  for (const { name: of } of Deno.readDirSync(scratch.state)) {
    assertEquals(Deno.statSync(`${scratch.state}/${of}`).mode! & 0o777, 0o600, of);
  }
  assertEquals(Deno.readFileSync(`${scratch.state}/handle.key`).byteLength, 32);
  if (fs.traits.kernelHandles) {
    await fails("EINVAL", () => scratch.open({ stateDirectory: scratch.path("state") }));
  } else {
    await fails("EBUSY", () => scratch.open());
  }
  await fs[Symbol.asyncDispose]();
  Deno.chmodSync(`${scratch.state}/handle.key`, 0o640);
  await fails("EACCES", () => scratch.open());
});

Deno.test("LocalDirectory: what cannot be served is refused", async () => {
  await using scratch = new Scratch();
  const options = { stateDirectory: scratch.state };
  Deno.writeTextFileSync(scratch.path("file"), "");
  await fails("ENOTDIR", () => LocalDirectory.open(scratch.path("file"), options));
  await fails("ENOENT", () => LocalDirectory.open(scratch.path("none"), options));
  await fails("EINVAL", () => LocalDirectory.open("a\0b", options));
  if (!IS_ROOT) {
    Deno.mkdirSync(scratch.path("closed"), { mode: 0 });
    await fails("EACCES", () => LocalDirectory.open(scratch.path("closed"), options));
    Deno.chmodSync(scratch.path("closed"), 0o700);
  }
});
