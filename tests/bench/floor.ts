/**
 * The floor: what a plain program gets from a loopback TCP socket. Runs the two processes of `rdma/native/floor`.
 *
 * @module
 */
import {
  congestionControls,
  type FloorOrder,
  FloorServer,
  measureFloor,
  withBestCongestion,
} from "../../rdma/perf/floor.ts";
import { IDLE_GAP_MS, IDLE_PINGS } from "./verbs_protocol.ts";
import { CORES, pinned } from "./processes.ts";

/** What one round of the floor gives. */
export interface FloorFigures {
  /** 64 bytes there and back, both ends blocking, µs. */
  blockingRoundTrip: number;
  /** The same with a pause before each round, µs. */
  blockingIdleRoundTrip: number;
  /** 64 bytes there and back, both ends busy-polling, µs. */
  pollingRoundTrip: number;
  /** One way, 64 KiB messages received into place, GB/s. */
  stream64KiB: number;
  /** One way, 1 MiB messages, GB/s. */
  stream1MiB: number;
  /** Processor time that both ends took for it, s/GB. */
  stream1MiBCpu: number;
}

/** The floor's server process. */
export class Floor implements AsyncDisposable {
  private constructor(readonly server: FloorServer, readonly congestions: readonly string[]) {}

  /** Builds the program where it must, and starts its server. */
  static async start(): Promise<Floor> {
    return new Floor(await FloorServer.start({ core: CORES.server }), await congestionControls());
  }

  /** Takes one round. Of streams the best congestion control counts. */
  async measure(): Promise<FloorFigures> {
    const stream = async (sizeBytes: number, count: number) => {
      const { gigabytesPerSecond: rate, cpuSeconds } = await withBestCongestion(
        this.congestions,
        (congestion) => this.#run({ kind: "stream", sizeBytes, count, congestion }),
      );
      return { rate, cpu: cpuSeconds / (sizeBytes * count / 1e9) };
    };
    const roundTrip = async (kind: "block" | "poll", count: number, gapMs?: number) =>
      (await this.#run({ kind, sizeBytes: 64, count, gapMs })).roundTripMicros;
    const figures = {
      blockingRoundTrip: await roundTrip("block", 10_000),
      blockingIdleRoundTrip: await roundTrip("block", IDLE_PINGS, IDLE_GAP_MS),
      pollingRoundTrip: await roundTrip("poll", 50_000),
      stream64KiB: (await stream(64 * 1024, 16 * 1024)).rate,
    };
    const large = await stream(1024 * 1024, 2048);
    return { ...figures, stream1MiB: large.rate, stream1MiBCpu: large.cpu };
  }

  #run(order: FloorOrder): ReturnType<typeof measureFloor> {
    return measureFloor(this.server, order, { prefix: pinned("client") });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
  }
}
