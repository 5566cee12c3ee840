/**
 * Latency: one message at a time, back and forth.
 *
 * @module
 */
import type { Goal } from "./bandwidth.ts";
import type { Measurable, MeasurableLane, Step } from "./driver.ts";
import type { Marks } from "./marks.ts";
import type { Operation } from "./operation.ts";
import { Latencies } from "./statistics.ts";

/** Whether the peer's program has no part in the answer, and the completion is all there is to wait for. */
export function isOneSided(verb: Operation["verb"]): boolean {
  return verb === "read" || verb === "atomic";
}

/** The measuring end. */
export class Pinger {
  readonly latencies = new Latencies();
  readonly #goal: Goal;
  readonly #lane: MeasurableLane;
  readonly #marks: Marks | undefined;
  /** Round trips divided by this are what is counted. */
  readonly #parts: number;
  #count = 0;
  #startMs = 0;
  #sentMs = 0;
  #rests = 0;
  #isUnderWay = false;
  #hasArrived = false;

  constructor(run: Measurable, goal: Goal) {
    const [lane] = run.lanes;
    const { verb } = run.spec.operation;
    this.#lane = lane;
    this.#goal = goal;
    this.#marks = verb === "write" ? run.marks() : undefined;
    this.#parts = isOneSided(verb) ? 1 : 2;
    if (verb === "send") lane.onMessage = () => this.#hasArrived = true;
  }

  /** How much is done of what is to do, from 0 to 1. */
  get share(): number {
    const { iterations, durationMs } = this.#goal;
    return iterations > 0 ? this.#count / iterations : Math.min(1, (performance.now() - this.#startMs) / durationMs);
  }

  /** The clock begins to run. */
  start(): void {
    this.#startMs = this.#sentMs = performance.now();
    this.#rests = this.#lane.run.rests;
  }

  /** Sends a message, or looks for the answer to it. */
  step(): Step {
    if (!this.#isUnderWay) {
      this.#send();
      return "busy";
    }
    if (!(this.#marks?.arrived() ?? this.#hasArrived)) return "busy";
    const now = performance.now();
    this.latencies.record((now - this.#sentMs) * 1000 / this.#parts);
    // the next one begins where this one ends: one look at the clock is enough, unless there is a rest in between
    this.#sentMs = now;
    this.#isUnderWay = false;
    this.#count++;
    const { iterations, durationMs } = this.#goal;
    return (iterations > 0 ? this.#count >= iterations : now - this.#startMs >= durationMs) ? "done" : "next";
  }

  #send(): void {
    const { queuePair, work } = this.#lane;
    this.#isUnderWay = true;
    this.#hasArrived = false;
    this.#marks?.mark();
    if (this.#rests !== this.#lane.run.rests) this.#sentMs = performance.now();
    this.#rests = this.#lane.run.rests;
    queuePair!.postSend(work, this.#parts === 1 ? this.#done : undefined);
    queuePair!.flush();
  }

  #done = ({ status }: { status: string }): void => {
    if (status !== "success") return; // the connection has ended, and tells why itself
    this.#hasArrived = true;
    this.#lane.run.changed();
  };
}

/** The answering end: sends a message back for each that comes. */
export class Echo {
  /** Messages that have been answered. */
  answered = 0;
  readonly #lane: MeasurableLane;
  readonly #marks: Marks | undefined;

  constructor(run: Measurable) {
    const [lane] = run.lanes;
    const { verb } = run.spec.operation;
    this.#lane = lane;
    this.#marks = verb === "write" ? run.marks() : undefined;
    if (verb === "send") lane.onMessage = () => this.#answer();
  }

  /** Answers a Write that has come; Sends have been as they came. */
  step(): Step {
    if (this.#marks?.arrived()) this.#answer();
    return "idle";
  }

  #answer(): void {
    this.answered++;
    this.#marks?.mark();
    const { queuePair, work } = this.#lane;
    queuePair!.postSend(work);
    queuePair!.flush();
  }
}
