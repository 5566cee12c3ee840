/**
 * Conformance: READDIR, READDIRPLUS (RFC 1813 §3.3.16, §3.3.17).
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { encode } from "../../../rpc/mod.ts";
import { nfsstat3, READDIR3resok, READDIRPLUS3resok } from "../../../storage/nfs/mod.ts";
import { bytes, type Caller, checkAttributes, fails, nfsTest, ok, type Subject, text } from "./subject.ts";

const START = { cookie: 0n, cookieverf: new Uint8Array(8) };
const MUCH = 1 << 20;

export function testListing(subject: Subject): void {
  nfsTest({ subject, name: "an empty directory lists itself and its parent" }, async ({ alice, root }) => {
    const dir = await alice.directory(root, "d");
    const { reply, dir_attributes } = ok(await alice.call("READDIR", { dir, ...START, count: 4096 }));
    await checkAttributes(dir_attributes, { as: alice, file: dir });
    assertEquals(reply.eof, true);
    const byName = new Map(reply.entries.map(({ name, fileid }) => [text(name), fileid]));
    assertEquals(byName.size, 2);
    assertEquals(byName.get("."), (await alice.getattr(dir)).fileid);
    const plus = ok(await alice.call("READDIRPLUS", { dir, ...START, dircount: 4096, maxcount: 4096 }));
    assertEquals(plus.reply.entries.map((entry) => text(entry.name)), reply.entries.map((entry) => text(entry.name)));
  });

  nfsTest({ subject, name: "every name comes once, whatever the size of the pages" }, async ({ alice, root }) => {
    const names = await populate(alice, root);
    for (const count of [400, 512, 1000, 4096, MUCH]) {
      assertEquals(await list(alice, { dir: root, count }), names, `READDIR of ${count} bytes`);
      assertEquals(await listPlus(alice, { dir: root, dircount: MUCH, maxcount: count + 300 }), names);
    }
    assertEquals(await listPlus(alice, { dir: root, dircount: 300, maxcount: MUCH }), names);
  });

  nfsTest({ subject, name: "READDIR fills count to the byte and never goes beyond" }, async ({ alice, root }) => {
    await populate(alice, root);
    const all = ok(await alice.call("READDIR", { dir: root, ...START, count: MUCH }));
    assertEquals(all.reply.eof, true);
    const sizes = all.reply.entries.map((_, i) => {
      const reply = { entries: all.reply.entries.slice(0, i + 1), eof: false };
      return encode(READDIR3resok, { ...all, reply }).bytes.byteLength;
    });
    for (const [i, size] of sizes.entries()) {
      const exact = ok(await alice.call("READDIR", { dir: root, ...START, count: size }));
      assertEquals(exact.reply.entries.length, i + 1, `a reply of ${size} bytes`);
      assertEquals(exact.reply.eof, i === sizes.length - 1);
      assertEquals(encode(READDIR3resok, exact).bytes.byteLength, size);
      const short = await alice.call("READDIR", { dir: root, ...START, count: size - 1 });
      if (i === 0) fails(short, nfsstat3.NFS3ERR_TOOSMALL);
      else assertEquals(ok(short).reply.entries.length, i);
    }
  });

  nfsTest(
    { subject, name: "READDIRPLUS fills maxcount to the byte, and honours dircount" },
    async ({ alice, root }) => {
      await populate(alice, root);
      const all = ok(await alice.call("READDIRPLUS", { dir: root, ...START, dircount: MUCH, maxcount: MUCH }));
      assertEquals(all.reply.eof, true);
      const bare = { ...all, dir_attributes: undefined, reply: { entries: [], eof: false } };
      const empty = encode(READDIRPLUS3resok, bare).bytes.byteLength;
      const sizes = all.reply.entries.map((_, i) => {
        const entries = all.reply.entries.slice(0, i + 1);
        const names = entries.map(({ name, fileid, cookie }) => ({ name, fileid, cookie }));
        return {
          maxcount: encode(READDIRPLUS3resok, { ...all, reply: { entries, eof: false } }).bytes.byteLength,
          dircount: encode(READDIRPLUS3resok, { ...bare, reply: { entries: names, eof: false } }).bytes.byteLength -
            empty - 8 * entries.length,
        };
      });
      for (const [i, { maxcount, dircount }] of sizes.entries()) {
        const page = async (dircount: number, maxcount: number): Promise<number> => {
          const result = await alice.call("READDIRPLUS", { dir: root, ...START, dircount, maxcount });
          if (i > 0 || result.status === nfsstat3.NFS3_OK) return ok(result).reply.entries.length;
          fails(result, nfsstat3.NFS3ERR_TOOSMALL);
          return 0;
        };
        assertEquals(await page(MUCH, maxcount), i + 1, `maxcount ${maxcount}`);
        assertEquals(await page(MUCH, maxcount - 1), i, `maxcount ${maxcount - 1}`);
        assertEquals(await page(dircount, MUCH), i + 1, `dircount ${dircount}`);
        assertEquals(await page(dircount - 1, MUCH), i, `dircount ${dircount - 1}`);
      }
    },
  );

  nfsTest({ subject, name: "READDIRPLUS brings handles and attributes that are good" }, async ({ alice, root }) => {
    const directory = await alice.directory(root, "d");
    await alice.file(directory, "f", "contents");
    ok(await alice.symlink(directory, "l", bytes("anywhere")));
    await alice.directory(directory, "sub");
    const { reply, dir_attributes } = ok(
      await alice.call("READDIRPLUS", { dir: directory, ...START, dircount: MUCH, maxcount: MUCH }),
    );
    await checkAttributes(dir_attributes, { as: alice, file: directory });
    assertEquals(reply.entries.map((entry) => text(entry.name)).sort(), [".", "..", "f", "l", "sub"]);
    for (const { name, fileid, name_attributes, name_handle } of reply.entries) {
      if (text(name) === "..") continue;
      assert(name_handle !== undefined, `no handle of ${text(name)}`);
      await checkAttributes(name_attributes, { as: alice, file: name_handle });
      assertEquals(name_attributes!.fileid, fileid);
      assertEquals(await alice.lookup(directory, text(name)), name_handle);
    }
  });

  nfsTest({ subject, name: "counts too small for anything" }, async ({ alice, root }) => {
    for (const count of [0, 1, 4, 16, 100]) {
      const failed = fails(await alice.call("READDIR", { dir: root, ...START, count }), nfsstat3.NFS3ERR_TOOSMALL);
      await checkAttributes(failed.dir_attributes, { as: alice, file: root });
      const plus = await alice.call("READDIRPLUS", { dir: root, ...START, dircount: MUCH, maxcount: count });
      fails(plus, nfsstat3.NFS3ERR_TOOSMALL);
    }
    fails(
      await alice.call("READDIRPLUS", { dir: root, ...START, dircount: 0, maxcount: MUCH }),
      nfsstat3.NFS3ERR_TOOSMALL,
    );
  });

  nfsTest({ subject, name: "counts larger than any reply" }, async ({ alice, root }) => {
    const names = await populate(alice, root);
    assertEquals(await list(alice, { dir: root, count: 0xffffffff }), names);
    assertEquals(await listPlus(alice, { dir: root, dircount: 0xffffffff, maxcount: 0xffffffff }), names);
  });

  nfsTest({ subject, name: "a verifier of another file system makes a cookie bad" }, async ({ alice, root }) => {
    await populate(alice, root);
    const page = ok(await alice.call("READDIR", { dir: root, ...START, count: 512 }));
    const { cookie } = page.reply.entries.at(-1)!;
    const cookieverf = page.cookieverf.map((byte) => byte ^ 0xff);
    const failed = fails(
      await alice.call("READDIR", { dir: root, cookie, cookieverf, count: 512 }),
      nfsstat3.NFS3ERR_BAD_COOKIE,
    );
    await checkAttributes(failed.dir_attributes, { as: alice, file: root });
    const plus = { dir: root, cookie, cookieverf, dircount: 512, maxcount: 4096 };
    fails(await alice.call("READDIRPLUS", plus), nfsstat3.NFS3ERR_BAD_COOKIE);
    // At the start there is no cookie for the verifier to go with.
    ok(await alice.call("READDIR", { dir: root, cookie: 0n, cookieverf, count: 512 }));
  });

  nfsTest({ subject, name: "what is not a directory lists nothing" }, async ({ alice, root }) => {
    const file = await alice.file(root, "f");
    const failed = fails(await alice.call("READDIR", { dir: file, ...START, count: 512 }), nfsstat3.NFS3ERR_NOTDIR);
    await checkAttributes(failed.dir_attributes, { as: alice, file });
    const plus = await alice.call("READDIRPLUS", { dir: file, ...START, dircount: 512, maxcount: 512 });
    fails(plus, nfsstat3.NFS3ERR_NOTDIR);
  });

  nfsTest({ subject, name: "what stays is listed once while other names come and go" }, async ({ alice, root }) => {
    const staying = Array.from({ length: 60 }, (_, i) => `stays ${i}`).sort();
    for (const [i, name] of staying.entries()) {
      await alice.file(root, name);
      await alice.file(root, `goes ${i}`);
    }
    let round = 0;
    const seen = await list(alice, { dir: root, count: 600 }, async () => {
      const gone = `goes ${(round * 7) % 60}`;
      const removed = await alice.call("REMOVE", { object: { dir: root, name: bytes(gone) } });
      if (removed.status !== nfsstat3.NFS3ERR_NOENT) ok(removed);
      await alice.file(root, `comes ${round++}`);
    });
    assert(round > 3, "the directory was read in too few pages");
    assertEquals(seen.filter((name) => name.startsWith("stays")), staying);
    assertEquals(new Set(seen).size, seen.length);
  });

  nfsTest({ subject, name: "a directory can be emptied while it is read" }, async ({ alice, root }) => {
    const dir = await alice.directory(root, "d");
    const names = Array.from({ length: 200 }, (_, i) => `file ${i}`);
    for (const name of names) await alice.file(dir, name);
    const seen = await list(alice, { dir, count: 700 }, async (page) => {
      for (const name of page) ok(await alice.call("REMOVE", { object: { dir, name: bytes(name) } }));
    });
    assertEquals(seen, names.sort());
    ok(await alice.call("RMDIR", { object: { dir: root, name: bytes("d") } }));
  });

  if (subject.enforcesCredentials) testRights(subject);
}

/** Who may do what, where the server tells callers apart. */
function testRights(subject: Subject): void {
  nfsTest({ subject, name: "a directory that may not be read, or not be searched" }, async ({ alice, bob, root }) => {
    const dir = await alice.directory(root, "d");
    await alice.file(dir, "f");
    ok(await alice.setattr(dir, { mode: 0o711 }));
    fails(await bob.call("READDIR", { dir, ...START, count: 512 }), nfsstat3.NFS3ERR_ACCES);
    await bob.lookup(dir, "f");
    ok(await alice.setattr(dir, { mode: 0o744 }));
    assertEquals(await bob.names(dir), ["f"]);
    fails(await bob.call("LOOKUP", { what: { dir, name: bytes("f") } }), nfsstat3.NFS3ERR_ACCES);
    const plus = ok(await bob.call("READDIRPLUS", { dir, ...START, dircount: MUCH, maxcount: MUCH }));
    const entry = plus.reply.entries.find(({ name }) => text(name) === "f");
    assertEquals([entry?.name_attributes, entry?.name_handle], [undefined, undefined]);
  });
}

