/**
 * The client of `weft perf`: connects, says what is measured, measures, and reports.
 *
 * @module
 */
import process from "node:process";
import { CommandError, type CommandIo } from "../command_line.ts";
import { Device } from "../device.ts";
import { RdmaError } from "../errors.ts";
import type { QueuePair } from "../queue_pair.ts";
import { type Goal, Sender } from "./bandwidth.ts";
import { congestionControls, type FloorOrder, measureFloor, withBestCongestion } from "./floor.ts";
import { isOneSided, Pinger } from "./latency.ts";
import { decodeRefusal, decodeReply, encodeRequest } from "./messages.ts";
import { iterationsFor, type PerfOptions } from "./options.ts";
import { formatHead, formatJson, formatRow, newRow, type Row } from "./report.ts";
import { Run, type RunSpec } from "./run.ts";
import { median, medians } from "./statistics.ts";

/** What is sent before a measurement, so that neither code nor connections are cold: so many messages, bytes or ms at the most. */
const WARM_UP_MESSAGES = 5000;
const WARM_UP_BYTES = 2 ** 28;
const WARM_UP_MS = 500;
/** Bytes of the FPDUs that ask for a Read, and for an atomic operation: what the floor's client sends for them. */
const REQUEST_BYTES = { read: 52, atomic: 76, write: undefined, send: undefined } as const;
/** The floor sends no more messages than this in the time that ours took, lest small ones take for ever. */
const FLOOR_MESSAGES_PER_MS = 500;

/** Measures every row, with the server of {@linkcode PerfOptions.hostname}. */
export async function runClient(options: PerfOptions, io: CommandIo): Promise<void> {
  await using device = Device.open();
  await new Client(device, options, io).run();
}

/** A run's figures. */
interface Measured {
  messages: number;
  elapsedMs: number;
  row: Row;
}

class Client {
  readonly #session = crypto.getRandomValues(new BigUint64Array(1))[0];
  readonly #hostname: string;
  #runs = 0;
  #floorPort = 0;
  #hasHead = false;

  constructor(readonly device: Device, readonly options: PerfOptions, readonly io: CommandIo) {
    this.#hostname = options.hostname!;
  }

  async run(): Promise<void> {
    const { sizes, rounds, json } = this.options;
    for (const sizeBytes of sizes) {
      const rows: Row[] = [];
      for (let round = 0; round < rounds; round++) {
        const more = round + 1 < rounds || sizeBytes !== sizes.at(-1);
        const about = `${sizeBytes} bytes${rounds > 1 ? `, round ${round + 1} of ${rounds}` : ""}`;
        rows.push(await this.#measure(sizeBytes, { more, about }));
      }
      const row = combine(rows);
      this.io.write(json ? formatJson(row, this.options) + "\n" : formatRow(row, this.options));
    }
  }

  /** One run, and the floor beside it. */
  async #measure(sizeBytes: number, { more, about }: { more: boolean; about: string }): Promise<Row> {
    const { options, io } = this;
    await using run = new Run(this.device, this.#spec(sizeBytes), io.signal);
    await this.#connect(run);
    run.fill();
    const { crc, remoteAddress, remotePort } = run.lanes[0].queuePair!;
    if (!this.#hasHead && !options.json) {
      io.write(formatHead(options, { crc, peer: `${remoteAddress}:${remotePort}` }));
    }
    this.#hasHead = true;
    const iterations = options.durationMs === undefined ? iterationsFor(options, sizeBytes) : 0;
    const goal = { iterations, durationMs: options.durationMs ?? 0 };
    await this.#phase(run, warmUp(goal, sizeBytes), `${about}: warming up`);
    const measured = await this.#phase(run, goal, about);
    if (options.floor) {
      io.progress(`${about}: the floor`);
      Object.assign(measured.row, await this.#floor(sizeBytes, measured));
    }
    const [lane] = run.lanes;
    run.finish();
    lane.tell({ kind: "finish", more });
    // once the server is ready for the next run
    await Promise.race([run.hear(lane, "done"), lane.queuePair!.closed]);
    return measured.row;
  }

  #spec(sizeBytes: number): RunSpec {
    const { options } = this;
    return { ...options, sizeBytes, list: options.list ?? 0 };
  }

  async #connect(run: Run): Promise<void> {
    const { options: { port, crc, readDepth }, io } = this;
    const { spec, pd } = run;
    const number = this.#runs++;
    for (const lane of run.lanes) {
      const privateData = encodeRequest({
        ...spec,
        ...lane.advertised,
        operation: spec.operation.code,
        session: this.#session,
        run: number,
        index: lane.index,
      });
      let queuePair: QueuePair;
      try {
        queuePair = await this.device.connect({
          hostname: this.#hostname,
          port,
          pd,
          privateData,
          crc,
          outboundReadDepth: readDepth,
          mulpdu: spec.mulpdu,
          congestion: spec.congestion,
          signal: io.signal,
          onReady: (queuePair) => lane.attach(queuePair),
        });
      } catch (error) {
        throw refused(error, `${this.#hostname}:${port}`);
      }
      const reply = decodeReply(queuePair.privateData);
      if (reply === undefined) throw stranger(`${this.#hostname}:${port}`);
      lane.aim(reply);
      this.#floorPort = reply.floorPort;
    }
    if (this.options.floor && this.#floorPort === 0) {
      throw new CommandError("the server has no floor to compare with: start it with --floor, too");
    }
  }

