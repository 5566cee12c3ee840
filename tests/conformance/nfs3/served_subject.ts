/**
 * The whole server, on a socket with a local directory or the in-memory backend behind it, as a subject of the NFSv3 conformance tests.
 *
 * @module
 */
import { BufferPool, Device } from "../../../rdma/mod.ts";
import { type ClientTransport, connectRdma, connectTcp } from "../../../rpc/mod.ts";
import { type NfsServer, serve, type ServeOptions } from "../../../server/mod.ts";
import { LocalDirectory } from "../../../storage/backend/local_directory.ts";
import { MemoryFileSystem } from "../../../storage/backend/memory.ts";
import { STREAM_BYTES_MAX, TRANSFER_BYTES_MAX } from "../../../storage/nfs/mod.ts";
import type { ServerChoices, ServerUnderTest, Subject } from "./subject.ts";

/** What is behind the server. "indexed directory": a local directory with the handles that an ordinary user's has. */
export type Backend = "memory" | "local directory" | "indexed directory";

/** Whether a local directory acts with the callers' identities: it does so for the superuser only. */
const IS_SUPERUSER = Deno.uid() === 0;

/** What is served how. `memory`: the file system of the backend of that name. */
interface ServedOptions {
  proto: "tcp" | "rdma";
  backend: Backend;
  memory?: MemoryFileSystem;
}

/** A server on 127.0.0.1. Each one opened has a directory of its own. */
export function servedSubject(options: ServedOptions): Subject {
  return {
    name: `${options.backend} over ${options.proto}`,
    enforcesCredentials: options.backend === "memory" || IS_SUPERUSER,
    transferBytesMax: options.proto === "rdma" ? STREAM_BYTES_MAX : TRANSFER_BYTES_MAX,
    async open(choices) {
      const server = new ServedDirectory(options);
      await server.start(choices);
      return server;
    },
  };
}

class ServedDirectory implements ServerUnderTest {
  readonly #proto: "tcp" | "rdma";
  readonly #backend: Backend;
  readonly #device = Device.open();
  readonly #pd = this.#device.allocateProtectionDomain();
  readonly #pool = new BufferPool(this.#pd);
  readonly #temporary = Deno.makeTempDirSync({ prefix: "weft_conformance_" });
  readonly #memory: MemoryFileSystem;
  /** The directory, where it was not the server that opened it. */
  #opened: LocalDirectory | undefined;
  #server: NfsServer | undefined;
  readonly #transports: ClientTransport[] = [];
  readonly #faults: unknown[] = [];

  constructor({ proto, backend, memory = new MemoryFileSystem() }: ServedOptions) {
    this.#proto = proto;
    this.#backend = backend;
    this.#memory = memory;
  }

  async start(choices: ServerChoices): Promise<void> {
    Deno.mkdirSync(`${this.#temporary}/export`);
    await this.#serve(choices);
  }

  async connect(): Promise<ClientTransport> {
    const { hostname, port } = this.#server!;
    const connect = this.#proto === "tcp" ? connectTcp : connectRdma;
    const transport = await connect(this.#device, { hostname, port, pd: this.#pd, pool: this.#pool });
    this.#transports.push(transport);
    return transport;
  }

  async restart(choices: ServerChoices): Promise<void> {
    await this.#server?.close();
    await this.#opened?.[Symbol.asyncDispose]();
    await this.#serve(choices);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const transport of this.#transports) await transport.close();
    await this.#server?.close();
    await this.#opened?.[Symbol.asyncDispose]();
    this.#pool[Symbol.dispose]();
    await this.#device.close();
    allowAll(this.#temporary);
    await Deno.remove(this.#temporary, { recursive: true });
    const faults = this.#faults.filter((error) => (error as Error).name !== "WireError");
    if (faults.length > 0) throw new AggregateError(faults, "the server reported faults of its own");
  }

  async #serve(choices: ServerChoices): Promise<void> {
    this.#server = await serve({
      ...choices,
      ...this.#served(),
      rootSquash: choices.rootSquash ?? false,
      port: 0,
      onError: (error) => this.#faults.push(error),
    });
  }

  #served(): Pick<ServeOptions, "fileSystem" | "directory" | "stateDirectory"> {
    const directory = `${this.#temporary}/export`;
    const stateDirectory = `${this.#temporary}/state`;
    switch (this.#backend) {
      case "memory":
        return { fileSystem: this.#memory };
      case "local directory":
        return { directory, stateDirectory };
      case "indexed directory":
        return { fileSystem: this.#opened = LocalDirectory.open(directory, { stateDirectory, handles: "index" }) };
    }
  }
}

/** Lets an ordinary user remove a tree of its own whatever modes its directories were given. */
function allowAll(directory: string): void {
  Deno.chmodSync(directory, 0o700);
  for (const { name, isDirectory } of Deno.readDirSync(directory)) {
    if (isDirectory) allowAll(`${directory}/${name}`);
  }
}
