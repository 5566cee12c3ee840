/**
 * The server of `weft perf`: takes what clients ask for, one of them at a time.
 *
 * @module
 */
import process from "node:process";
import { CommandError, type CommandIo } from "../command_line.ts";
import { Device } from "../device.ts";
import type { ConnectionRequest } from "../listener.ts";
import { Sender } from "./bandwidth.ts";
import type { Step } from "./driver.ts";
import { FloorServer } from "./floor.ts";
import { Echo, isOneSided } from "./latency.ts";
import { decodeRequest, encodeRefusal, encodeReply, type RunRequest } from "./messages.ts";
import { operationOf } from "./operation.ts";
import { CONNECTIONS_MAX, DEPTH_MAX, memoryObjection, MULPDU, type PerfOptions, SIZE_MAX } from "./options.ts";
import { Run, type RunSpec } from "./run.ts";

/**
 * How long a client may take from one of its runs to the next one's first connection, ms. Up to a thousand connections are closed and gigabytes given back
 * meanwhile, on a machine that may be busy; other connections are made, and memory is filled, behind the first one.
 */
const RETURN_MS = 10_000;

/** Serves one client, from its first run to its last. */
export async function runServer(
  options: PerfOptions,
  io: CommandIo,
  { returnMs = RETURN_MS }: { returnMs?: number } = {},
): Promise<void> {
  const { operation, listen, port } = options;
  await using floor = options.floor ? await FloorServer.start({ hostname: listen }) : undefined;
  await using device = Device.open();
  using server = new Server(device, options, io, { floorPort: floor?.port ?? 0, returnMs });
  await using listener = device.listen({ hostname: listen, port, onRequest: (request) => server.take(request) });
  io.say(`${operation.title}: waiting for a client on ${listener.hostname}:${listener.port}`);
  await server.finished;
}

