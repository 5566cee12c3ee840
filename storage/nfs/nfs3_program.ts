/**
 * Storage, NFS: the program NFSv3 as a table of its 22 procedures (RFC 1813 §3.3), shared by client and server.
 *
 * What may travel as a chunk is told by the types: a `bulk` item of the arguments (WRITE, SYMLINK) as a Read chunk, one of the
 * results (READ, READLINK) as a Write chunk, found by `placement` on a stream (RFC 8267 §4.1).
 *
 * @module
 */
import { defineProgram, NULL_PROCEDURE, procedure } from "../../rpc/program.ts";
import type { BulkPlacement } from "../../rpc/transport.ts";
import * as nfs3 from "./nfs3_procedures.ts";
import { nfsstat3 } from "./nfs3_status.ts";
import { DIRECTORY_BYTES_MAX, fattr3, NFS3_COOKIEVERFSIZE, NFS_PROGRAM, NFS_V3 } from "./nfs3_types.ts";

/** Bytes of a status. */
const STATUS_BYTES = 4;
/** Bytes of `post_op_attr` with and without attributes. */
const ATTRIBUTES_BYTES = 4 + fattr3.bytesMax;
const NO_ATTRIBUTES_BYTES = 4;

/** Where the bulk item of some results is found in them. */
export type ResultsPlacement = Omit<BulkPlacement, "into">;

/** Where `data` lies in READ's results: behind status, attributes, `count`, `eof` and its length (104 bytes, or 20 without attributes). */
export const READ_PLACEMENT: ResultsPlacement = behindAttributes(8);
/** Where the path lies in READLINK's results: behind status, attributes and its length (96 bytes, or 12 without attributes). */
export const READLINK_PLACEMENT: ResultsPlacement = behindAttributes(0);

/** The bulk item of results that begin with a status and a `post_op_attr`; its length follows `between` bytes further on. */
function behindAttributes(between: number): ResultsPlacement {
  const headBytes = STATUS_BYTES + ATTRIBUTES_BYTES + between + 4;
  return {
    headBytes,
    locate(results: Uint8Array): { offset: number; length: number } | undefined {
      if (results.byteLength < STATUS_BYTES + NO_ATTRIBUTES_BYTES) return undefined;
      const view = new DataView(results.buffer, results.byteOffset, results.byteLength);
      if (view.getUint32(0) !== nfsstat3.NFS3_OK) return undefined;
      const attributesFollow = view.getUint32(STATUS_BYTES) !== 0;
      const offset = headBytes - (attributesFollow ? 0 : ATTRIBUTES_BYTES - NO_ATTRIBUTES_BYTES);
      if (results.byteLength < offset) return undefined;
      return { offset, length: view.getUint32(offset - 4) };
    },
  };
}

/**
 * The most bytes that the results of READDIR (`count`) or READDIRPLUS (`maxcount`) take. The limit is meant for all of the results
 * (RFC 1813 §3.3.17); Linux counts the entries alone.
 */
export function listingResultsBytesMax(count: number): number {
  return STATUS_BYTES + ATTRIBUTES_BYTES + NFS3_COOKIEVERFSIZE + count;
}

/** NFSv3 (RFC 1813). What is not idempotent has its replies remembered, so that a repetition gets the same answer. */
export const NFS3 = defineProgram({
  name: "NFS",
  number: NFS_PROGRAM,
  version: NFS_V3,
  procedures: {
    NULL: NULL_PROCEDURE,
    GETATTR: procedure({ number: 1, args: nfs3.GETATTR3args, results: nfs3.GETATTR3res, idempotent: true }),
    // With a guard, a repetition would fail after the first one's success: NFS3ERR_NOT_SYNC.
    SETATTR: procedure({ number: 2, args: nfs3.SETATTR3args, results: nfs3.SETATTR3res, idempotent: false }),
    LOOKUP: procedure({ number: 3, args: nfs3.LOOKUP3args, results: nfs3.LOOKUP3res, idempotent: true }),
    ACCESS: procedure({ number: 4, args: nfs3.ACCESS3args, results: nfs3.ACCESS3res, idempotent: true }),
    READLINK: procedure({
      number: 5,
      args: nfs3.READLINK3args,
      results: nfs3.READLINK3res,
      idempotent: true,
      placement: READLINK_PLACEMENT,
    }),
    READ: procedure({
      number: 6,
      args: nfs3.READ3args,
      results: nfs3.READ3res,
      idempotent: true,
      placement: READ_PLACEMENT,
      streams: true,
    }),
    WRITE: procedure({ number: 7, args: nfs3.WRITE3args, results: nfs3.WRITE3res, idempotent: true, streams: true }),
    CREATE: procedure({ number: 8, args: nfs3.CREATE3args, results: nfs3.CREATE3res, idempotent: false }),
    MKDIR: procedure({ number: 9, args: nfs3.MKDIR3args, results: nfs3.MKDIR3res, idempotent: false }),
    SYMLINK: procedure({ number: 10, args: nfs3.SYMLINK3args, results: nfs3.SYMLINK3res, idempotent: false }),
    MKNOD: procedure({ number: 11, args: nfs3.MKNOD3args, results: nfs3.MKNOD3res, idempotent: false }),
    REMOVE: procedure({ number: 12, args: nfs3.REMOVE3args, results: nfs3.REMOVE3res, idempotent: false }),
    RMDIR: procedure({ number: 13, args: nfs3.RMDIR3args, results: nfs3.RMDIR3res, idempotent: false }),
    RENAME: procedure({ number: 14, args: nfs3.RENAME3args, results: nfs3.RENAME3res, idempotent: false }),
    LINK: procedure({ number: 15, args: nfs3.LINK3args, results: nfs3.LINK3res, idempotent: false }),
    READDIR: procedure({
      number: 16,
      args: nfs3.READDIR3args,
      results: nfs3.READDIR3res,
      idempotent: true,
      resultsBytesMax: listingResultsBytesMax(DIRECTORY_BYTES_MAX),
    }),
    READDIRPLUS: procedure({
      number: 17,
      args: nfs3.READDIRPLUS3args,
      results: nfs3.READDIRPLUS3res,
      idempotent: true,
      resultsBytesMax: listingResultsBytesMax(DIRECTORY_BYTES_MAX),
    }),
    FSSTAT: procedure({ number: 18, args: nfs3.FSSTAT3args, results: nfs3.FSSTAT3res, idempotent: true }),
    FSINFO: procedure({ number: 19, args: nfs3.FSINFO3args, results: nfs3.FSINFO3res, idempotent: true }),
    PATHCONF: procedure({ number: 20, args: nfs3.PATHCONF3args, results: nfs3.PATHCONF3res, idempotent: true }),
    COMMIT: procedure({ number: 21, args: nfs3.COMMIT3args, results: nfs3.COMMIT3res, idempotent: true }),
  },
});
