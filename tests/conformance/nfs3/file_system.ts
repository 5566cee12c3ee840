/**
 * Conformance: FSSTAT, FSINFO, PATHCONF (RFC 1813 §3.3.18 to §3.3.20).
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { FSF3_CANSETTIME, FSF3_HOMOGENEOUS, FSF3_LINK, FSF3_SYMLINK } from "../../../storage/nfs/mod.ts";
import { checkAttributes, nfsTest, ok, type Subject } from "./subject.ts";

export function testFileSystem(subject: Subject): void {
  nfsTest({ subject, name: "FSSTAT tells room that can be" }, async ({ alice, root }) => {
    for (const fsroot of [root, await alice.file(root, "f")]) {
      const stat = ok(await alice.call("FSSTAT", { fsroot }));
      await checkAttributes(stat.obj_attributes, { as: alice, file: fsroot });
      assert(stat.tbytes > 0n && stat.tbytes >= stat.fbytes && stat.fbytes >= stat.abytes);
      assert(stat.tfiles >= stat.ffiles && stat.ffiles >= stat.afiles);
      assertEquals(stat.invarsec, 0);
    }
  });

  nfsTest(
    { subject, name: "FSINFO tells transfers of as much as the connection takes, in pages" },
    async ({ alice, root }) => {
      const info = ok(await alice.call("FSINFO", { fsroot: root }));
      await checkAttributes(info.obj_attributes, { as: alice, file: root });
      const { transferBytesMax } = subject;
      assertEquals([info.rtmax, info.rtpref, info.rtmult], [transferBytesMax, transferBytesMax, 4096]);
      assertEquals([info.wtmax, info.wtpref, info.wtmult], [transferBytesMax, transferBytesMax, 4096]);
      assert(info.dtpref >= 4096);
      assert(info.maxfilesize >= 2n ** 40n && info.maxfilesize < 2n ** 63n);
      assertEquals(info.properties, FSF3_LINK | FSF3_SYMLINK | FSF3_HOMOGENEOUS | FSF3_CANSETTIME);
      assert(info.time_delta.seconds === 0 && info.time_delta.nseconds > 0);
    },
  );

  nfsTest({ subject, name: "PATHCONF tells what names may be" }, async ({ alice, root }) => {
    const conf = ok(await alice.call("PATHCONF", { object: root }));
    await checkAttributes(conf.obj_attributes, { as: alice, file: root });
    assertEquals([conf.name_max, conf.no_trunc, conf.chown_restricted], [255, true, true]);
    assertEquals([conf.case_insensitive, conf.case_preserving], [false, true]);
    assert(conf.linkmax > 1);
  });
}
