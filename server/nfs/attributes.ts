/**
 * Server, NFS: attributes as a backend knows them and as RFC 1813 §2.5 and §2.6 write them.
 *
 * @module
 */
import type { AttributeChanges, FileAttributes, Timespec } from "../../storage/backend/file_system.ts";
import {
  type fattr3,
  NfsError,
  nfsstat3,
  type nfstime3,
  type sattr3,
  type set_atime,
  time_how,
  type wcc_attr,
} from "../../storage/nfs/mod.ts";

const NANOSECONDS = 1_000_000_000;
const SECONDS_MAX = 0xffffffffn;
/** `(uid_t) -1`: to system calls it means "leave as it is". */
const NO_ID = 0xffffffff;

/** A time on the wire. Its seconds are unsigned 32 bits: what lies before 1970 or behind 2106 becomes the nearest they can say. */
export function toNfstime3({ seconds, nanoseconds }: Timespec): nfstime3 {
  if (seconds < 0n) return { seconds: 0, nseconds: 0 };
  if (seconds > SECONDS_MAX) return { seconds: Number(SECONDS_MAX), nseconds: NANOSECONDS - 1 };
  return { seconds: Number(seconds), nseconds: nanoseconds };
}

/** A time off the wire. @throws {NfsError} NFS3ERR_INVAL where its nanoseconds make a second or more. */
export function toTimespec({ seconds, nseconds }: nfstime3): Timespec {
  if (nseconds >= NANOSECONDS) throw new NfsError(nfsstat3.NFS3ERR_INVAL, `${nseconds} nanoseconds`);
  return { seconds: BigInt(seconds), nanoseconds: nseconds };
}

/** A file's attributes on the wire. */
export function toFattr3(attributes: FileAttributes): fattr3 {
  return {
    type: attributes.type,
    mode: attributes.mode,
    nlink: attributes.nlink,
    uid: attributes.uid,
    gid: attributes.gid,
    size: attributes.size,
    used: attributes.used,
    rdev: { specdata1: attributes.rdevMajor, specdata2: attributes.rdevMinor },
    fsid: attributes.fsid,
    fileid: attributes.fileid,
    atime: toNfstime3(attributes.atime),
    mtime: toNfstime3(attributes.mtime),
    ctime: toNfstime3(attributes.ctime),
  };
}

/** What weak cache consistency compares. */
export function toWccAttr(attributes: FileAttributes): wcc_attr {
  return { size: attributes.size, mtime: toNfstime3(attributes.mtime), ctime: toNfstime3(attributes.ctime) };
}

/** Attributes to be set, off the wire. @throws {NfsError} NFS3ERR_INVAL for values that are none. */
export function toChanges(attributes: sattr3): AttributeChanges {
  const { mode, uid, gid, size, atime, mtime } = attributes;
  if (uid === NO_ID || gid === NO_ID) throw new NfsError(nfsstat3.NFS3ERR_INVAL, `${NO_ID} is nobody's id`);
  const changes: AttributeChanges = {};
  if (mode !== undefined) changes.mode = mode & 0o7777;
  if (uid !== undefined) changes.uid = uid;
  if (gid !== undefined) changes.gid = gid;
  if (size !== undefined) changes.size = size;
  if (atime.set_it !== time_how.DONT_CHANGE) changes.atime = timeToSet(atime);
  if (mtime.set_it !== time_how.DONT_CHANGE) changes.mtime = timeToSet(mtime);
  return changes;
}

/** Attributes for what is not a regular file: a size means nothing there and is not looked at. */
export function toChangesButSize(attributes: sattr3): AttributeChanges {
  const { size: _, ...changes } = toChanges(attributes);
  return changes;
}

function timeToSet(time: set_atime): Timespec | "now" {
  return time.set_it === time_how.SET_TO_CLIENT_TIME ? toTimespec(time.value) : "now";
}
