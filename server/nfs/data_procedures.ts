/**
 * Server, NFS: READ, WRITE, COMMIT (RFC 1813 §3.3.6, §3.3.7, §3.3.21).
 *
 * File data is read into memory that the transport sends from, and written from where the transport received it.
 *
 * @module
 */
import type { BulkSink, BulkStream } from "../../rpc/transport.ts";
import { SentPieces } from "../../rpc/xdr/mod.ts";
import { FsError } from "../../storage/backend/file_system.ts";
import {
  type COMMIT3args,
  type COMMIT3resfail,
  type COMMIT3resok,
  NfsError,
  nfsstat3,
  type READ3args,
  type READ3resfail,
  type READ3resok,
  stable_how,
  type WRITE3args,
  type WRITE3resfail,
  type WRITE3resok,
} from "../../storage/nfs/mod.ts";
import type { NfsCall, Operation } from "./nfs_call.ts";
import { type Steps, wait } from "./steps.ts";

const NOTHING = new Uint8Array(0);

/** READ (RFC 1813 §3.3.6). A count above the server's maximum gets that many bytes. */
export const READ: Operation<READ3args, READ3resok, READ3resfail> = {
  *ok({ file, offset, count }, call) {
    const { fileBytesMax } = call.fileSystem.limits;
    if (call.sink !== undefined && count > call.server.transferBytesMax) {
      const { count: bytesRead, eof } = yield* readIntoSink(call, call.sink, { file, offset, count });
      return {
        file_attributes: yield* call.attributes(file),
        count: bytesRead,
        eof,
        data: new SentPieces(bytesRead),
      };
    }
    const length = Math.min(count, call.server.transferBytesMax);
    const into = length === 0 ? NOTHING : call.allocateBulk(length).bytes.subarray(0, length);
    // No file goes on behind `fileBytesMax`, so that whoever reads there is at the end.
    const from = offset < fileBytesMax ? offset : fileBytesMax;
    const { bytesRead, eof } = yield* wait(call.fileSystem.read(file, from, into, call.as));
    return {
      file_attributes: yield* call.attributes(file),
      count: bytesRead,
      eof,
      data: bytesRead === 0 ? [] : [into.subarray(0, bytesRead)],
    };
  },
  *fail({ file }, call) {
    return { file_attributes: yield* call.attributes(file) };
  },
};

/** WRITE (RFC 1813 §3.3.7). */
export const WRITE: Operation<WRITE3args, WRITE3resok, WRITE3resfail> = {
  *ok({ file, offset, count, stable, data }, call) {
    yield* call.observeForChange(file);
    const length = call.stream === undefined
      ? data.reduce((sum, piece) => sum + piece.byteLength, 0)
      : unpadded(call.stream.length, count);
    if (length !== count) throw new NfsError(nfsstat3.NFS3ERR_INVAL, `${length} bytes of data where count is ${count}`);
    if (offset + BigInt(count) > call.fileSystem.limits.fileBytesMax) throw new NfsError(nfsstat3.NFS3ERR_FBIG);
    // The verifier as it is now: should it change meanwhile, these bytes are among those in doubt.
    const { writeVerifier } = call.server;
    const verf = writeVerifier.bytes;
    try {
      const { bytesWritten, committed } = call.stream === undefined
        ? yield* wait(call.fileSystem.write(file, offset, data, stable, call.as))
        : yield* writeStream(call, call.stream, { file, offset, count, stable });
      return { file_wcc: yield* call.wcc(file), count: bytesWritten, committed, verf };
    } catch (error) {
      if (stable !== stable_how.UNSTABLE) writeVerifier.handleFailure(error);
      throw error;
    }
  },
  *fail({ file }, call) {
    return { file_wcc: yield* call.wcc(file) };
  },
};

/** Reads data piece by piece, each on its way while the next is read. An error behind the first piece makes it a short read. */
function* readIntoSink(
  call: NfsCall,
  sink: BulkSink,
  { file, offset, count }: READ3args,
): Steps<{ count: number; eof: boolean }> {
  const { fileBytesMax } = call.fileSystem.limits;
  const length = Math.min(count, call.transferBytesMax, sink.room);
  let bytesRead = 0;
  let eof = false;
  while (bytesRead < length && !eof) {
    const into = yield* call.takePiece(sink, length - bytesRead);
    const at = offset + BigInt(bytesRead);
    try {
      const read = yield* wait(call.fileSystem.read(file, at < fileBytesMax ? at : fileBytesMax, into, call.as));
      eof = read.eof;
      bytesRead += read.bytesRead;
      sink.put(read.bytesRead);
      if (read.bytesRead < into.byteLength) break;
    } catch (error) {
      if (bytesRead === 0 || !(error instanceof FsError)) throw error;
      break;
    }
  }
  return { count: bytesRead, eof };
}

/** Bytes of a stream's contents: `count` where the rest is XDR's padding. */
function unpadded(streamBytes: number, count: number): number {
  return streamBytes === count + (-count & 3) ? count : streamBytes;
}

/** Writes data as they come. An error behind the first piece makes it a short write, which the client goes on from. */
function* writeStream(
  call: NfsCall,
  stream: BulkStream,
  { file, offset, count, stable }: Omit<WRITE3args, "data">,
): Steps<{ bytesWritten: number; committed: stable_how }> {
  let bytesWritten = 0;
  while (bytesWritten < count) {
    const piece = yield* wait(stream.next());
    if (piece === undefined) break;
    const data = piece.subarray(0, count - bytesWritten); // behind it is padding
    const at = offset + BigInt(bytesWritten);
    try {
      const written = yield* wait(call.fileSystem.write(file, at, [data], stable_how.UNSTABLE, call.as));
      bytesWritten += written.bytesWritten;
      if (written.bytesWritten < data.byteLength) break;
    } catch (error) {
      if (bytesWritten === 0 || !(error instanceof FsError)) throw error;
      break;
    }
  }
  if (stable === stable_how.UNSTABLE) return { bytesWritten, committed: stable };
  yield* wait(call.fileSystem.commit(file, offset, bytesWritten, call.as));
  return { bytesWritten, committed: stable_how.FILE_SYNC };
}

/** COMMIT (RFC 1813 §3.3.21). A count of 0 means all behind `offset`. */
export const COMMIT: Operation<COMMIT3args, COMMIT3resok, COMMIT3resfail> = {
  *ok({ file, offset, count }, call) {
    yield* call.observeForChange(file);
    const { writeVerifier } = call.server;
    const { fileBytesMax } = call.fileSystem.limits;
    const whole = count === 0 || offset + BigInt(count) > fileBytesMax;
    try {
      yield* wait(call.fileSystem.commit(file, whole ? 0n : offset, whole ? 0 : count, call.as));
    } catch (error) {
      writeVerifier.handleFailure(error);
      throw error;
    }
    return { file_wcc: yield* call.wcc(file), verf: writeVerifier.bytes };
  },
  *fail({ file }, call) {
    return { file_wcc: yield* call.wcc(file) };
  },
};
