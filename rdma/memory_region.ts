/**
 * Registered memory: regions, and windows on them.
 *
 * @module
 */
import { MemoryFlag } from "./_ffi/layout.ts";
import { check } from "./errors.ts";
import type { ProtectionDomain } from "./protection_domain.ts";
import type { LocalSge, Sge } from "./queue_pair.ts";

/** What a peer may do with registered memory; flags to be combined. The local side may always read and write it. */
export const Access = { LocalOnly: 0, RemoteRead: 1, RemoteWrite: 2, RemoteAtomic: 4 } as const;
const ACCESS_ALL = 7;

/** Regions in use by buffer, so that upper layers find the registration that an application made. */
const registrations = new WeakMap<ArrayBufferLike, Set<MemoryRegion>>();

/** Ends every registration of a buffer. */
export function endRegistrations(buffer: ArrayBufferLike): void {
  for (const region of [...registrations.get(buffer) ?? []]) region.deregister();
}

/** Memory that a work request may name: a region, or a window on one. */
export interface LocalMemory {
  /** Steering tag. */
  readonly stag: number;
  /** Address of the first byte. */
  readonly addressNumber: number;
  /** Length in bytes. */
  readonly byteLength: number;
  /** The memory. */
  readonly bytes: Uint8Array;
  /** The domain that it belongs to. */
  readonly pd: ProtectionDomain;
  /** Whether it can be used. */
  readonly live: boolean;
}

/** How memory is shown to peers. */
export interface AddressingOptions {
  /** The tagged offset of the first byte is 0 instead of its address, so that peers do not learn that. */
  zeroBased?: boolean;
  /**
   * The memory changes while peers read it. Where there is a CRC, answers to their Reads are copies, so that what changes between the CRC and its
   * leaving does not end the connection; a peer may still get a mixture of old and new. Answers below 8 KiB are copies anyway.
   */
  volatile?: boolean;
}

/** On which connections memory is open to peers. */
export interface AssociationOptions {
  /** The only connection on which a peer may use it; the default is every one of the domain. */
  connection?: { readonly handle: number };
}

/** What a region is to be registered anew for, or a window bound for. */
export interface Registration extends AddressingOptions {
  /** {@linkcode Access} flags. */
  access: number;
  /** First byte; 0 by default. It is relative to the region, or where that is registered anew, to the memory that it had at first. */
  offset?: number;
  /** Length in bytes; the default is the rest. */
  length?: number;
}

/** A change of a STag that a work request is to make, or has made at once. For queue pairs. */
export interface StagChange {
  /** The STag that becomes invalid with it; 0: none. */
  readonly old: number;
  /** The work request has ended. Until then both STags are revoked with what they are of. */
  end(isDone: boolean): void;
}

/** What of a region changes when it is registered anew. */
type Named = Pick<MemoryRegion, "stag" | "addressNumber" | "address" | "byteLength" | "access" | "bytes">;

/** What a window shows of a part of a region. */
interface Binding extends Omit<Named, "access"> {
  region: MemoryRegion;
  /** A work request that is to end it was posted. */
  isEnding: boolean;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The flags of {@linkcode Access}, and how memory is addressed, as the engine takes them. */
export function accessWord(
  access: number,
  { zeroBased = false, volatile = false }: AddressingOptions = {},
): number {
  if (!Number.isInteger(access) || access < 0 || access > ACCESS_ALL) throw new RangeError("no such access");
  return access | (zeroBased ? MemoryFlag.ZeroBased : 0) | (volatile ? MemoryFlag.Volatile : 0);
}

/** A stretch of memory that work requests and, as far as `access` goes, peers may use (RFC 5040 §2, "STag"). */
export class MemoryRegion implements Disposable, LocalMemory {
  /** Steering tag: what a peer needs to know, together with `address`. */
  readonly stag: number;
  /** The tagged offset of the first byte. */
  readonly address: bigint;
  /** Address of the first byte, as a number, for work requests. */
  readonly addressNumber: number;
  /** Length in bytes. */
  readonly byteLength: number;
  /** {@linkcode Access} flags. */
  readonly access: number;
  /** The domain that it belongs to. */
  readonly pd: ProtectionDomain;
  /** The memory that it was registered with at first. */
  readonly #whole: Uint8Array;
  #bytes: Uint8Array;
  #owned: boolean;
  #live = true;
  /** As what it was registered before, and may still be: work requests that are to change that have not ended. The latest is the last one. */
  #earlier: readonly Named[] = [];

  /** Use {@linkcode ProtectionDomain.allocate} or {@linkcode ProtectionDomain.register}. */
  constructor(
    pd: ProtectionDomain,
    fields: { stag: number; address: number; to: number; bytes: Uint8Array; access: number; owned: boolean },
  ) {
    this.pd = pd;
    this.stag = fields.stag;
    this.addressNumber = fields.address;
    this.address = BigInt(fields.to);
    this.byteLength = fields.bytes.byteLength;
    this.access = fields.access;
    this.#whole = fields.bytes;
    this.#bytes = fields.bytes;
    this.#owned = fields.owned;
    let set = registrations.get(fields.bytes.buffer);
    if (set === undefined) registrations.set(fields.bytes.buffer, set = new Set());
    set.add(this);
  }

