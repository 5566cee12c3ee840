/**
 * Files by NFS from our own server: the client library, and `weft cp` beside libnfs's `nfs-cp`.
 *
 * @module
 */
import { ROOT } from "../../rdma/_ffi/build.ts";
import { findExecutable } from "../../rdma/_ffi/toolchain.ts";
import { congestionControls, FloorServer, measureFloor, withBestCongestion } from "../../rdma/perf/floor.ts";
import { freePort, waitForPort } from "../weft_server.ts";
import type { FilesFigures } from "./files_client.ts";
import { CORES, deno, pinned, runForJson } from "./processes.ts";
import { median } from "./report.ts";

/** What one round gives. */
export interface CopyFigures extends FilesFigures {
  /** What a plain program reads from the same file and sends to another over TCP, GB/s. */
  floorRead: number;
  /** What a plain program receives over TCP and writes to the same file, GB/s. */
  floorWrite: number;
  /** `weft cp` of the file from the server to a local one, s. */
  weftCopyIn: number;
  /** `weft cp` the other way, s. */
  weftCopyOut: number;
  /** `nfs-cp` over TCP, s; absent where it is not installed. */
  nfsCopyIn?: number;
  nfsCopyOut?: number;
}

const FILE_BYTES = 1024 ** 3;
/** What the floor's program reads or writes at once. */
const FLOOR_PIECE_BYTES = 1024 ** 2;
const FLOOR_PASSES = 5;
/** Copies by `weft cp` and by `nfs-cp`, either first in turns. */
const COPY_PAIRS = 4;
/** How long nothing happens before a copy, ms: without a rest single copies took up to four times as long as others on a virtual machine, with one hardly any did. */
const REST_MS = 5000;

/** Writes a file of `FILE_BYTES`. */
async function writeFile(path: string): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true });
  const piece = new Uint8Array(16 * 1024 * 1024).fill(0x5a);
  for (let at = 0; at < FILE_BYTES; at += piece.byteLength) {
    for (let written = 0; written < piece.byteLength;) written += await file.write(piece.subarray(written));
  }
  await file.sync(); // lest the disk be busy with it later on
}

/** Removes a file if there is one, its memory first: the server may still have it open. */
async function discard(path: string): Promise<void> {
  try {
    await Deno.truncate(path);
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Seconds that a copying program takes from its start to its end, its target not there before; on any core, as a user starts it. */
async function copyFile(target: string, command: string[]): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, REST_MS));
  await discard(target);
  const [program, ...args] = command;
  const started = performance.now();
  const { success, stdout, stderr } = await new Deno.Command(program, { args, cwd: ROOT, stdin: "null" }).output();
  const seconds = (performance.now() - started) / 1000;
  if (!success) {
    throw new Error(
      `${command.join(" ")} failed:\n${new TextDecoder().decode(stdout)}${new TextDecoder().decode(stderr)}`,
    );
  }
  const { size } = await Deno.stat(target);
  if (size !== FILE_BYTES) throw new Error(`${command.join(" ")} copied ${size} bytes`);
  return seconds;
}

/** A directory with a file of 1 GiB, named `big`, and our server on it. */
class Served implements AsyncDisposable {
  private constructor(
    readonly directory: string,
    readonly server: Deno.ChildProcess,
    readonly port: number,
  ) {}

  static async start(dir: string | undefined): Promise<Served> {
    const directory = await Deno.makeTempDir({ dir, prefix: "weft-bench-" });
    await Deno.mkdir(`${directory}/export`);
    await writeFile(`${directory}/export/big`);
    const port = freePort();
    const [command, ...args] = pinned(
      "server",
      ...deno("main.ts", "serve", `${directory}/export`, "--listen", `127.0.0.1:${port}`, "--no-root-squash"),
    );
    const server = new Deno.Command(command, { args, cwd: ROOT, stdin: "null", stdout: "null", stderr: "inherit" })
      .spawn();
    await waitForPort(port);
    return new Served(directory, server, port);
  }

