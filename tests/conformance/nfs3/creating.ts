/**
 * Conformance: CREATE, MKDIR, SYMLINK, READLINK, MKNOD (RFC 1813 §3.3.5, §3.3.8 to §3.3.11).
 *
 * @module
 */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { createmode3, ftype3, type MKNOD3args, nfsstat3, time_how } from "../../../storage/nfs/mod.ts";
import { bytes, checkAttributes, checkWcc, fails, joined, nfsTest, NO_CHANGES, ok, type Subject } from "./subject.ts";

export function testCreating(subject: Subject): void {
  nfsTest({ subject, name: "CREATE makes a file with the attributes asked for" }, async ({ alice, root }) => {
    const time = { set_it: time_how.SET_TO_CLIENT_TIME, value: { seconds: 77, nseconds: 5 } };
    const made = ok(await alice.create(root, "f", { mode: 0o640, size: 5n, mtime: time }));
    await checkAttributes(made.obj_attributes, { as: alice, file: made.obj! });
    await checkWcc(made.dir_wcc, { as: alice, file: root, changed: true });
    const { type, mode, size, mtime } = made.obj_attributes!;
    assertEquals([type, mode & 0o7777, size, mtime], [ftype3.NF3REG, 0o640, 5n, time.value]);
    assertEquals(await alice.lookup(root, "f"), made.obj!);
  });

  nfsTest({ subject, name: "CREATE of a name that is there: guarded, unchecked" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f", "contents");
    const failed = fails(await alice.create(root, "f"), nfsstat3.NFS3ERR_EXIST);
    await checkWcc(failed.dir_wcc, { as: alice, file: root, changed: false });
    const unchecked = async (size?: bigint) =>
      ok(
        await alice.call("CREATE", {
          where: { dir: root, name: bytes("f") },
          how: { mode: createmode3.UNCHECKED, value: { ...NO_CHANGES, size } },
        }),
      );
    assertEquals((await unchecked()).obj, file);
    assertEquals(await alice.contents(file), bytes("contents"));
    assertEquals((await unchecked(0n)).obj_attributes!.size, 0n);
    assertEquals((await alice.getattr(file)).size, 0n);
  });

  nfsTest({ subject, name: "CREATE, unchecked, makes what is not there" }, async ({ alice, root }) => {
    const how = { mode: createmode3.UNCHECKED, value: { ...NO_CHANGES, mode: 0o600 } } as const;
    const made = ok(await alice.call("CREATE", { where: { dir: root, name: bytes("f") }, how }));
    assertEquals(made.obj_attributes!.mode & 0o7777, 0o600);
  });

  nfsTest({ subject, name: "CREATE takes no directory for a file" }, async ({ alice, root }) => {
    await alice.directory(root, "d");
    for (const mode of [createmode3.UNCHECKED, createmode3.GUARDED] as const) {
      const how = { mode, value: { ...NO_CHANGES, size: 0n } };
      fails(await alice.call("CREATE", { where: { dir: root, name: bytes("d") }, how }), nfsstat3.NFS3ERR_EXIST);
    }
  });

  nfsTest({ subject, name: "CREATE, exclusive: once for each verifier" }, async ({ alice, root }) => {
    const create = (verifier: Uint8Array) =>
      alice.call("CREATE", {
        where: { dir: root, name: bytes("f") },
        how: { mode: createmode3.EXCLUSIVE, value: verifier },
      });
    const made = ok(await create(bytes("verifier")));
    await checkWcc(made.dir_wcc, { as: alice, file: root, changed: true });
    const again = ok(await create(bytes("verifier")));
    assertEquals(again.obj, made.obj);
    const failed = fails(await create(bytes("verifieR")), nfsstat3.NFS3ERR_EXIST);
    await checkWcc(failed.dir_wcc, { as: alice, file: root, changed: false });
    fails(await create(bytes("Verifier")), nfsstat3.NFS3ERR_EXIST);
    // The client goes on to set times and mode, after which the verifier is used up.
    ok(await alice.setattr(made.obj!, { mode: 0o644, atime: { set_it: 1 }, mtime: { set_it: 1 } }));
    fails(await create(bytes("verifier")), nfsstat3.NFS3ERR_EXIST);
    assert((await alice.getattr(made.obj!)).mtime.seconds > 1_600_000_000);
  });

  nfsTest({ subject, name: "MKDIR makes a directory that counts in its parent" }, async ({ alice, root }) => {
    const before = await alice.getattr(root);
    const made = ok(await alice.mkdir(root, "d", { mode: 0o750, size: 99n }));
    await checkAttributes(made.obj_attributes, { as: alice, file: made.obj! });
    await checkWcc(made.dir_wcc, { as: alice, file: root, changed: true });
    assertEquals([made.obj_attributes!.type, made.obj_attributes!.mode & 0o7777], [ftype3.NF3DIR, 0o750]);
    // Some file systems (btrfs) do not count directories, and say 1.
    assertEquals((await alice.getattr(root)).nlink, before.nlink === 1 ? 1 : before.nlink + 1);
    assertEquals(await alice.lookup(made.obj!, ".."), root);
    const failed = fails(await alice.mkdir(root, "d"), nfsstat3.NFS3ERR_EXIST);
    await checkWcc(failed.dir_wcc, { as: alice, file: root, changed: false });
  });

  nfsTest({ subject, name: "SYMLINK keeps its path, whatever it is" }, async ({ alice, root }) => {
    const targets = ["t", "../../outside", "/etc/passwd", "a//b/./c/", "x".repeat(1000), "y".repeat(4095)];
    for (const [i, target] of [...targets.map(bytes), Uint8Array.of(0xff, 0xfe, 0x80)].entries()) {
      const made = ok(await alice.symlink(root, `l${i}`, target));
      await checkAttributes(made.obj_attributes, { as: alice, file: made.obj! });
      await checkWcc(made.dir_wcc, { as: alice, file: root, changed: true });
      assertEquals([made.obj_attributes!.type, made.obj_attributes!.size], [ftype3.NF3LNK, BigInt(target.byteLength)]);
      const read = ok(await alice.readlink(made.obj!));
      assertEquals(joined(read.data), target);
      await checkAttributes(read.symlink_attributes, { as: alice, file: made.obj! });
    }
  });

  nfsTest({ subject, name: "SYMLINK with paths that are none" }, async ({ alice, root }) => {
    fails(await alice.symlink(root, "l", bytes("")), nfsstat3.NFS3ERR_NOENT);
    fails(await alice.symlink(root, "l", bytes("a\0b")), nfsstat3.NFS3ERR_INVAL);
    fails(await alice.symlink(root, "l", bytes("x".repeat(4096))), nfsstat3.NFS3ERR_NAMETOOLONG);
    await alice.file(root, "f");
    const failed = fails(await alice.symlink(root, "f", bytes("t")), nfsstat3.NFS3ERR_EXIST);
    await checkWcc(failed.dir_wcc, { as: alice, file: root, changed: false });
    assertEquals(await alice.names(root), ["f"]);
  });

  nfsTest({ subject, name: "READLINK is for symbolic links" }, async ({ alice, root }) => {
    for (const symlink of [root, await alice.file(root, "f")]) {
      const failed = fails(await alice.readlink(symlink), nfsstat3.NFS3ERR_INVAL);
      await checkAttributes(failed.symlink_attributes, { as: alice, file: symlink });
    }
  });

  nfsTest({ subject, name: "no symbolic link is followed on the server" }, async ({ alice, root }) => {
    ok(await alice.symlink(root, "up", bytes("../..")));
    const link = await alice.lookup(root, "up");
    assertEquals((await alice.getattr(link)).type, ftype3.NF3LNK);
    fails(
      await alice.call("LOOKUP", { what: { dir: link, name: bytes("etc") } }),
      nfsstat3.NFS3ERR_NOTDIR,
    );
    fails(await alice.create(link, "f"), nfsstat3.NFS3ERR_NOTDIR);
  });

  nfsTest({ subject, name: "MKNOD makes pipes and sockets" }, async ({ alice, root }) => {
    for (const [name, type] of [["p", ftype3.NF3FIFO], ["s", ftype3.NF3SOCK]] as const) {
      const what = { type, value: { ...NO_CHANGES, mode: 0o620 } };
      const made = ok(await alice.call("MKNOD", { where: { dir: root, name: bytes(name) }, what }));
      await checkAttributes(made.obj_attributes, { as: alice, file: made.obj! });
      await checkWcc(made.dir_wcc, { as: alice, file: root, changed: true });
      assertEquals([made.obj_attributes!.type, made.obj_attributes!.mode & 0o7777], [type, 0o620]);
      fails(await alice.read(made.obj!, 0n, 1), nfsstat3.NFS3ERR_INVAL);
      fails(await alice.write(made.obj!, 0n, bytes("x")), nfsstat3.NFS3ERR_INVAL);
    }
  });

  nfsTest({ subject, name: "MKNOD makes none of what other procedures make" }, async ({ alice, root }) => {
    for (const type of [ftype3.NF3REG, ftype3.NF3DIR, ftype3.NF3LNK] as const) {
      const args: MKNOD3args = { where: { dir: root, name: bytes("x") }, what: { type } };
      const failed = fails(await alice.call("MKNOD", args), nfsstat3.NFS3ERR_BADTYPE);
      await checkWcc(failed.dir_wcc, { as: alice, file: root, changed: false });
    }
  });

  nfsTest({ subject, name: "nothing is made in what is not a directory" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    const failed = fails(await alice.create(file, "x"), nfsstat3.NFS3ERR_NOTDIR);
    await checkWcc(failed.dir_wcc, { as: alice, file, changed: false });
    fails(await alice.mkdir(file, "x"), nfsstat3.NFS3ERR_NOTDIR);
    fails(await alice.symlink(file, "x", bytes("t")), nfsstat3.NFS3ERR_NOTDIR);
    const what = { type: ftype3.NF3FIFO, value: NO_CHANGES };
    fails(await alice.call("MKNOD", { where: { dir: file, name: bytes("x") }, what }), nfsstat3.NFS3ERR_NOTDIR);
  });

  if (subject.enforcesCredentials) testRights(subject);
}

