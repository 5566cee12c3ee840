/**
 * Options of `weft serve`, by what clients see of them.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import { mount, type NfsFileSystem } from "../../client/mod.ts";
import { within } from "../../rdma/_testing/pair.ts";
import { WeftServer } from "../weft_server.ts";

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
