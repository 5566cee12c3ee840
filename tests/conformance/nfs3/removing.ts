/**
 * Conformance: REMOVE, RMDIR, RENAME, LINK (RFC 1813 §3.3.12 to §3.3.15).
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { type NfsFailure, nfsstat3 } from "../../../storage/nfs/mod.ts";
import { bytes, type Caller, checkAttributes, checkWcc, fails, nfsTest, ok, type Subject } from "./subject.ts";

function at(dir: Uint8Array, name: string): { dir: Uint8Array; name: Uint8Array } {
  return { dir, name: bytes(name) };
}

export function testRemoving(subject: Subject): void {
  nfsTest({ subject, name: "REMOVE takes a name away, and the file with its last one" }, async ({ alice, root }) => {
    const file = await alice.file(root, "a", "contents");
    ok(await alice.call("LINK", { file, link: at(root, "b") }));
    const removed = ok(await alice.call("REMOVE", { object: at(root, "a") }));
    await checkWcc(removed.dir_wcc, { as: alice, file: root, changed: true });
    assertEquals(await alice.contents(file), bytes("contents"));
    assertEquals((await alice.getattr(file)).nlink, 1);
    ok(await alice.call("REMOVE", { object: at(root, "b") }));
    fails(await alice.call("GETATTR", { object: file }), nfsstat3.NFS3ERR_STALE);
    const failed = fails(await alice.call("REMOVE", { object: at(root, "b") }), nfsstat3.NFS3ERR_NOENT);
    await checkWcc(failed.dir_wcc, { as: alice, file: root, changed: false });
  });

  nfsTest({ subject, name: "REMOVE takes a symbolic link, not what it leads to" }, async ({ alice, root }) => {
    await alice.file(root, "f");
    ok(await alice.symlink(root, "l", bytes("f")));
    ok(await alice.call("REMOVE", { object: at(root, "l") }));
    assertEquals(await alice.names(root), ["f"]);
  });

  nfsTest({ subject, name: "REMOVE is not for directories, RMDIR for nothing else" }, async ({ alice, root }) => {
    const directory = await alice.directory(root, "d");
    await alice.file(root, "f");
    fails(await alice.call("REMOVE", { object: at(root, "d") }), nfsstat3.NFS3ERR_ISDIR);
    fails(await alice.call("RMDIR", { object: at(root, "f") }), nfsstat3.NFS3ERR_NOTDIR);
    fails(await alice.call("RMDIR", { object: at(root, "nothing") }), nfsstat3.NFS3ERR_NOENT);
    await alice.file(directory, "x");
    const failed = fails(await alice.call("RMDIR", { object: at(root, "d") }), nfsstat3.NFS3ERR_NOTEMPTY);
    await checkWcc(failed.dir_wcc, { as: alice, file: root, changed: false });
    ok(await alice.call("REMOVE", { object: at(directory, "x") }));
    const removed = ok(await alice.call("RMDIR", { object: at(root, "d") }));
    await checkWcc(removed.dir_wcc, { as: alice, file: root, changed: true });
    fails(await alice.call("GETATTR", { object: directory }), nfsstat3.NFS3ERR_STALE);
    fails(await alice.create(directory, "x"), nfsstat3.NFS3ERR_STALE);
  });

  nfsTest({ subject, name: "RENAME within a directory and into another one" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f", "contents");
    const directory = await alice.directory(root, "d");
    const within = ok(await alice.call("RENAME", { from: at(root, "f"), to: at(root, "g") }));
    await checkWcc(within.fromdir_wcc, { as: alice, file: root, changed: true });
    await checkWcc(within.todir_wcc, { as: alice, file: root, changed: true });
    assertEquals(await alice.lookup(root, "g"), file);
    const across = ok(await alice.call("RENAME", { from: at(root, "g"), to: at(directory, "h") }));
    await checkWcc(across.fromdir_wcc, { as: alice, file: root, changed: true });
    await checkWcc(across.todir_wcc, { as: alice, file: directory, changed: true });
    assertEquals(await alice.lookup(directory, "h"), file);
    assertEquals(await alice.contents(file), bytes("contents"));
    assertEquals(await alice.names(root), ["d"]);
  });

  nfsTest({ subject, name: "RENAME of a directory takes along what is in it" }, async ({ alice, root }) => {
    const a = await alice.directory(root, "a");
    const b = await alice.directory(root, "b");
    const moved = await alice.directory(a, "moved");
    const file = await alice.file(moved, "f");
    ok(await alice.call("RENAME", { from: at(a, "moved"), to: at(b, "here") }));
    assertEquals(await alice.lookup(moved, ".."), b);
    assertEquals(await alice.lookup(moved, "f"), file);
    const links = [(await alice.getattr(a)).nlink, (await alice.getattr(b)).nlink];
    // Some file systems (btrfs) do not count directories, and say 1.
    assertEquals(links, links[0] === 1 ? [1, 1] : [2, 3]);
  });

  nfsTest({ subject, name: "RENAME over what is there" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f", "new");
    const replaced = await alice.file(root, "g", "old");
    ok(await alice.call("RENAME", { from: at(root, "f"), to: at(root, "g") }));
    assertEquals(await alice.lookup(root, "g"), file);
    fails(await alice.call("GETATTR", { object: replaced }), nfsstat3.NFS3ERR_STALE);
    ok(await alice.call("LINK", { file, link: at(root, "same") }));
    ok(await alice.call("RENAME", { from: at(root, "same"), to: at(root, "g") }));
    assertEquals(await alice.names(root), ["g", "same"]);
    const directory = await alice.directory(root, "d");
    const empty = await alice.directory(root, "empty");
    ok(await alice.call("RENAME", { from: at(root, "d"), to: at(root, "empty") }));
    assertEquals(await alice.lookup(root, "empty"), directory);
    fails(await alice.call("GETATTR", { object: empty }), nfsstat3.NFS3ERR_STALE);
  });

  nfsTest({ subject, name: "RENAME that cannot be" }, async ({ alice, root }) => {
    await alice.file(root, "f");
    const full = await alice.directory(root, "full");
    const inner = await alice.directory(full, "inner");
    const refused = async (
      from: { dir: Uint8Array; name: Uint8Array },
      to: { dir: Uint8Array; name: Uint8Array },
      status: NfsFailure,
    ): Promise<void> => {
      const failed = fails(await alice.call("RENAME", { from, to }), status);
      await checkWcc(failed.fromdir_wcc, { as: alice, file: from.dir, changed: false });
      await checkWcc(failed.todir_wcc, { as: alice, file: to.dir, changed: false });
    };
    await refused(at(root, "nothing"), at(root, "f"), nfsstat3.NFS3ERR_NOENT);
    await refused(at(root, "f"), at(root, "full"), nfsstat3.NFS3ERR_ISDIR);
    await refused(at(root, "full"), at(root, "f"), nfsstat3.NFS3ERR_NOTDIR);
    await alice.directory(root, "d");
    await refused(at(root, "d"), at(root, "full"), nfsstat3.NFS3ERR_NOTEMPTY);
    // a directory that moves has its ".." written, which takes a right that is asked for first
    const elsewhere = await alice.directory(root, "e");
    ok(await alice.setattr(await alice.directory(elsewhere, "locked"), { mode: 0o555 }));
    await refused(at(elsewhere, "locked"), at(root, "full"), nfsstat3.NFS3ERR_ACCES);
    await refused(at(root, "full"), at(inner, "x"), nfsstat3.NFS3ERR_INVAL);
    const file = await alice.lookup(root, "f");
    fails(await alice.call("RENAME", { from: at(root, "d"), to: at(file, "x") }), nfsstat3.NFS3ERR_NOTDIR);
    fails(await alice.call("RENAME", { from: at(file, "x"), to: at(root, "y") }), nfsstat3.NFS3ERR_NOTDIR);
    assertEquals(await alice.names(root), ["d", "e", "f", "full"]);
  });

  nfsTest({ subject, name: "LINK gives a file another name" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f", "contents");
    const linked = ok(await alice.call("LINK", { file, link: at(root, "g") }));
    await checkWcc(linked.linkdir_wcc, { as: alice, file: root, changed: true });
    await checkAttributes(linked.file_attributes, { as: alice, file });
    assertEquals(linked.file_attributes!.nlink, 2);
    const { fileid } = await alice.getattr(await alice.lookup(root, "g"));
    assertEquals(fileid, linked.file_attributes!.fileid);
    const failed = fails(await alice.call("LINK", { file, link: at(root, "g") }), nfsstat3.NFS3ERR_EXIST);
    await checkWcc(failed.linkdir_wcc, { as: alice, file: root, changed: false });
    await checkAttributes(failed.file_attributes, { as: alice, file });
  });

  nfsTest(
    { subject, name: "LINK: not of directories, not in files; of symbolic links themselves" },
    async ({ alice, root }) => {
      const directory = await alice.directory(root, "d");
      const file = await alice.file(root, "f");
      fails(await alice.call("LINK", { file: directory, link: at(root, "x") }), nfsstat3.NFS3ERR_PERM);
      fails(await alice.call("LINK", { file, link: at(file, "x") }), nfsstat3.NFS3ERR_NOTDIR);
      const { obj } = ok(await alice.symlink(root, "l", bytes("target")));
      ok(await alice.call("LINK", { file: obj!, link: at(root, "m") }));
      assertEquals((await alice.getattr(obj!)).nlink, 2);
    },
  );

  if (subject.enforcesCredentials) testRights(subject);
}

/** Who may do what, where the server tells callers apart. */
function testRights(subject: Subject): void {
  nfsTest({ subject, name: "nothing is taken from another one's directory" }, async ({ alice, bob, root }) => {
    const directory = await alice.directory(root, "d");
    const file = await alice.file(directory, "f");
    // A file that one may not write cannot be linked to either, where the kernel protects hard links.
    ok(await alice.setattr(file, { mode: 0o666 }));
    await alice.directory(directory, "e");
    const all = async (caller: Caller, dir: Uint8Array): Promise<void> => {
      fails(await caller.call("REMOVE", { object: at(dir, "f") }), nfsstat3.NFS3ERR_ACCES);
      fails(await caller.call("RMDIR", { object: at(dir, "e") }), nfsstat3.NFS3ERR_ACCES);
      fails(await caller.call("RENAME", { from: at(dir, "f"), to: at(root, "x") }), nfsstat3.NFS3ERR_ACCES);
      fails(await caller.call("LINK", { file, link: at(dir, "g") }), nfsstat3.NFS3ERR_ACCES);
    };
    await all(bob, directory);
    assertEquals(await alice.names(directory), ["e", "f"]);
  });

  nfsTest({ subject, name: "a sticky directory keeps what others own" }, async ({ alice, bob, superuser, root }) => {
    ok(await superuser.setattr(root, { mode: 0o1777 }));
    await alice.file(root, "f");
    await bob.file(root, "g");
    fails(await bob.call("REMOVE", { object: at(root, "f") }), nfsstat3.NFS3ERR_PERM);
    fails(await bob.call("RENAME", { from: at(root, "g"), to: at(root, "f") }), nfsstat3.NFS3ERR_PERM);
    ok(await alice.call("REMOVE", { object: at(root, "f") }));
  });
}
