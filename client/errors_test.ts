import { assertEquals, assertInstanceOf, assertRejects } from "@std/assert";
import { NfsError, nfsstat3 } from "../storage/nfs/nfs3_status.ts";
import { asFileErrors, codeOf, codeOfStatus, type ErrorCode, systemError } from "./errors.ts";

async function failure(run: () => Promise<unknown>): Promise<Error> {
  try {
    await run();
  } catch (error) {
    assertInstanceOf(error, Error);
    return error;
  }
  throw new Error("did not fail");
}

Deno.test("class, message and code are those of Deno's own errors", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${dir}/file`, "x");
    await Deno.mkdir(`${dir}/full/x`, { recursive: true });
    await Deno.symlink("loop", `${dir}/loop`);
    const cases: [ErrorCode, string, () => Promise<unknown>][] = [
      ["ENOENT", `stat '${dir}/no'`, () => Deno.stat(`${dir}/no`)],
      ["ENOTDIR", `stat '${dir}/file/x'`, () => Deno.stat(`${dir}/file/x`)],
      ["EEXIST", `mkdir '${dir}/file'`, () => Deno.mkdir(`${dir}/file`)],
      ["EISDIR", `readfile '${dir}/full'`, () => Deno.readFile(`${dir}/full`)],
      ["ENOTEMPTY", `remove '${dir}/full'`, () => Deno.remove(`${dir}/full`)],
      ["ELOOP", `stat '${dir}/loop'`, () => Deno.stat(`${dir}/loop`)],
      ["EINVAL", `readlink '${dir}/file'`, () => Deno.readLink(`${dir}/file`)],
      ["EPERM", `link '${dir}/full' -> '${dir}/l'`, () => Deno.link(`${dir}/full`, `${dir}/l`)],
      ["ENAMETOOLONG", `stat '${dir}/${"x".repeat(300)}'`, () => Deno.stat(`${dir}/${"x".repeat(300)}`)],
    ];
    for (const [code, operation, run] of cases) {
      const theirs = await failure(run);
      const ours = systemError(code, operation);
      assertEquals(ours.constructor, theirs.constructor, code);
      assertEquals(ours.message, theirs.message);
      assertEquals(ours.name, theirs.name);
      assertEquals(codeOf(ours), codeOf(theirs));
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("an NFS status becomes a file error with the status as its cause", async () => {
  const cause = new NfsError(nfsstat3.NFS3ERR_NOENT);
  const error = await assertRejects(() => asFileErrors("stat '/x'", () => Promise.reject(cause)), Deno.errors.NotFound);
  assertEquals(error.message, "No such file or directory (os error 2): stat '/x'");
  assertEquals(error.cause, cause);
  assertEquals(codeOfStatus(new NfsError(nfsstat3.NFS3ERR_BADHANDLE)), "ESTALE");
  assertEquals(codeOfStatus(new NfsError(nfsstat3.NFS3ERR_REMOTE)), "EIO");
  assertEquals(codeOfStatus(new NfsError(nfsstat3.NFS3ERR_NOTSUPP)), "ENOTSUP");
});

Deno.test("other errors pass unchanged", async () => {
  const error = new DOMException("stop", "AbortError");
  assertEquals(await failure(() => asFileErrors("stat", () => Promise.reject(error))), error);
});
