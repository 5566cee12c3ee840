/**
 * What Deno tells of a file, from NFS attributes (RFC 1813 §2.6).
 *
 * @module
 */
import { ftype3 } from "../storage/nfs/mod.ts";
import type { Time } from "./nfs/nfs_client.ts";

/** What NFSv3 tells of a file: `fattr3` (RFC 1813 §2.6). */
export interface NfsAttributes {
  /** `ftype3`: 1 regular, 2 directory, 3 block device, 4 character device, 5 symbolic link, 6 socket, 7 FIFO. */
  readonly type: 1 | 2 | 3 | 4 | 5 | 6 | 7;
  /** Permission bits. */
  readonly mode: number;
  /** Names of the file. */
  readonly nlink: number;
  /** Owner. */
  readonly uid: number;
  /** Group. */
  readonly gid: number;
  /** Length, bytes. */
  readonly size: bigint;
  /** Storage in use, bytes. */
  readonly used: bigint;
  /** Major and minor number of a device. */
  readonly rdev: { readonly specdata1: number; readonly specdata2: number };
  /** Number of the file system. */
  readonly fsid: bigint;
  /** Number of the file in it. */
  readonly fileid: bigint;
  /** Last access. */
  readonly atime: Time;
  /** Last change of the contents. */
  readonly mtime: Time;
  /** Last change of anything. */
  readonly ctime: Time;
}

/** `Deno.FileInfo`, and the attributes as the server gave them: sizes and file numbers of 64 bits, times in nanoseconds. */
export interface NfsFileInfo extends Deno.FileInfo {
  /** As they came. */
  readonly attributes: NfsAttributes;
}

/** The type bits of `st_mode`. */
const typeBits: Readonly<Record<ftype3, number>> = {
  [ftype3.NF3REG]: 0o100000,
  [ftype3.NF3DIR]: 0o040000,
  [ftype3.NF3BLK]: 0o060000,
  [ftype3.NF3CHR]: 0o020000,
  [ftype3.NF3LNK]: 0o120000,
  [ftype3.NF3SOCK]: 0o140000,
  [ftype3.NF3FIFO]: 0o010000,
};

/** Bytes of the blocks that `blocks` counts. */
const BLOCK_BYTES = 512;

/** Makes a `FileInfo`. `blockBytes`: the preferred size of a transfer. */
export function toFileInfo(attributes: NfsAttributes, blockBytes: number): NfsFileInfo {
  const { type, rdev } = attributes;
  return {
    isFile: type === ftype3.NF3REG,
    isDirectory: type === ftype3.NF3DIR,
    isSymlink: type === ftype3.NF3LNK,
    size: Number(attributes.size),
    mtime: toDate(attributes.mtime),
    atime: toDate(attributes.atime),
    birthtime: null,
    ctime: toDate(attributes.ctime),
    dev: Number(attributes.fsid),
    ino: Number(attributes.fileid),
    mode: typeBits[type] | attributes.mode & 0o7777,
    nlink: attributes.nlink,
    uid: attributes.uid,
    gid: attributes.gid,
    rdev: toDevice(rdev.specdata1, rdev.specdata2),
    blksize: blockBytes,
    blocks: Math.ceil(Number(attributes.used) / BLOCK_BYTES),
    isBlockDevice: type === ftype3.NF3BLK,
    isCharDevice: type === ftype3.NF3CHR,
    isFifo: type === ftype3.NF3FIFO,
    isSocket: type === ftype3.NF3SOCK,
    attributes,
  };
}

/** Kinds of a directory entry, as `Deno.DirEntry` has them. */
export function toDirEntry(name: string, type: NfsAttributes["type"]): Deno.DirEntry {
  return {
    name,
    isFile: type === ftype3.NF3REG,
    isDirectory: type === ftype3.NF3DIR,
    isSymlink: type === ftype3.NF3LNK,
  };
}

/** Milliseconds of a time; what NFS has beyond that is in the attributes. */
function toDate(time: { seconds: number; nseconds: number }): Date {
  return new Date(time.seconds * 1000 + Math.floor(time.nseconds / 1e6));
}

/** A time to set, from what Deno takes: a date, or seconds. Throws `RangeError` for one that NFSv3 cannot express (RFC 1813 §2.5). */
export function toTime(time: number | Date): { seconds: number; nseconds: number } {
  const ms = typeof time === "number" ? time * 1000 : time.getTime();
  const seconds = Math.floor(ms / 1000);
  if (!(seconds >= 0 && seconds <= 0xffffffff)) throw new RangeError("NFS has no such time: 1970 to 2106");
  return { seconds, nseconds: Math.min(999_999_999, Math.round((ms - seconds * 1000) * 1e6)) };
}

/** A device number as Linux puts it together (`makedev`). */
function toDevice(major: number, minor: number): number {
  if (major === 0 && minor === 0) return 0;
  const [high, low] = [BigInt(major), BigInt(minor)];
  return Number(
    (high & 0xfffn) << 8n | (high & ~0xfffn) << 32n | low & 0xffn | (low & ~0xffn) << 12n,
  );
}
