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
  /** All but the last one, which no other follows. */
  readonly latencies = new Latencies();
  /** Round trips so far. */
  count = 0;
  readonly #goal: Goal;
  readonly #lane: MeasurableLane;
  readonly #marks: Marks | undefined;
  /** Round trips divided by this are what is counted. */
  readonly #parts: number;
  #startMs = 0;
  #sentMs = 0;
  #arrivedMs = 0;
  #isUnderWay = false;
  #hasArrived = false;
  #isTimeUp = false;

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
    return iterations > 0 ? this.count / iterations : Math.min(1, (performance.now() - this.#startMs) / durationMs);
  }

  /** The clock begins to run. */
  start(): void {
    this.#startMs = this.#arrivedMs = performance.now();
  }

  /**
   * Sends a message, or looks for the answer to it and sends the next one at once where that `mayFollow`. A round trip is from one posting to the next, as in perftest:
   * the clock is looked at while a message is on its way.
   */
  step(mayFollow: boolean): Step {
    if (!this.#isUnderWay) {
      this.#sentMs += performance.now() - this.#arrivedMs; // what lies in between is a rest
      return this.#next();
    }
    if (!(this.#marks?.arrived() ?? this.#hasArrived)) return "busy";
    this.#isUnderWay = false;
    if (++this.count === this.#goal.iterations || this.#isTimeUp) return "done";
    if (mayFollow) return this.#next();
    this.#arrivedMs = performance.now();
    return "next";
  }

  #next(): Step {
    this.#send();
    const now = performance.now();
    if (this.count > 0) this.latencies.record((now - this.#sentMs) * 1000 / this.#parts);
    this.#sentMs = now;
    // there is a figure to show for it, however long the first round trip takes
    const isMeasured = this.count > 0;
    this.#isTimeUp = this.#goal.iterations === 0 && isMeasured && now - this.#startMs >= this.#goal.durationMs;
    return "busy";
  }

  #send(): void {
    const { queuePair, work } = this.#lane;
    this.#isUnderWay = true;
    this.#hasArrived = false;
    this.#marks?.mark();
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
