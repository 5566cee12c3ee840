/**
 * The measuring end of the files' benchmark: `files_client.ts URL FILE BYTES`. Reads and writes one file by the client library, and prints one
 * line of JSON, a {@linkcode FilesFigures}.
 *
 * @module
 */
import { mount } from "../../client/mod.ts";

/** What one round of files gives. */
export interface FilesFigures {
  /** NFS READ, GB/s. */
  read: number;
  /** NFS WRITE and the COMMIT at its end, GB/s. */
  write: number;
}

/** What one call reads or writes; the library makes transfers of the server's size out of it, several at once. */
const PIECE_BYTES = 16 * 1024 * 1024;

const [url, path, bytesText] = Deno.args;
const bytes = Number(bytesText);
await using fs = await mount(url);
using lent = fs.allocate(PIECE_BYTES);
const memory = lent.bytes;

async function rate(body: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await body();
  return bytes / 1e6 / (performance.now() - started);
}

const figures: FilesFigures = { read: 0, write: 0 };
{
  await using file = await fs.open(path, { read: true });
  await file.readAt(memory, 0);
  figures.read = await rate(async () => {
    for (let at = 0; at < bytes;) {
      const count = await file.readAt(memory, at);
      if (count === null) throw new Error(`the file ends at ${at} instead of ${bytes}`);
      at += count;
    }
  });
}
{
  await using file = await fs.open(path, { write: true });
  figures.write = await rate(async () => {
    for (let at = 0; at < bytes; at += memory.byteLength) await file.writeAt(memory, at);
    await file.sync();
  });
}
console.log(JSON.stringify(figures));
