/**
 * How either end of a measurement takes its steps: polling, or asleep between events.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { Device } from "../device.ts";
import { RdmaError } from "../errors.ts";
import type { QueuePair, WorkRequest } from "../queue_pair.ts";
import type { Operation } from "./operation.ts";
import type { Marks } from "./marks.ts";

/**
 * How a step of a measurement ends: it waits in the middle of a round trip ("busy"), it waits where a rest does not matter ("idle"), the next step is due ("next"),
 * or there is none ("done").
 */
export type Step = "busy" | "idle" | "next" | "done";

/** Takes a step; where a round trip ends with it, the next one `mayFollow` at once. */
export type TakeStep = (mayFollow: boolean) => Step;

/** What a measurement needs to know of a run, and to have of it. */
export interface Measurable {
  readonly spec: {
    readonly operation: Operation;
    readonly connections: number;
    readonly sendDepth: number;
    /** Requests handed over together; 0: as many as there is room for. */
    readonly list: number;
    /** Of so many requests, one is signalled. */
    readonly moderation: number;
  };
  readonly lanes: readonly MeasurableLane[];
  /** Notes that something has happened. */
  changed(): void;
  /** The marks of a ping-pong of Writes, from its beginning on. */
  marks(): Marks;
}

/** A connection that is measured. */
export interface MeasurableLane {
  readonly run: Measurable;
  /** What it measures with. */
  readonly work: WorkRequest;
  readonly queuePair: QueuePair | undefined;
  /** Measured Sends that have been posted. */
  sent: number;
  /** How many Sends the peer has room for. */
  readonly roomAtPeer: number;
  /** Called for each measured Send that comes. */
  onMessage: (() => void) | undefined;
}

/** How long an end polls before it lets the event loop have a turn. */
const SLICE_MS = 20;
/** How long an end that does not poll sleeps at a time, microseconds. */
const WAIT_US = 1000;
/** How long an end that polls does so in the core at a time, microseconds: what it waits for ends it sooner. */
const SPIN_US = 20;
/** Steps between two looks at the clock. */
const STEPS = 32;

/** What drives a run. */
export class Driver {
  readonly device: Device;
  /** Called now and then while it is driven. */
  onRest: () => void = () => {};
  readonly #sleeps: boolean;
  readonly #forgetSignal: () => void;
  #failure: unknown;
  #hasFailed = false;
  #isOver = false;
  #hasChanged = false;
  #wake: (() => void) | undefined;

  /** `sleeps`: in place of polling. `signal` ends the run. */
  constructor(device: Device, { sleeps, signal }: { sleeps: boolean; signal: AbortSignal }) {
    this.device = device;
    this.#sleeps = sleeps;
    const abort = () => this.fail(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    this.#forgetSignal = () => signal.removeEventListener("abort", abort);
    if (signal.aborted) this.fail(signal.reason);
  }

  /** Whether connections may end. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Notes that something has happened to the run, for those who sleep. */
  changed(): void {
    this.#hasChanged = true;
    const wake = this.#wake;
    if (wake === undefined) return;
    this.#wake = undefined;
    wake();
  }

  /** Ends the run with an error; the first one counts. */
  fail(error: unknown): void {
    if (this.#hasFailed || this.#isOver) return;
    this.#hasFailed = true;
    this.#failure = error;
    this.changed();
  }

  /** From here on connections may end. */
  finish(): void {
    this.#isOver = true;
    this.#forgetSignal(); // which outlives many runs, and would keep them
  }

  /** Goes to sleep until something has happened. Throws what the run has failed with. */
  async change(): Promise<void> {
    if (!this.#hasChanged && !this.#hasFailed) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
    this.#hasChanged = false;
    if (this.#hasFailed) throw this.#failure;
  }

  /**
   * Takes steps until one is the last. Polls while they wait, or sleeps in the core where the run is one of events. The event loop gets its turns
   * between two round trips, or at the latest after a while.
   */
  async drive(step: TakeStep): Promise<void> {
    try {
      await this.#drive(step);
    } catch (error) {
      if (!(error instanceof RdmaError) || error.code !== "Closed") throw error;
      // a step found a connection ended: why it has is known as soon as its entries have been handled
      while (!this.#hasFailed) await this.change();
      throw this.#failure;
    }
  }

  async #drive(step: TakeStep): Promise<void> {
    while (this.#poll(step) !== "done") {
      this.onRest();
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#hasFailed) throw this.#failure;
    }
  }

  /** Takes steps, and polls between them, for the length of a slice. */
  #poll(step: TakeStep): Step {
    const { device } = this;
    const progress = this.#sleeps ? () => device.wait(WAIT_US) : () => device.progress(SPIN_US);
    const end = performance.now() + SLICE_MS;
    do {
      for (let i = 0; i < STEPS; i++) {
        const at = step(true);
        if (at === "done") return at;
        if (at !== "next") progress();
      }
      if (this.#hasFailed) throw this.#failure;
    } while (performance.now() < end);
    // a rest in the middle of a round trip would be measured
    let at: Step;
    while ((at = step(false)) === "busy" && performance.now() < end + SLICE_MS) progress();
    return at;
  }
}
