/**
 * The client's end of perftest's ping-pong of Writes, in which the server begins.
 *
 * @module
 */
import type { Measurable, MeasurableLane, Step } from "../driver.ts";
import type { Marks } from "../marks.ts";
import { Latencies } from "../statistics.ts";

/** Answers each message with one of its own, and measures from there to the next one. */
export class Follower {
  readonly latencies = new Latencies();
  readonly #lane: MeasurableLane;
  readonly #marks: Marks;
  readonly #iterations: number;
  #count = 0;
  #sentMs = 0;

  constructor(run: Measurable, iterations: number) {
    [this.#lane] = run.lanes;
    this.#marks = run.marks();
    this.#iterations = iterations;
  }

  /** How much is done of what is to do, from 0 to 1. */
  get share(): number {
    return this.#count / this.#iterations;
  }

  /** Looks for the next message, and answers it. */
  step(): Step {
    if (!this.#marks.arrived()) return "busy";
    const { queuePair, work } = this.#lane;
    const now = performance.now();
    if (this.#count > 0) this.latencies.record((now - this.#sentMs) * 1000 / 2);
    this.#marks.mark();
    queuePair!.postSend(work);
    queuePair!.flush();
    this.#sentMs = now;
    return ++this.#count >= this.#iterations ? "done" : "next";
  }
}
