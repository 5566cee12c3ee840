/**
 * Conformance: MOUNT version 3 (RFC 1813 §5.2).
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { MOUNT3, mountstat3 } from "../../../storage/nfs/mod.ts";
import { bytes, type Caller, nfsTest, ok, type Subject, text } from "./subject.ts";

const { MNT, DUMP, UMNT, UMNTALL, EXPORT } = MOUNT3.procedures;

export function testMounting(subject: Subject): void {
  nfsTest({ subject, name: "MNT gives the handle of a directory, and what to authenticate with" }, async (fixture) => {
    const { alice, nobody, root } = fixture;
    const mounted = await alice.mount.call(MNT, bytes("/"));
    assert(mounted.fhs_status === mountstat3.MNT3_OK);
    assertEquals(mounted.value.fhandle, root);
    assertEquals(mounted.value.auth_flavors, [1, 0]);
    assertEquals(await alice.mountPath(""), root);
    const directory = await alice.directory(root, "d");
    const below = await alice.directory(directory, "e f");
    assertEquals(await alice.mountPath("/d"), directory);
    for (const path of ["/d/e f", "//d///e f/", "/./d/./e f/."]) {
      assertEquals(await nobody.mountPath(path), below, path);
    }
  });

  nfsTest({ subject, name: "MNT follows the path and nothing else" }, async ({ alice, root }) => {
    const directory = await alice.directory(root, "d");
    await alice.file(directory, "f");
    ok(await alice.symlink(root, "l", bytes("d")));
    ok(await alice.symlink(root, "out", bytes("/")));
    const refused: [string, string][] = [
      ["/nothing", "MNT3ERR_NOENT"],
      ["/d/nothing/more", "MNT3ERR_NOENT"],
      ["/d/f", "MNT3ERR_NOTDIR"],
      ["/d/f/x", "MNT3ERR_NOTDIR"],
      ["/l", "MNT3ERR_NOTDIR"],
      ["/l/f", "MNT3ERR_NOTDIR"],
      ["/out/etc", "MNT3ERR_NOTDIR"],
      ["d", "MNT3ERR_INVAL"],
      ["/..", "MNT3ERR_INVAL"],
      ["/d/..", "MNT3ERR_INVAL"],
      ["/d/../../etc", "MNT3ERR_INVAL"],
      ["/d\0", "MNT3ERR_INVAL"],
      [`/${"x".repeat(256)}`, "MNT3ERR_NAMETOOLONG"],
    ];
    for (const [path, status] of refused) {
      const mounted = await alice.mount.call(MNT, bytes(path));
      assertEquals(mountstat3.nameOf(mounted.fhs_status), status, JSON.stringify(path));
    }
  });

  nfsTest({ subject, name: "DUMP lists mounts until UMNT or UMNTALL" }, async ({ alice, root }) => {
    await alice.directory(root, "d");
    await alice.mountPath("/d");
    assertEquals(await dump(alice), ["/", "/d"]);
    await alice.mountPath("/d");
    assertEquals(await dump(alice), ["/", "/d"]);
    await alice.mount.call(UMNT, bytes("/d"));
    await alice.mount.call(UMNT, bytes("/never mounted"));
    assertEquals(await dump(alice), ["/"]);
    await alice.mount.call(UMNTALL, undefined);
    assertEquals(await dump(alice), []);
  });

  nfsTest({ subject, name: "DUMP stays bounded however many mounts there are" }, async ({ alice, root }) => {
    await alice.directory(root, "d");
    for (let i = 1; i < 500; i++) await alice.mountPath("/".repeat(i) + "d");
    const { length } = await dump(alice);
    assert(length > 50 && length < 500, `${length} mounts`);
  });

  nfsTest({ subject, name: "EXPORT tells what there is to mount" }, async ({ alice }) => {
    const exports = await alice.mount.call(EXPORT, undefined);
    assertEquals(exports.map(({ ex_dir, ex_groups }) => [text(ex_dir), ex_groups.length]), [["/", 0]]);
  });
}

async function dump(caller: Caller): Promise<string[]> {
  const mounts = await caller.mount.call(DUMP, undefined);
  return mounts.map(({ ml_directory }) => text(ml_directory)).sort();
}
