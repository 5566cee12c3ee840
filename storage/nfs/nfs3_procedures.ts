/**
 * Storage, NFS: arguments and results of the procedures of NFSv3, in the order of RFC 1813 §3.3, by their names there.
 *
 * `resok` and `resfail` are arms of the result's union, which `result3` declares: `{ status, value }`.
 *
 * @module
 */
import {
  bool,
  bulk,
  enumeration,
  type Infer,
  list,
  optional,
  struct,
  uint32,
  union,
  voidType,
} from "../../rpc/xdr/mod.ts";
import {
  cookie3,
  cookieverf3,
  count3,
  createverf3,
  DIRECTORY_BYTES_MAX,
  diropargs3,
  fattr3,
  fileid3,
  filename3,
  ftype3,
  nfs_fh3,
  nfspath3,
  nfstime3,
  offset3,
  post_op_attr,
  post_op_fh3,
  result3,
  sattr3,
  size3,
  specdata3,
  STREAM_BYTES_MAX,
  wcc_data,
  writeverf3,
} from "./nfs3_types.ts";

// Procedure 1: GETATTR (RFC 1813 §3.3.1)

export const GETATTR3args = struct({ object: nfs_fh3 });
export type GETATTR3args = Infer<typeof GETATTR3args>;
export const GETATTR3resok = struct({ obj_attributes: fattr3 });
export type GETATTR3resok = Infer<typeof GETATTR3resok>;
export const GETATTR3res = result3(GETATTR3resok, voidType);
export type GETATTR3res = Infer<typeof GETATTR3res>;

// Procedure 2: SETATTR (RFC 1813 §3.3.2)

/** `union sattrguard3 switch (bool check)`: the ctime that the file must have. */
export const sattrguard3 = optional(nfstime3);
export type sattrguard3 = Infer<typeof sattrguard3>;
export const SETATTR3args = struct({ object: nfs_fh3, new_attributes: sattr3, guard: sattrguard3 });
export type SETATTR3args = Infer<typeof SETATTR3args>;
export const SETATTR3resok = struct({ obj_wcc: wcc_data });
export type SETATTR3resok = Infer<typeof SETATTR3resok>;
export const SETATTR3resfail = SETATTR3resok;
export type SETATTR3resfail = SETATTR3resok;
export const SETATTR3res = result3(SETATTR3resok, SETATTR3resfail);
export type SETATTR3res = Infer<typeof SETATTR3res>;

// Procedure 3: LOOKUP (RFC 1813 §3.3.3)

export const LOOKUP3args = struct({ what: diropargs3 });
export type LOOKUP3args = Infer<typeof LOOKUP3args>;
export const LOOKUP3resok = struct({ object: nfs_fh3, obj_attributes: post_op_attr, dir_attributes: post_op_attr });
export type LOOKUP3resok = Infer<typeof LOOKUP3resok>;
export const LOOKUP3resfail = struct({ dir_attributes: post_op_attr });
export type LOOKUP3resfail = Infer<typeof LOOKUP3resfail>;
export const LOOKUP3res = result3(LOOKUP3resok, LOOKUP3resfail);
export type LOOKUP3res = Infer<typeof LOOKUP3res>;

// Procedure 4: ACCESS (RFC 1813 §3.3.4)

export const ACCESS3_READ = 0x0001;
export const ACCESS3_LOOKUP = 0x0002;
export const ACCESS3_MODIFY = 0x0004;
export const ACCESS3_EXTEND = 0x0008;
export const ACCESS3_DELETE = 0x0010;
export const ACCESS3_EXECUTE = 0x0020;
export const ACCESS3args = struct({ object: nfs_fh3, access: uint32 });
export type ACCESS3args = Infer<typeof ACCESS3args>;
export const ACCESS3resok = struct({ obj_attributes: post_op_attr, access: uint32 });
export type ACCESS3resok = Infer<typeof ACCESS3resok>;
export const ACCESS3resfail = struct({ obj_attributes: post_op_attr });
export type ACCESS3resfail = Infer<typeof ACCESS3resfail>;
export const ACCESS3res = result3(ACCESS3resok, ACCESS3resfail);
export type ACCESS3res = Infer<typeof ACCESS3res>;

// Procedure 5: READLINK (RFC 1813 §3.3.5)