/** Who may do what, where the server tells callers apart. */
function testRights(subject: Subject): void {
  nfsTest({ subject, name: "nothing is made in another one's directory" }, async ({ alice, bob, root }) => {
    const directory = await alice.directory(root, "d");
    const failed = fails(await bob.create(directory, "f"), nfsstat3.NFS3ERR_ACCES);
    await checkWcc(failed.dir_wcc, { as: alice, file: directory, changed: false });
    fails(await bob.mkdir(directory, "x"), nfsstat3.NFS3ERR_ACCES);
    fails(await bob.symlink(directory, "x", bytes("t")), nfsstat3.NFS3ERR_ACCES);
  });

  nfsTest(
    { subject, name: "CREATE, unchecked, cuts no file that may not be written" },
    async ({ alice, bob, root }) => {
      const file = await alice.file(root, "f", "contents");
      const how = { mode: createmode3.UNCHECKED, value: { ...NO_CHANGES, size: 0n } } as const;
      fails(await bob.call("CREATE", { where: { dir: root, name: bytes("f") }, how }), nfsstat3.NFS3ERR_ACCES);
      assertEquals((await alice.getattr(file)).size, 8n);
    },
  );

  nfsTest({ subject, name: "MKNOD: devices are the superuser's" }, async ({ alice, superuser, root }) => {
    const device = (type: typeof ftype3.NF3BLK | typeof ftype3.NF3CHR, name: string): MKNOD3args => {
      const value = { dev_attributes: { ...NO_CHANGES, mode: 0o600 }, spec: { specdata1: 1, specdata2: 3 } };
      return { where: { dir: root, name: bytes(name) }, what: { type, value } };
    };
    fails(await alice.call("MKNOD", device(ftype3.NF3CHR, "null")), nfsstat3.NFS3ERR_PERM);
    const made = ok(await superuser.call("MKNOD", device(ftype3.NF3CHR, "null")));
    assertEquals(made.obj_attributes!.rdev, { specdata1: 1, specdata2: 3 });
    assertEquals(made.obj_attributes!.type, ftype3.NF3CHR);
    // It stands in the tree; nobody gets at the device through the server.
    fails(await superuser.read(made.obj!, 0n, 1), nfsstat3.NFS3ERR_INVAL);
    fails(await superuser.write(made.obj!, 0n, bytes("x")), nfsstat3.NFS3ERR_INVAL);
    assertNotEquals(ok(await superuser.call("MKNOD", device(ftype3.NF3BLK, "disk"))).obj, made.obj);
  });
}
