/**
 * What a hostile peer meets: a device with memory of every kind, a connection that goes on transferring meanwhile, and a count of what there was before.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import {
  fill,
  type Guarded,
  guarded,
  openDescriptors,
  same,
  until,
  whole,
  within,
} from "../../../rdma/_testing/pair.ts";
import {
  Access,
  Device,
  type Listener,
  type ListenOptions,
  type MemoryRegion,
  type ProtectionDomain,
  type QueuePair,
  type RdmaError,
  type SharedReceiveQueue,
  type StartupOptions,
  type WorkCompletion,
} from "../../../rdma/mod.ts";

/** Length of every region that a peer is told of. */
export const REGION_BYTES = 4096;
/** Length of every receive that is posted. */
export const RECEIVE_BYTES = 256;

/** A connection that the device accepted. */
export interface Victim {
  qp: QueuePair;
  /** Completions of its receives. */
  received: WorkCompletion[];
  /** Memory of its receives. */
  inbox: Guarded[];
}

/** How the next connection is to be accepted. */
export interface AcceptOptions extends Partial<StartupOptions> {
  /** How many receives to post. */
  receives?: number;
  /** Where receives come from instead. */
  shared?: SharedReceiveQueue;
}

/** A test on a scene: when it is through, the canary must be well, and nothing may be left over. */
export function onScene(
  test: (scene: Scene) => Promise<void>,
  listen: Partial<ListenOptions> = {},
): () => Promise<void> {
  return async () => {
    const scene = await Scene.open(listen);
    try {
      await test(scene);
      await scene.verify();
    } finally {
      await scene.close();
    }
  };
}

/** A device under attack. */
export class Scene {
  /** The device. */
  readonly device: Device = Device.open();
  /** The domain of every connection. */
  readonly pd: ProtectionDomain = this.device.allocateProtectionDomain();
  /** A domain of which no connection is. */
  readonly otherPd: ProtectionDomain = this.device.allocateProtectionDomain();
  /** Memory that a peer may read and write. */
  readonly open: Guarded = this.#memory(this.pd, Access.RemoteRead | Access.RemoteWrite);
  /** Memory that a peer may only read. */
  readonly readable: Guarded = this.#memory(this.pd, Access.RemoteRead);
  /** Memory that a peer may only write. */
  readonly writable: Guarded = this.#memory(this.pd, Access.RemoteWrite);
  /** Memory on which a peer may carry out atomic operations. */
  readonly atomic: Guarded = this.#memory(this.pd, Access.RemoteAtomic);
  /** Memory that is not a peer's business. */
  readonly local: Guarded = this.#memory(this.pd, Access.LocalOnly);
  /** Memory of the other domain. */
  readonly foreign: Guarded = this.#memory(this.otherPd, Access.RemoteRead | Access.RemoteWrite);
  /** The listener that is attacked. */
  readonly listener: Listener;
  /** Plain TCP connections that came. */
  streams = 0;
  #accept: AcceptOptions = {};
  #victims: Victim[] = [];
  #waiting: ((victim: Victim) => void)[] = [];
  #canary: Canary | undefined;
  #before: { descriptors: number; regions: number; connections: number } | undefined;

  private constructor(listen: Partial<ListenOptions>) {
    this.listener = this.device.listen({
      port: 0,
      ...listen,
      onRequest: (request) => {
        const { receives = 0, shared, ...options } = this.#accept;
        const onReady = (qp: QueuePair) => {
          const received: WorkCompletion[] = [];
          const inbox = Array.from({ length: receives }, () => guarded(this.pd, RECEIVE_BYTES));
          for (const { region } of inbox) qp.postRecv(whole(region), (done) => received.push(done));
          const victim = { qp, received, inbox };
          const take = this.#waiting.shift();
          if (take === undefined) this.#victims.push(victim);
          else take(victim);
        };
        void request.accept({ pd: this.pd, crc: false, ...options, receives: shared, onReady });
      },
      onStream: (stream) => {
        this.streams++;
        stream.abort();
      },
    });
  }

