/**
 * A peer whose process is killed in the middle of an operation, whichever side asked for it: everything that is outstanding is flushed within a second, no byte
 * lands outside of the memory that was meant, and the device goes on with the next peer.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import {
  ACCESS_ALL,
  AT_ONCE,
  BYTES,
  encodeOffer,
  fieldOf,
  type Framing,
  FRAMINGS,
  openWindows,
  type Operation,
  OPERATIONS,
  post,
  RECEIVES,
} from "../../rdma/_testing/doomed_peer.ts";
import { guarded, openDescriptors, until, whole, within } from "../../rdma/_testing/pair.ts";
import { Device, type MemoryWindow, type QueuePair } from "../../rdma/mod.ts";

/** What has come of the work that was posted. */
type Statuses = string[];

const SECOND_MS = 1000;

/** Work that is complete here as soon as the kernel has it (RFC 5040 §5.3), and work whose answers move no region. */
const ONE_WAY: readonly Operation[] = ["write", "send", "sendInvalidate", "immediate"];
const SHORT: readonly Operation[] = ["immediate", "fetchAdd", "swap", "compareSwap"];

/** How many of `count` statuses are successes; flushes, and nothing else, must follow. */
function flushedFrom(statuses: Statuses, count: number): number {
  const done = statuses.filter((status) => status === "success").length;
  const expected = Array.from({ length: count }, (_, i) => i < done ? "success" : "flushed");
  assertEquals(statuses.join(), expected.join());
  return done;
}

/** Whether every thread of a process has stopped. */
function standsStill(pid: number): boolean {
  return [...Deno.readDirSync(`/proc/${pid}/task`)].every(({ name }) =>
    /^\d+ \(.*\) T/.test(Deno.readTextFileSync(`/proc/${pid}/task/${name}/stat`))
  );
}

/** A device that peers come to, one after the other, and are killed. */
class Survivor implements AsyncDisposable {
  readonly #device = Device.open();
  readonly #pd = this.#device.allocateProtectionDomain();
  /** What peers may use, what goes out and comes in, and what is none of their business. */
  readonly #target = guarded(this.#pd, BYTES, ACCESS_ALL);
  readonly #local = guarded(this.#pd, BYTES);
  readonly #inbox = guarded(this.#pd, BYTES);
  readonly #other = guarded(this.#pd, BYTES, ACCESS_ALL);
  readonly #framing: Framing;
  #windows: MemoryWindow[] = [];
  #descriptors = 0;
  #received: Statuses = [];
  #came = Promise.withResolvers<QueuePair>();
  readonly #listener = this.#device.listen({
    port: 0,
    onRequest: (request) =>
      void request.accept({
        pd: this.#pd,
        ...FRAMINGS[this.#framing],
        privateData: encodeOffer(this.#target.region, this.#windows = openWindows(this.#target.region)),
        onReady: (qp) => {
          for (let i = 0; i < RECEIVES; i++) {
            qp.postRecv(whole(this.#inbox.region), ({ status }) => this.#received.push(status));
          }
          this.#came.resolve(qp);
        },
      }),
  });

  private constructor(framing: Framing) {
    this.#framing = framing;
  }

  static async open(framing: Framing): Promise<Survivor> {
    const survivor = new Survivor(framing);
    survivor.#other.region.bytes.fill(0x77);
    await survivor.#device.hold.begin(); // from now on it opens descriptors for connections alone
    survivor.#descriptors = openDescriptors();
    return survivor;
  }

  /** Starts a peer, and waits for its connection. */
  async #peer(...args: string[]): Promise<{ child: Deno.ChildProcess; qp: QueuePair }> {
    const script = new URL("../../rdma/_testing/doomed_peer.ts", import.meta.url).pathname;
    this.#came = Promise.withResolvers();
    this.#received = [];
    const command = ["run", "-A", "--no-check", script, `${this.#listener.port}`, this.#framing, ...args];
    const child = new Deno.Command(Deno.execPath(), { args: command, stdin: "null", stdout: "null" }).spawn();
    try {
      return { child, qp: await within(this.#came.promise, 20_000) };
    } catch (error) {
      child.kill("SIGKILL");
      await child.status;
      throw error;
    }
  }

  /** Kills it, and sees to it that the connection's end is what it must be. */
  async #kill(child: Deno.ChildProcess, qp: QueuePair): Promise<void> {
    child.kill("SIGKILL");
    const error = await within(qp.closed, SECOND_MS);
    await child.status;
    assert([undefined, "Reset"].includes(error?.code), `${error}`);
    assert(flushedFrom(this.#received, RECEIVES) < RECEIVES, "no receive was left");
    for (const memory of [this.#target, this.#local, this.#inbox, this.#other]) memory.check();
    assert(this.#other.region.bytes.every((byte) => byte === 0x77), "memory that nobody named was changed");
    for (const window of this.#windows) window.revoke();
    await until(() => this.#device.counters().liveConnections === 0 && openDescriptors() <= this.#descriptors);
  }

  /** Kills a peer whose memory we are using. */
  async killTarget(operation: Operation): Promise<void> {
    const { child, qp } = await this.#peer();
    const field = fieldOf(this.#local.region, qp);
    const use = (statuses: Statuses, what = operation) => post(qp, what, field, (status) => statuses.push(status));
    try {
      const before: Statuses = [];
      use(before);
      await until(() => before.length === 1);
      // a process that stands still leaves what follows in the middle, however fast it would be
      child.kill("SIGSTOP");
      await until(() => standsStill(child.pid));
      const statuses: Statuses = [];
      const isTiny = operation === "immediate"; // more of them than there can be go into the socket's buffers: Writes are to fill these
      for (let i = 0; i < 4 * AT_ONCE; i++) use(statuses, isTiny ? "write" : operation);
      if (isTiny) { for (let i = 0; i < AT_ONCE; i++) use(statuses); }
      // until the socket's buffers are full
      await new Promise((resolve) => setTimeout(resolve, 20));
      await this.#kill(child, qp);
      assertEquals(before, ["success"]);
      // what the kernel had taken of a Write or Send counts as done (RFC 5040 §5.3); the last ones it cannot have taken
      const done = flushedFrom(statuses, isTiny ? 5 * AT_ONCE : 4 * AT_ONCE);
      assert(done < 4 * AT_ONCE, "nothing was outstanding");
      if (!ONE_WAY.includes(operation)) assertEquals(done, 0, "a response of somebody who stands still");
    } finally {
      await child.status.catch(() => {});
    }
  }

  /** Kills a peer that uses our memory. */
  async killInitiator(operation: Operation): Promise<void> {
    const before = this.#device.counters();
    const { child, qp } = await this.#peer(operation);
    // well into it
    const moved = () => {
      const { fpdusReceived, bytesPlaced, bytesSent } = this.#device.counters();
      const bytes = bytesPlaced + bytesSent - before.bytesPlaced - before.bytesSent;
      return fpdusReceived - before.fpdusReceived > 20 && (bytes > 4 * BYTES || SHORT.includes(operation));
    };
    await until(moved);
    await this.#kill(child, qp);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#device.close();
  }
}

for (const framing of Object.keys(FRAMINGS) as Framing[]) {
  for (const operation of OPERATIONS) {
    Deno.test(`kill: of either side of ${operation}, in the middle of it, ${framing}`, async () => {
      await using survivor = await Survivor.open(framing);
      await survivor.killTarget(operation);
      await survivor.killInitiator(operation);
    });
  }
}
