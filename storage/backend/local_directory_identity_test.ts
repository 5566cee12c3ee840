import { assert, assertEquals } from "@std/assert";
import { create, fails, name, readAll, Scratch, testAsRoot, writeText } from "./_testing/scratch.ts";
import { Access, type Credentials, FileType } from "./file_system.ts";

const ROOT: Credentials = { uid: 0, gid: 0, gids: [] };
const ALICE: Credentials = { uid: 1000, gid: 1000, gids: [50, 51] };
const BOB: Credentials = { uid: 1001, gid: 1001, gids: [51] };
const EVE: Credentials = { uid: 1002, gid: 1002, gids: [] };
const ALL = 0x3f;

/** Asserts that this thread is root again, by what only root can do. */
function assertStillRoot(scratch: Scratch): void {
  const path = `${scratch.state}/only-root`;
  Deno.writeTextFileSync(path, "", { mode: 0o000 });
  Deno.readTextFileSync(path);
  const { uid, gid } = Deno.statSync(path);
  assertEquals([uid, gid], [0, 0]);
  Deno.removeSync(path);
  const status = Deno.readTextFileSync("/proc/thread-self/status");
  assertEquals(/^Uid:\s+(.*)$/m.exec(status)?.[1], "0\t0\t0\t0");
  assertEquals(/^Gid:\s+(.*)$/m.exec(status)?.[1], "0\t0\t0\t0");
  assertEquals(/^Groups:\s+(.*?)\s*$/m.exec(status)?.[1], OWN_GROUPS);
}

const OWN_GROUPS = /^Groups:\s+(.*?)\s*$/m.exec(Deno.readTextFileSync("/proc/thread-self/status"))?.[1];

testAsRoot("files belong to the caller, and the kernel checks access", async () => {
  await using scratch = new Scratch();
  const fs = scratch.open();
  assert(fs.traits.takesIdentities);
  const file = await create(fs, "f", { mode: 0o640 }, ALICE);
  assertEquals([file.attributes.uid, file.attributes.gid], [1000, 1000]);
  await writeText(fs, file.handle, "alice's", ALICE);
  const into = new Uint8Array(20);
  await fails("EACCES", () => fs.read(file.handle, 0n, into, BOB));
  await fails("EACCES", () => fs.write(file.handle, 0n, [into], 0, BOB));
  await fails("EACCES", () => fs.write(file.handle, 0n, [new Uint8Array(1 << 20)], 0, BOB));
  await fails("EACCES", () => fs.commit(file.handle, 0n, 0, BOB));
  await fails("EPERM", () => fs.setAttributes(file.handle, { mode: 0o777 }, BOB));
  await fails("EACCES", () => fs.setAttributes(file.handle, { size: 0n }, BOB));
  assertEquals(await fs.access(file.handle, ALL, BOB), 0);
  assertEquals(await fs.access(file.handle, ALL, ALICE), Access.Read | Access.Modify | Access.Extend);
  assertEquals(await readAll(fs, file.handle, ROOT), "alice's");
  assertStillRoot(scratch);
});

testAsRoot("supplementary groups count", async () => {
  await using scratch = new Scratch();
  const fs = scratch.open();
  const file = await create(fs, "f", { mode: 0o640, gid: 51 }, ALICE);
  assertEquals(file.attributes.gid, 51);
  await writeText(fs, file.handle, "ours", ALICE);
  assertEquals(await readAll(fs, file.handle, BOB), "ours");
  await fails("EACCES", () => readAll(fs, file.handle, EVE));
  await fails("EACCES", () => writeText(fs, file.handle, "x", BOB));
  assertEquals(await fs.access(file.handle, ALL, BOB), Access.Read);
  await fails("EPERM", () => fs.setAttributes(file.handle, { gid: 999 }, ALICE));
  assertEquals((await fs.setAttributes(file.handle, { gid: 50 }, ALICE)).gid, 50);
  await fails("EACCES", () => readAll(fs, file.handle, BOB));
  await fails("EPERM", () => fs.setAttributes(file.handle, { uid: 1001 }, ALICE));
  assertEquals((await fs.setAttributes(file.handle, { uid: 1001, gid: 1001 }, ROOT)).uid, 1001);
  await fails("EPERM", () => create(fs, "g", { uid: 1001 }, ALICE));
  await fails("ENOENT", () => fs.lookup(fs.root, name("g"), ALICE));
  assertStillRoot(scratch);
});

