/**
 * A whole NFS server in this process, on a file system in memory: for tests of the client. It can be crashed, which loses
 * what was written and not committed, and started again.
 *
 * @module
 */
import { memoryPair, type MemoryPairOptions } from "../../rpc/transports/memory.ts";
import type { RpcServer } from "../../rpc/server.ts";
import type { ClientTransport, IncomingCall, ServerTransport } from "../../rpc/transport.ts";
import { createDispatcher } from "../../server/dispatcher.ts";
import { Export } from "../../server/exports.ts";
import {
  type Credentials,
  type FileHandle,
  type FileSystem,
  FsError,
  Stability,
} from "../../storage/backend/file_system.ts";
import { MemoryFileSystem, type MemoryFileSystemOptions } from "../../storage/backend/memory.ts";
import { ProtocolError } from "../../rpc/errors.ts";

/** Choices for a server. */
export interface MemoryServerOptions extends MemoryFileSystemOptions {
  bulk?: MemoryPairOptions["bulk"];
  path?: string;
  readOnly?: boolean;
  rootSquash?: boolean;
  transferBytesMax?: number;
  /** Instead of a file system in memory. */
  fileSystem?: FileSystem;
}

const ROOT: Credentials = { uid: 0, gid: 0, gids: [] };

/** A server in memory. */
export class MemoryServer {
  readonly fileSystem: FileSystem;
  readonly exported: Export;
  readonly #options: MemoryServerOptions;
  #dispatcher: RpcServer;
  #connections: { client: ClientTransport; server: ServerTransport }[] = [];
  #undo: (() => void)[] = [];
  #isUp = true;
  /** Sees each call first; `false` swallows it. */
  onCall: (call: IncomingCall, procedure: number) => boolean = () => true;
  /** Sees each reply first; `false` swallows it. */
  onReply: (procedure: number) => boolean = () => true;

  constructor(options: MemoryServerOptions = {}) {
    this.#options = options;
    const memory = options.fileSystem ?? new MemoryFileSystem(options);
    this.fileSystem = this.#volatile(memory);
    const { path, readOnly, rootSquash = false } = options;
    this.exported = new Export({ path, readOnly, rootSquash, fileSystem: this.fileSystem });
    this.#dispatcher = this.#start();
  }

  /** Connects to it, as the option `dial` of `mount` wants. */
  dial = (signal?: AbortSignal): Promise<ClientTransport> => {
    signal?.throwIfAborted();
    if (!this.#isUp) return Promise.reject(new Deno.errors.ConnectionRefused("the server is down"));
    const pair = memoryPair({ bulk: this.#options.bulk });
    const dispatcher = this.#dispatcher;
    pair.server.onCall = (call) => {
      const procedure = new DataView(call.message.buffer, call.message.byteOffset).getUint32(20);
      if (!this.onCall(call, procedure)) return;
      const reply = call.reply.bind(call);
      dispatcher.handleCall({
        peer: call.peer,
        message: call.message,
        bulk: call.bulk,
        allocateBulk: (lengthBytes) => call.allocateBulk(lengthBytes),
        reply: (message) => this.onReply(procedure) && reply(message),
      });
    };
    this.#connections.push(pair);
    return Promise.resolve(pair.client);
  };

  /** Breaks every connection. */
  async disconnect(): Promise<void> {
    for (const { client } of this.#connections.splice(0)) await client.close();
  }

  /** Dies: connections break, and what was not committed is gone. */
  async crash(): Promise<void> {
    this.#isUp = false;
    await this.disconnect();
    for (const undo of this.#undo.splice(0).reverse()) undo();
  }

  /** Comes up again, as a new server on the same files. */
  restart(): void {
    this.#dispatcher = this.#start();
    this.#isUp = true;
  }

  #start(): RpcServer {
    const { transferBytesMax } = this.#options;
    return createDispatcher({ export: this.exported, transferBytesMax, onError: (error) => console.error(error) });
  }

  /** A file system that forgets on demand what was written and not committed. */
  #volatile(memory: FileSystem): FileSystem {
    const remember = (view: FileHandle, offset: bigint, lengthBytes: number) => {
      const file = view.slice(); // what it is a view of goes with the call
      const size = (memory.getAttributes(file, ROOT) as { size: bigint }).size;
      const old = new Uint8Array(lengthBytes);
      const { bytesRead } = memory.read(file, offset, old, ROOT) as { bytesRead: number };
      this.#undo.push(() => {
        try {
          void memory.write(file, offset, [old.subarray(0, bytesRead)], Stability.FileSync, ROOT);
          void memory.setAttributes(file, { size }, ROOT);
        } catch (error) {
          // A file that is gone meanwhile has lost nothing.
          if (!(error instanceof FsError && error.code === "ESTALE")) throw error;
        }
      });
    };
    return new Proxy(memory, {
      get: (target, name) => {
        const value = Reflect.get(target, name, target);
        if (name === "write") {
          return (file: FileHandle, offset: bigint, pieces: Uint8Array[], stability: Stability, as: Credentials) => {
            const lengthBytes = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
            if (stability === Stability.Unstable) remember(file, offset, lengthBytes);
            const result = memory.write(file, offset, pieces, stability, as) as object;
            return { ...result, committed: stability };
          };
        }
        if (name === "commit") {
          return () => {
            this.#undo = [];
          };
        }
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  }
}

/** The error of a connection that broke. */
export const connectionLost = (): ProtocolError => new ProtocolError("ConnectionLost", "broken by the test");
