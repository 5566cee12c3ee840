/**
 * Bandwidth: as many requests as there is room for, on every connection.
 *
 * @module
 */
import type { Measurable, MeasurableLane, Step } from "./driver.ts";

/** What a phase of a measurement is to do: so many messages, or as many as there is time for. */
export interface Goal {
  /** 0: limited by time. */
  iterations: number;
  durationMs: number;
}

/** The shortest stretch of time that a peak is taken over. */
const PEAK_MS = 1;

/** What was moved, and how fast. */
export interface BandwidthFigures {
  /** Messages, of both ends where both send. */
  messages: number;
  elapsedMs: number;
  /** Messages per millisecond over the best millisecond or depth of requests. */
  peak: number;
}

/** Sends, writes or reads on the connections of a run. */
export class Sender {
  readonly #run: Measurable;
  readonly #goal: Goal;
  readonly #queues: readonly Queue[];
  #startMs = 0;
  #markMs = 0;
  #markCount = 0;
  #peak = 0;

  constructor(run: Measurable, goal: Goal) {
    this.#run = run;
    this.#goal = goal;
    const { connections } = run.spec;
    const share = (index: number) => Math.floor((goal.iterations + connections - 1 - index) / connections);
    this.#queues = run.lanes.map((lane, i) => new Queue(lane, goal.iterations === 0 ? Infinity : share(i)));
  }

  /** Messages that are done. */
  get completed(): number {
    let sum = 0;
    for (const queue of this.#queues) sum += queue.completed;
    return sum;
  }

  /** How much is done of what is to do, from 0 to 1. */
  get share(): number {
    const { iterations, durationMs } = this.#goal;
    return iterations > 0 ? this.completed / iterations : Math.min(1, (performance.now() - this.#startMs) / durationMs);
  }

  /** Messages per millisecond in the best stretch. */
  get peak(): number {
    return this.#peak;
  }

  /** The clock begins to run. */
  start(): void {
    this.#startMs = this.#markMs = performance.now();
  }

  /** Posts what there is room for. */
  step(): Step {
    const now = performance.now();
    if (this.#goal.iterations === 0 && now - this.#startMs >= this.#goal.durationMs) {
      for (const queue of this.#queues) queue.end();
    }
    let isDone = true;
    let completed = 0;
    for (const queue of this.#queues) {
      queue.fill();
      isDone &&= queue.isDone;
      completed += queue.completed;
    }
    const elapsed = now - this.#markMs;
    if (elapsed >= PEAK_MS && completed - this.#markCount >= this.#run.spec.sendDepth) {
      this.#peak = Math.max(this.#peak, (completed - this.#markCount) / elapsed);
      this.#markMs = now;
      this.#markCount = completed;
    }
    return isDone ? "done" : "idle";
  }
}

/** The requests of one connection. */
class Queue {
  completed = 0;
  #posted = 0;
  #goal: number;
  readonly #lane: MeasurableLane;
  readonly #depth: number;
  readonly #list: number;
  readonly #moderation: number;
  readonly #isSend: boolean;

  constructor(lane: MeasurableLane, goal: number) {
    const { spec } = lane.run;
    this.#lane = lane;
    this.#goal = goal;
    this.#depth = spec.sendDepth;
    this.#list = spec.list;
    this.#moderation = spec.moderation;
    this.#isSend = spec.operation.verb === "send";
  }

  get isDone(): boolean {
    return this.completed >= this.#goal;
  }

  /** Time is up: what is posted is all, but for what a completion still lacks. */
  end(): void {
    if (this.#goal !== Infinity) return;
    this.#goal = Math.ceil(this.#posted / this.#moderation) * this.#moderation;
  }

  fill(): void {
    const lane = this.#lane;
    let room = Math.min(this.#depth - (this.#posted - this.completed), this.#goal - this.#posted);
    if (room <= 0) return;
    if (this.#isSend) room = Math.min(room, lane.roomAtPeer);
    const queuePair = lane.queuePair!;
    const { work } = lane;
    const moderation = this.#moderation;
    const list = this.#list === 0 ? room : this.#list;
    let inList = 0;
    for (; room > 0; room--) {
      this.#posted++;
      lane.sent++;
      const isSignalled = this.#posted % moderation === 0 || this.#posted === this.#goal;
      queuePair.postSend(work, isSignalled ? this.#completed : undefined);
      if (++inList === list) {
        queuePair.flush();
        inList = 0;
      }
    }
    queuePair.flush();
  }

  /** Completions come in order: this one is of the next request that was signalled. */
  #completed = ({ status }: { status: string }): void => {
    if (status !== "success") return; // the connection has ended, and tells why itself
    this.completed = Math.min(this.completed + this.#moderation, this.#posted, this.#goal);
    this.#lane.run.changed();
  };
}
