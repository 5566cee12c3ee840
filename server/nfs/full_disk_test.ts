import { assert, assertEquals } from "@std/assert";
import { MemoryFileSystem } from "../../storage/backend/memory.ts";
import { nfsstat3, stable_how } from "../../storage/nfs/mod.ts";
import { bytes, callers, checkWcc, fails, type Fixture, NO_CHANGES, ok } from "../../tests/conformance/nfs3/subject.ts";
import { memorySubject } from "../../tests/conformance/nfs3/memory_subject.ts";

async function withDisk(
  limits: { bytesMax?: number; filesMax?: number },
  body: (fixture: Fixture) => Promise<void>,
): Promise<void> {
  const fileSystem = (): MemoryFileSystem => new MemoryFileSystem({ ...limits, root: { mode: 0o777 } });
  await using server = await memorySubject({ name: "a small disk", bulk: "reduced", fileSystem }).open({});
  await body(await callers(server));
}

Deno.test("WRITE: a disk that fills up leaves a short count, then NFS3ERR_NOSPC, and what was there stays", async () => {
  await withDisk({ bytesMax: 64 * 1024 }, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    const data = new Uint8Array(100_000).fill(7);
    const written = ok(await alice.write(file, 0n, data, stable_how.UNSTABLE));
    assertEquals(written.count, 64 * 1024);
    await checkWcc(written.file_wcc, { as: alice, file, changed: true });
    const failed = fails(await alice.write(file, 65_536n, data.subarray(written.count)), nfsstat3.NFS3ERR_NOSPC);
    await checkWcc(failed.file_wcc, { as: alice, file, changed: false });
    assertEquals(await alice.contents(file), data.subarray(0, written.count));
    assertEquals(ok(await alice.call("FSSTAT", { fsroot: root })).abytes, 0n);
    ok(await alice.call("REMOVE", { object: { dir: root, name: bytes("f") } }));
    assertEquals(ok(await alice.call("FSSTAT", { fsroot: root })).abytes, 65_536n);
  });
});

Deno.test("CREATE and its like: no room for another file is NFS3ERR_NOSPC", async () => {
  await withDisk({ filesMax: 3 }, async ({ alice, root }) => {
    const directory = await alice.directory(root, "d");
    await alice.file(directory, "f");
    const failed = fails(await alice.create(root, "g"), nfsstat3.NFS3ERR_NOSPC);
    await checkWcc(failed.dir_wcc, { as: alice, file: root, changed: false });
    fails(await alice.mkdir(root, "g"), nfsstat3.NFS3ERR_NOSPC);
    fails(await alice.symlink(root, "g", bytes("target")), nfsstat3.NFS3ERR_NOSPC);
    const what = { type: 7, value: NO_CHANGES } as const;
    fails(await alice.call("MKNOD", { where: { dir: root, name: bytes("g") }, what }), nfsstat3.NFS3ERR_NOSPC);
    assertEquals(await alice.names(root), ["d"]);
    assert(ok(await alice.call("FSSTAT", { fsroot: root })).afiles === 0n);
  });
});
