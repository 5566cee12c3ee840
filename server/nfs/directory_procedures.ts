/**
 * Server, NFS: READDIR, READDIRPLUS (RFC 1813 §3.3.16, §3.3.17).
 *
 * A reply holds as many entries as fit the caller's counts to the byte. How long it will be is predicted from the entries; a
 * test holds the prediction against the encoder.
 *
 * @module
 */
import { type DirectoryEntry, FsError } from "../../storage/backend/file_system.ts";
import {
  type cookieverf3,
  DIRECTORY_BYTES_MAX,
  type entryplus3,
  fattr3,
  NFS3_COOKIEVERFSIZE,
  NfsError,
  nfsstat3,
  type READDIR3args,
  type READDIR3resfail,
  type READDIR3resok,
  type READDIRPLUS3args,
  type READDIRPLUS3resok,
} from "../../storage/nfs/mod.ts";
import { toFattr3 } from "./attributes.ts";
import type { NfsCall, Operation } from "./nfs_call.ts";
import { type Steps, wait } from "./steps.ts";

/** Entries that are fetched for one reply at most, so that a large directory does not hold up other callers. */
const ENTRIES_MAX = 1024;
/** An entry without its name: pointer, fileid, name length, cookie. */
const ENTRY_BYTES = 4 + 8 + 4 + 8;
/** The flags of an entry's attributes and of its handle. */
const ENTRY_PLUS_FLAGS_BYTES = 4 + 4;

/** READDIR (RFC 1813 §3.3.16). */
export const READDIR: Operation<READDIR3args, READDIR3resok, READDIR3resfail> = {
  *ok(args, call) {
    const room = roomFor(args.count);
    const entriesMax = Math.floor(room / (ENTRY_BYTES + 4));
    const { entries, ...listing } = yield* list(args, { call, withAttributes: false, entriesMax });
    const count = fitting(entries, (entry) => [entryBytes(entry)], [room]);
    return {
      dir_attributes: listing.attributes,
      cookieverf: listing.verifier,
      reply: {
        entries: entries.slice(0, count).map(({ name, fileid, cookie }) => ({ name, fileid, cookie })),
        eof: listing.eof && count === entries.length,
      },
    };
  },
  fail: directoryAttributes,
};

/** READDIRPLUS (RFC 1813 §3.3.17). `dircount` bounds the entries without attributes and handles, `maxcount` the whole `resok`. */
export const READDIRPLUS: Operation<READDIRPLUS3args, READDIRPLUS3resok, READDIR3resfail> = {
  *ok(args, call) {
    const room = roomFor(args.maxcount);
    const dirRoom = args.dircount;
    // Handles of one file system are mostly of one length; where one is not, fewer or more entries than that are fetched.
    const plusBytes = ENTRY_BYTES + 4 + ENTRY_PLUS_FLAGS_BYTES + fattr3.bytesMax + 4 + padded(args.dir.byteLength);
    const entriesMax = Math.min(Math.ceil(room / plusBytes), Math.floor(dirRoom / (ENTRY_BYTES + 4)));
    const { entries, ...listing } = yield* list(args, { call, withAttributes: true, entriesMax });
    const count = fitting(entries, (entry) => [entryPlusBytes(entry), entryBytes(entry)], [room, dirRoom]);
    return {
      dir_attributes: listing.attributes,
      cookieverf: listing.verifier,
      reply: {
        entries: entries.slice(0, count).map(toEntryPlus),
        eof: listing.eof && count === entries.length,
      },
    };
  },
  fail: directoryAttributes,
};

/** Bytes of an `entry3` with its list pointer. */
export function entryBytes(entry: DirectoryEntry): number {
  return ENTRY_BYTES + padded(entry.name.byteLength);
}

/** Bytes of an `entryplus3` with its list pointer. */
export function entryPlusBytes(entry: DirectoryEntry): number {
  const found = entry.entry;
  return entryBytes(entry) + ENTRY_PLUS_FLAGS_BYTES +
    (found === undefined ? 0 : fattr3.bytesMax + 4 + padded(found.handle.byteLength));
}