class Server implements Disposable {
  readonly #finished = Promise.withResolvers<void>();
  #current: { run: Run; request: RunRequest } | undefined;
  #session: bigint | undefined;
  /** Runs while the client is away between two runs. */
  #returnTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly device: Device,
    readonly options: PerfOptions,
    readonly io: CommandIo,
    readonly settings: { floorPort: number; returnMs: number },
  ) {
    const abort = () => this.#finished.reject(io.signal.reason);
    io.signal.addEventListener("abort", abort, { once: true });
    if (io.signal.aborted) abort();
  }

  /** Resolves when a client has made its last run; rejects where one has gone in the middle of it. */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  /** Accepts a connection of a run, or refuses it. */
  take(asked: ConnectionRequest): void {
    const request = decodeRequest(asked.privateData);
    const reason = request === undefined
      ? "this is 'weft perf', and the caller another program or release; perftest's is served with --perftest"
      : this.#objection(request);
    if (request === undefined || reason !== undefined) {
      this.io.say(`refused ${asked.remoteAddress}:${asked.remotePort}: ${reason}`);
      return asked.reject(encodeRefusal(reason!));
    }
    if (this.#current === undefined) this.#begin(request, asked);
    const { run } = this.#current!;
    const lane = run.lanes[request.index];
    lane.aim(request);
    asked.accept({
      pd: run.pd,
      crc: this.options.crc,
      mulpdu: request.mulpdu,
      congestion: request.congestion,
      privateData: encodeReply({ floorPort: this.settings.floorPort, ...lane.advertised }),
      onReady: (queuePair) => lane.attach(queuePair),
    }).catch((error) => run.fail(error));
  }

  /** Why a request is not for us. */
  #objection(request: RunRequest): string | undefined {
    const { operation } = this.options;
    if (request.operation !== operation.code) {
      const theirs = operationOf(request.operation)?.name ?? "something else";
      return `the server measures ${operation.name}, the client ${theirs}`;
    }
    const isWithin = (value: number, min: number, max: number) => value >= min && value <= max;
    const { connections, sizeBytes, sendDepth, receiveDepth, list, moderation, mulpdu, index } = request;
    const isSane = isWithin(connections, 1, operation.measure === "latency" ? 1 : CONNECTIONS_MAX) &&
      isWithin(sizeBytes, 1, SIZE_MAX) && isWithin(sendDepth, 1, DEPTH_MAX) && isWithin(receiveDepth, 1, DEPTH_MAX) &&
      isWithin(list, 0, sendDepth) && isWithin(moderation, 1, sendDepth) && index < connections &&
      (mulpdu === 0 || mulpdu === "mss" || isWithin(mulpdu, MULPDU.min, MULPDU.max)) &&
      !(request.events && operation.name === "write_lat");
    if (!isSane) return "the client's options are beyond the limits";
    const objection = memoryObjection(request);
    if (objection !== undefined) return objection;
    const current = this.#current;
    const isOfSession = this.#session === undefined || this.#session === request.session;
    const isOfRun = current === undefined || current.request.run === request.run &&
        current.run.lanes[index]?.queuePair === undefined && current.request.connections === connections;
    return isOfSession && isOfRun ? undefined : "the server is busy with another client";
  }

  #begin(request: RunRequest, { remoteAddress, remotePort }: ConnectionRequest): void {
    const { operation } = this.options;
    const spec: RunSpec = { ...request, operation, events: request.events || this.options.events };
    const run = new Run(this.device, spec, this.io.signal);
    clearTimeout(this.#returnTimer);
    this.#current = { run, request };
    if (this.#session !== request.session) this.io.say(`client ${remoteAddress}:${remotePort}`);
    this.#session = request.session;
    this.#serve(run);
  }

  /** Carries a run out, once all its connections are there. */
  async #serve(run: Run): Promise<void> {
    try {
      while (run.lanes.some(({ queuePair }) => queuePair === undefined)) await run.change();
      run.fill();
      const more = await this.#phases(run);
      run.finish();
      this.#current = undefined;
      if (more) this.#awaitReturn();
      run.lanes[0].tell({ kind: "done", messages: 0, cpuMs: 0 });
      await run[Symbol.asyncDispose]();
      if (!more) this.#finished.resolve();
    } catch (error) {
      await run[Symbol.asyncDispose]();
      this.#finished.reject(error);
    }
  }

  /** A client that has gone for good, between two runs, leaves no connection that could tell. */
  #awaitReturn(): void {
    const { returnMs } = this.settings;
    const error = new CommandError(`the client has not come back for its next run within ${returnMs / 1000} s`);
    this.#returnTimer = setTimeout(() => this.#finished.reject(error), returnMs);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#returnTimer);
  }

  /** Does what the client says until it has enough; returns whether it will be back. */
  async #phases(run: Run): Promise<boolean> {
    const { spec, lanes } = run;
    const { operation, bidirectional } = spec;
    for (;;) {
      const control = await run.hear(lanes[0], "start", "finish");
      if (control.kind === "finish") return control.more;
      const isGoal = control.iterations >= 0 && control.durationMs >= 0 && control.iterations + control.durationMs > 0;
      if (!isGoal) throw new CommandError("the client's goal makes no sense");
      const isEcho = operation.measure === "latency" && !isOneSided(operation.verb);
      const work = isEcho ? new Echo(run) : bidirectional ? new Sender(run, control) : undefined;
      const received = lanes[0].received;
      const cpuBefore = process.cpuUsage();
      lanes[0].tell({ kind: "ready" });
      run.onRest = () => this.io.progress(`${operation.name} ${spec.sizeBytes} bytes`);
      const hasStopped = () => lanes.every((lane) => lane.heard !== undefined);
      // a Send right behind "ready" would take its place in the client's buffer
      if (operation.verb === "send") {
        await run.drive(() => lanes[0].received > received || hasStopped() ? "done" : "idle");
      }
      if (work instanceof Sender) work.start();
      await run.drive((): Step => {
        const at = work?.step() ?? "idle";
        if (work instanceof Sender && at !== "done") return at;
        return hasStopped() ? "done" : "idle";
      });
      for (const lane of lanes) await run.hear(lane, "stop");
      const messages = work instanceof Sender ? work.completed : 0;
      const cpu = process.cpuUsage(cpuBefore);
      for (const lane of lanes) lane.tell({ kind: "done", messages, cpuMs: (cpu.user + cpu.system) / 1000 });
    }
  }
}
