/**
 * Server: a directory, or any file system, served by NFSv3 over RDMA and TCP on one port.
 *
 * @module
 */
import { BufferPool, type ConnectionRequest, Device, type Listener } from "../rdma/mod.ts";
import { acceptRdma, acceptTcp } from "../rpc/transports/accept.ts";
import { TcpClientTransport } from "../rpc/transports/tcp_client.ts";
import type { FileSystem } from "../storage/backend/file_system.ts";
import { LocalDirectory } from "../storage/backend/local_directory.ts";
import { STREAM_BYTES_MAX, TRANSFER_BYTES_MAX } from "../storage/nfs/mod.ts";
import { Connections } from "./connections.ts";
import { createDispatcher, type DispatcherOptions } from "./dispatcher.ts";
import { Export, type ExportOptions } from "./exports.ts";
import { PORTMAPPER_PORT, register, unregister } from "./portmapper.ts";

/** The port of NFS over RDMA (RFC 8267 §6.1 by way of RFC 5666), where TCP is served, too. */
export const DEFAULT_PORT = 20049;
/** How long `close` waits for answers under way before it ends connections anyhow. */
const DRAIN_TIMEOUT_MS = 10_000;

/** Choices for a server. Either `directory` or `fileSystem` says what is served. */
export interface ServeOptions extends Omit<ExportOptions, "fileSystem"> {
  /** A directory of this machine. Opened by the server and closed with it. */
  directory?: string;
  /** For `directory`: where the key for handles lives, see `LocalDirectoryOptions`. */
  stateDirectory?: string;
  /** For `directory`: whether changes of names and attributes wait for stable storage; true if absent. */
  stable?: boolean;
  /** A file system. It stays the caller's, who closes it after the server. */
  fileSystem?: FileSystem;
  /** The address to listen on; 127.0.0.1 if absent. Callers are who they say they are (AUTH_SYS): mind who can reach it. */
  hostname?: string;
  /** 20049 if absent; 0: any free one. */
  port?: number;
  /** Connections at once; one more takes the place of the one that was silent for longest. 256 if absent. */
  connectionsMax?: number;
  /** Memory for payload under way, bytes; 1 GiB if absent. */
  memoryBytesMax?: number;
  /** The most bytes that one READ or WRITE moves; if absent the limit, which is 2 MiB, and over RDMA 8 MiB. */
  transferBytesMax?: number;
  /** Whether to ask RDMA clients for CRCs; those of other hosts only, if absent. */
  crc?: boolean;
  /** Register with this host's portmapper. */
  portmapper?: boolean;
  /** The device to listen with; one of its own if absent. */
  device?: Device;
  /** Told of faults of the server's own and of calls that could not be read. */
  onError?: DispatcherOptions["onError"];
}

/** A running server. */
export class NfsServer implements AsyncDisposable {
  /** The address listened on. */
  readonly hostname: string;
  /** The port. */
  readonly port: number;
  /** What is served, on which terms. */
  readonly export: Export;
  /** Resolves when the server has been closed. */
  readonly finished: Promise<void>;
  readonly #device: Device;
  readonly #listener: Listener;
  readonly #connections: Connections;
  readonly #pool: BufferPool;
  readonly #registered: boolean;
  /** What goes with the server, in this order. */
  readonly #owned: readonly AsyncDisposable[];
  readonly #finish: () => void;
  #closing: Promise<void> | undefined;

  /** Use `serve`. */
  constructor(parts: {
    device: Device;
    listener: Listener;
    connections: Connections;
    pool: BufferPool;
    export: Export;
    registered: boolean;
    owned: readonly AsyncDisposable[];
  }) {
    this.#device = parts.device;
    this.#listener = parts.listener;
    this.#connections = parts.connections;
    this.#pool = parts.pool;
    this.#registered = parts.registered;
    this.#owned = parts.owned;
    this.hostname = parts.listener.hostname;
    this.port = parts.listener.port;
    this.export = parts.export;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.finished = promise;
    this.#finish = resolve;
  }

  /** Connections that there are now. */
  get connections(): number {
    return this.#connections.size;
  }

