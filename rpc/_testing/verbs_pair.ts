/**
 * Two queue pairs joined in memory, for tests: STags are checked, operations take turns of the microtask queue, and what breaks the rules of the
 * verbs ends the connection, as an RNIC would.
 *
 * @module
 */
import type { Completion } from "../transports/byte_stream.ts";
import {
  Access,
  type Domain,
  type LentMemory,
  type ReceiveCompletion,
  type Region,
  type RegisteredPool,
  type Sge,
  type Verbs,
  type Window,
  type Work,
} from "../transports/verbs.ts";

interface Registration {
  bytes: Uint8Array;
  address: bigint;
  access: number;
}

/** A protection domain that knows what is registered. */
export class FakeDomain implements Domain {
  readonly registrations = new Map<number, Registration>();
  readonly #regions = new Map<number, Region>();
  #nextStag = 0x1000;
  #nextAddress = 0x7f00_0000_0000n;

  allocate(lengthBytes: number, access: number = Access.LocalOnly): Region {
    return this.register(new Uint8Array(lengthBytes), access);
  }

  register(bytes: Uint8Array, access: number = Access.LocalOnly): Region {
    const address = this.#nextAddress;
    this.#nextAddress += BigInt(bytes.byteLength) + 0x10_000n;
    const stag = this.add({ bytes, address, access });
    const region: Region = {
      stag,
      address,
      bytes,
      byteLength: bytes.byteLength,
      bind: ({ offset, length, access }) => {
        if (offset + length > bytes.byteLength) throw new RangeError("a window beyond its region");
        return this.#bind({
          bytes: bytes.subarray(offset, offset + length),
          address: address + BigInt(offset),
          access,
        });
      },
      deregister: () => {
        this.registrations.delete(stag);
        this.#regions.delete(stag);
      },
    };
    this.#regions.set(stag, region);
    return region;
  }

  /** The first region that holds `bytes`. */
  findRegion(bytes: Uint8Array): { region: Region; offset: number } | undefined {
    for (const region of this.#regions.values()) {
      const offset = bytes.byteOffset - region.bytes.byteOffset;
      const isInside = offset >= 0 && offset + bytes.byteLength <= region.byteLength;
      if (bytes.buffer === region.bytes.buffer && isInside) return { region, offset };
    }
    return undefined;
  }

  /** Enters a registration under a new STag. */
  add(registration: Registration): number {
    const stag = this.#nextStag += 0x101;
    this.registrations.set(stag, registration);
    return stag;
  }

  /** The memory that a peer names, or `undefined` where it may not. */
  resolve(
    remote: { stag: number; address: bigint },
    { length, access }: { length: number; access: number },
  ): Uint8Array | undefined {
    const found = this.registrations.get(remote.stag);
    if (found === undefined || (found.access & access) === 0) return undefined;
    const at = Number(remote.address - found.address);
    return at < 0 || at + length > found.bytes.byteLength ? undefined : found.bytes.subarray(at, at + length);
  }

  #bind(registration: Registration): Window {
    const stag = this.add(registration);
    return { stag, address: registration.address, revoke: () => void this.registrations.delete(stag) };
  }
}

/** A pool that knows what it has lent, and spoils what comes back. */
export class FakePool implements RegisteredPool {
  /** Leases that have not ended. */
  lent = 0;
  readonly #region: Region;
  #at = 0;

  constructor(domain: Domain, lengthBytes = 1 << 25) {
    this.#region = domain.allocate(lengthBytes);
  }

