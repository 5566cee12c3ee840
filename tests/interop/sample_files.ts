/**
 * Files that both ends write, read and compare.
 *
 * @module
 */
import { createHash } from "node:crypto";

/** Sizes around the limits of pages, inline messages and segments, and one large. */
export const SIZES = [0, 1, 4095, 4096, 4097, 1024 * 1024 + 3, 64 * 1024 * 1024];

/** Past 2^32, so that a 32-bit offset anywhere would show. */
export const SPARSE_BYTES = 5 * 1024 ** 3;
const SPARSE_PIECES = [0, 2147479552, 4294963200, SPARSE_BYTES - 8192];

/** Makes a directory with a file of each size, named after it, and returns its `sha256sum` list. */
export async function writeSizes(directory: string): Promise<string> {
  await Deno.mkdir(directory);
  let list = "";
  for (const size of SIZES) {
    await Deno.writeFile(`${directory}/${size}`, randomBytes(size));
    list += `${await hashFile(`${directory}/${size}`, "sha256")}  ${size}\n`;
  }
  return list;
}

/** Makes a sparse file of 5 GiB with a few pieces of data, and returns its MD5 (which a guest without SHA instructions can take in time). */
export async function writeSparse(path: string): Promise<string> {
  using file = await Deno.open(path, { write: true, create: true });
  await file.truncate(SPARSE_BYTES);
  for (const at of SPARSE_PIECES) {
    await file.seek(at, Deno.SeekMode.Start);
    await file.write(randomBytes(8192));
  }
  file.close();
  return await hashFile(path, "md5");
}

/** Makes `files` small files in directories of 100, and returns their bytes in all. */
export async function writeTree(directory: string, files: number): Promise<number> {
  let bytes = 0;
  for (let i = 0; i < files; i++) {
    const parent = `${directory}/${Math.floor(i / 100)}`;
    if (i % 100 === 0) await Deno.mkdir(parent, { recursive: true });
    const text = `file ${i}\n`.repeat(i % 7);
    await Deno.writeTextFile(`${parent}/file-${i}`, text);
    bytes += text.length;
  }
  return bytes;
}

/** A file's hash in hexadecimal, read piece by piece. */
export async function hashFile(path: string, algorithm: "sha256" | "md5", at = 0, length = Infinity): Promise<string> {
  using file = await Deno.open(path);
  await file.seek(at, Deno.SeekMode.Start);
  const hash = createHash(algorithm);
  const buffer = new Uint8Array(1024 * 1024);
  for (let left = length; left > 0;) {
    const read = await file.read(buffer.subarray(0, Math.min(buffer.byteLength, left)));
    if (read === null) break;
    hash.update(buffer.subarray(0, read));
    left -= read;
  }
  return hash.digest("hex");
}

function randomBytes(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 65536) crypto.getRandomValues(bytes.subarray(at, at + 65536));
  return bytes;
}
