/**
 * From NFS statuses to the errors of Deno's file API, so that code written for local files works unchanged.
 *
 * Class, message and `code` are those that Deno 2 gives for the same fault of a local file; the `NfsError` is the cause.
 *
 * @module
 */

/** What Linux calls an error: number, text, and the class that Deno throws for it. */
interface SystemError {
  errno: number;
  text: string;
  class?: new (message: string) => Error;
}

/** The errors that a file operation can end with, by the errno's name. */
const systemErrors = {
  EPERM: { errno: 1, text: "Operation not permitted", class: Deno.errors.PermissionDenied },
  ENOENT: { errno: 2, text: "No such file or directory", class: Deno.errors.NotFound },
  EIO: { errno: 5, text: "Input/output error" },
  ENXIO: { errno: 6, text: "No such device or address" },
  EBADF: { errno: 9, text: "Bad file descriptor" },
  EAGAIN: { errno: 11, text: "Resource temporarily unavailable", class: Deno.errors.WouldBlock },
  EACCES: { errno: 13, text: "Permission denied", class: Deno.errors.PermissionDenied },
  EBUSY: { errno: 16, text: "Device or resource busy", class: Deno.errors.Busy },
  EEXIST: { errno: 17, text: "File exists", class: Deno.errors.AlreadyExists },
  EXDEV: { errno: 18, text: "Invalid cross-device link" },
  ENODEV: { errno: 19, text: "No such device" },
  ENOTDIR: { errno: 20, text: "Not a directory", class: Deno.errors.NotADirectory },
  EISDIR: { errno: 21, text: "Is a directory", class: Deno.errors.IsADirectory },
  EINVAL: { errno: 22, text: "Invalid argument", class: TypeError },
  EFBIG: { errno: 27, text: "File too large" },
  ENOSPC: { errno: 28, text: "No space left on device" },
  EROFS: { errno: 30, text: "Read-only file system" },
  EMLINK: { errno: 31, text: "Too many links" },
  ENAMETOOLONG: { errno: 36, text: "File name too long" },
  ENOTEMPTY: { errno: 39, text: "Directory not empty" },
  ELOOP: { errno: 40, text: "Too many levels of symbolic links", class: Deno.errors.FilesystemLoop },
  EOPNOTSUPP: { errno: 95, text: "Operation not supported", class: Deno.errors.NotSupported },
  ESTALE: { errno: 116, text: "Stale file handle" },
  EDQUOT: { errno: 122, text: "Disk quota exceeded" },
} satisfies Record<string, SystemError>;

/** Name of a system error. */
export type ErrorCode = keyof typeof systemErrors;

/** What each NFSv3 status means to a caller of the file API (RFC 1813 §2.6); any other is EIO. */
const statusCodes: Record<string, ErrorCode> = {
  NFS3ERR_PERM: "EPERM",
  NFS3ERR_NOENT: "ENOENT",
  NFS3ERR_IO: "EIO",
  NFS3ERR_NXIO: "ENXIO",
  NFS3ERR_ACCES: "EACCES",
  NFS3ERR_EXIST: "EEXIST",
  NFS3ERR_XDEV: "EXDEV",
  NFS3ERR_NODEV: "ENODEV",
  NFS3ERR_NOTDIR: "ENOTDIR",
  NFS3ERR_ISDIR: "EISDIR",
  NFS3ERR_INVAL: "EINVAL",
  NFS3ERR_FBIG: "EFBIG",
  NFS3ERR_NOSPC: "ENOSPC",
  NFS3ERR_ROFS: "EROFS",
  NFS3ERR_MLINK: "EMLINK",
  NFS3ERR_NAMETOOLONG: "ENAMETOOLONG",
  NFS3ERR_NOTEMPTY: "ENOTEMPTY",
  NFS3ERR_DQUOT: "EDQUOT",
  NFS3ERR_STALE: "ESTALE",
  NFS3ERR_BADHANDLE: "ESTALE",
  NFS3ERR_REMOTE: "EIO",
  NFS3ERR_NOT_SYNC: "EAGAIN",
  NFS3ERR_BAD_COOKIE: "EIO",
  NFS3ERR_NOTSUPP: "EOPNOTSUPP",
  NFS3ERR_TOOSMALL: "EINVAL",
  NFS3ERR_SERVERFAULT: "EIO",
  NFS3ERR_BADTYPE: "EINVAL",
  NFS3ERR_JUKEBOX: "EBUSY",
};

/** What a MOUNT status means (RFC 1813 §5.1.5). */
const mountStatusCodes: Record<string, ErrorCode> = {
  MNT3ERR_PERM: "EPERM",
  MNT3ERR_NOENT: "ENOENT",
  MNT3ERR_IO: "EIO",
  MNT3ERR_ACCES: "EACCES",
  MNT3ERR_NOTDIR: "ENOTDIR",
  MNT3ERR_INVAL: "EINVAL",
  MNT3ERR_NAMETOOLONG: "ENAMETOOLONG",
  MNT3ERR_NOTSUPP: "EOPNOTSUPP",
  MNT3ERR_SERVERFAULT: "EIO",
};

/** A status that an NFS or MOUNT server answered with, as it stands in RFC 1813. */
export class NfsError extends Error {
  override readonly name = "NfsError";
  /** For instance `NFS3ERR_NOENT` (RFC 1813 §2.6) or `MNT3ERR_ACCES` (§5.1.5). */
  readonly status: string;
  /** The procedure that was called. */
  readonly procedure: string;

  constructor(status: string, procedure: string, options?: ErrorOptions) {
    super(`${procedure}: ${status}`, options);
    this.status = status;
    this.procedure = procedure;
  }

  /** The system error that this status stands for. */
  get code(): ErrorCode {
    return statusCodes[this.status] ?? mountStatusCodes[this.status] ?? "EIO";
  }
}

/** Text of a system error, as `strerror` has it. */
export function describeCode(code: ErrorCode): string {
  return systemErrors[code].text;
}

/**
 * Makes the error that Deno throws for a system error: `No such file or directory (os error 2): stat '/x'`.
 * `operation` is what stands behind the colon, absent for operations on open files.
 */
export function systemError(code: ErrorCode, operation?: string, cause?: unknown): Error {
  const { errno, text, class: Class = Error }: SystemError = systemErrors[code];
  const error = new Class(`${text} (os error ${errno})${operation === undefined ? "" : `: ${operation}`}`);
  if (cause !== undefined) error.cause = cause;
  return Object.assign(error, { code });
}

/** The `code` of an error of the file API ("ENOENT", …), ours or Deno's own. */
export function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as Error & { code?: unknown }).code : undefined;
  return typeof code === "string" ? code : undefined;
}

/** Awaits a file operation; an `NfsError` comes out as the error that Deno would throw, anything else as it is. */
export async function asFileErrors<T>(operation: string | undefined, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw asFileError(operation, error);
  }
}

/** The error to throw to an application for one that happened inside. */
export function asFileError(operation: string | undefined, error: unknown): unknown {
  if (error instanceof NfsError) return systemError(error.code, operation, error);
  return error;
}