  /**
   * Drains and ends: no new connections, no new calls; calls under way are answered, for 10 seconds at most; then connections, and
   * what the server opened, are closed. Idempotent.
   */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    try {
      if (this.#registered) await withPortmapper(this.#device, (transport) => unregister(transport, this.port));
    } finally {
      await this.#listener.close();
      const isDrained = await settledWithin(this.#connections.close(), DRAIN_TIMEOUT_MS);
      // Memory that calls under way still use is left to the device, which goes when the directory has let go of it.
      if (isDrained) this.#pool[Symbol.dispose]();
      for (const owned of this.#owned) await owned[Symbol.asyncDispose]();
      this.#finish();
    }
  }
}

/**
 * Serves a directory or file system until the returned server is closed.
 *
 * ```ts ignore
 * import { serve } from "@weft/weft/server";
 *
 * await using server = await serve({ directory: "./data", port: 20049 });
 * console.log(`nfs://${server.hostname}:${server.port}/`);
 * await server.finished;
 * ```
 *
 * Rejects with `FsError` where the directory cannot be served, `Deno.errors.AddrInUse`, `AddrNotAvailable` or `PermissionDenied` where the
 * address cannot be listened on, and `PortmapperError`.
 */
export async function serve(options: ServeOptions): Promise<NfsServer> {
  const { directory, fileSystem } = options;
  if ((directory === undefined) === (fileSystem === undefined)) {
    throw new TypeError("either directory or fileSystem says what is served");
  }
  const owned: AsyncDisposable[] = [];
  try {
    const device = options.device ?? own(owned, Device.open());
    const served = fileSystem ??
      own(owned, LocalDirectory.open(directory!, { stateDirectory: options.stateDirectory, stable: options.stable }));
    return await start(device, { ...options, fileSystem: served, owned });
  } catch (error) {
    for (const each of owned) await each[Symbol.asyncDispose]();
    throw error;
  }
}

async function start(
  device: Device,
  options: ServeOptions & { fileSystem: FileSystem; owned: AsyncDisposable[] },
): Promise<NfsServer> {
  const exported = new Export(options);
  const { transferBytesMax, onError } = options;
  const dispatcher = createDispatcher({ export: exported, transferBytesMax, onError });
  const connections = new Connections({ max: options.connectionsMax, onCall: (call) => dispatcher.handleCall(call) });
  const pd = device.allocateProtectionDomain();
  const pool = new BufferPool(pd, { bytesMax: options.memoryBytesMax });
  const memory = {
    pd,
    pool,
    crc: options.crc,
    // two pieces are in a connection's budget, one that comes and one that is written
    pieceBytes: TRANSFER_BYTES_MAX,
    readBytesMax: STREAM_BYTES_MAX + TRANSFER_BYTES_MAX,
  };
  const listener = device.listen({
    hostname: options.hostname,
    port: options.port ?? DEFAULT_PORT,
    onStream: (stream) => connections.add(acceptTcp(stream, memory)),
    onRequest: (request) => {
      const onReady = connections.add.bind(connections);
      acceptRdma(request, { ...memory, onReady }).catch((error) => onError?.(error, { peer: peerOf(request) }));
    },
  });
  try {
    if (options.portmapper) await withPortmapper(device, (transport) => register(transport, listener.port));
  } catch (error) {
    await listener.close();
    throw error;
  }
  const { owned } = options;
  const registered = options.portmapper ?? false;
  return new NfsServer({ device, listener, connections, pool, export: exported, registered, owned });
}

/** Whether the promise settles in time. */
async function settledWithin(promise: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<boolean>((resolve) => timer = setTimeout(() => resolve(false), timeoutMs));
  try {
    return await Promise.race([promise.then(() => true), timeout]);
  } finally {
    clearTimeout(timer);
  }
}

function peerOf(request: ConnectionRequest): { transport: string; address: string; port: number } {
  return { transport: "rdma", address: request.remoteAddress, port: request.remotePort };
}

function own<T extends AsyncDisposable>(owned: AsyncDisposable[], resource: T): T {
  // The last one opened is the first one closed.
  owned.unshift(resource);
  return resource;
}

async function withPortmapper(device: Device, use: (transport: TcpClientTransport) => Promise<void>): Promise<void> {
  const stream = await device.connectStream({ hostname: "127.0.0.1", port: PORTMAPPER_PORT });
  await using transport = new TcpClientTransport(stream);
  await use(transport);
}
