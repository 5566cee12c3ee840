/**
 * Storage, NFS: what an NFSv3 server says about failure (RFC 1813 §2.6), and what it is called among system errors.
 *
 * @module
 */
import { enumeration, type Infer, type XdrEnum } from "../../rpc/xdr/mod.ts";

/** Every status and its number (RFC 1813 §2.6). */
export const NFS3_STATUSES = {
  NFS3_OK: 0,
  NFS3ERR_PERM: 1,
  NFS3ERR_NOENT: 2,
  NFS3ERR_IO: 5,
  NFS3ERR_NXIO: 6,
  NFS3ERR_ACCES: 13,
  NFS3ERR_EXIST: 17,
  NFS3ERR_XDEV: 18,
  NFS3ERR_NODEV: 19,
  NFS3ERR_NOTDIR: 20,
  NFS3ERR_ISDIR: 21,
  NFS3ERR_INVAL: 22,
  NFS3ERR_FBIG: 27,
  NFS3ERR_NOSPC: 28,
  NFS3ERR_ROFS: 30,
  NFS3ERR_MLINK: 31,
  NFS3ERR_NAMETOOLONG: 63,
  NFS3ERR_NOTEMPTY: 66,
  NFS3ERR_DQUOT: 69,
  NFS3ERR_STALE: 70,
  NFS3ERR_REMOTE: 71,
  NFS3ERR_BADHANDLE: 10001,
  NFS3ERR_NOT_SYNC: 10002,
  NFS3ERR_BAD_COOKIE: 10003,
  NFS3ERR_NOTSUPP: 10004,
  NFS3ERR_TOOSMALL: 10005,
  NFS3ERR_SERVERFAULT: 10006,
  NFS3ERR_BADTYPE: 10007,
  NFS3ERR_JUKEBOX: 10008,
} as const;

/** `nfsstat3` (RFC 1813 §2.6): the statuses by name, and their XDR type. */
export const nfsstat3: XdrEnum<typeof NFS3_STATUSES> = enumeration(NFS3_STATUSES);
/** A status. */
export type nfsstat3 = Infer<typeof nfsstat3>;

/** A status other than `NFS3_OK`. */
export type NfsFailure = Exclude<nfsstat3, typeof nfsstat3.NFS3_OK>;

const MEANINGS: Readonly<Record<NfsFailure, string>> = {
  [nfsstat3.NFS3ERR_PERM]: "not the owner",
  [nfsstat3.NFS3ERR_NOENT]: "no such file or directory",
  [nfsstat3.NFS3ERR_IO]: "input or output failed",
  [nfsstat3.NFS3ERR_NXIO]: "no such device or address",
  [nfsstat3.NFS3ERR_ACCES]: "permission denied",
  [nfsstat3.NFS3ERR_EXIST]: "file exists",
  [nfsstat3.NFS3ERR_XDEV]: "not on the same file system",
  [nfsstat3.NFS3ERR_NODEV]: "no such device",
  [nfsstat3.NFS3ERR_NOTDIR]: "not a directory",
  [nfsstat3.NFS3ERR_ISDIR]: "is a directory",
  [nfsstat3.NFS3ERR_INVAL]: "invalid argument",
  [nfsstat3.NFS3ERR_FBIG]: "file too large",
  [nfsstat3.NFS3ERR_NOSPC]: "no space left",
  [nfsstat3.NFS3ERR_ROFS]: "read-only file system",
  [nfsstat3.NFS3ERR_MLINK]: "too many links",
  [nfsstat3.NFS3ERR_NAMETOOLONG]: "file name too long",
  [nfsstat3.NFS3ERR_NOTEMPTY]: "directory not empty",
  [nfsstat3.NFS3ERR_DQUOT]: "disk quota exceeded",
  [nfsstat3.NFS3ERR_STALE]: "the file is gone from the server",
  [nfsstat3.NFS3ERR_REMOTE]: "too many levels of remote",
  [nfsstat3.NFS3ERR_BADHANDLE]: "not a file handle of this server's",
  [nfsstat3.NFS3ERR_NOT_SYNC]: "the file changed meanwhile",
  [nfsstat3.NFS3ERR_BAD_COOKIE]: "the directory cannot be read on from there",
  [nfsstat3.NFS3ERR_NOTSUPP]: "not supported",
  [nfsstat3.NFS3ERR_TOOSMALL]: "buffer too small",
  [nfsstat3.NFS3ERR_SERVERFAULT]: "the server failed",
  [nfsstat3.NFS3ERR_BADTYPE]: "type of file not supported",
  [nfsstat3.NFS3ERR_JUKEBOX]: "the server asks to try again later",
};

/** A server's status other than `NFS3_OK`. A server's own code throws it to answer with that status. */
export class NfsError extends Error {
  /** "NfsError". */
  override readonly name = "NfsError";
  /** The status, a member of `nfsstat3`. */
  readonly status: NfsFailure;