  take(lengthBytes: number): LentMemory {
    if (lengthBytes > this.#region.byteLength) throw new RangeError("the pool is empty");
    if (this.#at + lengthBytes > this.#region.byteLength) this.#at = 0;
    const offset = this.#at;
    this.#at += lengthBytes;
    this.lent++;
    const bytes = this.#region.bytes.subarray(offset, offset + lengthBytes);
    let isLent = true;
    const release = () => {
      if (!isLent) return;
      isLent = false;
      this.lent--;
      bytes.fill(0xdb);
    };
    return { bytes, region: this.#region, offset, release };
  }
}

interface Posted {
  local: readonly Sge[];
  done: (completion: ReceiveCompletion) => void;
}

/** One end of a pair. */
export class FakeQueuePair implements Verbs {
  readonly handle = 0;
  readonly remoteAddress = "192.0.2.1";
  readonly remotePort = 999;
  readonly closed: Promise<Error | undefined>;
  readonly domain: FakeDomain;
  privateData: Uint8Array = new Uint8Array(0);
  peer!: FakeQueuePair;
  /** Every piece of work that was posted. */
  readonly posted: Work[] = [];
  /** While true nothing is done. */
  isStalled = false;
  readonly #sends: { work: Work; done?: (completion: Completion) => void }[] = [];
  readonly #receives: Posted[] = [];
  #isClosing = false;
  #isEnded = false;
  #resolveClosed!: (error: Error | undefined) => void;

  constructor(domain: FakeDomain) {
    this.domain = domain;
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Receives that wait for a Send. */
  get receivesPosted(): number {
    return this.#receives.length;
  }

  postSend(work: Work, done?: (completion: Completion) => void): void {
    if (this.#isEnded || this.#isClosing) throw new TypeError("closed");
    for (const { region, offset, length } of work.local) {
      if (!this.domain.registrations.has(region.stag)) throw new TypeError("the region is deregistered");
      if (offset + length > region.byteLength) throw new RangeError("an element beyond its region");
    }
    this.posted.push(work);
    this.#sends.push({ work, done });
    queueMicrotask(() => this.#step());
  }

  postRecv(local: readonly Sge[], done: (completion: ReceiveCompletion) => void): void {
    if (this.#isEnded || this.#isClosing) throw new TypeError("closed");
    this.#receives.push({ local, done });
  }

  async close(): Promise<void> {
    if (!this.#isEnded) {
      this.#isClosing = true;
      queueMicrotask(() => this.#step());
    }
    await this.closed;
  }

  abort(): void {
    this.end(undefined);
  }

  /** Ends both sides. */
  end(error: Error | undefined): void {
    this.#end(error);
    this.peer.#end(error);
  }

  /** Lets a stalled end go on. */
  resume(): void {
    this.isStalled = false;
    this.#step();
  }

  #step(): void {
    if (this.#isEnded || this.isStalled) return;
    const next = this.#sends.shift();
    if (next === undefined) {
      if (this.#isClosing) this.end(undefined);
      return;
    }
    const { work, done } = next;
    const byteLength = work.local.reduce((sum, { length }) => sum + length, 0);
    const violation = this.#carryOut(work, byteLength);
    if (violation === undefined) {
      done?.({ status: "success", byteLength });
      return queueMicrotask(() => this.#step());
    }
    this.#sends.unshift(next);
    this.end(new Error(violation));
  }

  #carryOut(work: Work, length: number): string | undefined {
    const { domain } = this.peer;
    if (work.opcode === "send") return this.peer.#receive(gather(work.local), work.invalidate);
    const access = work.opcode === "write" ? Access.RemoteWrite : Access.RemoteRead;
    const remote = domain.resolve(work.remote, { length, access });
    if (remote === undefined) return `${work.opcode} to memory that is not open`;
    if (work.opcode === "write") remote.set(gather(work.local));
    else scatter(work.local, remote);
  }

  #receive(message: Uint8Array, invalidate: number | undefined): string | undefined {
    const posted = this.#receives.shift();
    if (posted === undefined) return "a Send without a receive";
    const room = posted.local.reduce((sum, { length }) => sum + length, 0);
    if (message.byteLength > room) {
      this.#receives.unshift(posted);
      return "a Send longer than its receive";
    }
    if (invalidate !== undefined && !this.domain.registrations.delete(invalidate)) {
      return "invalidated what is not there";
    }
    scatter(posted.local, message);
    posted.done({ status: "success", byteLength: message.byteLength, invalidatedStag: invalidate });
  }

  #end(error: Error | undefined): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    queueMicrotask(() => {
      for (const { done } of this.#receives.splice(0)) done({ status: "flushed", byteLength: 0 });
      for (const { done } of this.#sends.splice(0)) done?.({ status: "flushed", byteLength: 0 });
      this.#resolveClosed(error);
    });
  }
}

function gather(local: readonly Sge[]): Uint8Array {
  const pieces = local.map(({ region, offset, length }) => region.bytes.subarray(offset, offset + length));
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.byteLength, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}

function scatter(local: readonly Sge[], bytes: Uint8Array): void {
  let at = 0;
  for (const { region, offset, length } of local) {
    const part = bytes.subarray(at, at + length);
    region.bytes.set(part, offset);
    at += part.byteLength;
  }
}

/** Joins two ends, each with a domain of its own. */
export function verbsPair(): [FakeQueuePair, FakeQueuePair] {
  const ends: [FakeQueuePair, FakeQueuePair] = [
    new FakeQueuePair(new FakeDomain()),
    new FakeQueuePair(new FakeDomain()),
  ];
  ends[0].peer = ends[1];
  ends[1].peer = ends[0];
  return ends;
}
