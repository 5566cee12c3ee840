/**
 * Server, NFS: the verifier by which clients learn that unstable writes may be lost (RFC 1813 §3.3.7, §3.3.21).
 *
 * @module
 */
import { FsError } from "../../storage/backend/file_system.ts";
import { NFS3_WRITEVERFSIZE } from "../../storage/nfs/mod.ts";

/** Errors by which a write or commit is refused before it touches any data. */
const REFUSALS: ReadonlySet<string> = new Set([
  "EACCES",
  "EAGAIN",
  "EBADHANDLE",
  "EFBIG",
  "EINVAL",
  "EISDIR",
  "ELOOP",
  "EMFILE",
  "ENFILE",
  "ENOENT",
  "EPERM",
  "EROFS",
  "ESTALE",
  "ETXTBSY",
]);

/** 8 random bytes that change when the server starts, and when something could not be brought to stable storage. */
export class WriteVerifier {
  #bytes = fresh();

  /** The verifier. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /**
   * Takes note of why a commit or a stable write failed. An error of the storage is reported once, to whoever syncs first, but may
   * have cost anybody's unstable writes: a new verifier has every client write again what it has not seen committed.
   */
  handleFailure(error: unknown): void {
    if (!(error instanceof FsError && REFUSALS.has(error.code))) this.#bytes = fresh();
  }
}

function fresh(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(NFS3_WRITEVERFSIZE));
}