  /** Without a message it says what RFC 1813 means by the status. */
  constructor(status: NfsFailure, message?: string, options?: ErrorOptions) {
    super(`${nfsstat3.nameOf(status)}: ${message ?? MEANINGS[status]}`, options);
    this.status = status;
  }
}

const BY_ERRNO: ReadonlyMap<string, NfsFailure> = new Map<string, NfsFailure>([
  ["EPERM", nfsstat3.NFS3ERR_PERM],
  ["ENOENT", nfsstat3.NFS3ERR_NOENT],
  ["EIO", nfsstat3.NFS3ERR_IO],
  ["ENXIO", nfsstat3.NFS3ERR_NXIO],
  ["EACCES", nfsstat3.NFS3ERR_ACCES],
  ["EEXIST", nfsstat3.NFS3ERR_EXIST],
  ["EXDEV", nfsstat3.NFS3ERR_XDEV],
  ["ENODEV", nfsstat3.NFS3ERR_NODEV],
  ["ENOTDIR", nfsstat3.NFS3ERR_NOTDIR],
  ["EISDIR", nfsstat3.NFS3ERR_ISDIR],
  ["EINVAL", nfsstat3.NFS3ERR_INVAL],
  ["EFBIG", nfsstat3.NFS3ERR_FBIG],
  ["ENOSPC", nfsstat3.NFS3ERR_NOSPC],
  ["EROFS", nfsstat3.NFS3ERR_ROFS],
  ["EMLINK", nfsstat3.NFS3ERR_MLINK],
  ["ENAMETOOLONG", nfsstat3.NFS3ERR_NAMETOOLONG],
  ["ENOTEMPTY", nfsstat3.NFS3ERR_NOTEMPTY],
  ["EDQUOT", nfsstat3.NFS3ERR_DQUOT],
  ["ESTALE", nfsstat3.NFS3ERR_STALE],
  ["EREMOTE", nfsstat3.NFS3ERR_REMOTE],
  ["EBADHANDLE", nfsstat3.NFS3ERR_BADHANDLE],
  ["EBADCOOKIE", nfsstat3.NFS3ERR_BAD_COOKIE],
  ["ENOTSUP", nfsstat3.NFS3ERR_NOTSUPP],
  ["EBADTYPE", nfsstat3.NFS3ERR_BADTYPE],
  ["ETOOSMALL", nfsstat3.NFS3ERR_TOOSMALL],
  ["ESERVERFAULT", nfsstat3.NFS3ERR_SERVERFAULT],
  ["EAGAIN", nfsstat3.NFS3ERR_JUKEBOX],
]);

/** Errnos that share a status with another one, by which that status is known on the way back. */
const ALIASES: ReadonlyMap<string, NfsFailure> = new Map<string, NfsFailure>([
  ["EOPNOTSUPP", nfsstat3.NFS3ERR_NOTSUPP],
  ["ENOSYS", nfsstat3.NFS3ERR_NOTSUPP],
  ["EWOULDBLOCK", nfsstat3.NFS3ERR_JUKEBOX],
  ["EBUSY", nfsstat3.NFS3ERR_ACCES],
  ["ETXTBSY", nfsstat3.NFS3ERR_ACCES],
  ["ELOOP", nfsstat3.NFS3ERR_INVAL],
  ["EOVERFLOW", nfsstat3.NFS3ERR_INVAL],
  ["EDOM", nfsstat3.NFS3ERR_INVAL],
  ["ERANGE", nfsstat3.NFS3ERR_INVAL],
  // Passing shortages of the server's: the client waits and comes again.
  ["ENOMEM", nfsstat3.NFS3ERR_JUKEBOX],
  ["EMFILE", nfsstat3.NFS3ERR_JUKEBOX],
  ["ENFILE", nfsstat3.NFS3ERR_JUKEBOX],
  ["EINTR", nfsstat3.NFS3ERR_JUKEBOX],
]);

const BY_STATUS: ReadonlyMap<NfsFailure, string> = new Map([
  ...[...BY_ERRNO].map(([code, status]): [NfsFailure, string] => [status, code]),
  [nfsstat3.NFS3ERR_NOT_SYNC, "EAGAIN"],
]);

/** The status that tells of a system error, by its name ("ENOENT"); `NFS3ERR_IO` for one that NFS has no word for. */
export function statusOfErrno(code: string): NfsFailure {
  return BY_ERRNO.get(code) ?? ALIASES.get(code) ?? nfsstat3.NFS3ERR_IO;
}

/** The name of the system error that a status tells of. Those that only NFS knows have the kernel's internal names ("EBADHANDLE"). */
export function errnoOfStatus(status: NfsFailure): string {
  return BY_STATUS.get(status) ?? "EIO";
}
