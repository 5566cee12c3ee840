/**
 * Server, NFS: GETATTR, SETATTR, ACCESS (RFC 1813 §3.3.1, §3.3.2, §3.3.4).
 *
 * @module
 */
import { FsError } from "../../storage/backend/file_system.ts";
import {
  ACCESS3_DELETE,
  ACCESS3_EXTEND,
  ACCESS3_MODIFY,
  type ACCESS3args,
  type ACCESS3resfail,
  type ACCESS3resok,
  type GETATTR3args,
  type GETATTR3resok,
  NfsError,
  nfsstat3,
  type SETATTR3args,
  type SETATTR3resok,
} from "../../storage/nfs/mod.ts";
import { toChanges, toFattr3, toTimespec } from "./attributes.ts";
import type { NfsCall, Operation } from "./nfs_call.ts";
import { type Steps, wait } from "./steps.ts";

const ACCESS3_CHANGE = ACCESS3_MODIFY | ACCESS3_EXTEND | ACCESS3_DELETE;

/** GETATTR (RFC 1813 §3.3.1). */
export const GETATTR: Operation<GETATTR3args, GETATTR3resok, void> = {
  *ok({ object }, call) {
    return { obj_attributes: toFattr3(yield* wait(call.fileSystem.getAttributes(object, call.as))) };
  },
  *fail() {},
};

/** SETATTR (RFC 1813 §3.3.2). */
export const SETATTR: Operation<SETATTR3args, SETATTR3resok, SETATTR3resok> = {
  *ok({ object, new_attributes, guard }, call) {
    yield* call.observeForChange(object);
    const changes = toChanges(new_attributes);
    checkSize(changes.size, call);
    const ctime = guard && toTimespec(guard);
    try {
      yield* wait(call.fileSystem.setAttributes(object, changes, call.as, ctime));
    } catch (error) {
      // The guard's failure, which only here is told from a backend that wants to be asked again.
      if (ctime !== undefined && error instanceof FsError && error.code === "EAGAIN") {
        throw new NfsError(nfsstat3.NFS3ERR_NOT_SYNC, undefined, { cause: error });
      }
      throw error;
    }
    return { obj_wcc: yield* call.wcc(object) };
  },
  *fail({ object }, call): Steps<SETATTR3resok> {
    return { obj_wcc: yield* call.wcc(object) };
  },
};

/** ACCESS (RFC 1813 §3.3.4). */
export const ACCESS: Operation<ACCESS3args, ACCESS3resok, ACCESS3resfail> = {
  *ok({ object, access }, call) {
    const granted = yield* wait(call.fileSystem.access(object, access, call.as));
    const allowed = call.server.export.readOnly ? granted & ~ACCESS3_CHANGE : granted;
    return { obj_attributes: yield* call.attributes(object), access: allowed & access };
  },
  *fail({ object }, call) {
    return { obj_attributes: yield* call.attributes(object) };
  },
};

/** @throws {NfsError} NFS3ERR_FBIG for a size that no file can have here. */
export function checkSize(size: bigint | undefined, call: NfsCall): void {
  if (size !== undefined && size > call.fileSystem.limits.fileBytesMax) throw new NfsError(nfsstat3.NFS3ERR_FBIG);
}
