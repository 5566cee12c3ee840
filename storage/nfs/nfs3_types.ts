/**
 * Storage, NFS: the basic data types of NFSv3 in the order of RFC 1813 §2.3 to §2.6, by their names there.
 *
 * @module
 */
import {
  bulk,
  byteString,
  enumeration,
  type Infer,
  opaque,
  opaqueFixed,
  optional,
  struct,
  uint32,
  uint64,
  union,
  voidType,
  type XdrType,
} from "../../rpc/xdr/mod.ts";
import { type NfsFailure, nfsstat3 } from "./nfs3_status.ts";

/** The program and its version (RFC 1813 §2.2). */
export const NFS_PROGRAM = 100003;
export const NFS_V3 = 3;

/** Sizes (RFC 1813 §2.4), bytes. */
export const NFS3_FHSIZE = 64;
export const NFS3_COOKIEVERFSIZE = 8;
export const NFS3_CREATEVERFSIZE = 8;
export const NFS3_WRITEVERFSIZE = 8;

/**
 * The longest name and the longest path that this implementation takes off the wire, bytes; RFC 1813 sets no limit. Beyond what a
 * file system allows, but still decoded, a name gets `NFS3ERR_NAMETOOLONG`; above this limit a message is malformed.
 */
export const FILENAME_BYTES_MAX = 4096;
export const PATH_BYTES_MAX = 4096;
/** The most data that one READ or WRITE carries here in one piece, bytes. */
export const TRANSFER_BYTES_MAX = 1 << 21;
/** The most data that one carries in pieces, bytes. */
export const STREAM_BYTES_MAX = 1 << 23;
/** The longest reply to READDIR or READDIRPLUS that is made or taken, bytes. */
export const DIRECTORY_BYTES_MAX = 1 << 20;

// RFC 1813 §2.5

/** A name in a directory: bytes. */
export const filename3: XdrType<Uint8Array> = byteString(FILENAME_BYTES_MAX);
export type filename3 = Infer<typeof filename3>;
/** The path that a symbolic link holds. DDP-eligible in SYMLINK's arguments and READLINK's results (RFC 8267 §4.1). */
export const nfspath3: XdrType<readonly Uint8Array[]> = bulk(PATH_BYTES_MAX);
export type nfspath3 = Infer<typeof nfspath3>;
export const fileid3 = uint64;
export type fileid3 = Infer<typeof fileid3>;
export const cookie3 = uint64;
export type cookie3 = Infer<typeof cookie3>;
export const cookieverf3: XdrType<Uint8Array> = opaqueFixed(NFS3_COOKIEVERFSIZE);
export type cookieverf3 = Infer<typeof cookieverf3>;
export const createverf3: XdrType<Uint8Array> = opaqueFixed(NFS3_CREATEVERFSIZE);
export type createverf3 = Infer<typeof createverf3>;
export const writeverf3: XdrType<Uint8Array> = opaqueFixed(NFS3_WRITEVERFSIZE);
export type writeverf3 = Infer<typeof writeverf3>;
export const uid3 = uint32;
export type uid3 = Infer<typeof uid3>;
export const gid3 = uint32;
export type gid3 = Infer<typeof gid3>;
export const size3 = uint64;
export type size3 = Infer<typeof size3>;
export const offset3 = uint64;
export type offset3 = Infer<typeof offset3>;
export const mode3 = uint32;
export type mode3 = Infer<typeof mode3>;
export const count3 = uint32;
export type count3 = Infer<typeof count3>;

/** The kinds of file. */
export const ftype3 = enumeration({
  NF3REG: 1,
  NF3DIR: 2,
  NF3BLK: 3,
  NF3CHR: 4,
  NF3LNK: 5,
  NF3SOCK: 6,
  NF3FIFO: 7,
});
export type ftype3 = Infer<typeof ftype3>;

/** Device numbers: major and minor. */
export const specdata3 = struct({ specdata1: uint32, specdata2: uint32 });
export type specdata3 = Infer<typeof specdata3>;

