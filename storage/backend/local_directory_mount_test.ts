import { assert, assertEquals } from "@std/assert";
import { type Credentials, Stability } from "./file_system.ts";
import { codeOf, create, fails, ME, name, Scratch, string, testAsRoot, writeText } from "./_testing/scratch.ts";

/** A small file system, mounted for a test: in memory, or on a device. */
class Mount implements Disposable {
  constructor(readonly path: string, options: string, source = { type: "tmpfs", device: "weft-test" }) {
    Deno.mkdirSync(path, { recursive: true });
    run("mount", "-t", source.type, "-o", options, source.device, path);
  }

  [Symbol.dispose](): void {
    run("umount", "-l", this.path);
  }
}

function run(command: string, ...args: string[]): void {
  const { success, stderr } = new Deno.Command(command, { args, stdout: "null", stderr: "piped" }).outputSync();
  assert(success, `${command} ${args.join(" ")}: ${string(stderr)}`);
}

testAsRoot("a full disk takes what fits, then says ENOSPC", async () => {
  await using scratch = new Scratch();
  using _mount = new Mount(scratch.directory, "size=1m,mode=777");
  await using fs = scratch.open();
  const file = await create(fs, "f");
  const block = new Uint8Array(700 << 10).fill(1);
  assertEquals((await fs.write(file.handle, 0n, [block], 0, ME)).bytesWritten, block.byteLength);
  const { bytesWritten } = await fs.write(file.handle, BigInt(block.byteLength), [block], 0, ME);
  assert(bytesWritten > 0 && bytesWritten < block.byteLength, `${bytesWritten} bytes written`);
  const end = BigInt(block.byteLength + bytesWritten);
  await fails("ENOSPC", () => fs.write(file.handle, end, [block.subarray(0, 4096)], 0, ME));
  await fails("ENOSPC", () => fs.write(file.handle, end, [block], 2, ME));
  assertEquals((await fs.getAttributes(file.handle, ME)).size, end);
  assertEquals((await fs.status(fs.root, ME)).availableBytes, 0n);
  await fs.setAttributes(file.handle, { size: 0n }, ME);
  await writeText(fs, file.handle, "room again");
});

/** Makes an ext4 file system in a file and mounts it. `undefined` where this machine cannot. */
function mountExt4(image: string, path: string, ...options: string[]): Disposable | undefined {
  Deno.writeFileSync(image, new Uint8Array(0));
  Deno.truncateSync(image, 16 << 20);
  try {
    run("mkfs.ext4", "-q", ...options, image);
    run("mount", "-o", "loop", image, path);
  } catch (error) {
    console.error(`SKIPPED, THIS MACHINE CANNOT MOUNT AN EXT4 IMAGE: ${error}`);
    return undefined;
  }
  return { [Symbol.dispose]: () => run("umount", "-l", path) };
}

testAsRoot("what was acknowledged is there after a power cut", async () => {
  await using scratch = new Scratch();
  const image = `${scratch.state}.img`;
  using mounted = mountExt4(image, scratch.directory);
  if (mounted === undefined) return;
  await using fs = scratch.open({ stable: true });
  const data = new Uint8Array(100_000).fill(7);
  const at = (of: string) => ({ directory: fs.root, name: name(of) });
  const after = `${scratch.state}.after`;
  Deno.mkdirSync(after);
  /** What the disk has now, which is all that a machine would find that lost its power. */
  const cut = (look: () => unknown): unknown => {
    Deno.copyFileSync(image, `${image}.cut`);
    run("mount", "-o", "loop", `${image}.cut`, after);
    try {
      return look();
    } finally {
      run("umount", after);
    }
  };
  const exists = (of: string) => Array.from(Deno.readDirSync(after), (entry) => entry.name).includes(of);

  const file = await create(fs, "written");
  await fs.write(file.handle, 0n, [data], Stability.FileSync, ME);
  assertEquals(cut(() => Deno.readFileSync(`${after}/written`)), data);
  const later = await create(fs, "committed");
  await fs.write(later.handle, 0n, [data], Stability.Unstable, ME);
  await fs.commit(later.handle, 0n, 0, ME);
  assertEquals(cut(() => Deno.readFileSync(`${after}/committed`)), data);
  await fs.makeDirectory(fs.root, name("directory"), {}, ME);
  assert(cut(() => exists("directory")));
  await fs.symlink(fs.root, name("symlink"), name("target"), {}, ME);
  assertEquals(cut(() => Deno.readLinkSync(`${after}/symlink`)), "target");
  await fs.link(file.handle, fs.root, name("link"), ME);
  assert(cut(() => exists("link")));
  await fs.rename(at("link"), at("renamed"), ME);
  assertEquals(cut(() => [exists("link"), exists("renamed")]), [false, true]);
  await fs.remove(fs.root, name("renamed"), ME);
  assertEquals(cut(() => exists("renamed")), false);
  await fs.removeDirectory(fs.root, name("directory"), ME);
  assertEquals(cut(() => exists("directory")), false);
  await fs.setAttributes(file.handle, { mode: 0o604, size: 5n }, ME);
  assertEquals(cut(() => [Deno.statSync(`${after}/written`).mode! & 0o777, Deno.statSync(`${after}/written`).size]), [
    0o604,
    5,
  ]);
});