  /** The memory. Of an engine-allocated region its views are detached by {@linkcode deregister}. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** Whether it is still registered. */
  get live(): boolean {
    return this.#live;
  }

  /** An element of a scatter/gather list: `length` bytes from `offset`, the rest or all of the region by default. */
  sge(offset = 0, length: number = this.byteLength - offset): Sge {
    return { region: this, offset, length };
  }

  /**
   * A separately revocable STag on a part of the region, as a type 2 memory window would be.
   *
   * @throws {RdmaError} `Invalid` for a part that is not within the region
   */
  bind({ connection, ...part }: Registration & AssociationOptions): MemoryWindow {
    const window = new MemoryWindow(this.pd);
    const { offset = 0, length = this.byteLength - offset } = part;
    window.bind(this, { ...part, offset, length }, { connection, active: true });
    return window;
  }

  /**
   * Names the memory anew, at once: a new STag with other access, bounds and addressing; the one that it had is no longer valid, nor are windows on the region. By
   * a work request of the opcode "register" the same is done in order with other work. Bounds are within the memory that was registered at first.
   *
   * @throws {RdmaError} `Invalid` for bounds beyond that
   */
  reregister(registration: Registration): void {
    this.renew(registration, { active: true });
    this.#revokeEarlier();
  }

  /**
   * Gives the region another STag, which is valid at once (`active`) or when a work request makes it so. For queue pairs.
   *
   * @internal
   */
  renew(registration: Registration, { active }: { active: boolean }): StagChange {
    if (!this.#live) throw new TypeError("the region is deregistered");
    const { offset = 0, access } = registration;
    const { length = this.#whole.byteLength - offset } = registration;
    const { native, handle, out } = this.pd.device.usable();
    const word = accessWord(access, registration) | MemoryFlag.Reregister | (active ? 0 : MemoryFlag.Inactive);
    check(native.weft_memory_bind(handle, this.stag, offset, length, word, 0, out));
    const before = { ...this.#fields(), bytes: this.#bytes };
    const [stag] = out;
    this.#earlier = [...this.#earlier, before];
    this.#set({
      stag,
      addressNumber: out[1],
      address: BigInt(out[2]),
      byteLength: length,
      access,
      bytes: this.#whole.subarray(offset, offset + length),
    });
    return { old: before.stag, end: (isDone) => this.#endChange(stag, isDone) };
  }

  /** The work request that was to make `stag` valid has ended. */
  #endChange(stag: number, isDone: boolean): void {
    const all = [...this.#earlier, { ...this.#fields(), bytes: this.#bytes }];
    const at = all.findIndex((each) => each.stag === stag);
    if (at < 0 || !this.#live) return; // revoked meanwhile
    revokeAll(this.pd, isDone ? all.splice(0, at) : all.splice(at, 1));
    this.#set(all.pop()!);
    this.#earlier = all;
  }

  #revokeEarlier(): void {
    revokeAll(this.pd, this.#earlier);
    this.#earlier = [];
  }

  #fields() {
    const { stag, addressNumber, address, byteLength, access } = this;
    return { stag, addressNumber, address, byteLength, access };
  }

  #set({ bytes, ...fields }: Named) {
    Object.assign(this as Mutable<MemoryRegion>, fields);
    this.#bytes = bytes;
  }

  /**
   * Ends the registration. When it returns nobody is touching the memory through it, and nobody will. Work that still names it fails its connection. Memory that
   * the engine allocated is given back, and views of it become empty; where the application has transferred their buffer, it is never given back.
   */
  deregister(): void {
    if (!this.#live) return;
    this.#live = false;
    this.pd.forget(this);
    registrations.get(this.#whole.buffer)?.delete(this);
    this.#revokeEarlier();
    const { open, handle, native, hold } = this.pd.device;
    const buffer = this.#whole.buffer;
    if (!this.#owned) {
      if (open) native.weft_memory_invalidate(handle, this.stag);
      if (buffer instanceof ArrayBuffer) hold.release(buffer);
      return;
    }
    this.#bytes = new Uint8Array(0);
    if (buffer instanceof ArrayBuffer && !buffer.detached) {
      // Detach first: a view left behind would read another owner's memory.
      buffer.transfer();
      if (open) native.weft_memory_invalidate(handle, this.stag);
    } else if (open) {
      // The application has transferred the buffer, to where we cannot take it back.
      native.weft_memory_abandon(handle, this.stag);
    }
  }

  /** The same as {@linkcode deregister}. */
  [Symbol.dispose](): void {
    this.deregister();
  }
}

/**
 * An STag on a part of a region, revocable without touching the region: a type 2 memory window. It is bound by {@linkcode MemoryRegion.bind} at once, or by a
 * work request of the opcode "bind" in order with other work, and may be bound again.
 */
export class MemoryWindow implements Disposable, LocalMemory {
  /** The domain that it belongs to. */
  readonly pd: ProtectionDomain;
  /** Steering tag; 0 before it is bound. Each binding has another one. */
  readonly stag: number = 0;
  /** The tagged offset of the part's first byte. */
  readonly address: bigint = 0n;
  /** Address of the part's first byte, for work requests. */
  readonly addressNumber: number = 0;
  /** Length in bytes. */
  readonly byteLength: number = 0;
  #bytes: Uint8Array = new Uint8Array(0);
  /** What it is bound to, as far as it may be valid; the last one counts. There are several while work requests that are to change that have not ended. */
  #bindings: Binding[] = [];

  /** Use {@linkcode MemoryRegion.bind} or {@linkcode ProtectionDomain.allocateWindow}. */
  constructor(pd: ProtectionDomain) {
    this.pd = pd;
  }

  /** The memory that it is on. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** Whether it is bound, or a work request to bind it was posted. A peer may have revoked it meanwhile. */
  get live(): boolean {
    const last = this.#bindings.at(-1);
    return last !== undefined && !last.isEnding && last.region.live;
  }

  /** An element of a scatter/gather list, as {@linkcode MemoryRegion.sge} has it. */
  sge(offset = 0, length: number = this.byteLength - offset): LocalSge {
    return { region: this, offset, length };
  }

  /**
   * Binds it, valid at once (`active`) or when a work request makes it so. For regions and queue pairs.
   *
   * @internal
   */
  bind(
    region: MemoryRegion,
    { offset, length, access, ...shown }: AddressingOptions & { offset: number; length: number; access: number },
    { connection, active }: AssociationOptions & { active: boolean },
  ): StagChange {
    if (!region.live) throw new TypeError("the region is deregistered");
    if (region.pd !== this.pd) throw new TypeError("the region is of another protection domain");
    const { native, handle, out } = this.pd.device.usable();
    const word = accessWord(access, shown) | (active ? 0 : MemoryFlag.Inactive);
    check(native.weft_memory_bind(handle, region.stag, offset, length, word, connection?.handle ?? 0, out));
    const [stag, addressNumber, to] = out;
    const before = this.#bindings.at(-1);
    if (active) this.revoke();
    const bytes = region.bytes.subarray(offset, offset + length);
    const binding = { stag, addressNumber, address: BigInt(to), byteLength: length, bytes, region, isEnding: false };
    this.#bindings.push(binding);
    this.#show(binding);
    const end = (isDone: boolean) => {
      if (!isDone) return this.#drop(binding);
      // what it had before has ended, unless work that is posted is still to end it
      const at = this.#bindings.indexOf(binding);
      this.#bindings.slice(0, Math.max(at, 0)).filter((each) => !each.isEnding).forEach((each) => this.#drop(each));
    };
    return { old: active || before === undefined || before.isEnding ? 0 : before.stag, end };
  }

  /**
   * A work request that makes it invalid was posted. For queue pairs.
   *
   * @internal
   */
  unbind(): StagChange {
    const binding = this.#bindings.at(-1)!;
    binding.isEnding = true;
    const end = (isDone: boolean) => {
      if (isDone) this.#drop(binding);
      else binding.isEnding = false;
    };
    return { old: binding.stag, end };
  }

  #drop(binding: Binding): void {
    const at = this.#bindings.indexOf(binding);
    if (at < 0) return; // revoked meanwhile
    revokeAll(this.pd, this.#bindings.splice(at, 1));
    const last = this.#bindings.at(-1);
    if (last !== undefined) this.#show(last);
  }

  #show({ stag, addressNumber, address, byteLength, bytes }: Binding): void {
    Object.assign(this as Mutable<MemoryWindow>, { stag, addressNumber, address, byteLength });
    this.#bytes = bytes;
  }

  /** Makes the STag invalid. A peer may have done so already by Send with Invalidate; that is no error. */
  revoke(): void {
    revokeAll(this.pd, this.#bindings);
    this.#bindings = [];
  }

  /** The same as {@linkcode revoke}. */
  [Symbol.dispose](): void {
    this.revoke();
  }
}

/** Makes STags invalid; it is no error where they are already. */
function revokeAll({ device }: ProtectionDomain, named: readonly { stag: number }[]): void {
  if (!device.open) return;
  for (const { stag } of named) device.native.weft_memory_invalidate(device.handle, stag);
}

/**
 * The region of `pd` that holds all of `bytes`, if an application registered one, and where in it they begin.
 */
export function findRegion(
  pd: ProtectionDomain,
  bytes: Uint8Array,
): { region: MemoryRegion; offset: number } | undefined {
  for (const region of registrations.get(bytes.buffer) ?? []) {
    const offset = bytes.byteOffset - region.bytes.byteOffset;
    if (region.pd === pd && offset >= 0 && offset + bytes.byteLength <= region.byteLength) return { region, offset };
  }
  return undefined;
}