/** A file handle: `struct nfs_fh3 { opaque data<NFS3_FHSIZE>; }`. */
export const nfs_fh3: XdrType<Uint8Array> = opaque(NFS3_FHSIZE);
export type nfs_fh3 = Infer<typeof nfs_fh3>;

/** Seconds, unsigned, and nanoseconds since 1970-01-01 UTC. */
export const nfstime3 = struct({ seconds: uint32, nseconds: uint32 });
export type nfstime3 = Infer<typeof nfstime3>;

/** Attributes of a file. */
export const fattr3 = struct({
  type: ftype3,
  mode: mode3,
  nlink: uint32,
  uid: uid3,
  gid: gid3,
  size: size3,
  used: size3,
  rdev: specdata3,
  fsid: uint64,
  fileid: fileid3,
  atime: nfstime3,
  mtime: nfstime3,
  ctime: nfstime3,
});
export type fattr3 = Infer<typeof fattr3>;

/** `union post_op_attr switch (bool attributes_follow)`. */
export const post_op_attr: XdrType<fattr3 | undefined> = optional(fattr3);
export type post_op_attr = Infer<typeof post_op_attr>;

/** The part of the attributes by which a client sees whether somebody else changed the file. */
export const wcc_attr = struct({ size: size3, mtime: nfstime3, ctime: nfstime3 });
export type wcc_attr = Infer<typeof wcc_attr>;

/** `union pre_op_attr switch (bool attributes_follow)`. */
export const pre_op_attr: XdrType<wcc_attr | undefined> = optional(wcc_attr);
export type pre_op_attr = Infer<typeof pre_op_attr>;

/** Weak cache consistency data: a file before and after an operation. */
export const wcc_data = struct({ before: pre_op_attr, after: post_op_attr });
export type wcc_data = Infer<typeof wcc_data>;

/** `union post_op_fh3 switch (bool handle_follows)`. */
export const post_op_fh3: XdrType<nfs_fh3 | undefined> = optional(nfs_fh3);
export type post_op_fh3 = Infer<typeof post_op_fh3>;

/** How a time is set. */
export const time_how = enumeration({ DONT_CHANGE: 0, SET_TO_SERVER_TIME: 1, SET_TO_CLIENT_TIME: 2 });
export type time_how = Infer<typeof time_how>;

/** `union set_atime switch (time_how set_it)`. */
export const set_atime = union("set_it", time_how, { [time_how.SET_TO_CLIENT_TIME]: nfstime3 }, voidType);
export type set_atime = Infer<typeof set_atime>;
/** `union set_mtime switch (time_how set_it)`. */
export const set_mtime = union("set_it", time_how, { [time_how.SET_TO_CLIENT_TIME]: nfstime3 }, voidType);
export type set_mtime = Infer<typeof set_mtime>;

/** Attributes to set; `set_mode3`, `set_uid3`, `set_gid3` and `set_size3` are unions over a boolean: missing where not to be set. */
export const sattr3 = struct({
  mode: optional(mode3),
  uid: optional(uid3),
  gid: optional(gid3),
  size: optional(size3),
  atime: set_atime,
  mtime: set_mtime,
});
export type sattr3 = Infer<typeof sattr3>;

/** A name in a directory. */
export const diropargs3 = struct({ dir: nfs_fh3, name: filename3 });
export type diropargs3 = Infer<typeof diropargs3>;

/** A result in TypeScript, told apart by `status`. */
export type Result3<Ok, Fail> = { status: typeof nfsstat3.NFS3_OK; value: Ok } | Failure3<Fail>;

/** A result with a status other than `NFS3_OK`. */
export type Failure3<Fail> = [Fail] extends [void] ? { status: NfsFailure; value?: undefined }
  : { status: NfsFailure; value: Fail };

/** `union switch (nfsstat3 status)`: `resok` where it is `NFS3_OK`, `resfail` with any other one. */
export function result3<Ok, Fail>(resok: XdrType<Ok>, resfail: XdrType<Fail>): XdrType<Result3<Ok, Fail>> {
  const type: unknown = union("status", nfsstat3, { [nfsstat3.NFS3_OK]: resok }, resfail);
  return type as XdrType<Result3<Ok, Fail>>;
}
