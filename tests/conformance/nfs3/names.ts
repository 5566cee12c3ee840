/**
 * Conformance: LOOKUP and names of every sort (RFC 1813 §3.2, §3.3.3).
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { type NfsFailure, nfsstat3, type wcc_data } from "../../../storage/nfs/mod.ts";
import { argsWith, WITH_NAMES } from "./every_procedure.ts";
import { bytes, type Caller, checkAttributes, checkWcc, fails, nfsTest, ok, type Subject } from "./subject.ts";

/** What comes with a failed operation on a name: the directory, before and after. */
interface NameFailure {
  dir_wcc?: wcc_data;
  fromdir_wcc?: wcc_data;
  todir_wcc?: wcc_data;
  linkdir_wcc?: wcc_data;
}

export function testNames(subject: Subject): void {
  nfsTest({ subject, name: "LOOKUP finds files, directories and the way up" }, async ({ alice, root }) => {
    const directory = await alice.directory(root, "d");
    const file = await alice.file(directory, "f");
    const found = ok(await alice.call("LOOKUP", { what: { dir: directory, name: bytes("f") } }));
    assertEquals(found.object, file);
    await checkAttributes(found.obj_attributes, { as: alice, file });
    await checkAttributes(found.dir_attributes, { as: alice, file: directory });
    assertEquals(await alice.lookup(directory, "."), directory);
    assertEquals(await alice.lookup(directory, ".."), root);
    assertEquals(await alice.lookup(root, ".."), root);
    const missing = fails(
      await alice.call("LOOKUP", { what: { dir: root, name: bytes("nothing") } }),
      nfsstat3.NFS3ERR_NOENT,
    );
    await checkAttributes(missing.dir_attributes, { as: alice, file: root });
    const inFile = await alice.call("LOOKUP", { what: { dir: file, name: bytes("x") } });
    await checkAttributes(fails(inFile, nfsstat3.NFS3ERR_NOTDIR).dir_attributes, { as: alice, file });
  });

  nfsTest({ subject, name: "names are bytes" }, async ({ alice, root }) => {
    const names = [
      bytes(" "),
      bytes("..."),
      bytes("a\\b:c*?"),
      bytes("\n\r\t\x01\x7f"),
      bytes("ünïcödé 🎉"),
      Uint8Array.of(0xff, 0xfe, 0x80, 0xc0),
      bytes("x".repeat(255)),
    ];
    for (const name of names) {
      const args = argsWith({ file: root, name });
      const { obj } = ok(await alice.call("CREATE", args.CREATE));
      assertEquals(ok(await alice.call("LOOKUP", args.LOOKUP)).object, obj);
    }
    const listed = ok(await alice.call("READDIR", argsWith({ file: root, name: bytes("") }).READDIR)).reply.entries;
    const inHex = (of: Uint8Array[]): string[] => of.map((name) => name.toHex()).sort();
    assertEquals(inHex(listed.map((entry) => entry.name)), inHex([...names, bytes("."), bytes("..")]));
    for (const name of names) ok(await alice.call("REMOVE", { object: { dir: root, name } }));
    assertEquals(await alice.names(root), []);
  });

  nfsTest({ subject, name: "names that cannot be are refused by every procedure" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    const refused: [string, NfsFailure][] = [
      ["", nfsstat3.NFS3ERR_ACCES],
      ["a/b", nfsstat3.NFS3ERR_ACCES],
      ["/", nfsstat3.NFS3ERR_ACCES],
      ["../f", nfsstat3.NFS3ERR_ACCES],
      ["f\0", nfsstat3.NFS3ERR_ACCES],
      ["\0", nfsstat3.NFS3ERR_ACCES],
      ["x".repeat(256), nfsstat3.NFS3ERR_NAMETOOLONG],
      ["x".repeat(4096), nfsstat3.NFS3ERR_NAMETOOLONG],
    ];
    for (const [name, status] of refused) {
      const args = argsWith({ file, dir: root, name: bytes(name) });
      for (const procedure of WITH_NAMES) {
        if (procedure === "LOOKUP") fails(await alice.call(procedure, args[procedure]), status);
        else await refusedWithWcc(await callAny(alice, procedure, args), { as: alice, dir: root, status });
      }
    }
    assertEquals(await alice.names(root), ["f"]);
  });

  nfsTest({ subject, name: '"." and ".." are there already, and stay' }, async ({ alice, root }) => {
    const directory = await alice.directory(root, "d");
    const file = await alice.file(directory, "f");
    const INVAL = nfsstat3.NFS3ERR_INVAL;
    const EXIST = nfsstat3.NFS3ERR_EXIST;
    const expected: Record<Exclude<typeof WITH_NAMES[number], "LOOKUP">, [NfsFailure, NfsFailure]> = {
      CREATE: [EXIST, EXIST],
      MKDIR: [EXIST, EXIST],
      SYMLINK: [EXIST, EXIST],
      MKNOD: [EXIST, EXIST],
      REMOVE: [nfsstat3.NFS3ERR_ISDIR, nfsstat3.NFS3ERR_ISDIR],
      RMDIR: [INVAL, EXIST],
      RENAME: [INVAL, INVAL],
      LINK: [EXIST, EXIST],
    };
    for (const [procedure, statuses] of Object.entries(expected)) {
      for (const [i, name] of [".", ".."].entries()) {
        const args = argsWith({ file, dir: directory, name: bytes(name) });
        const result = await callAny(alice, procedure as keyof typeof expected, args);
        await refusedWithWcc(result, { as: alice, dir: directory, status: statuses[i] });
      }
    }
    const to = { dir: directory, name: bytes("..") };
    fails(await alice.call("RENAME", { from: { dir: directory, name: bytes("f") }, to }), INVAL);
    assertEquals(await alice.names(directory), ["f"]);
  });
}

type Changing = Exclude<typeof WITH_NAMES[number], "LOOKUP">;
type NameResult = { status: nfsstat3; value?: unknown };

function callAny(caller: Caller, procedure: Changing, args: ReturnType<typeof argsWith>): Promise<NameResult> {
  return caller.call(procedure, args[procedure]) as Promise<NameResult>;
}

async function refusedWithWcc(
  result: NameResult,
  { as, dir, status }: { as: Caller; dir: Uint8Array; status: NfsFailure },
): Promise<void> {
  const { dir_wcc, fromdir_wcc, todir_wcc, linkdir_wcc } = fails(result, status) as NameFailure;
  const sides = [dir_wcc, fromdir_wcc, todir_wcc, linkdir_wcc].filter((wcc) => wcc !== undefined);
  assert(sides.length > 0, "no weak cache consistency data");
  for (const wcc of sides) await checkWcc(wcc, { as, file: dir, changed: false });
}
