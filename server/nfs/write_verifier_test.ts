import { assertEquals, assertNotEquals } from "@std/assert";
import { type FileSystem, FsError } from "../../storage/backend/file_system.ts";
import { MemoryFileSystem } from "../../storage/backend/memory.ts";
import { callers, ok } from "../../tests/conformance/nfs3/subject.ts";
import { memorySubject } from "../../tests/conformance/nfs3/memory_subject.ts";
import { nfsstat3, stable_how } from "../../storage/nfs/mod.ts";
import { WriteVerifier } from "./write_verifier.ts";

Deno.test("WriteVerifier: two are different, one stays the same", () => {
  const verifier = new WriteVerifier();
  assertEquals(verifier.bytes.byteLength, 8);
  assertEquals(verifier.bytes, verifier.bytes);
  assertNotEquals(verifier.bytes, new WriteVerifier().bytes);
});

Deno.test("WriteVerifier: changes when storage fails, not when somebody is refused", () => {
  const verifier = new WriteVerifier();
  const before = verifier.bytes;
  for (const code of ["EACCES", "ESTALE", "EBADHANDLE", "EFBIG", "EISDIR", "EAGAIN"]) {
    verifier.handleFailure(new FsError(code));
    assertEquals(verifier.bytes, before, code);
  }
  for (const error of [new FsError("EIO"), new FsError("ENOSPC"), new FsError("EDQUOT"), new Error("unheard of")]) {
    const last = verifier.bytes;
    verifier.handleFailure(error);
    assertNotEquals(verifier.bytes, last);
  }
});

/** A file system whose disk can be made to fail. */
class FailingFileSystem extends MemoryFileSystem {
  isBroken = false;

  override commit(...args: Parameters<MemoryFileSystem["commit"]>): void {
    if (this.isBroken) throw new FsError("EIO");
    super.commit(...args);
  }

  override write(...args: Parameters<MemoryFileSystem["write"]>): ReturnType<MemoryFileSystem["write"]> {
    if (this.isBroken && args[3] !== stable_how.UNSTABLE) throw new FsError("EIO");
    return super.write(...args);
  }
}

Deno.test("WRITE, COMMIT: after a failure of the disk every client is told to write again", async () => {
  const disk = new FailingFileSystem({ root: { mode: 0o777 } });
  const fileSystem = (): FileSystem => disk;
  await using server = await memorySubject({ name: "failing", bulk: "reduced", fileSystem }).open({});
  const { alice, bob, root } = await callers(server);
  const file = await alice.file(root, "a");
  const other = await bob.file(root, "b");
  const data = new Uint8Array(100);
  const unstable = async (): Promise<Uint8Array> => ok(await bob.write(other, 0n, data, stable_how.UNSTABLE)).verf;
  const first = await unstable();
  assertEquals(await unstable(), first);
  disk.isBroken = true;
  const failed = await alice.call("COMMIT", { file, offset: 0n, count: 0 });
  assertEquals(failed.status, nfsstat3.NFS3ERR_IO);
  const second = await unstable();
  assertNotEquals(second, first);
  assertEquals((await alice.write(file, 0n, data, stable_how.FILE_SYNC)).status, nfsstat3.NFS3ERR_IO);
  assertNotEquals(await unstable(), second);
  disk.isBroken = false;
  assertEquals(ok(await bob.call("COMMIT", { file: other, offset: 0n, count: 0 })).verf, await unstable());
});
