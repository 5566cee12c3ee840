/**
 * libnfs, a client that is not ours, against our server over TCP: `nfs-ls`, `nfs-cp`, `nfs-cat` of Debian's libnfs-utils.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { type NfsServer, serve } from "../../server/mod.ts";

const SIZES = [0, 1, 4095, 4096, 4097, (1 << 20) + 3, 20_000_001];
const TIMEOUT_MS = 60_000;

function isInstalled(program: string): boolean {
  try {
    new Deno.Command(program, { stdout: "null", stderr: "null" }).outputSync();
    return true;
  } catch {
    return false;
  }
}

async function run(program: string, ...args: string[]): Promise<Uint8Array> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const { code, stdout, stderr } = await new Deno.Command(program, { args, signal }).output();
  assertEquals(code, 0, `${program} ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
  return stdout;
}

/** The path as libnfs wants it: what stands before the last slash is mounted, and may not be empty. */
function url({ hostname, port }: NfsServer, path: string): string {
  return `nfs://${hostname}/${path}?version=3&nfsport=${port}&mountport=${port}`;
}

async function withServer(body: (server: NfsServer, directory: string) => Promise<void>): Promise<void> {
  const directory = Deno.makeTempDirSync({ prefix: "weft_libnfs_" });
  try {
    Deno.mkdirSync(`${directory}/export`);
    await using server = await serve({
      directory: `${directory}/export`,
      stateDirectory: `${directory}/state`,
      port: 0,
      rootSquash: false,
    });
    await body(server, directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

function random(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
  return bytes;
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((byte, i) => byte === b[i]);
}

if (["nfs-ls", "nfs-cp", "nfs-cat"].every(isInstalled)) {
  Deno.test("libnfs: files copied in and out are the same, at every size", async () => {
    await withServer(async (server, directory) => {
      for (const size of SIZES) {
        const data = random(size);
        Deno.writeFileSync(`${directory}/in`, data);
        await run("nfs-cp", `${directory}/in`, url(server, `/f${size}`));
        assert(sameBytes(Deno.readFileSync(`${directory}/export/f${size}`), data), `${size} bytes in`);
        await run("nfs-cp", url(server, `/f${size}`), `${directory}/out`);
        assert(sameBytes(Deno.readFileSync(`${directory}/out`), data), `${size} bytes out`);
        Deno.removeSync(`${directory}/out`);
        assert(sameBytes(await run("nfs-cat", url(server, `/f${size}`)), data), `${size} bytes by nfs-cat`);
      }
    });
  });

  Deno.test("libnfs: lists every file of a directory of a thousand", async () => {
    await withServer(async (server, directory) => {
      const names = Array.from({ length: 1000 }, (_, i) => `file ${i} ${"x".repeat(i % 50)}`);
      Deno.mkdirSync(`${directory}/export/many`);
      for (const name of names) Deno.writeTextFileSync(`${directory}/export/many/${name}`, name);
      Deno.symlinkSync("anywhere", `${directory}/export/many/link`);
      const listing = new TextDecoder().decode(await run("nfs-ls", url(server, "many")));
      // Mode, links, uid, gid, size, name.
      const lines = listing.trimEnd().split("\n").map((line) => /^(\S{10}) +\d+ +\d+ +\d+ +(\d+) (.*)$/.exec(line)!);
      const listed = lines.filter(([, mode]) => mode.startsWith("-")).map(([, , size, name]) => `${name}:${size}`);
      assertEquals(listed.sort(), names.map((name) => `${name}:${name.length}`).sort());
      assert(lines.some(([, mode, , name]) => mode.startsWith("l") && name.startsWith("link")));
    });
  });
} else {
  Deno.test("libnfs: SKIPPED", () => {
    console.log("SKIPPED: nfs-ls, nfs-cp and nfs-cat are not installed (Debian: libnfs-utils)");
  });
}
