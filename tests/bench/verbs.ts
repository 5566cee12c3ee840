/**
 * The verbs between two processes, beside the TCP floor of the same round.
 *
 * @module
 */
import type { BusyFigures } from "./busy_client.ts";
import { Floor, type FloorFigures } from "./floor.ts";
import { deno, firstLine, pinned, runForJson, runPair, spawn } from "./processes.ts";
import type { VerbsFigures } from "./verbs_client.ts";

/** What one round gives. */
export interface PairedFigures {
  floor: FloorFigures;
  verbs: VerbsFigures;
  busy: BusyFigures;
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
      busy: await runPair<BusyFigures>("rdma/_testing/busy_server.ts", "tests/bench/busy_client.ts"),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.kill("SIGKILL");
    await this.server.status;
    await this.floor[Symbol.asyncDispose]();
  }
}
