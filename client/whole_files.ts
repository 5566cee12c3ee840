/**
 * Operations on whole files and trees, below the file API: contents in and out, trees removed.
 *
 * @module
 */
import { ftype3, NfsError, nfsstat3 } from "../storage/nfs/mod.ts";
import { completeItem, type DirectoryItem, listDirectory } from "./nfs/listing.ts";
import type { NfsClient, Node, Options, Place } from "./nfs/nfs_client.ts";
import { readRange, writeRange } from "./nfs/transfer.ts";
import { UncommittedWrites } from "./nfs/uncommitted_writes.ts";
import { encodeName } from "./names.ts";
import { lostError, type Session } from "./session.ts";
import { runBounded } from "./slots.ts";

/** Contents of a stream that are kept for a rewrite before a COMMIT makes room, bytes. */
const RETAINED_BYTES_MAX = 32 * 1024 * 1024;
/** Beyond the known size, contents are read in steps of this. */
const GROWTH_BYTES = 1024 * 1024;
/** Removals under way at once in one directory. */
const REMOVALS_IN_FLIGHT = 32;
/** How often a directory is listed anew because something appeared in it while it was being removed. */
const REMOVE_TRIES = 8;

/** Reads all of a file into memory of its own. */
export async function readWhole(session: Session, node: Node, call: Options): Promise<Uint8Array<ArrayBuffer>> {
  if (node.attributes.type === ftype3.NF3DIR) throw new NfsError(nfsstat3.NFS3ERR_ISDIR);
  const file = session.transferFile(node);
  let contents = new Uint8Array(Number(node.attributes.size));
  let length = 0;
  for (;;) {
    if (length === contents.byteLength) {
      // Usually the end; a file that grew meanwhile goes on, as does one that tells no size.
      const more = new Uint8Array(length === 0 ? GROWTH_BYTES : Math.min(length, GROWTH_BYTES));
      const { bytesRead } = await readRange(file, { offset: BigInt(length), into: more }, call);
      if (bytesRead === 0) return contents;
      const longer = new Uint8Array(length + bytesRead);
      longer.set(contents);
      longer.set(more.subarray(0, bytesRead), length);
      contents = longer;
      length += bytesRead;
      continue;
    }
    const into = contents.subarray(length);
    const { bytesRead, eof } = await readRange(file, { offset: BigInt(length), into }, call);
    length += bytesRead;
    if (eof) return length === contents.byteLength ? contents : contents.slice(0, length);
  }
}

/** Writes contents to a file, and returns when they are on stable storage. */
export async function writeWhole(
  session: Session,
  node: Node,
  contents: { data: Uint8Array | ReadableStream<Uint8Array>; append: boolean },
  call: Options,
): Promise<void> {
  const { data, append } = contents;
  const file = session.transferFile(node);
  let offset = append ? (await session.client.getAttributes(node.handle, call)).size : 0n;
  if (data instanceof Uint8Array && data.byteLength <= file.writeBytesMax) {
    if (data.byteLength > 0) await writeRange(file, { offset, data, stable: true }, call);
    return;
  }
  const uncommitted = new UncommittedWrites(file);
  const commit = async () => {
    const lost = await uncommitted.commit(call);
    if (lost.length > 0) throw lostError(lost);
  };
  const chunks = data instanceof Uint8Array ? [data] : data;
  for await (const chunk of chunks) {
    call.signal?.throwIfAborted();
    await uncommitted.write({ offset, data: chunk, retained: chunk }, call);
    offset += BigInt(chunk.byteLength);
    if (uncommitted.retainedBytes > RETAINED_BYTES_MAX) await commit();
  }
  await commit();
}

/** Removes a directory with everything in it. Symbolic links are removed, never followed. */
export async function removeTree(
  client: NfsClient,
  place: Place,
  directory: Uint8Array,
  call: Options,
): Promise<void> {
  for (let attempt = 1;; attempt++) {
    // Listed to its end first: removing changes what a listing goes through.
    const items: DirectoryItem[] = [];
    for await (const item of listDirectory(client, directory, call)) items.push(item);
    await runBounded(items.map((item) => () => removeItem(client, directory, item, call)), REMOVALS_IN_FLIGHT);
    try {
      await client.removeDirectory(place, call);
      return;
    } catch (error) {
      const isFilled = error instanceof NfsError &&
        (error.status === nfsstat3.NFS3ERR_NOTEMPTY || error.status === nfsstat3.NFS3ERR_EXIST);
      if (!isFilled || attempt === REMOVE_TRIES) throw error;
    }
  }
}

async function removeItem(client: NfsClient, directory: Uint8Array, item: DirectoryItem, call: Options): Promise<void> {
  const node = await completeItem(client, directory, item, call);
  if (node === undefined) return;
  const place = { directory, name: encodeName(item.name) };
  try {
    if (node.attributes.type === ftype3.NF3DIR) await removeTree(client, place, node.handle, call);
    else await client.remove(place, call);
  } catch (error) {
    if (!(error instanceof NfsError && error.status === nfsstat3.NFS3ERR_NOENT)) throw error;
  }
}
