import { assertEquals, assertRejects } from "@std/assert";
import { NfsError, nfsstat3 } from "../../storage/nfs/mod.ts";
import { listDirectory } from "./listing.ts";
import type { ListedEntry, Listing, NfsClient } from "./nfs_client.ts";

const entry = (name: string, cookie: number): ListedEntry => ({
  name: new TextEncoder().encode(name),
  fileid: 1n,
  cookie: BigInt(cookie),
});

type Answer = Partial<Listing> & { fail?: number };

/** Lists what a server says, answer by answer. */
async function list(answers: Answer[], plain: Answer[] = []): Promise<{ names: string[]; cookies: bigint[] }> {
  const cookies: bigint[] = [];
  const answer = (from: { cookie: bigint }, next: Answer | undefined): Promise<Listing> => {
    cookies.push(from.cookie);
    if (next === undefined) throw new Error("asked too often");
    if (next.fail !== undefined) return Promise.reject(new NfsError(next.fail as never));
    return Promise.resolve({ entries: [], verifier: new Uint8Array(8), eof: true, ...next });
  };
  const client = {
    readDirectoryPlus: (_: Uint8Array, from: { cookie: bigint }) => answer(from, answers.shift()),
    readDirectory: (_: Uint8Array, from: { cookie: bigint }) => answer(from, plain.shift()),
  } as unknown as NfsClient;
  const names: string[] = [];
  for await (const { name } of listDirectory(client, new Uint8Array(1))) names.push(name);
  return { names, cookies };
}

Deno.test("a listing in pieces", async () => {
  const { names, cookies } = await list([
    { entries: [entry(".", 1), entry("..", 2), entry("a", 3)], eof: false },
    { entries: [entry("...", 4), entry("b", 9)], eof: true },
  ]);
  assertEquals(names, ["a", "...", "b"]);
  assertEquals(cookies, [0n, 3n]);
});

Deno.test("a server without READDIRPLUS", async () => {
  const { names } = await list([{ fail: nfsstat3.NFS3ERR_NOTSUPP }], [{ entries: [entry("a", 1)] }]);
  assertEquals(names, ["a"]);
});

Deno.test("a directory that changes: begun anew, no name twice", async () => {
  const { names } = await list([
    { entries: [entry("a", 1), entry("b", 2)], eof: false },
    { fail: nfsstat3.NFS3ERR_BAD_COOKIE },
    { entries: [entry("b", 1), entry("c", 2), entry("a", 3)] },
  ]);
  assertEquals(names, ["a", "b", "c"]);
});

Deno.test("names that reach elsewhere are refused", async () => {
  for (const name of ["../x", "a/b", "", "a\0"]) {
    await assertRejects(() => list([{ entries: [entry(name, 1)] }]), NfsError, "the server lists a name");
  }
});

Deno.test("listings without end are refused", async () => {
  const again = (): Answer => ({ entries: [], eof: false });
  await assertRejects(() => list([again(), again()]), NfsError, "brings nothing and does not end");
  const stuck = (): Answer => ({ entries: [entry("a", 1)], eof: false });
  await assertRejects(() => list([stuck(), stuck()]), NfsError, "a cookie that leads nowhere");
  const bad = (): Answer => ({ fail: nfsstat3.NFS3ERR_BAD_COOKIE });
  const piece = (): Answer => ({ entries: [entry("a", 1)], eof: false });
  await assertRejects(
    () => list(Array.from({ length: 20 }, (_, at) => at % 2 === 0 ? piece() : bad())),
    NfsError,
    "NFS3ERR_BAD_COOKIE",
  );
});
