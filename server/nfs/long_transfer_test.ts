/** READs and WRITEs whose data go piece by piece, on a disk that fills up or fails on the way. */
import { Buffer } from "node:buffer";
import { assertEquals, assertNotEquals } from "@std/assert";
import { FsError } from "../../storage/backend/file_system.ts";
import { MemoryFileSystem } from "../../storage/backend/memory.ts";
import { nfsstat3, stable_how, STREAM_BYTES_MAX, TRANSFER_BYTES_MAX } from "../../storage/nfs/mod.ts";
import { servedSubject } from "../../tests/conformance/nfs3/served_subject.ts";
import { callers, checkWcc, fails, type Fixture, ok } from "../../tests/conformance/nfs3/subject.ts";

/** A file system that fails where it is told to, and says what it was asked to write. */
class FailingFileSystem extends MemoryFileSystem {
  /** What a read or write that begins here fails with. */
  failure: { at: bigint; code: string } | undefined;
  commitFails = false;
  readonly writes: string[] = [];

  override commit(...args: Parameters<MemoryFileSystem["commit"]>): void {
    if (this.commitFails) throw new FsError("EIO");
    this.writes.push(`commit ${args[1]}+${args[2]}`);
    super.commit(...args);
  }

  override read(...args: Parameters<MemoryFileSystem["read"]>): ReturnType<MemoryFileSystem["read"]> {
    if (args[1] === this.failure?.at) throw new FsError(this.failure.code);
    return super.read(...args);
  }

  override write(...args: Parameters<MemoryFileSystem["write"]>): ReturnType<MemoryFileSystem["write"]> {
    const [, offset, pieces, stability] = args;
    this.writes.push(`${stability} ${offset}+${pieces.reduce((sum, piece) => sum + piece.byteLength, 0)}`);
    if (offset === this.failure?.at) throw new FsError(this.failure.code);
    return super.write(...args);
  }
}

async function withDisk(memory: MemoryFileSystem, body: (fixture: Fixture) => Promise<void>): Promise<void> {
  await using server = await servedSubject({ proto: "rdma", backend: "memory", memory }).open({});
  await body(await callers(server));
}

const ROOT = { mode: 0o777 };
const PIECE = TRANSFER_BYTES_MAX;
const data = new Uint8Array(STREAM_BYTES_MAX).map((_, i) => i * 7 >> 8);

Deno.test("a long WRITE: a disk that fills up leaves a short count, then NFS3ERR_NOSPC", async () => {
  const bytesMax = 2 * PIECE + 8192;
  await withDisk(new MemoryFileSystem({ bytesMax, root: ROOT }), async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    for (const stable of [stable_how.UNSTABLE, stable_how.FILE_SYNC]) {
      ok(await alice.setattr(file, { size: 0n }));
      const written = ok(await alice.write(file, 0n, data, stable));
      assertEquals([written.count, written.committed], [bytesMax, stable]);
      await checkWcc(written.file_wcc, { as: alice, file, changed: true });
      fails(await alice.write(file, BigInt(bytesMax), data.subarray(bytesMax)), nfsstat3.NFS3ERR_NOSPC);
    }
    const read = ok(await alice.read(file, BigInt(2 * PIECE), 10_000));
    assertEquals(read.data[0], data.subarray(2 * PIECE, bytesMax));
  });
});

Deno.test("a long WRITE: a failure at the first piece is told, one behind it cuts the count", async () => {
  const disk = new FailingFileSystem({ root: ROOT });
  await withDisk(disk, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    for (const [at, count] of [[0, 0], [PIECE, PIECE], [3 * PIECE, 3 * PIECE]]) {
      disk.failure = { at: BigInt(at), code: "EIO" };
      const result = await alice.write(file, 0n, data, stable_how.UNSTABLE);
      if (count === 0) fails(result, nfsstat3.NFS3ERR_IO);
      else assertEquals(ok(result).count, count);
    }
    disk.failure = undefined;
    assertEquals(ok(await alice.write(file, 0n, data)).count, data.byteLength);
  });
});

Deno.test("a long READ: a failure at the first piece is told, one behind it cuts the count", async () => {
  const disk = new FailingFileSystem({ root: ROOT });
  await withDisk(disk, async ({ alice, root }) => {
    const file = await alice.file(root, "f", data);
    for (const [at, count] of [[0, 0], [PIECE, PIECE], [3 * PIECE, 3 * PIECE]]) {
      disk.failure = { at: BigInt(at), code: "EIO" };
      const result = await alice.read(file, 0n, data.byteLength);
      if (count === 0) fails(result, nfsstat3.NFS3ERR_IO);
      else assertEquals([ok(result).count, ok(result).eof], [count, false]);
      if (count > 0) assertEquals(Buffer.compare(ok(result).data[0], data.subarray(0, count)), 0);
    }
    disk.failure = undefined;
    assertEquals(ok(await alice.read(file, 0n, data.byteLength)).count, data.byteLength);
  });
});

Deno.test("a long WRITE that is to be stable: pieces to the cache, one commit; where that fails the verifier changes", async () => {
  const disk = new FailingFileSystem({ root: ROOT });
  await withDisk(disk, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    const { verf } = ok(await alice.write(file, 100n, data, stable_how.FILE_SYNC));
    const pieces = [0, 1, 2, 3].map((i) => `${stable_how.UNSTABLE} ${100 + i * PIECE}+${PIECE}`);
    assertEquals(disk.writes, [...pieces, `commit 100+${data.byteLength}`]);
    disk.commitFails = true;
    fails(await alice.write(file, 0n, data, stable_how.DATA_SYNC), nfsstat3.NFS3ERR_IO);
    disk.commitFails = false;
    assertNotEquals(ok(await alice.write(file, 0n, data, stable_how.UNSTABLE)).verf, verf);
  });
});
