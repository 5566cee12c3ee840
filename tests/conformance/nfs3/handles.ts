/**
 * Conformance: handles that are stale, forged, or of another server (RFC 1813 §2.5, §4.6), for every procedure.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { nfsstat3 } from "../../../storage/nfs/mod.ts";
import { argsWith, WITH_HANDLES } from "./every_procedure.ts";
import { bytes, Caller, callers, nfsTest, ok, type Subject } from "./subject.ts";

const REFUSED: readonly number[] = [nfsstat3.NFS3ERR_STALE, nfsstat3.NFS3ERR_BADHANDLE];

export function testHandles(subject: Subject): void {
  nfsTest(
    { subject, name: "the handle of a file that is gone is stale to every procedure" },
    async ({ alice, root }) => {
      const file = await alice.file(root, "f", "contents");
      const dir = await alice.directory(root, "d");
      ok(await alice.call("REMOVE", { object: { dir: root, name: bytes("f") } }));
      ok(await alice.call("RMDIR", { object: { dir: root, name: bytes("d") } }));
      for (const procedure of WITH_HANDLES) {
        const args = argsWith({ file, dir, name: bytes("x") });
        const { status } = await alice.call(procedure, args[procedure]) as { status: number };
        assertEquals(nfsstat3.nameOf(status), "NFS3ERR_STALE", procedure);
      }
      ok(await alice.create(root, "f"));
      const { status } = await alice.call("GETATTR", { object: file });
      assertEquals(nfsstat3.nameOf(status), "NFS3ERR_STALE", "a new file of the same name");
    },
  );

  nfsTest({ subject, name: "handles survive renames and a restart" }, async ({ alice, root, server }) => {
    const dir = await alice.directory(root, "d");
    const file = await alice.file(dir, "f", "contents");
    const before = await alice.getattr(file);
    ok(
      await alice.call("RENAME", { from: { dir, name: bytes("f") }, to: { dir: root, name: bytes("g") } }),
    );
    ok(await alice.call("RENAME", { from: { dir: root, name: bytes("d") }, to: { dir: root, name: bytes("e") } }));
    await server.restart({});
    const again = new Caller(await server.connect(), alice.credential);
    const after = await again.getattr(file);
    assertEquals([after.fileid, after.fsid, after.size], [before.fileid, before.fsid, before.size]);
    assertEquals(await again.contents(file), bytes("contents"));
    assertEquals(await again.mountPath("/"), root);
    assertEquals(await again.lookup(root, "g"), file);
    assertEquals(await again.names(dir), []);
  });

  nfsTest({ subject, name: "a handle that was changed in any byte is refused" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f", "contents");
    for (let i = 0; i < file.byteLength; i++) {
      for (const bit of [0x01, 0x80]) {
        const forged = file.slice();
        forged[i] ^= bit;
        await refusedByAll(alice, forged, `byte ${i} changed`);
      }
    }
    assertEquals(await alice.contents(file), bytes("contents"));
  });

  nfsTest({ subject, name: "handles of every length that mean nothing are refused" }, async ({ alice, root }) => {
    for (let length = 0; length <= 64; length++) {
      await refusedByAll(alice, crypto.getRandomValues(new Uint8Array(length)), `${length} random bytes`);
      await refusedByAll(alice, new Uint8Array(length), `${length} zeros`);
      if (length !== root.byteLength) {
        const resized = new Uint8Array(length);
        resized.set(root.subarray(0, length));
        await refusedByAll(alice, resized, `${length} bytes of the root's handle`);
      }
    }
  });

  nfsTest({ subject, name: "a handle of another server's is refused" }, async ({ alice }) => {
    await using other = await subject.open({});
    const { root, superuser } = await callers(other);
    const file = await superuser.file(root, "f", "contents");
    await refusedByAll(alice, root, "the other one's root");
    await refusedByAll(alice, file, "the other one's file");
    assertEquals(await superuser.contents(file), bytes("contents"));
  });
}

/** Every procedure says NFS3ERR_BADHANDLE or NFS3ERR_STALE, and no attributes come with it. */
async function refusedByAll(caller: Caller, handle: Uint8Array, what: string): Promise<void> {
  for (const procedure of WITH_HANDLES) {
    const args = argsWith({ file: handle, name: bytes("x") });
    const result = await caller.call(procedure, args[procedure]) as { status: number; value?: Record<string, unknown> };
    assert(REFUSED.includes(result.status), `${procedure} with ${what}: ${nfsstat3.nameOf(result.status)}`);
    for (const [name, value] of Object.entries(result.value ?? {})) {
      const isEmpty = value === undefined || Object.values(value as object).every((side) => side === undefined);
      assert(isEmpty, `${procedure} with ${what} came with ${name}`);
    }
  }
}
