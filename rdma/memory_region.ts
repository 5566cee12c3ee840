/**
 * Registered memory: regions, and windows on them.
 *
 * @module
 */
import { check } from "./errors.ts";
import type { ProtectionDomain } from "./protection_domain.ts";

/** What a peer may do with registered memory; flags to be combined. The local side may always read and write it. */
export const Access = { LocalOnly: 0, RemoteRead: 1, RemoteWrite: 2, RemoteAtomic: 4 } as const;

/** Regions in use by buffer, so that upper layers find the registration that an application made. */
const registrations = new WeakMap<ArrayBufferLike, Set<MemoryRegion>>();

/** A stretch of memory that work requests and, as far as `access` goes, peers may use (RFC 5040 §1.2, "STag"). */
export class MemoryRegion implements Disposable {
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
  #bytes: Uint8Array;
  #owned: boolean;
  #live = true;

  /** Use {@linkcode ProtectionDomain.allocate} or {@linkcode ProtectionDomain.register}. */
  constructor(
    pd: ProtectionDomain,
    fields: { stag: number; address: number; bytes: Uint8Array; access: number; owned: boolean },
  ) {
    this.pd = pd;
    this.stag = fields.stag;
    this.addressNumber = fields.address;
    this.address = BigInt(fields.address);
    this.byteLength = fields.bytes.byteLength;
    this.access = fields.access;
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

  /**
   * A separately revocable STag on a part of the region, as a type 2 memory window would be.
   *
   * @param offset first byte, relative to the region
   * @param lengthBytes length of the part
   * @param access {@linkcode Access} flags of the window
   * @param connection the only connection on which a peer may use it; the default is every one of the domain
   */
  bind(offset: number, lengthBytes: number, access: number, connection?: { readonly handle: number }): MemoryWindow {
    if (!this.#live) throw new TypeError("the region is deregistered");
    const device = this.pd.device;
    const { native, handle, out } = device;
    check(native.weft_memory_bind(handle, this.stag, offset, lengthBytes, access, connection?.handle ?? 0, out));
    return new MemoryWindow(this, device.out[0], device.out[1], lengthBytes);
  }

  /**
   * Ends the registration. When it returns nobody is touching the memory through it, and nobody will. Work that still names it fails its connection. Memory that
   * the engine allocated is given back, and views of it become empty.
   */
  deregister(): void {
    if (!this.#live) return;
    this.#live = false;
    this.pd.forget(this);
    registrations.get(this.#bytes.buffer)?.delete(this);
    const device = this.pd.device;
    const buffer = this.#bytes.buffer;
    const release = () => device.open && device.native.weft_memory_invalidate(device.handle, this.stag);
    if (this.#owned) {
      // Detach first: a view left behind would read another owner's memory.
      if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer();
      this.#bytes = new Uint8Array(0);
    }
    release();
  }

  /** The same as {@linkcode deregister}. */
  [Symbol.dispose](): void {
    this.deregister();
  }
}

/** An STag on a part of a region, revocable without touching the region. */
export class MemoryWindow implements Disposable {
  /** Steering tag of the window. */
  readonly stag: number;
  /** The tagged offset of the part's first byte. */
  readonly address: bigint;
  /** Length in bytes. */
  readonly byteLength: number;
  readonly #region: MemoryRegion;
  #live = true;

  /** Use {@linkcode MemoryRegion.bind}. */
  constructor(region: MemoryRegion, stag: number, address: number, byteLength: number) {
    this.#region = region;
    this.stag = stag;
    this.address = BigInt(address);
    this.byteLength = byteLength;
  }

  /** Makes the STag invalid. A peer may have done so already by Send with Invalidate; that is no error. */
  revoke(): void {
    if (!this.#live) return;
    this.#live = false;
    const device = this.#region.pd.device;
    if (device.open) device.native.weft_memory_invalidate(device.handle, this.stag);
  }

  /** The same as {@linkcode revoke}. */
  [Symbol.dispose](): void {
    this.revoke();
  }
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
