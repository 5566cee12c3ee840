/**
 * Files through `weft cp` and a server process, over every kind of connection: what arrives is what was sent.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { assertEquals } from "@std/assert";
import { WeftServer } from "../weft_server.ts";
import { weft } from "./weft_command.ts";

/** Each kind of connection, as options of a URL. */
const connections = ["proto=rdma&crc=off", "proto=rdma&crc=on", "proto=tcp"];

const MIB = 1 << 20;
const sizes = [0, 1, 4095, 4096, 4097, MIB + 3, 64 * MIB];

/** Bytes that do not repeat at any power of two. */
function contents(length: number, seed: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed * 2654435761 >>> 0;
  for (let at = 0; at < words.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[at] = state;
  }
  return new Uint8Array(words.buffer, 0, length);
}

/** Hash of a file, holes skipped quickly: of its length, and of every block that is not all zeros with its place. */
async function hashOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  const block = new Uint8Array(MIB);
  const zeros = new Uint8Array(MIB);
  using file = await Deno.open(path);
  let offset = 0;
  for (;;) {
    let length = 0;
    while (length < block.byteLength) {
      const bytesRead = file.readSync(block.subarray(length));
      if (bytesRead === null) break;
      length += bytesRead;
    }
    const filled = block.subarray(0, length);
    if (Buffer.compare(filled, zeros.subarray(0, length)) !== 0) hash.update(`${offset}:`).update(filled);
    offset += length;
    if (length < block.byteLength) return `${offset} ${hash.digest("hex")}`;
  }
}

async function cp(...args: string[]): Promise<void> {
  assertEquals(await weft("cp", ...args), { status: 0, out: "", err: "" }, args.join(" "));
}

/** A place for files here, and a server of a place of its own. */
async function withServer(run: (local: string, server: WeftServer) => Promise<void>): Promise<void> {
  await using server = await WeftServer.start();
  const local = await Deno.makeTempDir({ prefix: "weft-copy-" });
  try {
    await run(local, server);
  } finally {
    await Deno.remove(local, { recursive: true });
  }
}

Deno.test("files of every size, in and out, by every kind of connection", async (t) => {
  await withServer(async (local, server) => {
    await Deno.mkdir(`${local}/in`);
    const names = sizes.map(String);
    for (const size of sizes) await Deno.writeFile(`${local}/in/${size}`, contents(size, size + 1));
    const expected = await Promise.all(names.map((name) => hashOf(`${local}/in/${name}`)));
    for (const [at, connection] of connections.entries()) {
      await t.step(connection, async () => {
        const url = `nfs://127.0.0.1:${server.port}/${at}`;
        await weft("mkdir", `${url}?${connection}`);
        await cp("-t", `${url}?${connection}`, ...names.map((name) => `${local}/in/${name}`));
        const served = names.map((name) => hashOf(`${server.directory}/${at}/${name}`));
        assertEquals(await Promise.all(served), expected);
        await Deno.mkdir(`${local}/${at}`);
        await cp("-t", `${local}/${at}`, ...names.map((name) => `${url}/${name}?${connection}`));
        assertEquals(await Promise.all(names.map((name) => hashOf(`${local}/${at}/${name}`))), expected);
        await Deno.remove(`${local}/${at}`, { recursive: true });
        await Deno.remove(`${server.directory}/${at}`, { recursive: true });
      });
    }
  });
});

Deno.test("a sparse file of 5 GiB, in and out, takes no more room than it has data", async (t) => {
  await withServer(async (local, server) => {
    const size = 5 * 1024 * MIB;
    {
      using file = await Deno.open(`${local}/in`, { write: true, createNew: true });
      for (const offset of [0, 3 * 1024 * MIB + 12345, 4 * 1024 * MIB + 777]) {
        await file.seek(offset, Deno.SeekMode.Start);
        await file.write(contents(MIB + 1, offset + 1));
      }
      await file.truncate(size);
    }
    const expected = await hashOf(`${local}/in`);
    for (const connection of connections) {
      await t.step(connection, async () => {
        const url = `nfs://127.0.0.1:${server.port}/sparse?${connection}`;
        await cp(`${local}/in`, url);
        const served = await Deno.stat(`${server.directory}/sparse`);
        assertEquals(served.blocks! * 512 < 8 * MIB, true, `${served.blocks} blocks`);
        assertEquals(await hashOf(`${server.directory}/sparse`), expected);
        await cp(url, `${local}/out`);
        const out = await Deno.stat(`${local}/out`);
        assertEquals(out.blocks! * 512 < 8 * MIB, true, `${out.blocks} blocks`);
        assertEquals(await hashOf(`${local}/out`), expected);
        await Deno.remove(`${local}/out`);
        await Deno.remove(`${server.directory}/sparse`);
      });
    }
  });
});

/** Paths and hashes of everything below a directory. */
async function treeOf(directory: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const visit = async (below: string): Promise<void> => {
    for await (const { name, isDirectory } of Deno.readDir(`${directory}${below}`)) {
      const path = `${below}/${name}`;
      if (isDirectory) await visit(path);
      else found.set(path, await hashOf(`${directory}${path}`));
    }
  };
  await visit("");
  return found;
}

Deno.test("a tree of 5,000 small files, in and out", async (t) => {
  await withServer(async (local, server) => {
    for (let at = 0; at < 5000; at++) {
      const directory = `${local}/in/${at % 10}/${at % 50}`;
      if (at < 50) await Deno.mkdir(directory, { recursive: true });
      await Deno.writeFile(`${directory}/${at}`, contents(at % 3001, at + 1));
    }
    const expected = await treeOf(`${local}/in`);
    assertEquals(expected.size, 5000);
    for (const [at, connection] of connections.entries()) {
      await t.step(connection, async () => {
        const url = `nfs://127.0.0.1:${server.port}/tree${at}`;
        await cp("-r", `${local}/in`, `${url}?${connection}`);
        assertEquals(await treeOf(`${server.directory}/tree${at}`), expected);
        await cp("-r", `${url}?${connection}`, `${local}/out`);
        assertEquals(await treeOf(`${local}/out`), expected);
        await Deno.remove(`${local}/out`, { recursive: true });
        assertEquals(await weft("rm", "-r", `${url}?${connection}`), { status: 0, out: "", err: "" });
        assertEquals((await Array.fromAsync(Deno.readDir(server.directory))).length, 0);
      });
    }
  });
});