export const READLINK3args = struct({ symlink: nfs_fh3 });
export type READLINK3args = Infer<typeof READLINK3args>;
export const READLINK3resok = struct({ symlink_attributes: post_op_attr, data: nfspath3 });
export type READLINK3resok = Infer<typeof READLINK3resok>;
export const READLINK3resfail = struct({ symlink_attributes: post_op_attr });
export type READLINK3resfail = Infer<typeof READLINK3resfail>;
export const READLINK3res = result3(READLINK3resok, READLINK3resfail);
export type READLINK3res = Infer<typeof READLINK3res>;

// Procedure 6: READ (RFC 1813 §3.3.6)

export const READ3args = struct({ file: nfs_fh3, offset: offset3, count: count3 });
export type READ3args = Infer<typeof READ3args>;
/** `data`: DDP-eligible (RFC 8267 §4.1). */
export const READ3resok = struct({
  file_attributes: post_op_attr,
  count: count3,
  eof: bool,
  data: bulk(STREAM_BYTES_MAX),
});
export type READ3resok = Infer<typeof READ3resok>;
export const READ3resfail = struct({ file_attributes: post_op_attr });
export type READ3resfail = Infer<typeof READ3resfail>;
export const READ3res = result3(READ3resok, READ3resfail);
export type READ3res = Infer<typeof READ3res>;

// Procedure 7: WRITE (RFC 1813 §3.3.7)

export const stable_how = enumeration({ UNSTABLE: 0, DATA_SYNC: 1, FILE_SYNC: 2 });
export type stable_how = Infer<typeof stable_how>;
/** `data`: DDP-eligible (RFC 8267 §4.1). */
export const WRITE3args = struct({
  file: nfs_fh3,
  offset: offset3,
  count: count3,
  stable: stable_how,
  data: bulk(STREAM_BYTES_MAX),
});
export type WRITE3args = Infer<typeof WRITE3args>;
export const WRITE3resok = struct({ file_wcc: wcc_data, count: count3, committed: stable_how, verf: writeverf3 });
export type WRITE3resok = Infer<typeof WRITE3resok>;
export const WRITE3resfail = struct({ file_wcc: wcc_data });
export type WRITE3resfail = Infer<typeof WRITE3resfail>;
export const WRITE3res = result3(WRITE3resok, WRITE3resfail);
export type WRITE3res = Infer<typeof WRITE3res>;

// Procedure 8: CREATE (RFC 1813 §3.3.8)

export const createmode3 = enumeration({ UNCHECKED: 0, GUARDED: 1, EXCLUSIVE: 2 });
export type createmode3 = Infer<typeof createmode3>;
export const createhow3 = union("mode", createmode3, {
  [createmode3.UNCHECKED]: sattr3,
  [createmode3.GUARDED]: sattr3,
  [createmode3.EXCLUSIVE]: createverf3,
});
export type createhow3 = Infer<typeof createhow3>;
export const CREATE3args = struct({ where: diropargs3, how: createhow3 });
export type CREATE3args = Infer<typeof CREATE3args>;
export const CREATE3resok = struct({ obj: post_op_fh3, obj_attributes: post_op_attr, dir_wcc: wcc_data });
export type CREATE3resok = Infer<typeof CREATE3resok>;
export const CREATE3resfail = struct({ dir_wcc: wcc_data });
export type CREATE3resfail = Infer<typeof CREATE3resfail>;
export const CREATE3res = result3(CREATE3resok, CREATE3resfail);
export type CREATE3res = Infer<typeof CREATE3res>;

// Procedure 9: MKDIR (RFC 1813 §3.3.9)

export const MKDIR3args = struct({ where: diropargs3, attributes: sattr3 });
export type MKDIR3args = Infer<typeof MKDIR3args>;
export const MKDIR3res = CREATE3res;
export type MKDIR3res = CREATE3res;

// Procedure 10: SYMLINK (RFC 1813 §3.3.10)

/** `symlink_data`: DDP-eligible (RFC 8267 §4.1). */
export const symlinkdata3 = struct({ symlink_attributes: sattr3, symlink_data: nfspath3 });
export type symlinkdata3 = Infer<typeof symlinkdata3>;
export const SYMLINK3args = struct({ where: diropargs3, symlink: symlinkdata3 });
export type SYMLINK3args = Infer<typeof SYMLINK3args>;
export const SYMLINK3res = CREATE3res;
export type SYMLINK3res = CREATE3res;

// Procedure 11: MKNOD (RFC 1813 §3.3.11)