testAsRoot("a change of the mode counts at once, except for the owner's reads and writes", async () => {
  await using scratch = new Scratch();
  const fs = scratch.open();
  const file = await create(fs, "f", { mode: 0o666 }, ALICE);
  await writeText(fs, file.handle, "text", BOB);
  assertEquals(await readAll(fs, file.handle, EVE), "text");
  await fs.setAttributes(file.handle, { mode: 0 }, ALICE);
  await fails("EACCES", () => readAll(fs, file.handle, EVE));
  await fails("EACCES", () => writeText(fs, file.handle, "x", BOB));
  await writeText(fs, file.handle, "mine", ALICE);
  assertEquals(await readAll(fs, file.handle, ALICE), "mine");
  assertEquals(await fs.access(file.handle, ALL, ALICE), 0);
  // By somebody else, behind the server's back.
  Deno.chmodSync(scratch.path("f"), 0o604);
  assertEquals(await readAll(fs, file.handle, EVE), "mine");
  Deno.chmodSync(scratch.path("f"), 0o600);
  await fails("EACCES", () => readAll(fs, file.handle, EVE));
  // What may be executed has to be read.
  Deno.chmodSync(scratch.path("f"), 0o711);
  assertEquals(await readAll(fs, file.handle, EVE), "mine");
  assertEquals(await fs.access(file.handle, ALL, EVE), Access.Execute);
});

testAsRoot("directories are searched, listed and changed by those who may", async () => {
  await using scratch = new Scratch();
  const fs = scratch.open();
  const directory = await fs.makeDirectory(fs.root, name("d"), { mode: 0o711 }, ALICE);
  const file = await fs.create(directory.handle, name("f"), { kind: "guarded", changes: { mode: 0o644 } }, ALICE);
  assertEquals((await fs.lookup(directory.handle, name("f"), BOB)).handle, file.handle);
  const list = { cookie: 0n, entriesMax: 9, attributes: true };
  await fails("EACCES", () => fs.readDirectory(directory.handle, list, BOB));
  await fails("EACCES", () => fs.remove(directory.handle, name("f"), BOB));
  await fails("EACCES", () => fs.create(directory.handle, name("g"), { kind: "guarded", changes: {} }, BOB));
  await fails("EACCES", () => fs.makeDirectory(directory.handle, name("g"), {}, BOB));
  await fails("EACCES", () => fs.symlink(directory.handle, name("g"), name("x"), {}, BOB));
  const bobs = await create(fs, "bobs", {}, BOB);
  await fails("EACCES", () => fs.link(bobs.handle, directory.handle, name("g"), BOB));
  const at = (of: string, where = fs.root) => ({ directory: where, name: name(of) });
  await fails("EACCES", () => fs.rename(at("f", directory.handle), at("f"), BOB));
  assertEquals(await fs.access(directory.handle, ALL, BOB), Access.Lookup);
  await fs.setAttributes(directory.handle, { mode: 0o744 }, ALICE);
  await fails("EACCES", () => fs.lookup(directory.handle, name("f"), BOB));
  await fails("EACCES", () => fs.lookup(directory.handle, name(".."), BOB));
  const { entries } = await fs.readDirectory(directory.handle, list, BOB);
  assertEquals(entries.length, 3);
  assert(entries.every((entry) => entry.entry === undefined));
  assertEquals(await fs.access(directory.handle, ALL, BOB), Access.Read);
  const sticky = await fs.makeDirectory(fs.root, name("tmp"), { mode: 0o1777 }, ROOT);
  assertEquals(sticky.attributes.mode, 0o1777);
  await fs.create(sticky.handle, name("f"), { kind: "guarded", changes: {} }, ALICE);
  await fails("EPERM", () => fs.remove(sticky.handle, name("f"), BOB));
  await fs.remove(sticky.handle, name("f"), ALICE);
  assertStillRoot(scratch);
});

