/**
 * From NFS statuses to the errors of Deno's file API, so that code written for local files works unchanged.
 *
 * Class, message and `code` are those that Deno 2 gives for the same fault of a local file; the `NfsError` is the cause.
 *
 * @module
 */
import { errnoOfStatus, NfsError } from "../storage/nfs/nfs3_status.ts";

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
  ENOTSUP: { errno: 95, text: "Operation not supported", class: Deno.errors.NotSupported },
  ESTALE: { errno: 116, text: "Stale file handle" },
  EDQUOT: { errno: 122, text: "Disk quota exceeded" },
} satisfies Record<string, SystemError>;

/** Name of a system error. */
export type ErrorCode = keyof typeof systemErrors;

/** System errors that a server reports under a name that only NFS knows, or that have two names. */
const otherNames: Readonly<Record<string, ErrorCode>> = {
  EBADHANDLE: "ESTALE",
  EBADCOOKIE: "EIO",
  EBADTYPE: "EINVAL",
  ETOOSMALL: "EINVAL",
  ESERVERFAULT: "EIO",
  EREMOTE: "EIO",
};

/** The system error that a server's status stands for (RFC 1813 §2.6); EIO where there is none. */
export function codeOfStatus(error: NfsError): ErrorCode {
  const name = errnoOfStatus(error.status);
  return Object.hasOwn(systemErrors, name) ? name as ErrorCode : otherNames[name] ?? "EIO";
}

/** Whether a `code` is one of those described here. */
export function isKnownCode(code: string): code is ErrorCode {
  return Object.hasOwn(systemErrors, code);
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

/** A system error that was found on this side, on its way to be given the name of the operation. */
export class LocalFault extends Error {
  override readonly name = "LocalFault";
  constructor(readonly code: ErrorCode) {
    super(code);
  }
}

/** The error to throw to an application for one that happened inside. */
export function asFileError(operation: string | undefined, error: unknown): unknown {
  if (error instanceof LocalFault) return systemError(error.code, operation);
  if (error instanceof NfsError) return systemError(codeOfStatus(error), operation, error);
  return error;
}
