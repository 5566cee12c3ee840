/**
 * Storage, backends: the access checks of POSIX, for backends that have no kernel to make them, and what a name may be.
 *
 * @module
 */
import { type Credentials, FsError } from "./file_system.ts";

/** The part of a file's attributes that access checks look at. */
export interface Ownership {
  uid: number;
  gid: number;
  /** Permission bits, 0o7777. */
  mode: number;
}

/** Bits of one class in a mode: read 4, write 2, execute (search) 1. */
export const Permission = { Read: 4, Write: 2, Execute: 1 } as const;

/** Mode bits above the nine of the classes. */
export const ModeBit = { SetUid: 0o4000, SetGid: 0o2000, Sticky: 0o1000, GroupExecute: 0o010 } as const;

/** Whether the caller is in a group, by gid or by a supplementary group. */
export function inGroup(as: Credentials, gid: number): boolean {
  return as.gid === gid || as.gids.includes(gid);
}

/**
 * The `Permission` bits that the caller has on a file: those of the first class that fits, as POSIX has it. The superuser may
 * read and write anything, and execute what has any execute bit or is a directory.
 */
export function grantedBits(file: Ownership, as: Credentials, options: { directory: boolean }): number {
  if (as.uid === 0) {
    return Permission.Read | Permission.Write |
      (options.directory || (file.mode & 0o111) !== 0 ? Permission.Execute : 0);
  }
  if (as.uid === file.uid) return (file.mode >> 6) & 7;
  if (inGroup(as, file.gid)) return (file.mode >> 3) & 7;
  return file.mode & 7;
}

/** Whether the caller may act as the owner of the file: change its mode and times, say. */
export function ownsFile(file: Ownership, as: Credentials): boolean {
  return as.uid === 0 || as.uid === file.uid;
}

/** Whether a sticky directory keeps the caller from removing or renaming a file in it. */
export function stickyForbids(directory: Ownership, file: Ownership, as: Credentials): boolean {
  return (directory.mode & ModeBit.Sticky) !== 0 && !ownsFile(file, as) && !ownsFile(directory, as);
}

/**
 * Checks a name for an entry to be made, removed or looked up.
 *
 * @throws {FsError} EINVAL where it is empty, ".", "..", or holds "/" or NUL; ENAMETOOLONG above `bytesMax`.
 */
export function checkName(name: Uint8Array, bytesMax: number): void {
  if (name.byteLength === 0 || isDot(name) || isDotDot(name)) throw new FsError("EINVAL", "not a name for an entry");
  if (name.byteLength > bytesMax) throw new FsError("ENAMETOOLONG");
  for (const byte of name) {
    if (byte === 0 || byte === 0x2f) throw new FsError("EINVAL", 'a name may hold neither "/" nor NUL');
  }
}

/** Whether the name is ".". */
export function isDot(name: Uint8Array): boolean {
  return name.byteLength === 1 && name[0] === 0x2e;
}

/** Whether the name is "..". */
export function isDotDot(name: Uint8Array): boolean {
  return name.byteLength === 2 && name[0] === 0x2e && name[1] === 0x2e;
}