  #memory(pd: ProtectionDomain, access: number): Guarded {
    const memory = guarded(pd, REGION_BYTES, access);
    fill(memory.region.bytes, access + 1);
    return memory;
  }

  /** Sets everything up; the canary sings from now on. */
  static async open(listen: Partial<ListenOptions> = {}): Promise<Scene> {
    const scene = new Scene(listen);
    scene.#canary = await Canary.start(scene);
    const { regions, liveConnections } = scene.device.counters();
    scene.#before = { descriptors: openDescriptors(), regions, connections: liveConnections };
    return scene;
  }

  /** Where to attack. */
  get port(): number {
    return this.listener.port;
  }

  /** How connections are accepted from now on. */
  accept(options: AcceptOptions): void {
    this.#accept = options;
  }

  /** The next connection that was accepted. */
  victim(): Promise<Victim> {
    const victim = this.#victims.shift();
    if (victim !== undefined) return Promise.resolve(victim);
    return within(new Promise((resolve) => this.#waiting.push(resolve)));
  }

  /** Connections that were accepted and not asked for. */
  takeVictims(): Victim[] {
    return this.#victims.splice(0);
  }

  /** Why a connection ended; its receives must have been flushed, and their memory given back. */
  async outcome(victim: Victim): Promise<RdmaError | undefined> {
    const error = await within(victim.qp.closed);
    const { received, inbox } = victim;
    assertEquals(received.length, inbox.length, "every receive has completed");
    for (const memory of inbox) {
      memory.check();
      memory.region.deregister();
    }
    return error;
  }

  /** Every region with its owner's bytes in it. */
  contents(): Uint8Array[] {
    return this.#all().map(({ region }) => region.bytes.slice());
  }

  #all(): Guarded[] {
    return [this.open, this.readable, this.writable, this.atomic, this.local, this.foreign];
  }

  /** Throws where memory was changed, or guard bytes were. `writes`: peers may have written what they may write. */
  checkMemory(before: Uint8Array[], writes = false): void {
    this.#all().forEach((memory, i) => {
      memory.check();
      const mayWrite = memory === this.open || memory === this.writable || memory === this.atomic;
      if (writes && mayWrite) return;
      assert(same(memory.region.bytes, before[i]), `region ${i} was changed`);
    });
  }

  /** Throws where the canary is not well, or anything is left of the connections that came. */
  async verify(): Promise<void> {
    for (const { qp } of this.takeVictims()) qp.abort();
    const { descriptors, regions, connections } = this.#before!;
    await until(() => openDescriptors() <= descriptors, 3000).catch(() => {
      throw new Error(`${openDescriptors()} descriptors are open, ${descriptors} were`);
    });
    assertEquals(this.device.counters().regions, regions, "regions");
    await until(() => this.device.counters().liveConnections <= connections, 3000).catch(() => {
      throw new Error(`${this.device.counters().liveConnections} connections are in memory, ${connections} were`);
    });
    assertEquals(this.device.counters().bytesStagedLarge, 0);
    for (const memory of this.#all()) memory.check();
    await this.#canary!.stop();
  }

  /** Ends it all. */
  async close(): Promise<void> {
    await this.#canary!.close();
    await this.device.close();
  }
}

/** A well-behaved connection to the device under attack, which never stops transferring and looking at what came of it. */
class Canary {
  #stopped = false;
  #rounds = 0;
  readonly #client: Device;
  readonly #song: Promise<void>;

  private constructor(client: Device, song: (canary: Canary) => Promise<void>) {
    this.#client = client;
    this.#song = song(this);
    // whoever stops it is told
    this.#song.catch(() => {});
  }

  static async start(scene: Scene): Promise<Canary> {
    const { device, pd } = scene;
    const accepted = Promise.withResolvers<QueuePair>();
    const listener = device.listen({ port: 0, onRequest: (request) => accepted.resolve(request.accept({ pd })) });
    const client = Device.open();
    const clientPd = client.allocateProtectionDomain();
    const qp = await client.connect({ hostname: "127.0.0.1", port: listener.port, pd: clientPd, crc: true });
    const server = await accepted.promise;
    await listener.close();
    const target = pd.allocate(20_000, Access.RemoteRead | Access.RemoteWrite);
    const source = clientPd.allocate(20_000);
    const back = clientPd.allocate(20_000);
    const inbox = pd.allocate(100);
    return new Canary(client, async (canary) => {
      while (!canary.#stopped) {
        await canary.#sing(qp, server, { source, target, back, inbox });
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    });
  }

  async #sing(qp: QueuePair, server: QueuePair, memory: Record<"source" | "target" | "back" | "inbox", MemoryRegion>) {
    const { source, target, back, inbox } = memory;
    fill(source.bytes, ++this.#rounds);
    await within(
      Promise.all([
        server.recv(whole(inbox)),
        qp.write(whole(source), target),
        qp.read(whole(back), target),
        qp.send([{ region: source, offset: 0, length: 100 }]),
      ]),
      10_000,
    );
    assert(same(source.bytes, target.bytes) && same(source.bytes, back.bytes), `canary, round ${this.#rounds}`);
    assert(same(source.bytes.subarray(0, 100), inbox.bytes), `canary, round ${this.#rounds}`);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#song;
    assert(this.#rounds > 0, "the canary did not sing");
  }

  async close(): Promise<void> {
    this.#stopped = true;
    await this.#client.close();
  }
}
