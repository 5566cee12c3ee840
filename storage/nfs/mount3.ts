/**
 * Storage, NFS: MOUNT version 3, by which a client gets the handle of an export's root (RFC 1813 §5): types and procedures.
 *
 * @module
 */
import {
  array,
  byteString,
  enumeration,
  type Infer,
  list,
  opaque,
  struct,
  uint32,
  union,
  voidType,
  type XdrType,
} from "../../rpc/xdr/mod.ts";
import { defineProgram, NULL_PROCEDURE, procedure } from "../../rpc/program.ts";
import { NFS3_FHSIZE } from "./nfs3_types.ts";

/** The program and its version (RFC 1813 §5.1). */
export const MOUNT_PROGRAM = 100005;
export const MOUNT_V3 = 3;

/** Bytes in a path name and in a host's or group's name (RFC 1813 §5.1.2). */
export const MNTPATHLEN = 1024;
export const MNTNAMLEN = 255;
/** Authentication flavors that a reply names at most. */
export const FLAVORS_MAX = 32;
/** Entries in a list of mounts, exports, or groups of an export, at most. */
export const MOUNTS_MAX = 4096;
export const EXPORTS_MAX = 1024;
export const GROUPS_MAX = 1024;

// RFC 1813 §5.1.3, §5.1.4

export const fhandle3: XdrType<Uint8Array> = opaque(NFS3_FHSIZE);
export type fhandle3 = Infer<typeof fhandle3>;
export const dirpath: XdrType<Uint8Array> = byteString(MNTPATHLEN);
export type dirpath = Infer<typeof dirpath>;
export const name: XdrType<Uint8Array> = byteString(MNTNAMLEN);
export type name = Infer<typeof name>;

/** How a MOUNT server answers (RFC 1813 §5.1.5). */
export const mountstat3 = enumeration({
  MNT3_OK: 0,
  MNT3ERR_PERM: 1,
  MNT3ERR_NOENT: 2,
  MNT3ERR_IO: 5,
  MNT3ERR_ACCES: 13,
  MNT3ERR_NOTDIR: 20,
  MNT3ERR_INVAL: 22,
  MNT3ERR_NAMETOOLONG: 63,
  MNT3ERR_NOTSUPP: 10004,
  MNT3ERR_SERVERFAULT: 10006,
});
export type mountstat3 = Infer<typeof mountstat3>;

// Procedure 1: MNT (RFC 1813 §5.2.1)

export const mountres3_ok = struct({ fhandle: fhandle3, auth_flavors: array(uint32, FLAVORS_MAX) });
export type mountres3_ok = Infer<typeof mountres3_ok>;
export const mountres3 = union("fhs_status", mountstat3, { [mountstat3.MNT3_OK]: mountres3_ok }, voidType);
export type mountres3 = Infer<typeof mountres3>;

// Procedure 2: DUMP (RFC 1813 §5.2.2)

/** Without its `ml_next`, which the list around it stands for. */
export const mountbody = struct({ ml_hostname: name, ml_directory: dirpath });
export type mountbody = Infer<typeof mountbody>;
export const mountlist = list(mountbody, MOUNTS_MAX);
export type mountlist = Infer<typeof mountlist>;

// Procedure 5: EXPORT (RFC 1813 §5.2.5)

/** Without their `gr_next` and `ex_next`, which the lists around them stand for. */
export const groupnode = struct({ gr_name: name });
export type groupnode = Infer<typeof groupnode>;
export const exportnode = struct({ ex_dir: dirpath, ex_groups: list(groupnode, GROUPS_MAX) });
export type exportnode = Infer<typeof exportnode>;
export const exports = list(exportnode, EXPORTS_MAX);
export type exports = Infer<typeof exports>;

/** The most bytes that a reply to DUMP or EXPORT takes. */
export const LIST_BYTES_MAX = 64 * 1024;

/** MOUNT version 3 (RFC 1813 §5.2). UMNT and UMNTALL only tidy a list that informs: repeating them is harmless, as is MNT. */
export const MOUNT3 = defineProgram({
  name: "MOUNT",
  number: MOUNT_PROGRAM,
  version: MOUNT_V3,
  procedures: {
    NULL: NULL_PROCEDURE,
    MNT: procedure({ number: 1, args: dirpath, results: mountres3, idempotent: true }),
    DUMP: procedure({
      number: 2,
      args: voidType,
      results: mountlist,
      idempotent: true,
      resultsBytesMax: LIST_BYTES_MAX,
    }),
    UMNT: procedure({ number: 3, args: dirpath, results: voidType, idempotent: true }),
    UMNTALL: procedure({ number: 4, args: voidType, results: voidType, idempotent: true }),
    EXPORT: procedure({
      number: 5,
      args: voidType,
      results: exports,
      idempotent: true,
      resultsBytesMax: LIST_BYTES_MAX,
    }),
  },
});
