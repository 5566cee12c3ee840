/**
 * Conformance: READ, WRITE, COMMIT (RFC 1813 §3.3.6, §3.3.7, §3.3.21).
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { assert, assertEquals } from "@std/assert";
import { nfsstat3, stable_how } from "../../../storage/nfs/mod.ts";
import { bytes, Caller, checkAttributes, checkWcc, fails, joined, nfsTest, ok, type Subject } from "./subject.ts";

/** Sizes on either side of every limit on the way: alignment, blocks, inline and staging thresholds, the largest transfer. */
const SIZES = [0, 1, 2, 3, 4, 5, 1023, 1024, 1025, 3900, 4095, 4096, 4097, 8191, 8192, 8193, 65_536, 100_003, 1 << 20];

export function testData(subject: Subject): void {
  nfsTest({ subject, name: "what is written is read, at every size" }, async ({ alice, root }) => {
    for (const size of SIZES) {
      const data = pattern(size);
      const file = await alice.file(root, `f${size}`);
      const written = ok(await alice.write(file, 0n, data));
      assertEquals(written.count, size);
      await checkWcc(written.file_wcc, { as: alice, file, changed: size > 0 });
      const read = ok(await alice.read(file, 0n, size));
      assertEquals(read.count, size);
      assert(equal(joined(read.data), data), `${size} bytes differ`);
      await checkAttributes(read.file_attributes, { as: alice, file });
      assertEquals((await alice.getattr(file)).size, BigInt(size));
    }
  });

  nfsTest({ subject, name: "READ around the end of a file" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f", "0123456789");
    const read = async (offset: bigint, count: number): Promise<[string, boolean]> => {
      const result = ok(await alice.read(file, offset, count));
      assertEquals(joined(result.data).byteLength, result.count);
      return [new TextDecoder().decode(joined(result.data)), result.eof];
    };
    assertEquals(await read(0n, 4), ["0123", false]);
    assertEquals(await read(4n, 6), ["456789", true]);
    assertEquals(await read(4n, 100), ["456789", true]);
    assertEquals(await read(10n, 1), ["", true]);
    assertEquals(await read(2n ** 40n, 1), ["", true]);
    assertEquals(await read(3n, 0), ["", false]);
    assertEquals(await read(10n, 0), ["", true]);
    for (const offset of [2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n]) assertEquals(await read(offset, 100), ["", true]);
  });

  nfsTest({ subject, name: "READ of more than the server's maximum gets the maximum" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    ok(await alice.setattr(file, { size: 9n << 20n }));
    const { rtmax } = ok(await alice.call("FSINFO", { fsroot: root }));
    assertEquals(rtmax, subject.transferBytesMax);
    const read = ok(await alice.read(file, 0n, 0xffffffff));
    assertEquals([read.count, read.eof], [rtmax, false]);
  });

  nfsTest({ subject, name: "the largest READs and WRITEs, at every stability" }, async ({ alice, root }) => {
    const { transferBytesMax } = subject;
    const file = await alice.file(root, "f");
    const longest = pattern(transferBytesMax);
    for (const stable of [stable_how.UNSTABLE, stable_how.DATA_SYNC, stable_how.FILE_SYNC]) {
      for (const size of [transferBytesMax, transferBytesMax - 1, (transferBytesMax >> 1) + 3]) {
        ok(await alice.setattr(file, { size: 0n }));
        const data = longest.subarray(0, size);
        const written = ok(await alice.write(file, 5n, data, stable));
        assertEquals(written.count, size);
        assert(written.committed >= stable, `${written.committed} where ${stable} was asked for`);
        await checkWcc(written.file_wcc, { as: alice, file, changed: true });
        for (const [at, count] of [[0, size], [1, size - 1], [3, transferBytesMax]]) {
          const read = ok(await alice.read(file, BigInt(5 + at), count));
          assertEquals([read.count, read.eof], [size - at, true]);
          assert(equal(joined(read.data), data.subarray(at)), `${size} bytes differ behind ${at}`);
        }
        const half = ok(await alice.read(file, 5n, size >> 1));
        assertEquals([half.count, half.eof], [size >> 1, false]);
        assert(equal(joined(half.data), data.subarray(0, size >> 1)), `half of ${size} bytes differs`);
        assertEquals((await alice.getattr(file)).size, BigInt(5 + size));
      }
    }
    const { count } = ok(await alice.write(file, 0n, longest));
    assertEquals(count, transferBytesMax);
    const args = { file, offset: 0n, count: transferBytesMax - 8, stable: stable_how.UNSTABLE };
    fails(await alice.call("WRITE", { ...args, data: [longest] }), nfsstat3.NFS3ERR_INVAL);
  });

  nfsTest({ subject, name: "WRITE anywhere, with holes that read as zeros" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    const model = new Uint8Array(300_000);
    let end = 0;
    for (
      const [offset, size] of [[100_000, 5], [0, 1], [4095, 2], [8000, 70_000], [77_990, 40], [299_999, 1], [
        150_000,
        0,
      ]]
    ) {
      const data = pattern(size, offset);
      ok(await alice.write(file, BigInt(offset), data));
      model.set(data, offset);
      if (size > 0) end = Math.max(end, offset + size);
    }
    assert(equal(await alice.contents(file), model.subarray(0, end)), "contents differ");
  });

  nfsTest({ subject, name: "a sparse file of 5 GiB" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    const offset = 5n * 2n ** 30n - 3n;
    ok(await alice.write(file, offset, bytes("end")));
    const read = ok(await alice.read(file, offset - 5n, 100));
    assertEquals([joined(read.data), read.eof], [bytes("\0\0\0\0\0end"), true]);
    const { size, used } = await alice.getattr(file);
    assertEquals(size, 5n * 2n ** 30n);
    assert(used < 2n ** 20n, `${used} bytes in use`);
  });

  nfsTest({ subject, name: "WRITE beyond what a file can hold" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f", "contents");
    for (const offset of [2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 8n, 2n ** 64n - 1n]) {
      const failed = fails(await alice.write(file, offset, bytes("01234567")), nfsstat3.NFS3ERR_FBIG);
      await checkWcc(failed.file_wcc, { as: alice, file, changed: false });
    }
    assertEquals(await alice.contents(file), bytes("contents"));
  });

  nfsTest({ subject, name: "WRITE whose count is not that of its data" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f", "contents");
    for (const count of [0, 3, 5, 0xffffffff]) {
      const args = { file, offset: 0n, count, stable: stable_how.FILE_SYNC, data: [bytes("data")] };
      const failed = fails(await alice.call("WRITE", args), nfsstat3.NFS3ERR_INVAL);
      await checkWcc(failed.file_wcc, { as: alice, file, changed: false });
    }
    assertEquals(await alice.contents(file), bytes("contents"));
  });

  nfsTest({ subject, name: "WRITE is as stable as was asked, COMMIT has its verifier" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    const verifiers: Uint8Array[] = [];
    for (const stable of [stable_how.UNSTABLE, stable_how.DATA_SYNC, stable_how.FILE_SYNC]) {
      const written = ok(await alice.write(file, BigInt(stable), bytes("x"), stable));
      assert(written.committed >= stable, `committed ${written.committed} where ${stable} was asked for`);
      verifiers.push(written.verf);
    }
    for (const [offset, count] of [[0n, 0], [0n, 3], [1n, 100], [2n ** 64n - 1n, 1], [2n ** 63n, 0]] as const) {
      const committed = ok(await alice.call("COMMIT", { file, offset, count }));
      await checkWcc(committed.file_wcc, { as: alice, file, changed: false });
      verifiers.push(committed.verf);
    }
    for (const verifier of verifiers) assertEquals(verifier, verifiers[0]);
  });

  nfsTest({ subject, name: "the write verifier is another one after a restart" }, async ({ alice, root, server }) => {
    const file = await alice.file(root, "f");
    const { verf } = ok(await alice.write(file, 0n, bytes("unstable"), stable_how.UNSTABLE));
    await server.restart({});
    const again = new Caller(await server.connect(), alice.credential);
    const committed = ok(await again.call("COMMIT", { file, offset: 0n, count: 0 }));
    assert(!equal(committed.verf, verf), "the verifier did not change");
    const rewritten = ok(await again.write(file, 0n, bytes("unstable"), stable_how.UNSTABLE));
    assertEquals(rewritten.verf, committed.verf);
  });

  nfsTest({ subject, name: "many WRITEs and READs at once" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    const parts = Array.from({ length: 40 }, (_, i) => pattern(10_007, i));
    await Promise.all(
      parts.map(async (part, i) => ok(await alice.write(file, BigInt(i * 10_007), part, stable_how.UNSTABLE))),
    );
    ok(await alice.call("COMMIT", { file, offset: 0n, count: 0 }));
    const read = await Promise.all(
      parts.map(async (_, i) => joined(ok(await alice.read(file, BigInt(i * 10_007), 10_007)).data)),
    );
    for (const [i, part] of parts.entries()) assert(equal(read[i], part), `part ${i} differs`);
  });

  nfsTest({ subject, name: "READ, WRITE and COMMIT are for regular files" }, async ({ alice, root }) => {
    const link = ok(await alice.symlink(root, "l", bytes("target"))).obj!;
    for (const [file, status] of [[root, nfsstat3.NFS3ERR_ISDIR], [link, nfsstat3.NFS3ERR_INVAL]] as const) {
      const read = fails(await alice.read(file, 0n, 10), status);
      await checkAttributes(read.file_attributes, { as: alice, file });
      const written = fails(await alice.write(file, 0n, bytes("x")), status);
      await checkWcc(written.file_wcc, { as: alice, file, changed: false });
      const committed = fails(await alice.call("COMMIT", { file, offset: 0n, count: 0 }), status);
      await checkWcc(committed.file_wcc, { as: alice, file, changed: false });
    }
  });
}

/** Bytes that tell where they belong. */
function pattern(length: number, seed = 0): Uint8Array {
  return new Uint8Array(length).map((_, i) => i * 7 + (i >> 8) * 13 + seed * 101);
}

/** As `assertEquals` would find, but fast. */
function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(b);
}
