/**
 * The server with the in-memory backend over the in-memory transport, as a subject of the NFSv3 conformance tests.
 *
 * @module
 */
import { type ClientTransport, type MemoryBulk, memoryPair, type ServerTransport } from "../../../rpc/mod.ts";
import { createDispatcher } from "../../../server/dispatcher.ts";
import { Export } from "../../../server/exports.ts";
import type { FileSystem } from "../../../storage/backend/file_system.ts";
import { MemoryFileSystem } from "../../../storage/backend/memory.ts";
import { TRANSFER_BYTES_MAX } from "../../../storage/nfs/mod.ts";
import type { ServerChoices, ServerUnderTest, Subject } from "./subject.ts";

/** `bulk`: how payload travels. `fileSystem`: what is served, a `MemoryFileSystem` if absent. */
export function memorySubject(
  options: { name: string; bulk: MemoryBulk; fileSystem?: (memory: MemoryFileSystem) => FileSystem },
): Subject {
  return {
    name: options.name,
    enforcesCredentials: true,
    transferBytesMax: TRANSFER_BYTES_MAX,
    open: (choices) => {
      const memory = new MemoryFileSystem();
      return Promise.resolve(new MemoryServer(options.fileSystem?.(memory) ?? memory, { bulk: options.bulk, choices }));
    },
  };
}

class MemoryServer implements ServerUnderTest {
  readonly #fileSystem: FileSystem;
  readonly #bulk: MemoryBulk;
  #errors: unknown[] = [];
  #transports: ServerTransport[] = [];
  #dispatcher;

  constructor(fileSystem: FileSystem, { bulk, choices }: { bulk: MemoryBulk; choices: ServerChoices }) {
    this.#fileSystem = fileSystem;
    this.#bulk = bulk;
    this.#dispatcher = this.#start(choices);
  }

  connect(): Promise<ClientTransport> {
    const { client, server } = memoryPair({ bulk: this.#bulk });
    this.#dispatcher.serve(server);
    this.#transports.push(server);
    return Promise.resolve(client);
  }

  async restart(choices: ServerChoices): Promise<void> {
    await this.#disconnect();
    this.#dispatcher = this.#start(choices);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#disconnect();
    await this.#fileSystem[Symbol.asyncDispose]();
    const faults = this.#errors.filter((error) => (error as Error).name !== "WireError");
    if (faults.length > 0) throw new AggregateError(faults, "the server reported faults of its own");
  }

  #start(choices: ServerChoices): ReturnType<typeof createDispatcher> {
    const rootSquash = choices.rootSquash ?? false;
    return createDispatcher({
      export: new Export({ ...choices, rootSquash, fileSystem: this.#fileSystem }),
      onError: (error) => this.#errors.push(error),
    });
  }

  async #disconnect(): Promise<void> {
    for (const transport of this.#transports) await transport.close();
    this.#transports = [];
  }
}
