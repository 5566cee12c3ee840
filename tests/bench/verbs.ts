/**
 * The verbs between two processes, beside the TCP floor of the same round.
 *
 * @module
 */
import { Floor, type FloorFigures } from "./floor.ts";
import { deno, firstLine, pinned, runForJson, spawn } from "./processes.ts";
import type { VerbsFigures } from "./verbs_client.ts";

/** What one round gives. */
export interface PairedFigures {
  floor: FloorFigures;
  verbs: VerbsFigures;
}

/** The servers of both. */
export class Verbs implements AsyncDisposable {
  private constructor(readonly floor: Floor, readonly server: Deno.ChildProcess, readonly ports: string) {}

  /** Starts the servers. */
  static async start(): Promise<Verbs> {
    const floor = await Floor.start();
    const server = spawn(pinned("server", ...deno("tests/bench/verbs_server.ts")));
    return new Verbs(floor, server, await firstLine(server.stdout));
  }

  /** Takes one round. */
  async measure(): Promise<PairedFigures> {
    return {
      floor: await this.floor.measure(),
      verbs: await runForJson<VerbsFigures>(pinned("client", ...deno("tests/bench/verbs_client.ts", this.ports))),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.kill("SIGKILL");
    await this.server.status;
    await this.floor[Symbol.asyncDispose]();
  }
}