/** Files with names of all lengths modulo 4, and beyond; returns the names in order. */
async function populate(caller: Caller, dir: Uint8Array): Promise<string[]> {
  const names = [1, 2, 3, 4, 5, 17, 50, 100, 255].map((length) => "n".repeat(length));
  for (const name of names) await caller.file(dir, name);
  return names.sort();
}

/** Every name but "." and "..", read by pages of `count`; `between` is called with those of each page. */
async function list(
  caller: Caller,
  { dir, count }: { dir: Uint8Array; count: number },
  between: (page: string[]) => Promise<void> = () => Promise.resolve(),
): Promise<string[]> {
  const names: string[] = [];
  let { cookie, cookieverf } = START;
  for (let eof = false; !eof;) {
    const page = ok(await caller.call("READDIR", { dir, cookie, cookieverf, count }));
    assert(page.reply.entries.length > 0 || page.reply.eof, "an empty page that is not the last");
    const fresh = page.reply.entries.map((entry) => text(entry.name)).filter((name) => name !== "." && name !== "..");
    names.push(...fresh);
    cookie = page.reply.entries.at(-1)?.cookie ?? cookie;
    cookieverf = page.cookieverf as typeof cookieverf;
    eof = page.reply.eof;
    await between(fresh);
  }
  return names.sort();
}

async function listPlus(
  caller: Caller,
  { dir, dircount, maxcount }: { dir: Uint8Array; dircount: number; maxcount: number },
): Promise<string[]> {
  const names: string[] = [];
  let { cookie, cookieverf } = START;
  for (let eof = false; !eof;) {
    const page = ok(await caller.call("READDIRPLUS", { dir, cookie, cookieverf, dircount, maxcount }));
    names.push(...page.reply.entries.map((entry) => text(entry.name)));
    cookie = page.reply.entries.at(-1)?.cookie ?? cookie;
    cookieverf = page.cookieverf as typeof cookieverf;
    eof = page.reply.eof;
  }
  return names.filter((name) => name !== "." && name !== "..").sort();
}
