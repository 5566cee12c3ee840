/**
 * The client of `weft perf --perftest`: measures with a server of perftest's (`ib_write_bw -R`, …).
 *
 * @module
 */
import { CommandError, type CommandIo } from "../../command_line.ts";
import { Device } from "../../device.ts";
import { RdmaError } from "../../errors.ts";
import type { QueuePair } from "../../queue_pair.ts";
import { Sender } from "../bandwidth.ts";
import { Pinger } from "../latency.ts";
import { decodeRefusal } from "../messages.ts";
import type { PerfOptions } from "../options.ts";
import { formatHead, formatJson, formatRow, MEGABYTE, newRow } from "../report.ts";
import { carryOut, type Part } from "./course.ts";
import { Exchange } from "./exchange.ts";
import { Follower } from "./follower.ts";
import type { BandwidthReport } from "./messages.ts";
import { PerftestRun } from "./run.ts";

/** perftest's server begins to listen for the measured connection when it has said so. */
const RETRIES = 50;
const RETRY_MS = 100;
/** It makes its memory and queues before it accepts. Where an attempt is given up meanwhile, it takes that one and fails. */
const REPLY_TIMEOUT_MS = 60_000;

/** Measures every row, with the server on {@linkcode PerfOptions.hostname}. */
export async function runPerftestClient(options: PerfOptions, io: CommandIo): Promise<void> {
  await using device = Device.open();
  await using run = new PerftestRun(device, options, io.signal);
  await new Client(run, options, io).measureAll();
}

class Client implements Part {
  readonly #run: PerftestRun;
  readonly #options: PerfOptions;
  readonly #io: CommandIo;

  constructor(run: PerftestRun, options: PerfOptions, io: CommandIo) {
    this.#run = run;
    this.#options = options;
    this.#io = io;
  }

  async measureAll(): Promise<void> {
    const exchange = new Exchange(this.#run, "client");
    await this.#connect((queuePair) => exchange.attach(queuePair));
    await carryOut(this.#run, exchange, this);
  }

  async connect(): Promise<void> {
    const run = this.#run;
    for (let left = RETRIES;; left--) {
      try {
        await this.#connect((queuePair) => run.attach(queuePair));
        break;
      } catch (error) {
        if (left === 0 || !(error instanceof RdmaError) || error.code === "Rejected") throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    const { crc, remoteAddress, remotePort } = run.queuePair!;
    if (!this.#options.json) {
      this.#io.write(formatHead(this.#options, { crc, peer: `perftest on ${remoteAddress}:${remotePort}` }));
    }
  }

  async #connect(onReady: (queuePair: QueuePair) => void): Promise<void> {
    const { hostname, port, crc, readDepth, mulpdu, congestion } = this.#options;
    const { device, pd } = this.#run;
    const { signal } = this.#io;
    try {
      const settings = { pd, crc, outboundReadDepth: readDepth, mulpdu, congestion, signal, onReady };
      await device.connect({ hostname: hostname!, port, replyTimeoutMs: REPLY_TIMEOUT_MS, ...settings });
    } catch (error) {
      if (!(error instanceof RdmaError) || error.code !== "Rejected") throw error;
      const reason = decodeRefusal(error.privateData ?? new Uint8Array(0)) ?? "it rejects the connection";
      throw new CommandError(`${hostname}:${port} refuses: ${reason}`, { cause: error });
    }
  }

  async measure(sizeBytes: number): Promise<BandwidthReport | undefined> {
    const run = this.#run;
    const { operation, durationMs = 0 } = this.#options;
    const { iterations } = run;
    const goal = { iterations, durationMs };
    const measure = operation.measure === "bandwidth"
      ? new Sender(run, goal)
      : operation.verb === "write"
      ? new Follower(run, iterations)
      : new Pinger(run, goal);
    run.onRest = () => this.#io.progress(`${operation.name} ${sizeBytes} bytes ${Math.floor(100 * measure.share)}%`);
    const started = performance.now();
    if (!(measure instanceof Follower)) measure.start();
    await run.drive((mayFollow) => measure.step(mayFollow));
    const elapsedMs = performance.now() - started;
    const row = newRow(sizeBytes, run.queuePair!);
    let report: BandwidthReport | undefined;
    if (measure instanceof Sender) {
      const messagesPerSecond = measure.completed / elapsedMs * 1000;
      const bytesPerSecond = messagesPerSecond * sizeBytes;
      const peakBytesPerSecond = Math.max(bytesPerSecond, measure.peak * 1000 * sizeBytes);
      row.iterations = measure.completed;
      row.bandwidth = { bytesPerSecond, peakBytesPerSecond, messagesPerSecond };
      report = {
        sizeBytes,
        iterations: measure.completed,
        peak: peakBytesPerSecond / MEGABYTE,
        average: bytesPerSecond / MEGABYTE,
        messageRate: messagesPerSecond / 1e6,
      };
    } else {
      row.latency = measure.latencies.summarize();
      row.iterations = iterations > 0 ? iterations : row.latency.count;
    }
    this.#io.write(this.#options.json ? formatJson(row, this.#options) + "\n" : formatRow(row, this.#options));
    return report;
  }

  hear(): void {
    // the server has measured nothing
  }
}