testAsRoot("set-id bits are the kernel's business", async () => {
  await using scratch = new Scratch();
  const fs = scratch.open();
  const file = await create(fs, "f", { mode: 0o6777 }, ALICE);
  assertEquals(file.attributes.mode, 0o6777);
  await writeText(fs, file.handle, "short", BOB);
  assertEquals((await fs.getAttributes(file.handle, ROOT)).mode, 0o777);
  await fs.setAttributes(file.handle, { mode: 0o4777 }, ALICE);
  await fs.write(file.handle, 0n, [new Uint8Array(1 << 20)], 0, BOB);
  assertEquals((await fs.getAttributes(file.handle, ROOT)).mode, 0o777);
  await fs.setAttributes(file.handle, { mode: 0o4777 }, ALICE);
  await fs.setAttributes(file.handle, { size: 1n }, BOB);
  assertEquals((await fs.getAttributes(file.handle, ROOT)).mode, 0o777);
  await fs.setAttributes(file.handle, { mode: 0o4777 }, ALICE);
  assertEquals((await fs.setAttributes(file.handle, { uid: 1001 }, ROOT)).mode, 0o777);
  const shared = await fs.makeDirectory(fs.root, name("shared"), { mode: 0o2777, gid: 51 }, ALICE);
  assertEquals([shared.attributes.mode, shared.attributes.gid], [0o2777, 51]);
  const inner = await fs.makeDirectory(shared.handle, name("inner"), { mode: 0o755 }, EVE);
  assertEquals([inner.attributes.mode, inner.attributes.gid, inner.attributes.uid], [0o2755, 51, 1002]);
  const made = await fs.create(inner.handle, name("f"), { kind: "unchecked", changes: { mode: 0o664 } }, EVE);
  assertEquals([made.attributes.mode, made.attributes.gid], [0o664, 51]);
});

testAsRoot("devices are root's, and links to others' files follow the kernel's policy", async () => {
  await using scratch = new Scratch();
  const fs = scratch.open();
  const device = { type: FileType.CharacterDevice, major: 1, minor: 3 };
  await fails("EPERM", () => fs.makeNode(fs.root, name("null"), device, {}, ALICE));
  const fifo = { type: FileType.Fifo, major: 0, minor: 0 };
  assertEquals((await fs.makeNode(fs.root, name("fifo"), fifo, {}, ALICE)).attributes.uid, 1000);
  const link = await fs.symlink(fs.root, name("s"), name("t"), {}, ALICE);
  assertEquals((await fs.setAttributes(link.handle, { uid: 1001 }, ROOT)).uid, 1001);
  await fails("EPERM", () => fs.setAttributes(link.handle, { mtime: { seconds: 1n, nanoseconds: 0 } }, ALICE));
});

testAsRoot("impossible identities are refused, and every failure gives the identity back", async () => {
  await using scratch = new Scratch();
  const fs = scratch.open();
  for (const as of [{ ...ALICE, uid: 0xffffffff }, { ...ALICE, gid: 0xffffffff }, { ...ALICE, gids: [0xffffffff] }]) {
    await fails("EINVAL", () => fs.lookup(fs.root, name("f"), as));
    await fails("EINVAL", () => create(fs, "f", {}, as));
  }
  await fails("EINVAL", () => fs.getAttributes(fs.root, { ...ALICE, gids: new Array(65).fill(1) }));
  const many = { ...EVE, gids: Array.from({ length: 64 }, (_, index) => index) };
  const file = await create(fs, "f", { mode: 0o640, gid: 63 }, many);
  assertEquals(file.attributes.gid, 63);
  for (let round = 0; round < 100; round++) {
    await fails("EACCES", () => fs.read(file.handle, 0n, new Uint8Array(1), { uid: 2000 + round, gid: 7, gids: [8] }));
    await fails("EEXIST", () => create(fs, "f", {}, { uid: 2000 + round, gid: 7, gids: [8] }));
  }
  assertStillRoot(scratch);
});

testAsRoot("a listing of many identities stays bounded", async () => {
  await using scratch = new Scratch();
  const fs = scratch.open();
  const file = await create(fs, "f", { mode: 0o604 }, ALICE);
  await writeText(fs, file.handle, "text", ALICE);
  for (let uid = 3000; uid < 3100; uid++) {
    assertEquals(await readAll(fs, file.handle, { uid, gid: uid, gids: [] }), "text");
    await fails("EACCES", () => readAll(fs, file.handle, { uid, gid: 1000, gids: [] }));
  }
});
