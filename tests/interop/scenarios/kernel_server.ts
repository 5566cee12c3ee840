/**
 * Our client on the Linux kernel's own NFS server, over siw and over TCP.
 *
 * @module
 */
import { mount } from "../../../client/mod.ts";
import { runGuest } from "../guest.ts";
import type { Report, Scenario } from "../main.ts";
import { hashFile, SIZES, SPARSE_BYTES, writeSizes } from "../sample_files.ts";
import { freePort } from "../../weft_server.ts";

type Mounted = Awaited<ReturnType<typeof mount>>;

/** Offset and text that the guest put into its sparse file. */
const FAR_OUT = { at: 4096 * 1_310_000, text: "far out" };
/** A sparse file that our client makes. */
const FAR_IN = "far_in";
const TIME = new Date("2001-02-03T04:05:06.125Z");

/** The scenario `kernel-server`. */
export const kernelServer: Scenario = {
  name: "kernel-server",
  needsGuest: true,
  async run(report) {
    const ports = { rdma: freePort(), tcp: freePort(), mount: freePort() };
    const local = await Deno.makeTempDir({ prefix: "weft-interop-" });
    const list = await writeSizes(`${local}/files`);
    await runGuest({
      script: "kernel_server.sh",
      env: { SIZES: SIZES.join(" ") },
      forwards: [{ host: ports.rdma, guest: 20049 }, { host: ports.tcp, guest: 2049 }, {
        host: ports.mount,
        guest: 20048,
      }],
      files: { "from_host.sha256": list },
      timeoutSeconds: 800,
      onResult: report,
      during: async (guest) => {
        await guest.waitFor("exported");
        const expected = await Deno.readTextFile(`${guest.control}/from_guest.sha256`);
        for (const route of ["rdma", "rdma-crc", "tcp"] as const) {
          const [proto, crc] = route === "tcp"
            ? ["tcp", "off"] as const
            : ["rdma", route === "rdma" ? "off" : "on"] as const;
          const url = `nfs://127.0.0.1:${ports[proto]}/srv/x?proto=${proto}&crc=${crc}&mountport=${ports.mount}`;
          await useExport(url, route, { local, expected, report });
        }
        await guest.signal("client_done");
      },
    });
    await Deno.remove(local, { recursive: true });
  },
};

async function useExport(
  url: string,
  route: string,
  { local, expected, report }: { local: string; expected: string; report: Report },
): Promise<void> {
  const test = async (name: string, body: () => Promise<void>) => {
    const error = await body().then(() => undefined, (error: unknown) => error ?? "failed");
    const detail = error instanceof Error ? error.stack ?? error.message : String(error);
    report({ name: `${name} (${route})`, outcome: error === undefined ? "ok" : "failed", detail });
  };
  let mounted: Mounted | undefined;
  await test("our client mounts the kernel's export", async () => {
    mounted = await mount(url, { signal: AbortSignal.timeout(30_000) });
  });
  if (mounted === undefined) return;
  await using fs = mounted;
  const own = `from_host_${route}`;

  await test("reads files of every size", async () => {
    for (const line of expected.trim().split("\n")) {
      const [hash, name] = line.split(/ +/);
      await Deno.writeFile(`${local}/read`, await fs.readFile(`from_guest/${name}`));
      const found = await hashFile(`${local}/read`, "sha256");
      if (found !== hash) throw new Error(`${name} has ${found}, not ${hash}`);
    }
  });
  await test("reads beyond 4 GiB", async () => {
    await using file = await fs.open("from_guest/sparse", { read: true });
    const { size } = await file.stat();
    if (size !== SPARSE_BYTES) throw new Error(`its size is ${size}`);
    await file.seek(FAR_OUT.at, Deno.SeekMode.Start);
    const bytes = new Uint8Array(FAR_OUT.text.length);
    await file.read(bytes);
    const text = new TextDecoder().decode(bytes);
    if (text !== FAR_OUT.text) throw new Error(`it reads ${JSON.stringify(text)}`);
  });
  await test("writes beyond 4 GiB", async () => {
    const bytes = new TextEncoder().encode(FAR_OUT.text);
    {
      await using file = await fs.open(FAR_IN, { write: true, create: true, truncate: true });
      await file.truncate(SPARSE_BYTES);
      await file.writeAt(bytes, FAR_OUT.at);
    }
    await using file = await fs.open(FAR_IN, { read: true });
    const { size, blocks } = await file.stat();
    if (size !== SPARSE_BYTES) throw new Error(`its size is ${size}`);
    if (blocks! * 512 > 1024 * 1024) throw new Error(`it takes ${blocks! * 512} bytes of storage`);
    const around = new Uint8Array(bytes.byteLength + 2);
    await file.readAt(around, FAR_OUT.at - 1);
    const text = new TextDecoder().decode(around);
    if (text !== `\0${FAR_OUT.text}\0`) throw new Error(`it reads ${JSON.stringify(text)}`);
  });
  await test("lists 500 files", async () => {
    const names = await Array.fromAsync(fs.readDir("from_guest/many"), (entry) => entry.name);
    if (new Set(names).size !== 500 || names.length !== 500) throw new Error(`${names.length} names`);
  });
  await test("writes files of every size", async () => {
    await fs.mkdir(own);
    for (const size of SIZES) await fs.writeFile(`${own}/${size}`, await Deno.readFile(`${local}/files/${size}`));
  });
  await test("writes and reads as streams", async () => {
    const largest = Math.max(...SIZES);
    {
      using source = await Deno.open(`${local}/files/${largest}`);
      await using sink = await fs.open(`${own}/streamed`, { write: true, create: true });
      await source.readable.pipeTo(sink.writable);
    }
    {
      await using source = await fs.open(`${own}/streamed`, { read: true });
      using sink = await Deno.open(`${local}/streamed`, { write: true, create: true, truncate: true });
      await source.readable.pipeTo(sink.writable);
    }
    const [sent, came] = await Promise.all(
      [`files/${largest}`, "streamed"].map((name) => hashFile(`${local}/${name}`, "sha256")),
    );
    if (sent !== came) throw new Error("it came back changed");
  });
  await test("changes attributes, links, names", async () => {
    await fs.writeTextFile(`${own}/first`, "text");
    await fs.rename(`${own}/first`, `${own}/attributes`);
    await fs.chmod(`${own}/attributes`, 0o640);
    await fs.utime(`${own}/attributes`, TIME, TIME);
    await fs.symlink("attributes", `${own}/soft`);
    await fs.link(`${own}/attributes`, `${own}/hard`);
    const { mode, mtime, nlink } = await fs.stat(`${own}/soft`);
    if ((mode! & 0o777) !== 0o640 || mtime?.getTime() !== TIME.getTime() || nlink !== 2) {
      throw new Error(`${mode} ${mtime} ${nlink}`);
    }
  });
  await test("removes, and says NotFound afterwards", async () => {
    await fs.mkdir(`${own}/gone/deep`, { recursive: true });
    await fs.writeTextFile(`${own}/gone/deep/file`, "x");
    await fs.remove(`${own}/gone`, { recursive: true });
    const error = await fs.stat(`${own}/gone`).then(() => undefined, (error: unknown) => error);
    if (!(error instanceof Deno.errors.NotFound)) throw new Error(`stat gives ${error}`);
  });
}
