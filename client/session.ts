/**
 * What the files and the directory tree of one mount share.
 *
 * @module
 */
import type { Bulk } from "../rpc/transport.ts";
import { systemError } from "./errors.ts";
import type { NfsClient, Node, Options } from "./nfs/nfs_client.ts";
import { PathWalker } from "./nfs/path_walk.ts";
import type { TransferFile } from "./nfs/transfer.ts";

/** Larger blocks leave the caches before they are written on, smaller ones cost more calls: 2, 4 and 8 MiB were compared. */
const BLOCK_BYTES_MAX = 4 * 1024 * 1024;

/** Limits and habits of a mount. */
export interface SessionOptions {
  /** The most bytes of one READ and of one WRITE (`rtmax`, `wtmax`). */
  readBytesMax: number;
  writeBytesMax: number;
  /** Whether a large `write` of a file waits for stable storage. */
  writeThrough: boolean;
  /** Registers memory of the application's; nothing happens where the transport has no use for that. */
  register?: (bytes: Uint8Array) => Disposable;
  /** Ends everything. */
  signal?: AbortSignal;
}

/** The server's tree as one mount sees it. */
export class Session {
  readonly client: NfsClient;
  readonly walker: PathWalker;
  readonly options: SessionOptions;
  readonly root: Node;
  readonly #closing = new AbortController();
  readonly #signal: AbortSignal;
  readonly #background = new Set<Promise<void>>();
  readonly #failures: unknown[] = [];

  constructor(client: NfsClient, root: Node, options: SessionOptions) {
    this.client = client;
    this.root = root;
    this.options = options;
    this.walker = new PathWalker(client, root);
    const { signal } = options;
    this.#signal = signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal]);
  }

  /** Options of a call: it ends with the mount, or with a signal of its own. */
  call(signal?: AbortSignal): Options & { signal: AbortSignal } {
    const both = signal === undefined ? this.#signal : AbortSignal.any([signal, this.#signal]);
    both.throwIfAborted();
    return { signal: both };
  }

  /** A file for transfers. */
  transferFile(node: { handle: Uint8Array }): TransferFile {
    const { readBytesMax, writeBytesMax } = this.options;
    return { client: this.client, handle: node.handle, readBytesMax, writeBytesMax };
  }

  /** The size of blocks that suits programs which read here and write there. */
  get blockBytes(): number {
    return Math.min(this.options.readBytesMax, this.options.writeBytesMax, BLOCK_BYTES_MAX);
  }

  /** Lends memory that calls need not register. */
  allocate(lengthBytes: number): Bulk {
    return this.client.transport.allocateBulk(lengthBytes);
  }

  /** Lets something finish by itself; `settle` waits for it and throws what went wrong. */
  runInBackground(work: Promise<void>): void {
    const tracked = work.catch((error) => void this.#failures.push(error)).finally(() =>
      this.#background.delete(tracked)
    );
    this.#background.add(tracked);
  }

  /** Waits for everything in the background. Throws the first failure. */
  async settle(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background);
    const [failure] = this.#failures.splice(0);
    if (failure !== undefined) throw failure;
  }

  /** Ends calls that are still under way. */
  end(): void {
    this.#closing.abort(new Deno.errors.BadResource("the file system is closed"));
  }
}

/** The error for contents that a restarted server does not have any more and that cannot be written again. */
export function lostError(ranges: readonly { offset: bigint; length: number }[]): Error {
  const bytes = ranges.reduce((sum, range) => sum + range.length, 0);
  const places = ranges.slice(0, 3).map(({ offset, length }) => `${length} at ${offset}`).join(", ");
  return systemError(
    "EIO",
    `the server restarted before ${bytes} bytes were on stable storage (${places}${ranges.length > 3 ? ", …" : ""})`,
  );
}