export const devicedata3 = struct({ dev_attributes: sattr3, spec: specdata3 });
export type devicedata3 = Infer<typeof devicedata3>;
export const mknoddata3 = union("type", ftype3, {
  [ftype3.NF3CHR]: devicedata3,
  [ftype3.NF3BLK]: devicedata3,
  [ftype3.NF3SOCK]: sattr3,
  [ftype3.NF3FIFO]: sattr3,
}, voidType);
export type mknoddata3 = Infer<typeof mknoddata3>;
export const MKNOD3args = struct({ where: diropargs3, what: mknoddata3 });
export type MKNOD3args = Infer<typeof MKNOD3args>;
export const MKNOD3res = CREATE3res;
export type MKNOD3res = CREATE3res;

// Procedure 12: REMOVE (RFC 1813 §3.3.12)

export const REMOVE3args = struct({ object: diropargs3 });
export type REMOVE3args = Infer<typeof REMOVE3args>;
export const REMOVE3resok = struct({ dir_wcc: wcc_data });
export type REMOVE3resok = Infer<typeof REMOVE3resok>;
export const REMOVE3resfail = REMOVE3resok;
export type REMOVE3resfail = REMOVE3resok;
export const REMOVE3res = result3(REMOVE3resok, REMOVE3resfail);
export type REMOVE3res = Infer<typeof REMOVE3res>;

// Procedure 13: RMDIR (RFC 1813 §3.3.13)

export const RMDIR3args = REMOVE3args;
export type RMDIR3args = REMOVE3args;
export const RMDIR3res = REMOVE3res;
export type RMDIR3res = REMOVE3res;

// Procedure 14: RENAME (RFC 1813 §3.3.14)

export const RENAME3args = struct({ from: diropargs3, to: diropargs3 });
export type RENAME3args = Infer<typeof RENAME3args>;
export const RENAME3resok = struct({ fromdir_wcc: wcc_data, todir_wcc: wcc_data });
export type RENAME3resok = Infer<typeof RENAME3resok>;
export const RENAME3resfail = RENAME3resok;
export type RENAME3resfail = RENAME3resok;
export const RENAME3res = result3(RENAME3resok, RENAME3resfail);
export type RENAME3res = Infer<typeof RENAME3res>;

// Procedure 15: LINK (RFC 1813 §3.3.15)

export const LINK3args = struct({ file: nfs_fh3, link: diropargs3 });
export type LINK3args = Infer<typeof LINK3args>;
export const LINK3resok = struct({ file_attributes: post_op_attr, linkdir_wcc: wcc_data });
export type LINK3resok = Infer<typeof LINK3resok>;
export const LINK3resfail = LINK3resok;
export type LINK3resfail = LINK3resok;
export const LINK3res = result3(LINK3resok, LINK3resfail);
export type LINK3res = Infer<typeof LINK3res>;

// Procedure 16: READDIR (RFC 1813 §3.3.16)

/** Bytes of the smallest entry of a listing: 1 for the pointer, 2 for the fileid, 1 for an empty name, 2 for the cookie, words. */
const ENTRY_BYTES_MIN = 24;
const ENTRIES_MAX = DIRECTORY_BYTES_MAX / ENTRY_BYTES_MIN;

export const READDIR3args = struct({ dir: nfs_fh3, cookie: cookie3, cookieverf: cookieverf3, count: count3 });
export type READDIR3args = Infer<typeof READDIR3args>;
/** Without its `nextentry`, which the list around it stands for. */
export const entry3 = struct({ fileid: fileid3, name: filename3, cookie: cookie3 });
export type entry3 = Infer<typeof entry3>;
export const dirlist3 = struct({ entries: list(entry3, ENTRIES_MAX), eof: bool });
export type dirlist3 = Infer<typeof dirlist3>;
export const READDIR3resok = struct({ dir_attributes: post_op_attr, cookieverf: cookieverf3, reply: dirlist3 });
export type READDIR3resok = Infer<typeof READDIR3resok>;
export const READDIR3resfail = struct({ dir_attributes: post_op_attr });
export type READDIR3resfail = Infer<typeof READDIR3resfail>;
export const READDIR3res = result3(READDIR3resok, READDIR3resfail);
export type READDIR3res = Infer<typeof READDIR3res>;

// Procedure 17: READDIRPLUS (RFC 1813 §3.3.17)