testAsRoot("what is reserved for root stays so", async () => {
  await using scratch = new Scratch();
  using mounted = mountExt4(`${scratch.state}.img`, scratch.directory, "-m", "25", "-O", "^has_journal");
  if (mounted === undefined) return;
  await using fs = scratch.open();
  const alice = { uid: 1000, gid: 1000, gids: [] };
  Deno.chmodSync(scratch.directory, 0o777);
  const block = new Uint8Array(16 << 10).fill(1);
  const fill = async (of: string, as: Credentials): Promise<bigint> => {
    const file = await create(fs, of, {}, as);
    let end = 0n;
    for (; end < 32n << 20n; end += BigInt(block.byteLength)) {
      const code = await codeOf(() => fs.write(file.handle, end, [block], 0, as));
      if (code === "ENOSPC") return end;
      assertEquals(code, "no error");
    }
    throw new Error("the disk is never full");
  };
  assert(await fill("alice", alice) > 4n << 20n);
  assertEquals(await fill("alice2", alice), 0n);
  assert((await fs.status(fs.root, alice)).freeBytes > 2n << 20n);
  assert(await fill("root", ME) > 2n << 20n);
});

testAsRoot("no more files than fit", async () => {
  await using scratch = new Scratch();
  using _mount = new Mount(scratch.directory, "size=1m,nr_inodes=4,mode=777");
  await using fs = scratch.open();
  await create(fs, "a");
  await fs.makeDirectory(fs.root, name("b"), {}, ME);
  await create(fs, "c");
  await fails("ENOSPC", () => create(fs, "d"));
  await fails("ENOSPC", () => fs.makeDirectory(fs.root, name("d"), {}, ME));
});

testAsRoot("a read-only file system says EROFS", async () => {
  await using scratch = new Scratch();
  using mount = new Mount(scratch.directory, "size=1m,mode=777");
  Deno.writeTextFileSync(scratch.path("f"), "text");
  run("mount", "-o", "remount,ro", mount.path);
  await using fs = scratch.open();
  const alice = { uid: 1000, gid: 1000, gids: [] };
  for (const as of [ME, alice]) {
    const file = await fs.lookup(fs.root, name("f"), as);
    await fails("EROFS", () => fs.write(file.handle, 0n, [name("x")], 0, as));
    await fails("EROFS", () => fs.setAttributes(file.handle, { size: 0n }, as));
    await fails("EROFS", () => create(fs, "g", {}, as));
    await fails("EROFS", () => fs.remove(fs.root, name("f"), as));
    await fails("EROFS", () => fs.makeDirectory(fs.root, name("d"), {}, as));
  }
});

testAsRoot("what is mounted beneath the root is not served", async () => {
  for (const handles of ["kernel", "index"] as const) {
    await using scratch = new Scratch({ title: "", handles });
    Deno.mkdirSync(scratch.path("mnt"));
    await using fs = scratch.open();
    const covered = await fs.lookup(fs.root, name("mnt"), ME);
    using _mount = new Mount(scratch.path("mnt"), "size=1m,mode=777");
    Deno.writeTextFileSync(scratch.path("mnt/f"), "another file system");
    await fails("EACCES", () => fs.lookup(fs.root, name("mnt"), ME));
    await fails("EBUSY", () => fs.removeDirectory(fs.root, name("mnt"), ME));
    const { entries } = await fs.readDirectory(fs.root, { cookie: 0n, entriesMax: 9, attributes: true }, ME);
    const entry = entries.find((entry) => string(entry.name) === "mnt");
    assertEquals([entry?.fileid, entry?.entry], [covered.attributes.fileid, undefined]);
    // The directory that the mount covers can still be used by its handle.
    await fails("ENOENT", () => fs.lookup(covered.handle, name("f"), ME));
  }
});
