/**
 * The measuring end of the files' benchmark: `files_client.ts URL FILE BYTES`. Reads and writes one file by the client library, and prints one
 * line of JSON, a {@linkcode FilesFigures}.
 *
 * @module
 */
import { mount } from "../../client/mod.ts";
import { median } from "./report.ts";

/** What one round of files gives. */
export interface FilesFigures {
  /** NFS READ, GB/s. */
  read: number;
  /** NFS WRITE, UNSTABLE, to the last reply, GB/s. */
  write: number;
  /** The same and the COMMIT at its end, which waits for the disk, GB/s. */
  writeAndCommit: number;
}

/** What one call reads or writes; the library makes transfers of the server's size out of it, several at once. */
const PIECE_BYTES = 16 * 1024 * 1024;
/** Pieces under way at once, so that the connection is never idle between two of them. */
const PIECES = 2;
/** For how long the file is moved before it counts: both ends are new programs, which the compiler takes a few thousand calls to know. */
const WARM_MS = 2500;
/** How often it is moved then: one pass takes a quarter of a second. */
const PASSES = 5;

const [url, path, bytesText] = Deno.args;
const bytes = Number(bytesText);
await using fs = await mount(url);
using lent = fs.allocate(PIECES * PIECE_BYTES);
const pieces = Array.from({ length: PIECES }, (_, i) => lent.bytes.subarray(i * PIECE_BYTES, (i + 1) * PIECE_BYTES));

/** Moves the whole file, piece by piece. */
async function whole(move: (piece: Uint8Array, offset: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(pieces.map(async (piece) => {
    for (let at = next; at < bytes; at = next) {
      next += PIECE_BYTES;
      await move(piece, at);
    }
  }));
}

/** The median GB/s of moving the whole file, once the compiler knows the program and the page cache the file. */
async function rate(move: (piece: Uint8Array, offset: number) => Promise<void>): Promise<number> {
  const isWarm = performance.now() + WARM_MS;
  while (performance.now() < isWarm) await whole(move);
  const rates: number[] = [];
  for (let pass = 0; pass < PASSES; pass++) {
    const started = performance.now();
    await whole(move);
    rates.push(bytes / 1e6 / (performance.now() - started));
  }
  return median(rates);
}

const figures: FilesFigures = { read: 0, write: 0, writeAndCommit: 0 };
{
  await using file = await fs.open(path, { read: true });
  figures.read = await rate(async (piece, offset) => {
    const count = await file.readAt(piece, offset);
    if (count !== piece.byteLength) throw new Error(`the file ends at ${offset + (count ?? 0)} instead of ${bytes}`);
  });
}
{
  await using file = await fs.open(path, { write: true });
  const write = (piece: Uint8Array, offset: number) => file.writeUnstable(piece, offset);
  figures.write = await rate(write);
  await file.commit();
  const started = performance.now();
  await whole(write);
  await file.commit();
  figures.writeAndCommit = bytes / 1e6 / (performance.now() - started);
}
console.log(JSON.stringify(figures));
