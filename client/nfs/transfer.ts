/**
 * File contents in blocks of the server's size, several under way at once (RFC 1813 §3.3.6, §3.3.7).
 *
 * @module
 */
import { runBounded } from "../slots.ts";
import type { NfsClient, Options } from "./nfs_client.ts";

/** READs or WRITEs of one transfer that are under way at once. */
export const BLOCKS_IN_FLIGHT = 16;

/** A file as transfers need it. */
export interface TransferFile {
  client: NfsClient;
  handle: Uint8Array;
  /** The most bytes of one READ and of one WRITE. */
  readBytesMax: number;
  writeBytesMax: number;
}

/** A part of a file that the server has taken but may still lose. */
export interface UnstableRange {
  offset: bigint;
  length: number;
  verifier: bigint;
}

/** Reads up to `into.byteLength` bytes, in place. Returns how many there were before the end of the file; more do not follow if `eof`. */
export async function readRange(
  file: TransferFile,
  range: { offset: bigint; into: Uint8Array },
  options?: Options,
): Promise<{ bytesRead: number; eof: boolean }> {
  const { into } = range;
  if (into.byteLength <= file.readBytesMax) return await readBlock(file, range, options);
  // The first block that ends early is the last one that counts.
  let bytesRead = into.byteLength;
  let eof = false;
  const blocks = function* () {
    for (let at = 0; at < into.byteLength; at += file.readBytesMax) {
      if (at >= bytesRead) return;
      yield async () => {
        const block = into.subarray(at, at + file.readBytesMax);
        const result = await readBlock(file, { offset: range.offset + BigInt(at), into: block }, options);
        const end = at + result.bytesRead;
        const isLast = at + block.byteLength === into.byteLength;
        if ((result.bytesRead < block.byteLength && end < bytesRead) || (isLast && end === bytesRead)) {
          bytesRead = end;
          eof = result.eof;
        }
      };
    }
  };
  await runBounded(blocks(), BLOCKS_IN_FLIGHT);
  return { bytesRead, eof };
}

/** Reads one block, asking again for what a server left out of the middle. */
async function readBlock(
  file: TransferFile,
  range: { offset: bigint; into: Uint8Array },
  options?: Options,
): Promise<{ bytesRead: number; eof: boolean }> {
  const { offset, into } = range;
  let at = 0;
  for (;;) {
    const rest = { offset: offset + BigInt(at), into: at === 0 ? into : into.subarray(at) };
    const { bytesRead, eof } = await file.client.read(file.handle, rest, options);
    at += bytesRead;
    // A read that brings nothing is taken for the end, whatever the server calls it.
    if (eof || at === into.byteLength || bytesRead === 0) return { bytesRead: at, eof: eof || bytesRead === 0 };
  }
}

/** Writes all of `data` from where it lies. Returns what is not on stable storage yet. */
export async function writeRange(
  file: TransferFile,
  range: { offset: bigint; data: Uint8Array; stable: boolean },
  options?: Options,
): Promise<UnstableRange[]> {
  const { data, stable } = range;
  const unstable: UnstableRange[] = [];
  const writeBlock = async (from: number) => {
    const end = Math.min(data.byteLength, from + file.writeBytesMax);
    for (let at = from; at < end;) {
      const piece = at === 0 && end === data.byteLength ? data : data.subarray(at, end);
      const offset = range.offset + BigInt(at);
      const { bytesWritten, isStable, verifier } = await file.client.write(
        file.handle,
        { offset, data: piece, stable },
        options,
      );
      if (!isStable) unstable.push({ offset, length: bytesWritten, verifier });
      at += bytesWritten;
    }
  };
  if (data.byteLength <= file.writeBytesMax) {
    await writeBlock(0);
    return unstable;
  }
  const blocks = function* () {
    for (let at = 0; at < data.byteLength; at += file.writeBytesMax) yield () => writeBlock(at);
  };
  await runBounded(blocks(), BLOCKS_IN_FLIGHT);
  return unstable;
}