  get url(): string {
    return `nfs://127.0.0.1:${this.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.kill("SIGINT");
    await this.server.status;
    await Deno.remove(this.directory, { recursive: true });
  }
}

/** What the files' figures are taken on. */
export class Files implements AsyncDisposable {
  private constructor(
    /** For READ and WRITE: the page cache of an ordinary file system, whose pages are larger than those of a memory file system. */
    readonly cached: Served,
    /** For whole copies, which end on stable storage: a memory file system where there is one, or a disk would be measured. */
    readonly inMemory: Served,
    readonly nfsCopy: string | undefined,
  ) {}

  /** Starts the servers. */
  static async start(): Promise<Files> {
    const memory = await Deno.stat("/dev/shm").then(() => "/dev/shm", () => undefined);
    return new Files(await Served.start(undefined), await Served.start(memory), await findExecutable("nfs-cp"));
  }

  /** Takes one round. */
  async measure(): Promise<CopyFigures> {
    const figures = await runForJson<FilesFigures>(
      pinned(
        "client",
        ...deno("tests/bench/files_client.ts", `${this.cached.url}/?proto=rdma`, "big", String(FILE_BYTES)),
      ),
    );
    const { url, port } = this.inMemory;
    // libnfs mounts what stands before the last slash, which may not be empty
    const file = (name: string) => `nfs://127.0.0.1//${name}?version=3&nfsport=${port}&mountport=${port}`;
    const [local, copied] = [`${this.inMemory.directory}/local`, `${this.inMemory.directory}/export/copy`];
    const copyIn = await this.#copy(local, { weft: [`${url}/big`, local], nfs: [file("big"), local] });
    const copyOut = await this.#copy(copied, { weft: [local, `${url}/copy`], nfs: [local, file("copy")] });
    return {
      ...figures,
      floorRead: await this.#floor("read"),
      floorWrite: await this.#floor("write"),
      weftCopyIn: copyIn.weft,
      weftCopyOut: copyOut.weft,
      nfsCopyIn: copyIn.nfs,
      nfsCopyOut: copyOut.nfs,
    };
  }

  /** The same between two plain programs: `recv` and `pwrite` at the server's end, or `pread` and `send`. The best congestion control counts. */
  async #floor(what: "read" | "write"): Promise<number> {
    const file = `${this.cached.directory}/export/big`;
    const isWrite = what === "write";
    await using floor = await FloorServer.start({
      core: isWrite ? CORES.server : CORES.client,
      to: isWrite ? file : undefined,
    });
    const prefix = pinned(isWrite ? "client" : "server");
    const order = { kind: "stream", sizeBytes: FLOOR_PIECE_BYTES, count: FILE_BYTES / FLOOR_PIECE_BYTES } as const;
    const from = isWrite ? undefined : file;
    const best = await withBestCongestion(await congestionControls(), async (congestion) => {
      const rates: number[] = [];
      for (let pass = 0; pass < FLOOR_PASSES; pass++) {
        rates.push((await measureFloor(floor, { ...order, congestion, from }, { prefix })).gigabytesPerSecond);
      }
      return { gigabytesPerSecond: median(rates) };
    });
    return best.gigabytesPerSecond;
  }

  /** Seconds that copies take by `weft cp` and by `nfs-cp`, medians; the operands are those of each. */
  async #copy(target: string, operands: { weft: string[]; nfs: string[] }): Promise<{ weft: number; nfs?: number }> {
    const contender = (...command: string[]) => ({ command, seconds: [] as number[] });
    const weft = contender(...deno("main.ts", "cp", ...operands.weft));
    const nfs = this.nfsCopy === undefined ? undefined : contender(this.nfsCopy, ...operands.nfs);
    const contenders = nfs === undefined ? [weft] : [weft, nfs];
    await copyFile(target, weft.command); // its memory is the next one's
    for (let pair = 0; pair < COPY_PAIRS; pair++) {
      for (const { command, seconds } of contenders) seconds.push(await copyFile(target, command));
      contenders.reverse();
    }
    return { weft: median(weft.seconds), nfs: nfs && median(nfs.seconds) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cached[Symbol.asyncDispose]();
    await this.inMemory[Symbol.asyncDispose]();
  }
}
