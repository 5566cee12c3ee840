/**
 * Storage, backends: errno numbers of Linux and their names.
 *
 * @module
 */
import { FsError } from "./file_system.ts";

/** The operation would have to wait. Never reaches a caller. */
export const EINPROGRESS = 115;
/** No room in a queue. */
export const EBUSY = 16;

const NAMES: Readonly<Record<number, string>> = {
  1: "EPERM",
  2: "ENOENT",
  4: "EINTR",
  5: "EIO",
  6: "ENXIO",
  7: "E2BIG",
  9: "EBADF",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  16: "EBUSY",
  17: "EEXIST",
  18: "EXDEV",
  19: "ENODEV",
  20: "ENOTDIR",
  21: "EISDIR",
  22: "EINVAL",
  23: "ENFILE",
  24: "EMFILE",
  26: "ETXTBSY",
  27: "EFBIG",
  28: "ENOSPC",
  29: "ESPIPE",
  30: "EROFS",
  31: "EMLINK",
  36: "ENAMETOOLONG",
  38: "ENOSYS",
  39: "ENOTEMPTY",
  40: "ELOOP",
  75: "EOVERFLOW",
  95: "EOPNOTSUPP",
  110: "ETIMEDOUT",
  115: "EINPROGRESS",
  116: "ESTALE",
  122: "EDQUOT",
  // The kernel's own, which its file servers use (include/linux/errno.h).
  521: "EBADHANDLE",
};

/** The error that a negative errno from native code stands for. */
export function fsError(status: number, message?: string): FsError {
  const code = NAMES[-status] ?? `E${-status}`;
  return new FsError(code, message === undefined ? code : `${code}: ${message}`);
}
