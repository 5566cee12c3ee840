/**
 * Directory listings, piece by piece (RFC 1813 §3.3.16, §3.3.17), with what a server must not make of them kept out.
 *
 * @module
 */
import { type fattr3, NfsError, nfsstat3 } from "../../storage/nfs/mod.ts";
import { decodeName, encodeName, isPlainName } from "../names.ts";
import type { Listing, NfsClient, Node, Options } from "./nfs_client.ts";

/** Asked for at once, bytes. */
const LISTING_BYTES = 64 * 1024;
/** How often a listing is begun anew because the directory changed under it. */
const RESTARTS_MAX = 5;

/** One name of a directory; attributes and handle where the listing brought them. */
export interface DirectoryItem {
  name: string;
  attributes?: fattr3;
  handle?: Uint8Array;
}

/**
 * Every name of a directory except "." and "..", each once, with attributes where the server gives them. Names that could stand for
 * anything but an entry of this directory, and cookies that go in circles, are a server's fault: `NfsError` (NFS3ERR_SERVERFAULT).
 */
export async function* listDirectory(
  client: NfsClient,
  directory: Uint8Array,
  options?: Options,
): AsyncGenerator<DirectoryItem, void, undefined> {
  let cookie = 0n;
  let verifier: Uint8Array = new Uint8Array(8);
  let isPlus = true;
  let restarts = 0;
  const seen = new Set<string>();
  for (;;) {
    const from = { cookie, verifier, countBytes: LISTING_BYTES };
    let listing: Listing;
    try {
      listing = isPlus
        ? await client.readDirectoryPlus(directory, from, options)
        : await client.readDirectory(directory, from, options);
    } catch (error) {
      const status = error instanceof NfsError ? error.status : undefined;
      if (isPlus && (status === nfsstat3.NFS3ERR_NOTSUPP || status === nfsstat3.NFS3ERR_TOOSMALL)) {
        isPlus = false;
        continue;
      }
      if (status === nfsstat3.NFS3ERR_BAD_COOKIE && cookie !== 0n && ++restarts <= RESTARTS_MAX) {
        cookie = 0n;
        verifier = new Uint8Array(8);
        continue;
      }
      throw error;
    }
    for (const entry of listing.entries) {
      if (!isPlainName(entry.name)) throw fault("a name with a slash, a NUL, or nothing in it");
      if (entry.cookie === cookie) throw fault("a cookie that leads nowhere");
      cookie = entry.cookie;
      if (isDot(entry.name)) continue;
      // Names come again after a restart, and where the directory changes meanwhile.
      const name = decodeName(entry.name);
      if (seen.has(name)) continue;
      seen.add(name);
      yield { name, attributes: entry.attributes, handle: entry.handle };
    }
    if (listing.eof) return;
    if (listing.entries.length === 0) throw fault("a listing that brings nothing and does not end");
    verifier = listing.verifier;
  }
}

/** Attributes and handle of a listed name, asked for where the listing did not bring them. `undefined`: it is gone meanwhile. */
export async function completeItem(
  client: NfsClient,
  directory: Uint8Array,
  item: DirectoryItem,
  options?: Options,
): Promise<Node | undefined> {
  const { name, handle, attributes } = item;
  if (handle !== undefined && attributes !== undefined) return { handle, attributes };
  try {
    return await client.lookup({ directory, name: encodeName(name) }, options);
  } catch (error) {
    if (error instanceof NfsError && error.status === nfsstat3.NFS3ERR_NOENT) return undefined;
    throw error;
  }
}

function isDot(name: Uint8Array): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

function fault(what: string): NfsError {
  return new NfsError(nfsstat3.NFS3ERR_SERVERFAULT, `the server lists ${what}`);
}
