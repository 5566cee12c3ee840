/**
 * Server, NFS: one call being carried out: whose rights it has, attributes before and after, and how its failure is told.
 *
 * @module
 */
import { RdmaError } from "../../rdma/mod.ts";
import type { CallContext, Handler } from "../../rpc/server.ts";
import type { Bulk, BulkSink, BulkStream } from "../../rpc/transport.ts";
import { type Credentials, type FileHandle, type FileSystem, FsError } from "../../storage/backend/file_system.ts";
import {
  type Failure3,
  NfsError,
  type NfsFailure,
  nfsstat3,
  type post_op_attr,
  type Result3,
  statusOfErrno,
  type wcc_attr,
  type wcc_data,
} from "../../storage/nfs/mod.ts";
import type { Export } from "../exports.ts";
import { toFattr3, toWccAttr } from "./attributes.ts";
import type { Change, ChangeTracker } from "./change_tracker.ts";
import { checkName, type DotAnswers } from "./names.ts";
import { run, type Steps, wait } from "./steps.ts";
import type { WriteVerifier } from "./write_verifier.ts";

/** What all calls to a server share. */
export interface NfsServerState {
  readonly export: Export;
  readonly writeVerifier: WriteVerifier;
  readonly changes: ChangeTracker;
  /** The most bytes that one READ or WRITE moves in one piece. */
  readonly transferBytesMax: number;
  /** The most bytes that one moves in pieces. */
  readonly streamBytesMax: number;
}

/** A call under way. */
export class NfsCall {
  readonly fileSystem: FileSystem;
  /** Whose rights it is carried out with. */
  readonly as: Credentials;
  /** By the handle as it stands in the arguments: the object, not its bytes. */
  readonly #observed = new Map<FileHandle, { before: wcc_attr; change: Change }>();
  /** By the handle's bytes, which may stand in the arguments twice. */
  readonly #changes = new Map<string, Change>();
  readonly #context: CallContext;

  constructor(readonly server: NfsServerState, context: CallContext) {
    this.#context = context;
    this.fileSystem = server.export.fileSystem;
    this.as = server.export.credentialsOf(context.credential);
  }

  /** The data of a long WRITE, which come piece by piece. */
  get stream(): BulkStream | undefined {
    return this.#context.stream;
  }

  /** Where the data of a long READ go piece by piece. */
  get sink(): BulkSink | undefined {
    return this.#context.sink;
  }

  /** The most bytes that one READ or WRITE of this client's moves. */
  get transferBytesMax(): number {
    return this.#context.takesStreams ? this.server.streamBytesMax : this.server.transferBytesMax;
  }

  /** Memory for the bulk item of the results; the transport takes it back. @throws {NfsError} NFS3ERR_JUKEBOX while there is none left */
  allocateBulk(lengthBytes: number): Bulk {
    try {
      return this.#context.allocateBulk(lengthBytes);
    } catch (error) {
      throw noMemoryYet(error);
    }
  }

  /** The same of a piece that goes to a sink. */
  *takePiece(sink: BulkSink, lengthBytes: number): Steps<Uint8Array> {
    try {
      return yield* wait(sink.take(lengthBytes));
    } catch (error) {
      throw noMemoryYet(error);
    }
  }

  /**
   * Notes the attributes of files that are about to be changed, then refuses the change if the export is read-only. Throws for a
   * handle that is stale or none.
   */
  *observeForChange(...files: FileHandle[]): Steps<void> {
    for (const file of files) {
      const change = this.#change(file);
      const attributes = yield* wait(this.fileSystem.getAttributes(file, this.as));
      this.#observed.set(file, { before: toWccAttr(attributes), change });
    }
    if (this.server.export.readOnly) throw new NfsError(nfsstat3.NFS3ERR_ROFS);
  }

  /** A file's attributes now; missing where they cannot be had. */
  *attributes(file: FileHandle): Steps<post_op_attr> {
    try {
      return toFattr3(yield* wait(this.fileSystem.getAttributes(file, this.as)));
    } catch (error) {
      failureOf(error);
      return undefined;
    }
  }

  /** Attributes before, where they were noted and nobody else has changed the file since, and now. */
  *wcc(file: FileHandle): Steps<wcc_data> {
    const after = yield* this.attributes(file);
    const observed = this.#observed.get(file);
    return { before: observed?.change.isAlone() ? observed.before : undefined, after };
  }

  /** Ends the call: its changes are made. */
  finish(): void {
    for (const change of this.#changes.values()) change.end();
    this.#changes.clear();
  }

  /** Checks a name of the arguments, see `checkName`. */
  checkName(name: Uint8Array, dots?: DotAnswers): void {
    checkName(name, { bytesMax: this.fileSystem.limits.nameBytesMax, dots });
  }

  #change(file: FileHandle): Change {
    const key = file.toHex();
    let change = this.#changes.get(key);
    if (change === undefined) this.#changes.set(key, change = this.server.changes.begin(key));
    return change;
  }
}

/** What a client is told whose call found no memory; any other error as it is. */
function noMemoryYet(error: unknown): unknown {
  if (!(error instanceof RdmaError && error.code === "Exhausted")) return error;
  return new NfsError(nfsstat3.NFS3ERR_JUKEBOX, undefined, { cause: error });
}

/** A procedure in two parts: what it does, and what goes with the status when that throws. */
export interface Operation<Args, Ok, Fail> {
  ok(args: Args, call: NfsCall): Steps<Ok>;
  fail(args: Args, call: NfsCall): Steps<Fail>;
}

/** Makes handlers of operations: the one place where an error becomes a status. */
export function handlerFor<Args, Ok, Fail>(
  server: NfsServerState,
  operation: Operation<Args, Ok, Fail>,
): Handler<Args, Result3<Ok, Fail>> {
  return (args, context) => run(carryOut(operation, { args, call: new NfsCall(server, context) }));
}

function* carryOut<Args, Ok, Fail>(
  operation: Operation<Args, Ok, Fail>,
  { args, call }: { args: Args; call: NfsCall },
): Steps<Result3<Ok, Fail>> {
  try {
    return { status: nfsstat3.NFS3_OK, value: yield* operation.ok(args, call) };
  } catch (error) {
    const status = failureOf(error);
    return { status, value: yield* operation.fail(args, call) } as Failure3<Fail>;
  } finally {
    call.finish();
  }
}

/** The status for an error of the backend's or of this layer's. Rethrows any other one: it is a fault of ours. */
export function failureOf(error: unknown): NfsFailure {
  if (error instanceof NfsError) return error.status;
  if (error instanceof FsError) return statusOfErrno(error.code);
  throw error;
}
