/**
 * The Linux kernel mounts our server, over siw or over TCP, and works on it.
 *
 * @module
 */
import { HOST_ADDRESS, runGuest } from "../guest.ts";
import type { Report, Scenario } from "../main.ts";
import { hashFile, SIZES, SPARSE_BYTES, writeSizes, writeSparse, writeTree } from "../sample_files.ts";
import { WeftServer } from "../../weft_server.ts";

const TREE_FILES = 5000;

/** How the kernel reaches us: RDMA without or with CRCs, or TCP. */
export type Route = "rdma" | "rdma-crc" | "tcp";

/** The scenario `mount-ROUTE`. */
export function mountOver(route: Route): Scenario {
  return { name: `mount-${route}`, needsGuest: true, run: (report) => run(route, report) };
}

async function run(route: Route, report: Report): Promise<void> {
  await using server = await WeftServer.start({ args: [`--crc=${route === "rdma-crc" ? "on" : "off"}`] });
  const expected = await writeSizes(`${server.directory}/from_host`);
  const sparse = await writeSparse(`${server.directory}/from_host_sparse`);
  const treeBytes = await writeTree(`${server.directory}/tree`, TREE_FILES);
  const descriptorsBefore = await server.descriptors();

  await runGuest({
    script: "mount.sh",
    env: {
      PROTO: route === "tcp" ? "tcp" : "rdma",
      LABEL: route,
      SERVER: HOST_ADDRESS,
      PORT: server.port,
      MOUNTPORT: server.port,
      EXPORT: "/",
      SIZES: SIZES.join(" "),
      TREE_FILES,
      TREE_BYTES: treeBytes,
    },
    files: { "expected.sha256": expected, "sparse.md5": `${sparse}  -\n` },
    timeoutSeconds: 1500,
    onResult: report,
    after: async ({ control }) => {
      const test = async (name: string, body: () => Promise<void>) => {
        await body().then(
          () => report({ name: `${name} (${route})`, outcome: "ok", detail: "" }),
          (error: unknown) => report({ name: `${name} (${route})`, outcome: "failed", detail: String(error) }),
        );
      };
      await test("what the guest wrote lies in the directory", async () => {
        const lines = (await Deno.readTextFile(`${control}/written.sha256`)).trim().split("\n");
        if (lines.length !== SIZES.length) throw new Error(`${lines.length} files instead of ${SIZES.length}`);
        for (const line of lines) {
          const [hash, name] = line.split(/ +/);
          const found = await hashFile(`${server.directory}/to_host/${name}`, "sha256");
          if (found !== hash) throw new Error(`${name} has ${found}, not ${hash}`);
        }
      });
      await test("the sparse file that the guest wrote has its data and its holes", async () => {
        const path = `${server.directory}/to_host/sparse`;
        const info = await Deno.stat(path);
        if (info.size !== SPARSE_BYTES) throw new Error(`its size is ${info.size}`);
        if (info.blocks! * 512 > 64 * 1024 * 1024) throw new Error(`it takes ${info.blocks! * 512} bytes of storage`);
        const lines = (await Deno.readTextFile(`${control}/sparse`)).trim().split("\n");
        if (lines.length !== 4) throw new Error(`${lines.length} pieces instead of 4`);
        for (const line of lines) {
          const [at, hash] = line.split(" ");
          if (await hashFile(path, "sha256", Number(at), 8192) !== hash) throw new Error(`it differs at ${at}`);
        }
      });
      await test("the server holds no descriptor more than before", async () => {
        const now = await server.descriptors();
        if (now > descriptorsBefore) throw new Error(`${now} instead of ${descriptorsBefore}`);
      });
      await test("the server ends with 0", async () => {
        const status = await server.stop();
        if (!status.success) throw new Error(`exit code ${status.code}, signal ${status.signal}`);
      });
    },
  });
}