  /** Begins, measures until the goal is reached, and waits until the server has everything. */
  async #phase(run: Run, goal: Goal, about: string): Promise<Measured> {
    const { spec, lanes } = run;
    const isBandwidth = spec.operation.measure === "bandwidth";
    lanes[0].tell({ kind: "start", ...goal });
    await run.hear(lanes[0], "ready");
    const measure = isBandwidth ? new Sender(run, goal) : new Pinger(run, goal);
    run.onRest = () => this.io.progress(`${spec.operation.name} ${about} ${Math.floor(100 * measure.share)}%`);
    const cpuBefore = process.cpuUsage();
    const started = performance.now();
    measure.start();
    await run.drive((mayFollow) => measure.step(mayFollow));
    for (const lane of lanes) lane.tell({ kind: "stop" });
    await run.drive(() => lanes.every((lane) => lane.heard !== undefined) ? "done" : "idle");
    const elapsedMs = performance.now() - started;
    const cpu = process.cpuUsage(cpuBefore);
    let theirs = { messages: 0, cpuMs: 0 };
    for (const lane of lanes) theirs = await run.hear(lane, "done");
    const row = newRow(spec.sizeBytes, lanes[0].queuePair!);
    if (measure instanceof Pinger) {
      row.latency = measure.latencies.summarize();
      row.iterations = measure.count;
      return { messages: row.iterations, elapsedMs, row };
    }
    const messages = measure.completed + theirs.messages;
    const cpuSeconds = (cpu.user + cpu.system) / 1e6 + theirs.cpuMs / 1e3;
    const gigabytes = messages * spec.sizeBytes / 1e9;
    const messagesPerSecond = messages / elapsedMs * 1000;
    const bytesPerSecond = messagesPerSecond * spec.sizeBytes;
    const directions = spec.bidirectional ? 2 : 1;
    row.iterations = measure.completed;
    row.bandwidth = {
      bytesPerSecond,
      peakBytesPerSecond: Math.max(bytesPerSecond, measure.peak * 1000 * spec.sizeBytes * directions),
      messagesPerSecond,
      cpuSecondsPerGB: cpuSeconds / gigabytes,
      serverCpuSecondsPerGB: theirs.cpuMs / 1e3 / gigabytes,
    };
    return { messages: measure.completed, elapsedMs, row };
  }

  /** The same of a TCP socket, with the congestion control that was asked for, else with the better one. */
  async #floor(
    sizeBytes: number,
    { messages, elapsedMs }: Measured,
  ): Promise<Pick<Row, "floor" | "floorCpuSecondsPerGB">> {
    const { operation, bidirectional, events } = this.options;
    const measure = (order: Pick<FloorOrder, "kind"> & Partial<FloorOrder>) =>
      measureFloor(
        { hostname: this.#hostname, port: this.#floorPort },
        { sizeBytes, count: messages, ...order },
        { signal: this.io.signal },
      );
    if (operation.measure === "latency") {
      const requestBytes = REQUEST_BYTES[operation.verb];
      const { roundTripMicros } = await measure({ kind: events ? "block" : "poll", requestBytes });
      return { floor: roundTripMicros / (isOneSided(operation.verb) ? 1 : 2) };
    }
    const count = Math.max(1, Math.min(messages, Math.ceil(elapsedMs * FLOOR_MESSAGES_PER_MS)));
    const kind = bidirectional ? "duplex" : "stream";
    const gigabytes = count * sizeBytes * (bidirectional ? 2 : 1) / 1e9;
    const { gigabytesPerSecond, cpuSeconds } = await withBestCongestion(
      await congestionControls(this.options.congestion),
      (congestion) => measure({ kind, count, congestion }),
    );
    return { floor: gigabytesPerSecond * 1e9, floorCpuSecondsPerGB: cpuSeconds / gigabytes };
  }
}

/** What to do before a goal is measured: less than it, and not for long. */
function warmUp({ iterations, durationMs }: Goal, sizeBytes: number): Goal {
  if (iterations === 0) return { iterations, durationMs: Math.min(durationMs, WARM_UP_MS) };
  return { iterations: Math.min(iterations, WARM_UP_MESSAGES, Math.ceil(WARM_UP_BYTES / sizeBytes)), durationMs };
}

/** The medians of several rounds of the same row. */
function combine(rows: readonly Row[]): Row {
  const every = <T>(pick: (row: Row) => T | undefined): T[] => rows.flatMap((row) => pick(row) ?? []);
  const [bandwidths, latencies, floors, floorCpus] = [
    every((row) => row.bandwidth),
    every((row) => row.latency),
    every((row) => row.floor),
    every((row) => row.floorCpuSecondsPerGB),
  ];
  return {
    ...rows[0],
    iterations: Math.round(median(rows.map((row) => row.iterations))),
    bandwidth: bandwidths.length > 0 ? medians(bandwidths) : undefined,
    latency: latencies.length > 0 ? medians(latencies) : undefined,
    floor: floors.length > 0 ? median(floors) : undefined,
    floorCpuSecondsPerGB: floorCpus.length > 0 ? median(floorCpus) : undefined,
  };
}

function refused(error: unknown, server: string): unknown {
  if (!(error instanceof RdmaError) || error.code !== "Rejected") return error;
  const reason = decodeRefusal(error.privateData ?? new Uint8Array(0));
  if (reason === undefined) return stranger(server);
  return new CommandError(`${server} refuses: ${reason}`, { cause: error });
}

function stranger(server: string): CommandError {
  return new CommandError(`${server} speaks iWARP, but is no 'weft perf' of this release`);
}
