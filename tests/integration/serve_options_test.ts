/**
 * Options of `weft serve`, by what clients see of them.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import { mount, type NfsFileSystem } from "../../client/mod.ts";
import { within } from "../../rdma/_testing/pair.ts";
import { nfsstat3, stable_how } from "../../storage/nfs/mod.ts";
import { argsWith } from "../conformance/nfs3/every_procedure.ts";
import { bytes, ok, withCaller } from "../conformance/nfs3/subject.ts";
import { WeftServer } from "../weft_server.ts";
import { whyNoFailingDisk } from "./serve_failing_disk.ts";

/** Serves with some options, and mounts that. */
async function withServer(
  args: readonly string[],
  run: (fs: NfsFileSystem, server: WeftServer) => Promise<void>,
  path = "/",
): Promise<void> {
  await using server = await WeftServer.start({ args });
  await Deno.writeTextFile(`${server.directory}/there`, "already");
  await using fs = await mount(`nfs://127.0.0.1:${server.port}${path}`);
  await run(fs, server);
}

Deno.test("serve: --read-only", async () => {
  await withServer(["--read-only"], async (fs, { directory }) => {
    await assertRejects(() => fs.writeTextFile("new", "x"), Error, "Read-only file system");
    await assertRejects(() => fs.remove("there"), Error, "Read-only file system");
    assertEquals(await fs.readTextFile("there"), "already");
    assertEquals(Array.from(Deno.readDirSync(directory), ({ name }) => name), ["there"]);
  });
});

Deno.test("serve: --path", async () => {
  await withServer(["--path=/srv/data"], async (fs, { port }) => {
    assertEquals(await fs.readTextFile("there"), "already");
    await assertRejects(() => mount(`nfs://127.0.0.1:${port}/`), Deno.errors.NotFound);
    await assertRejects(() => mount(`nfs://127.0.0.1:${port}/srv/other`), Deno.errors.NotFound);
  }, "/srv/data");
});

Deno.test("serve: --root-squash, --no-root-squash, --anonymous", async () => {
  if (Deno.uid() !== 0) return console.error("SKIPPED, NEEDS ROOT: whom root is taken for");
  const ownerOf = async (...args: string[]): Promise<unknown> => {
    let owner: unknown;
    await withServer(args, async (fs, { directory }) => {
      await fs.writeTextFile("new", "x");
      const { uid, gid } = await Deno.stat(`${directory}/new`);
      owner = [uid, gid];
    });
    return owner;
  };
  assertEquals(await ownerOf("--no-root-squash", "--anonymous=1234:5678"), [0, 0]);
  assertEquals(await ownerOf("--root-squash"), [65534, 65534]);
  assertEquals(await ownerOf("--root-squash", "--anonymous=1234:5678"), [1234, 5678]);
});

Deno.test("serve: --connections", async () => {
  await using server = await WeftServer.start({ args: ["--connections=1"] });
  using first = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  await first.write(Uint8Array.of(0x80)); // the beginning of a record, which tells that this is no iWARP
  await using fs = await mount(`nfs://127.0.0.1:${server.port}/?proto=tcp`);
  assertEquals(await within(first.read(new Uint8Array(1))), null, "its place was given to another");
  assertEquals((await fs.stat("/")).isDirectory, true);
});

Deno.test("serve: --state-dir", async () => {
  const state = await Deno.makeTempDir({ prefix: "weft-state-" });
  try {
    await withServer([`--state-dir=${state}/here`], async () => {
      assertEquals((await Deno.stat(`${state}/here/handle.key`)).size, 32);
    });
  } finally {
    await Deno.remove(state, { recursive: true });
  }
});

Deno.test("serve: --async does not wait for the disk when names and attributes change, and does for contents", async () => {
  const obstacle = whyNoFailingDisk();
  if (obstacle !== undefined) return console.error(`SKIPPED, THIS MACHINE CANNOT MAKE A DISK FAIL: ${obstacle}`);
  const { NFS3_OK, NFS3ERR_IO } = nfsstat3;
  for (const [options, expected] of [[[], NFS3ERR_IO], [["--async"], NFS3_OK]] as const) {
    await using server = await WeftServer.start({ args: options });
    if (isInMemory(server.directory)) {
      return console.error("SKIPPED, TEMPORARY FILES LIE IN MEMORY: waiting for a disk");
    }
    await server.kill(); // the first start made the state, which has to be on the disk
    for (const name of ["f", "victim", "from"]) await Deno.writeTextFile(`${server.directory}/${name}`, "text");
    await Deno.mkdir(`${server.directory}/empty`);
    await server.startAgain({ main: new URL("serve_failing_disk.ts", import.meta.url).pathname });
    await withCaller(server.port, async (caller) => {
      const root = await caller.mountPath("/");
      const at = (name: string) => ({ dir: root, name: bytes(name) });
      const { object: file } = ok(await caller.call("LOOKUP", { what: at("f") }));
      const args = (name: string) => argsWith({ file, dir: root, name: bytes(name) });
      const changes = {
        SETATTR: () => caller.call("SETATTR", args("").SETATTR),
        CREATE: () => caller.call("CREATE", args("created").CREATE),
        MKDIR: () => caller.mkdir(root, "made"),
        SYMLINK: () => caller.call("SYMLINK", args("link").SYMLINK),
        MKNOD: () => caller.call("MKNOD", args("pipe").MKNOD),
        REMOVE: () => caller.call("REMOVE", { object: at("victim") }),
        RMDIR: () => caller.call("RMDIR", { object: at("empty") }),
        RENAME: () => caller.call("RENAME", { from: at("from"), to: at("to") }),
        LINK: () => caller.call("LINK", args("linked").LINK),
      };
      for (const [name, change] of Object.entries(changes)) {
        assertEquals((await change()).status, expected, `${name} of a server with [${options}]`);
      }
      for (const how of [stable_how.DATA_SYNC, stable_how.FILE_SYNC]) {
        assertEquals((await caller.write(file, 0n, bytes("new"), how)).status, NFS3ERR_IO, stable_how.nameOf(how));
      }
      assertEquals((await caller.write(file, 0n, bytes("new"), stable_how.UNSTABLE)).status, NFS3_OK);
      assertEquals((await caller.call("COMMIT", args("").COMMIT)).status, NFS3ERR_IO, "COMMIT");
    });
  }
});

/** Whether files there are on no disk at all, and nothing waits for one. */
function isInMemory(directory: string): boolean {
  const { stdout } = new Deno.Command("stat", { args: ["--file-system", "--format=%T", directory] }).outputSync();
  return new TextDecoder().decode(stdout).trim() === "tmpfs";
}