/** A `resok` without entries: attributes, verifier, the end of the list, `eof`. */
const LISTING_BYTES = 4 + fattr3.bytesMax + NFS3_COOKIEVERFSIZE + 4 + 4;

/** Bytes that are left for entries. @throws {NfsError} NFS3ERR_TOOSMALL */
function roomFor(bytesMax: number): number {
  const room = Math.min(bytesMax, DIRECTORY_BYTES_MAX) - LISTING_BYTES;
  if (room < 0) throw new NfsError(nfsstat3.NFS3ERR_TOOSMALL);
  return room;
}

/** Entries of a directory, and what else a reply tells of it. */
interface Listing {
  entries: DirectoryEntry[];
  eof: boolean;
  attributes: fattr3;
  verifier: cookieverf3;
}

function* list(
  { dir, cookie, cookieverf }: { dir: Uint8Array; cookie: bigint; cookieverf: cookieverf3 },
  { call, withAttributes, entriesMax }: { call: NfsCall; withAttributes: boolean; entriesMax: number },
): Steps<Listing> {
  // One at least, to learn whether there is any that does not fit.
  const options = { cookie, attributes: withAttributes, entriesMax: Math.min(Math.max(entriesMax, 1), ENTRIES_MAX) };
  const { entries, eof } = yield* readDirectory(dir, options, call);
  const attributes = toFattr3(yield* wait(call.fileSystem.getAttributes(dir, call.as)));
  const verifier = verifierOf(attributes.fsid);
  if (cookie !== 0n && !verifier.every((byte, i) => byte === cookieverf[i])) {
    throw new NfsError(nfsstat3.NFS3ERR_BAD_COOKIE, "the cookie is another file system's");
  }
  return { entries, eof, attributes, verifier };
}

function* readDirectory(
  dir: Uint8Array,
  options: { cookie: bigint; entriesMax: number; attributes: boolean },
  call: NfsCall,
): Steps<{ entries: DirectoryEntry[]; eof: boolean }> {
  try {
    return yield* wait(call.fileSystem.readDirectory(dir, options, call.as));
  } catch (error) {
    if (error instanceof FsError && error.code === "EINVAL") {
      throw new NfsError(nfsstat3.NFS3ERR_BAD_COOKIE, undefined, { cause: error });
    }
    throw error;
  }
}

/** Backends' cookies stay good while a directory changes, so that the verifier only tells file systems apart. */
function verifierOf(fsid: bigint): cookieverf3 {
  const verifier = new Uint8Array(NFS3_COOKIEVERFSIZE);
  new DataView(verifier.buffer).setBigUint64(0, fsid);
  return verifier;
}

/** How many entries fit each of the rooms. @throws {NfsError} NFS3ERR_TOOSMALL where there are some and none does. */
function fitting(
  entries: readonly DirectoryEntry[],
  sizes: (entry: DirectoryEntry) => number[],
  rooms: readonly number[],
): number {
  const left = [...rooms];
  for (const [index, entry] of entries.entries()) {
    for (const [i, size] of sizes(entry).entries()) left[i] -= size;
    if (left.some((bytes) => bytes < 0)) {
      if (index === 0) throw new NfsError(nfsstat3.NFS3ERR_TOOSMALL);
      return index;
    }
  }
  return entries.length;
}

function toEntryPlus({ name, fileid, cookie, entry }: DirectoryEntry): entryplus3 {
  return {
    fileid,
    name,
    cookie,
    name_attributes: entry && toFattr3(entry.attributes),
    name_handle: entry?.handle,
  };
}

function* directoryAttributes({ dir }: { dir: Uint8Array }, call: NfsCall): Steps<READDIR3resfail> {
  return { dir_attributes: yield* call.attributes(dir) };
}

function padded(length: number): number {
  return (length + 3) & ~3;
}
