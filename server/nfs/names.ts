/**
 * Server, NFS: which names a client may give, and what it is told of others (RFC 1813 §3.2, "General comments on filenames").
 *
 * @module
 */
import { isDot, isDotDot } from "../../storage/backend/permissions.ts";
import { NfsError, type NfsFailure, nfsstat3 } from "../../storage/nfs/mod.ts";

const NUL = 0x00;
const SLASH = 0x2f;

/** What a procedure says to "." and "..". */
export interface DotAnswers {
  dot: NfsFailure;
  dotDot: NfsFailure;
}

/** Nothing new can be called so: they are there. */
export const DOTS_EXIST: DotAnswers = { dot: nfsstat3.NFS3ERR_EXIST, dotDot: nfsstat3.NFS3ERR_EXIST };
/** REMOVE takes no directories away. */
export const DOTS_ARE_DIRECTORIES: DotAnswers = { dot: nfsstat3.NFS3ERR_ISDIR, dotDot: nfsstat3.NFS3ERR_ISDIR };
/** RMDIR's answers (RFC 1813 §3.3.13). */
export const DOTS_STAY: DotAnswers = { dot: nfsstat3.NFS3ERR_INVAL, dotDot: nfsstat3.NFS3ERR_EXIST };
/** RENAME's answers (RFC 1813 §3.3.14). */
export const DOTS_INVALID: DotAnswers = { dot: nfsstat3.NFS3ERR_INVAL, dotDot: nfsstat3.NFS3ERR_INVAL };

/**
 * Checks a name off the wire; `dots` absent: "." and ".." are welcome.
 *
 * @throws {NfsError} NFS3ERR_ACCES where it is empty or holds "/" or NUL, NFS3ERR_NAMETOOLONG, or one of `dots`.
 */
export function checkName(name: Uint8Array, options: { bytesMax: number; dots?: DotAnswers }): void {
  if (name.byteLength === 0) throw new NfsError(nfsstat3.NFS3ERR_ACCES, "an empty name");
  if (name.byteLength > options.bytesMax) throw new NfsError(nfsstat3.NFS3ERR_NAMETOOLONG);
  if (options.dots !== undefined) {
    if (isDot(name)) throw new NfsError(options.dots.dot, '"." stands for the directory itself');
    if (isDotDot(name)) throw new NfsError(options.dots.dotDot, '".." stands for the directory above');
  }
  if (name.includes(SLASH) || name.includes(NUL)) {
    throw new NfsError(nfsstat3.NFS3ERR_ACCES, 'a name holds neither "/" nor NUL');
  }
}
