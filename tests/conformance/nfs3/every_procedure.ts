/**
 * Arguments for every procedure of NFSv3, for tests that go through all of them.
 *
 * @module
 */
import type { ArgsOf } from "../../../rpc/mod.ts";
import { createmode3, ftype3, type NFS3, stable_how } from "../../../storage/nfs/mod.ts";
import { bytes, NO_CHANGES } from "./subject.ts";

type Procedures = typeof NFS3.procedures;
/** Arguments by procedure. */
export type ArgsByName = { [K in keyof Procedures]: ArgsOf<Procedures[K]> };

/** What the arguments name. */
export interface Names {
  /** A handle in the place of every file. */
  file: Uint8Array;
  /** A handle in the place of every directory; `file` if absent. */
  dir?: Uint8Array;
  /** In the place of every name. */
  name: Uint8Array;
}

/** Good arguments, with these handles and this name wherever one stands. */
export function argsWith({ file, dir = file, name }: Names): ArgsByName {
  const where = { dir, name };
  const cookieverf = new Uint8Array(8);
  return {
    NULL: undefined,
    GETATTR: { object: file },
    SETATTR: { object: file, new_attributes: { ...NO_CHANGES, mode: 0o600 }, guard: undefined },
    LOOKUP: { what: where },
    ACCESS: { object: file, access: 0x3f },
    READLINK: { symlink: file },
    READ: { file, offset: 0n, count: 100 },
    WRITE: { file, offset: 0n, count: 5, stable: stable_how.FILE_SYNC, data: [bytes("12345")] },
    CREATE: { where, how: { mode: createmode3.GUARDED, value: { ...NO_CHANGES, mode: 0o644, size: 0n } } },
    MKDIR: { where, attributes: { ...NO_CHANGES, uid: 1000, gid: 1000 } },
    SYMLINK: { where, symlink: { symlink_attributes: NO_CHANGES, symlink_data: [bytes("target")] } },
    MKNOD: { where, what: { type: ftype3.NF3FIFO, value: NO_CHANGES } },
    REMOVE: { object: where },
    RMDIR: { object: where },
    RENAME: { from: where, to: where },
    LINK: { file, link: where },
    READDIR: { dir, cookie: 0n, cookieverf, count: 4096 },
    READDIRPLUS: { dir, cookie: 0n, cookieverf, dircount: 4096, maxcount: 8192 },
    FSSTAT: { fsroot: file },
    FSINFO: { fsroot: file },
    PATHCONF: { object: file },
    COMMIT: { file, offset: 0n, count: 0 },
  };
}

/** The procedures that change something. */
export const CHANGING = [
  "SETATTR",
  "WRITE",
  "CREATE",
  "MKDIR",
  "SYMLINK",
  "MKNOD",
  "REMOVE",
  "RMDIR",
  "RENAME",
  "LINK",
  "COMMIT",
] as const satisfies readonly (keyof Procedures)[];

/** The procedures that take handles. */
export const WITH_HANDLES = [
  "GETATTR",
  "LOOKUP",
  "ACCESS",
  "READLINK",
  "READ",
  "READDIR",
  "READDIRPLUS",
  "FSSTAT",
  "FSINFO",
  "PATHCONF",
  ...CHANGING,
] as const satisfies readonly (keyof Procedures)[];

/** The procedures that take names. */
export const WITH_NAMES = [
  "LOOKUP",
  "CREATE",
  "MKDIR",
  "SYMLINK",
  "MKNOD",
  "REMOVE",
  "RMDIR",
  "RENAME",
  "LINK",
] as const satisfies readonly (keyof Procedures)[];
