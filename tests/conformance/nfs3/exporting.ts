/**
 * Conformance: the terms of an export: read-only, root squash, a path of its own.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { encodeAuthSys } from "../../../rpc/mod.ts";
import {
  ACCESS3_DELETE,
  ACCESS3_EXTEND,
  ACCESS3_LOOKUP,
  ACCESS3_MODIFY,
  ACCESS3_READ,
  MOUNT3,
  mountstat3,
  nfsstat3,
  type wcc_data,
} from "../../../storage/nfs/mod.ts";
import { argsWith, CHANGING } from "./every_procedure.ts";
import { bytes, Caller, callers, checkWcc, fails, nfsTest, ok, type Subject } from "./subject.ts";

export function testExporting(subject: Subject): void {
  nfsTest({ subject, name: "a read-only export changes nothing, and says so with attributes" }, async (fixture) => {
    const { superuser, root, server } = fixture;
    const file = await superuser.file(root, "f", "contents");
    const dir = await superuser.directory(root, "d");
    ok(await superuser.symlink(root, "l", bytes("target")));
    await server.restart({ readOnly: true });
    const caller = new Caller(await server.connect(), superuser.credential);
    for (const procedure of CHANGING) {
      const args = argsWith({ file, dir, name: bytes("x") });
      const result = await caller.call(procedure, args[procedure]) as { status: nfsstat3; value?: unknown };
      const value = fails(result, nfsstat3.NFS3ERR_ROFS) as Record<string, wcc_data>;
      const sides = Object.entries(value).filter(([name]) => name.endsWith("_wcc"));
      assert(sides.length > 0, procedure);
      for (const [name, wcc] of sides) {
        await checkWcc(wcc, {
          as: caller,
          file: name === "file_wcc" || name === "obj_wcc" ? file : dir,
          changed: false,
        });
      }
    }
    assertEquals(await caller.contents(file), bytes("contents"));
    assertEquals(await caller.names(root), ["d", "f", "l"]);
    const CHANGE = ACCESS3_MODIFY | ACCESS3_EXTEND | ACCESS3_DELETE;
    const access = async (object: Uint8Array): Promise<number> =>
      ok(await caller.call("ACCESS", { object, access: CHANGE | ACCESS3_READ | ACCESS3_LOOKUP })).access;
    assertEquals(await access(root), ACCESS3_READ | ACCESS3_LOOKUP);
    assertEquals(await access(file), ACCESS3_READ);
  });

  nfsTest({ subject, name: "an export under a path of its own", choices: { path: "/srv/data" } }, async (fixture) => {
    const { alice, root } = fixture;
    const dir = await alice.directory(root, "d");
    assertEquals(await alice.mountPath("/srv/data"), root);
    assertEquals(await alice.mountPath("/srv/data/d/"), dir);
    for (const path of ["/", "/srv", "/srv/dat", "/srv/datax", "/d", "/srv/data/nothing"]) {
      const mounted = await alice.mount.call(MOUNT3.procedures.MNT, bytes(path));
      assertEquals(mountstat3.nameOf(mounted.fhs_status), "MNT3ERR_NOENT", path);
    }
    assertEquals(await alice.lookup(root, ".."), root);
  });

  if (!subject.enforcesCredentials) return;

  nfsTest({ subject, name: "root is squashed", choices: { rootSquash: true } }, async ({ alice, superuser, root }) => {
    const made = await superuser.getattr(await superuser.file(root, "f"));
    assertEquals([made.uid, made.gid], [65534, 65534]);
    const file = await alice.file(root, "a", "contents");
    ok(await alice.setattr(file, { mode: 0o600 }));
    fails(await superuser.read(file, 0n, 10), nfsstat3.NFS3ERR_ACCES);
    fails(await superuser.setattr(file, { mode: 0o777 }), nfsstat3.NFS3ERR_PERM);
    fails(await superuser.setattr(file, { uid: 0 }), nfsstat3.NFS3ERR_PERM);
    ok(await alice.read(file, 0n, 10));
  });

  nfsTest(
    { subject, name: "a squashed root is in no group of root's", choices: { rootSquash: true } },
    async (fixture) => {
      const { transport, root } = fixture;
      const caller = new Caller(transport, encodeAuthSys({ uid: 1000, gid: 0, gids: [0, 50] }));
      const { gid } = await caller.getattr(await caller.file(root, "f"));
      assertEquals(gid, 65534);
      const file = await caller.lookup(root, "f");
      fails(await caller.setattr(file, { gid: 0 }), nfsstat3.NFS3ERR_PERM);
      ok(await caller.setattr(file, { gid: 50 }));
    },
  );

  nfsTest({ subject, name: "nobody can be uid -1" }, async ({ transport, root, server }) => {
    const caller = new Caller(transport, encodeAuthSys({ uid: 0xffffffff, gid: 0xffffffff, gids: [0xffffffff] }));
    const { uid, gid } = await caller.getattr(await caller.file(root, "f"));
    assertEquals([uid, gid], [65534, 65534]);
    const { nobody } = await callers(server);
    ok(await nobody.read(await nobody.lookup(root, "f"), 0n, 1));
  });
}
