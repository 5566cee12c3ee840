/**
 * Server, NFS: CREATE, MKDIR, SYMLINK, MKNOD (RFC 1813 §3.3.8 to §3.3.11).
 *
 * @module
 */
import type { CreateMode, Entry, FileType } from "../../storage/backend/file_system.ts";
import {
  type CREATE3args,
  type CREATE3resfail,
  type CREATE3resok,
  type createhow3,
  createmode3,
  type diropargs3,
  ftype3,
  type MKDIR3args,
  type MKNOD3args,
  type mknoddata3,
  NfsError,
  nfsstat3,
  type sattr3,
  type SYMLINK3args,
} from "../../storage/nfs/mod.ts";
import { checkSize } from "./attribute_procedures.ts";
import { toChanges, toChangesButSize, toFattr3 } from "./attributes.ts";
import { DOTS_EXIST } from "./names.ts";
import type { NfsCall, Operation } from "./nfs_call.ts";
import { type Steps, wait } from "./steps.ts";

/** CREATE (RFC 1813 §3.3.8). */
export const CREATE: Operation<CREATE3args, CREATE3resok, CREATE3resfail> = making(function* ({ where, how }, call) {
  const mode = toCreateMode(how);
  if (mode.kind !== "exclusive") checkSize(mode.changes.size, call);
  return yield* wait(call.fileSystem.create(where.dir, where.name, mode, call.as));
});

/** MKDIR (RFC 1813 §3.3.9). */
export const MKDIR: Operation<MKDIR3args, CREATE3resok, CREATE3resfail> = making(
  function* ({ where, attributes }, call) {
    const changes = toChangesButSize(attributes);
    return yield* wait(call.fileSystem.makeDirectory(where.dir, where.name, changes, call.as));
  },
);

/** SYMLINK (RFC 1813 §3.3.10). What the link holds is the client's business, as long as it can be a path. */
export const SYMLINK: Operation<SYMLINK3args, CREATE3resok, CREATE3resfail> = making(
  function* ({ where, symlink: { symlink_attributes, symlink_data } }, call) {
    const changes = toChangesButSize(symlink_attributes);
    const target = joined(symlink_data);
    if (target.includes(0)) throw new NfsError(nfsstat3.NFS3ERR_INVAL, "a path may not hold NUL");
    return yield* wait(call.fileSystem.symlink(where.dir, where.name, target, changes, call.as));
  },
);

/** MKNOD (RFC 1813 §3.3.11). */
export const MKNOD: Operation<MKNOD3args, CREATE3resok, CREATE3resfail> = making(function* ({ where, what }, call) {
  const { type, attributes, major, minor } = toNode(what);
  const changes = toChangesButSize(attributes);
  return yield* wait(call.fileSystem.makeNode(where.dir, where.name, { type, major, minor }, changes, call.as));
});

/** What all four have in common: a name that must be good in a directory that is told of before and after. */
function making<Args extends { where: diropargs3 }>(
  make: (args: Args, call: NfsCall) => Steps<Entry>,
): Operation<Args, CREATE3resok, CREATE3resfail> {
  return {
    *ok(args, call) {
      const { dir, name } = args.where;
      yield* call.observeForChange(dir);
      call.checkName(name, DOTS_EXIST);
      const { handle, attributes } = yield* make(args, call);
      return { obj: handle, obj_attributes: toFattr3(attributes), dir_wcc: yield* call.wcc(dir) };
    },
    *fail({ where }, call) {
      return { dir_wcc: yield* call.wcc(where.dir) };
    },
  };
}

function toCreateMode(how: createhow3): CreateMode {
  switch (how.mode) {
    case createmode3.UNCHECKED:
      return { kind: "unchecked", changes: toChanges(how.value) };
    case createmode3.GUARDED:
      return { kind: "guarded", changes: toChanges(how.value) };
    case createmode3.EXCLUSIVE:
      return { kind: "exclusive", verifier: how.value };
  }
}

function toNode(what: mknoddata3): { type: FileType; attributes: sattr3; major: number; minor: number } {
  switch (what.type) {
    case ftype3.NF3CHR:
    case ftype3.NF3BLK: {
      const { dev_attributes, spec } = what.value;
      return { type: what.type, attributes: dev_attributes, major: spec.specdata1, minor: spec.specdata2 };
    }
    case ftype3.NF3SOCK:
    case ftype3.NF3FIFO:
      return { type: what.type, attributes: what.value, major: 0, minor: 0 };
    default:
      throw new NfsError(nfsstat3.NFS3ERR_BADTYPE, `${ftype3.nameOf(what.type)} is made by another procedure`);
  }
}

/** A path in one piece: it is short, and seldom in two. */
function joined(pieces: readonly Uint8Array[]): Uint8Array {
  if (pieces.length === 1) return pieces[0];
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.byteLength, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}