export const READDIRPLUS3args = struct({
  dir: nfs_fh3,
  cookie: cookie3,
  cookieverf: cookieverf3,
  dircount: count3,
  maxcount: count3,
});
export type READDIRPLUS3args = Infer<typeof READDIRPLUS3args>;
/** Without its `nextentry`, which the list around it stands for. */
export const entryplus3 = struct({
  fileid: fileid3,
  name: filename3,
  cookie: cookie3,
  name_attributes: post_op_attr,
  name_handle: post_op_fh3,
});
export type entryplus3 = Infer<typeof entryplus3>;
export const dirlistplus3 = struct({ entries: list(entryplus3, ENTRIES_MAX), eof: bool });
export type dirlistplus3 = Infer<typeof dirlistplus3>;
export const READDIRPLUS3resok = struct({ dir_attributes: post_op_attr, cookieverf: cookieverf3, reply: dirlistplus3 });
export type READDIRPLUS3resok = Infer<typeof READDIRPLUS3resok>;
export const READDIRPLUS3resfail = READDIR3resfail;
export type READDIRPLUS3resfail = READDIR3resfail;
export const READDIRPLUS3res = result3(READDIRPLUS3resok, READDIRPLUS3resfail);
export type READDIRPLUS3res = Infer<typeof READDIRPLUS3res>;

// Procedure 18: FSSTAT (RFC 1813 §3.3.18)

export const FSSTAT3args = struct({ fsroot: nfs_fh3 });
export type FSSTAT3args = Infer<typeof FSSTAT3args>;
export const FSSTAT3resok = struct({
  obj_attributes: post_op_attr,
  tbytes: size3,
  fbytes: size3,
  abytes: size3,
  tfiles: size3,
  ffiles: size3,
  afiles: size3,
  invarsec: uint32,
});
export type FSSTAT3resok = Infer<typeof FSSTAT3resok>;
export const FSSTAT3resfail = struct({ obj_attributes: post_op_attr });
export type FSSTAT3resfail = Infer<typeof FSSTAT3resfail>;
export const FSSTAT3res = result3(FSSTAT3resok, FSSTAT3resfail);
export type FSSTAT3res = Infer<typeof FSSTAT3res>;

// Procedure 19: FSINFO (RFC 1813 §3.3.19)

export const FSF3_LINK = 0x0001;
export const FSF3_SYMLINK = 0x0002;
export const FSF3_HOMOGENEOUS = 0x0008;
export const FSF3_CANSETTIME = 0x0010;
export const FSINFO3args = struct({ fsroot: nfs_fh3 });
export type FSINFO3args = Infer<typeof FSINFO3args>;
export const FSINFO3resok = struct({
  obj_attributes: post_op_attr,
  rtmax: uint32,
  rtpref: uint32,
  rtmult: uint32,
  wtmax: uint32,
  wtpref: uint32,
  wtmult: uint32,
  dtpref: uint32,
  maxfilesize: size3,
  time_delta: nfstime3,
  properties: uint32,
});
export type FSINFO3resok = Infer<typeof FSINFO3resok>;
export const FSINFO3resfail = FSSTAT3resfail;
export type FSINFO3resfail = FSSTAT3resfail;
export const FSINFO3res = result3(FSINFO3resok, FSINFO3resfail);
export type FSINFO3res = Infer<typeof FSINFO3res>;

// Procedure 20: PATHCONF (RFC 1813 §3.3.20)

export const PATHCONF3args = struct({ object: nfs_fh3 });
export type PATHCONF3args = Infer<typeof PATHCONF3args>;
export const PATHCONF3resok = struct({
  obj_attributes: post_op_attr,
  linkmax: uint32,
  name_max: uint32,
  no_trunc: bool,
  chown_restricted: bool,
  case_insensitive: bool,
  case_preserving: bool,
});
export type PATHCONF3resok = Infer<typeof PATHCONF3resok>;
export const PATHCONF3resfail = FSSTAT3resfail;
export type PATHCONF3resfail = FSSTAT3resfail;
export const PATHCONF3res = result3(PATHCONF3resok, PATHCONF3resfail);
export type PATHCONF3res = Infer<typeof PATHCONF3res>;

// Procedure 21: COMMIT (RFC 1813 §3.3.21)

export const COMMIT3args = struct({ file: nfs_fh3, offset: offset3, count: count3 });
export type COMMIT3args = Infer<typeof COMMIT3args>;
export const COMMIT3resok = struct({ file_wcc: wcc_data, verf: writeverf3 });
export type COMMIT3resok = Infer<typeof COMMIT3resok>;
export const COMMIT3resfail = struct({ file_wcc: wcc_data });
export type COMMIT3resfail = Infer<typeof COMMIT3resfail>;
export const COMMIT3res = result3(COMMIT3resok, COMMIT3resfail);
export type COMMIT3res = Infer<typeof COMMIT3res>;
