/**
 * A server that is killed and started again while a client writes: nothing that was acknowledged is lost, and the client goes on.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { mount, type NfsFileSystem } from "../../client/mod.ts";
import { pause } from "../../client/nfs/reconnecting_transport.ts";
import { WeftServer } from "../weft_server.ts";
import { weft } from "./weft_command.ts";

const KILLS = 3;

/** Kills the server a few times while `work` goes on, and says how often. */
async function whileRestarting(server: WeftServer, work: (isOver: () => boolean) => Promise<void>): Promise<void> {
  let isOver = false;
  const restarts = (async () => {
    for (let kill = 0; kill < KILLS && !isOver; kill++) {
      await pause(700);
      await server.kill();
      await pause(100);
      await server.startAgain();
    }
    await pause(300);
    isOver = true;
  })();
  try {
    await work(() => isOver);
  } finally {
    // What went wrong with the work is told after the server is left alone, not hidden by a kill of one that is gone.
    isOver = true;
    await restarts;
  }
}

function block(length: number, value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(length).fill(value);
}

/** Writes files one after the other, by all ways of writing; returns what must be there. */
async function writeFiles(fs: NfsFileSystem, worker: number, isOver: () => boolean): Promise<Map<string, Uint8Array>> {
  const acknowledged = new Map<string, Uint8Array>();
  await fs.mkdir(`${worker}`);
  for (let at = 0; !isOver(); at++) {
    const name = `${worker}/${at}`;
    const data = block(1 + (at * 7919 + worker) % 3_000_000, 1 + at % 255);
    if (at % 3 === 0) {
      await fs.writeFile(name, data);
    } else if (at % 3 === 1) {
      await using file = await fs.open(name, { write: true, createNew: true });
      for (let offset = 0; offset < data.byteLength; offset += 100_000) {
        await file.write(data.subarray(offset, offset + 100_000));
      }
    } else {
      const file = await fs.open(name, { write: true, create: true });
      await ReadableStream.from([data.subarray(0, 5000), data.subarray(5000)]).pipeTo(file.writable);
    }
    acknowledged.set(name, data);
    if (at % 5 === 4) {
      await fs.rename(name, `${name}-renamed`);
      acknowledged.delete(name);
      acknowledged.set(`${name}-renamed`, data);
    }
    if (at % 2 === 0) await fs.mkdir(`${name}-directory`);
    if (at % 7 === 6) {
      const old = `${worker}/${at - 3}`;
      if (acknowledged.delete(old)) await fs.remove(old);
    }
  }
  return acknowledged;
}

for (const proto of ["rdma", "tcp"] as const) {
  Deno.test(`writers outlive a server that is killed again and again (${proto})`, async () => {
    await using server = await WeftServer.start();
    await using fs = await mount(`nfs://127.0.0.1:${server.port}/`, { proto });
    let written: Map<string, Uint8Array>[] = [];
    await whileRestarting(server, async (isOver) => {
      written = await Promise.all([0, 1, 2, 3].map((worker) => writeFiles(fs, worker, isOver)));
    });
    await server.kill();
    let count = 0;
    for (const [worker, files] of written.entries()) {
      for (const [name, data] of files) {
        assertEquals(await Deno.readFile(`${server.directory}/${name}`), data, name);
        count++;
      }
      // Nothing else is there, either.
      const there = await Array.fromAsync(Deno.readDir(`${server.directory}/${worker}`));
      assertEquals(there.filter(({ isFile }) => isFile).length, files.size);
    }
    assert(count > 20, `only ${count} files were written`);
    await server.startAgain();
  });
}

Deno.test("a copy goes on where the server is killed under it", async () => {
  await using server = await WeftServer.start();
  const local = await Deno.makeTempDir({ prefix: "weft-restart-" });
  try {
    await Deno.mkdir(`${local}/in`);
    for (let at = 0; at < 60; at++) await Deno.writeFile(`${local}/in/${at}`, block(10_000_000 + at, at + 1));
    await whileRestarting(server, async (isOver) => {
      for (let round = 0; !isOver(); round++) {
        const result = await weft("cp", "-r", `${local}/in`, `nfs://127.0.0.1:${server.port}/${round}`);
        assertEquals(result, { status: 0, out: "", err: "" });
        for (let at = 0; at < 60; at++) {
          assertEquals(await Deno.readFile(`${server.directory}/${round}/${at}`), block(10_000_000 + at, at + 1));
        }
        await Deno.remove(`${server.directory}/${round}`, { recursive: true });
      }
    });
  } finally {
    await Deno.remove(local, { recursive: true });
  }
});
