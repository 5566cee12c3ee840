/**
 * Conformance: GETATTR, SETATTR, ACCESS (RFC 1813 §3.3.1, §3.3.2, §3.3.4).
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  ACCESS3_DELETE,
  ACCESS3_EXECUTE,
  ACCESS3_EXTEND,
  ACCESS3_LOOKUP,
  ACCESS3_MODIFY,
  ACCESS3_READ,
  ftype3,
  nfsstat3,
  time_how,
} from "../../../storage/nfs/mod.ts";
import { bytes, checkAttributes, checkWcc, fails, nfsTest, NO_CHANGES, ok, type Subject } from "./subject.ts";

const ALL_ACCESS = ACCESS3_READ | ACCESS3_LOOKUP | ACCESS3_MODIFY | ACCESS3_EXTEND | ACCESS3_DELETE | ACCESS3_EXECUTE;

export function testAttributes(subject: Subject): void {
  nfsTest({ subject, name: "GETATTR tells what SETATTR set" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f", "0123456789");
    const before = await alice.getattr(file);
    assertEquals([before.type, before.size, before.nlink], [ftype3.NF3REG, 10n, 1]);
    const atime = { seconds: 1_000_000_000, nseconds: 123_456_789 };
    const mtime = { seconds: 2_000_000_000, nseconds: 987_654_321 };
    const set = ok(
      await alice.setattr(file, {
        mode: 0o600,
        atime: { set_it: time_how.SET_TO_CLIENT_TIME, value: atime },
        mtime: { set_it: time_how.SET_TO_CLIENT_TIME, value: mtime },
      }),
    );
    await checkWcc(set.obj_wcc, { as: alice, file, changed: true });
    const after = await alice.getattr(file);
    assertEquals([after.mode & 0o7777, after.atime, after.mtime], [0o600, atime, mtime]);
    assertNotEquals([set.obj_wcc.before!.mtime], [mtime]);
    assertEquals([after.fileid, after.fsid, after.uid], [before.fileid, before.fsid, before.uid]);
  });

  nfsTest({ subject, name: "GETATTR tells directories from files, and counts links" }, async ({ alice, root }) => {
    assertEquals((await alice.getattr(root)).type, ftype3.NF3DIR);
    const file = await alice.file(root, "f");
    ok(await alice.call("LINK", { file, link: { dir: root, name: new Uint8Array([0x67]) } }));
    assertEquals((await alice.getattr(file)).nlink, 2);
  });

  nfsTest({ subject, name: "SETATTR cuts a file and makes it longer by a hole" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f", "0123456789");
    ok(await alice.setattr(file, { size: 4n }));
    ok(await alice.setattr(file, { size: 6n }));
    assertEquals(await alice.contents(file), new Uint8Array([0x30, 0x31, 0x32, 0x33, 0, 0]));
    ok(await alice.setattr(file, { size: 5n * 2n ** 30n }));
    const attributes = await alice.getattr(file);
    assertEquals(attributes.size, 5n * 2n ** 30n);
    assert(attributes.used < 2n ** 20n, `${attributes.used} bytes in use for a hole`);
  });

  nfsTest({ subject, name: "SETATTR: sizes that no file can have" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f", "contents");
    for (const size of [2n ** 63n, 2n ** 64n - 1n]) {
      const failed = fails(await alice.setattr(file, { size }), nfsstat3.NFS3ERR_FBIG);
      await checkWcc(failed.obj_wcc, { as: alice, file, changed: false });
    }
    assertEquals((await alice.getattr(file)).size, 8n);
    const directory = await alice.directory(root, "d");
    fails(await alice.setattr(directory, { size: 0n }), nfsstat3.NFS3ERR_ISDIR);
  });

  nfsTest({ subject, name: "SETATTR: the server's own time" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    const old = { set_it: time_how.SET_TO_CLIENT_TIME, value: { seconds: 5, nseconds: 0 } };
    ok(await alice.setattr(file, { atime: old, mtime: old }));
    ok(await alice.setattr(file, { mtime: { set_it: time_how.SET_TO_SERVER_TIME } }));
    const attributes = await alice.getattr(file);
    assertEquals(attributes.atime.seconds, 5);
    assert(attributes.mtime.seconds > 1_600_000_000);
  });

  nfsTest(
    { subject, name: "SETATTR: a time with a second's worth of nanoseconds is invalid" },
    async ({ alice, root }) => {
      const file = await alice.file(root, "f");
      const value = { seconds: 1, nseconds: 1_000_000_000 };
      const failed = await alice.setattr(file, { mtime: { set_it: time_how.SET_TO_CLIENT_TIME, value } });
      await checkWcc(fails(failed, nfsstat3.NFS3ERR_INVAL).obj_wcc, { as: alice, file, changed: false });
    },
  );

  nfsTest({ subject, name: "SETATTR: the guard" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    const { ctime } = await alice.getattr(file);
    const guarded = (mode: number, guard: typeof ctime) =>
      alice.call("SETATTR", { object: file, new_attributes: { ...NO_CHANGES, mode }, guard });
    const other = { ...ctime, seconds: ctime.seconds - 1 };
    const failed = fails(await guarded(0o600, other), nfsstat3.NFS3ERR_NOT_SYNC);
    await checkWcc(failed.obj_wcc, { as: alice, file, changed: false });
    ok(await guarded(0o640, ctime));
    assertEquals((await alice.getattr(file)).mode & 0o7777, 0o640);
    fails(await guarded(0o600, { seconds: 0, nseconds: 2_000_000_000 }), nfsstat3.NFS3ERR_INVAL);
  });

  nfsTest({ subject, name: "SETATTR: an id that is nobody's is invalid" }, async ({ superuser, root }) => {
    const file = await superuser.file(root, "f");
    fails(await superuser.setattr(file, { uid: 0xffffffff }), nfsstat3.NFS3ERR_INVAL);
    fails(await superuser.setattr(file, { gid: 0xffffffff }), nfsstat3.NFS3ERR_INVAL);
  });

  nfsTest({ subject, name: "ACCESS answers what was asked and no more" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    const granted = async (object: Uint8Array, access: number): Promise<number> => {
      const answer = ok(await alice.call("ACCESS", { object, access }));
      await checkAttributes(answer.obj_attributes, { as: alice, file: object });
      return answer.access;
    };
    assertEquals(await granted(root, ALL_ACCESS), ALL_ACCESS & ~ACCESS3_EXECUTE);
    assertEquals(await granted(root, ACCESS3_LOOKUP), ACCESS3_LOOKUP);
    assertEquals(await granted(file, ALL_ACCESS), ACCESS3_READ | ACCESS3_MODIFY | ACCESS3_EXTEND);
    ok(await alice.setattr(file, { mode: 0o755 }));
    assertEquals(await granted(file, ALL_ACCESS), ACCESS3_READ | ACCESS3_MODIFY | ACCESS3_EXTEND | ACCESS3_EXECUTE);
    assertEquals(await granted(file, 0), 0);
    assertEquals(await granted(file, 0xffffffff) & ~ALL_ACCESS, 0);
  });

  nfsTest({ subject, name: "the owner of a file may read and write it whatever its mode" }, async ({ alice, root }) => {
    // There is no open in NFSv3: who created a file read-only still holds it open for writing (RFC 1813 §4.4).
    const { obj } = ok(await alice.create(root, "f", { mode: 0o444 }));
    ok(await alice.write(obj!, 0n, bytes("written")));
    ok(await alice.setattr(obj!, { mode: 0 }));
    ok(await alice.write(obj!, 7n, bytes(" twice")));
    ok(await alice.call("COMMIT", { file: obj!, offset: 0n, count: 0 }));
    assertEquals(await alice.contents(obj!), bytes("written twice"));
    ok(await alice.setattr(obj!, { size: 3n }));
    assertEquals((await alice.getattr(obj!)).size, 3n);
  });

  if (subject.enforcesCredentials) testRights(subject);
}

/** Who may do what, where the server tells callers apart. */
function testRights(subject: Subject): void {
  nfsTest({ subject, name: "SETATTR is the owner's" }, async ({ alice, bob, superuser, root }) => {
    const file = await alice.file(root, "f", "contents");
    for (const changes of [{ mode: 0o777 }, { uid: 1001 }, { gid: 51 }]) {
      const failed = fails(await bob.setattr(file, changes), nfsstat3.NFS3ERR_PERM);
      await checkWcc(failed.obj_wcc, { as: bob, file, changed: false });
    }
    fails(await bob.setattr(file, { size: 0n }), nfsstat3.NFS3ERR_ACCES);
    const now = { set_it: time_how.SET_TO_SERVER_TIME };
    fails(await bob.setattr(file, { atime: now, mtime: now }), nfsstat3.NFS3ERR_ACCES);
    fails(await alice.setattr(file, { uid: 1001 }), nfsstat3.NFS3ERR_PERM);
    ok(await alice.setattr(file, { gid: 50 }));
    ok(await superuser.setattr(file, { uid: 1001, gid: 51 }));
    const { uid, gid, size } = await bob.getattr(file);
    assertEquals([uid, gid, size], [1001, 51, 8n]);
  });

  nfsTest(
    { subject, name: "ACCESS, READ and WRITE by owner, group and others" },
    async ({ alice, bob, nobody, root }) => {
      const file = await alice.file(root, "f", "contents");
      ok(await alice.setattr(file, { mode: 0o640, gid: 50 }));
      const access = async (caller: typeof alice): Promise<number> =>
        ok(await caller.call("ACCESS", { object: file, access: ALL_ACCESS })).access;
      assertEquals(await access(alice), ACCESS3_READ | ACCESS3_MODIFY | ACCESS3_EXTEND);
      assertEquals(await access(bob), ACCESS3_READ);
      assertEquals(await access(nobody), 0);
      ok(await bob.read(file, 0n, 10));
      const failed = fails(await nobody.read(file, 0n, 10), nfsstat3.NFS3ERR_ACCES);
      await checkAttributes(failed.file_attributes, { as: alice, file });
      const refused = fails(await bob.write(file, 0n, new Uint8Array(3)), nfsstat3.NFS3ERR_ACCES);
      await checkWcc(refused.file_wcc, { as: alice, file, changed: false });
      fails(await nobody.call("COMMIT", { file, offset: 0n, count: 0 }), nfsstat3.NFS3ERR_ACCES);
    },
  );

  nfsTest({ subject, name: "who may execute a file may read it" }, async ({ alice, bob, root }) => {
    const file = await alice.file(root, "f", "a program");
    ok(await alice.setattr(file, { mode: 0o711 }));
    assertEquals(await bob.contents(file), bytes("a program"));
    fails(await bob.write(file, 0n, bytes("x")), nfsstat3.NFS3ERR_ACCES);
    ok(await alice.setattr(file, { mode: 0o700 }));
    fails(await bob.read(file, 0n, 10), nfsstat3.NFS3ERR_ACCES);
  });

  nfsTest({ subject, name: "files belong to who made them" }, async ({ alice, bob, nobody, root }) => {
    const made = async (caller: typeof alice, name: string): Promise<number[]> => {
      const { uid, gid } = await caller.getattr(await caller.file(root, name));
      return [uid, gid];
    };
    assertEquals(await made(alice, "a"), [1000, 1000]);
    assertEquals(await made(bob, "b"), [1001, 1001]);
    assertEquals(await made(nobody, "n"), [65534, 65534]);
  });
}
