/**
 * The server of `weft perf --perftest`: serves a client of perftest's (`ib_write_bw -R HOST`, …).
 *
 * @module
 */
import { CommandError, type CommandIo } from "../../command_line.ts";
import { Device } from "../../device.ts";
import type { ConnectionRequest } from "../../listener.ts";
import type { QueuePair } from "../../queue_pair.ts";
import { Echo, Pinger } from "../latency.ts";
import { encodeRefusal } from "../messages.ts";
import type { PerfOptions } from "../options.ts";
import { carryOut, type Part } from "./course.ts";
import { Exchange } from "./exchange.ts";
import type { BandwidthReport } from "./messages.ts";
import { PerftestRun } from "./run.ts";

/** How long an initiator in peer-to-peer mode may take until its first message is here. */
const READY_CHECKS = 50;
const READY_CHECK_MS = 20;

/** Serves one client. */
export async function runPerftestServer(options: PerfOptions, io: CommandIo): Promise<void> {
  const { operation, listen, port } = options;
  await using device = Device.open();
  await using run = new PerftestRun(device, options, io.signal);
  const server = new Server(run, options, io);
  await using listener = device.listen({ hostname: listen, port, onRequest: (request) => server.take(request) });
  io.say(`${operation.title}: waiting for perftest on ${listener.hostname}:${listener.port}`);
  await server.serve();
}

class Server implements Part {
  readonly #run: PerftestRun;
  readonly #options: PerfOptions;
  readonly #io: CommandIo;
  #due: ((queuePair: QueuePair) => void) | undefined;
  #client: string | undefined;

  constructor(run: PerftestRun, options: PerfOptions, io: CommandIo) {
    this.#run = run;
    this.#options = options;
    this.#io = io;
  }

  /** Accepts the connection that is due, or refuses. */
  take(asked: ConnectionRequest): void {
    const reason = asked.privateData.byteLength > 0
      ? "the server speaks with perftest (--perftest)"
      : this.#due === undefined || (this.#client ?? asked.remoteAddress) !== asked.remoteAddress
      ? "the server is busy with another client"
      : undefined;
    if (reason !== undefined) {
      this.#io.say(`refused ${asked.remoteAddress}:${asked.remotePort}: ${reason}`);
      return asked.reject(encodeRefusal(reason));
    }
    const attach = this.#due!;
    this.#due = undefined;
    this.#client = asked.remoteAddress;
    const { crc, mulpdu, congestion } = this.#options;
    const { pd } = this.#run;
    asked.accept({ pd, crc, mulpdu, congestion, onReady: attach }).catch((error) => this.#run.fail(error));
  }

  async serve(): Promise<void> {
    const exchange = new Exchange(this.#run, "server");
    await this.#next((queuePair) => exchange.attach(queuePair));
    this.#io.say(`client ${this.#client}`);
    await carryOut(this.#run, exchange, this);
  }

  async connect(): Promise<void> {
    const run = this.#run;
    await this.#next((queuePair) => run.attach(queuePair));
    if (this.#options.operation.name !== "write_lat") return;
    for (let left = READY_CHECKS; run.queuePair!.state === "rtr"; left--) {
      if (left === 0) {
        throw new CommandError(
          "the server is to write first in perftest's write_lat, and may not (RFC 5044 §7.1.2): the client has sent nothing, " +
            "nor has it asked for peer-to-peer mode (RFC 6581 §9). Measure from this end in place of that one",
        );
      }
      await new Promise((resolve) => setTimeout(resolve, READY_CHECK_MS));
    }
  }

  /** Waits for a connection. */
  async #next(attach: (queuePair: QueuePair) => void): Promise<void> {
    let isHere = false;
    this.#due = (queuePair) => {
      attach(queuePair);
      isHere = true;
      this.#run.changed();
    };
    while (!isHere) await this.#run.change();
  }

  async measure(sizeBytes: number): Promise<undefined> {
    const run = this.#run;
    const { operation: { name, verb, measure } } = this.#options;
    const { iterations } = run;
    run.onRest = () => this.#io.progress(`${name} ${sizeBytes} bytes`);
    if (verb === "send" && measure === "bandwidth") {
      await run.drive(() => run.received >= iterations ? "done" : "idle");
    } else if (verb === "send") {
      const echo = new Echo(run);
      await run.drive(() => {
        const at = echo.step();
        return echo.answered >= iterations ? "done" : at;
      });
    } else if (verb === "write" && measure === "latency") {
      const pinger = new Pinger(run, { iterations, durationMs: 0 });
      pinger.start();
      await run.drive((mayFollow) => pinger.step(mayFollow));
    }
    // the core alone serves the others
  }

  hear({ sizeBytes, iterations, average, messageRate }: BandwidthReport): void {
    const messages = `${iterations} messages of ${sizeBytes} bytes`;
    this.#io.say(`the client's last row: ${messages}, ${average.toFixed(2)} MB/s, ${messageRate.toFixed(6)} Mpps`);
  }
}
