/**
 * Protection domains: which connections may use which memory.
 *
 * @module
 */
import type { Device } from "./device.ts";
import { check } from "./errors.ts";
import { MemoryFlag } from "./_ffi/layout.ts";
import {
  Access,
  accessWord,
  type AddressingOptions,
  type AssociationOptions,
  MemoryRegion,
  MemoryWindow,
} from "./memory_region.ts";

/** Choices for memory of the engine's. */
export interface AllocationOptions extends AddressingOptions {
  /** Ask for huge pages, as far as the system has them; pays for large regions. */
  hugePages?: boolean;
}

/** Ties regions and queue pairs together: an STag is only good on a connection of its own domain (RFC 5042 §6.2). */
export class ProtectionDomain implements Disposable {
  /** The device that it belongs to. */
  readonly device: Device;
  /** Its number in the engine. */
  readonly id: number;
  readonly #regions = new Set<MemoryRegion>();

  /** Use {@linkcode Device.allocateProtectionDomain}. */
  constructor(device: Device, id: number) {
    this.device = device;
    this.id = id;
  }

  /**
   * Allocates page-aligned, zeroed memory in the engine and registers it. It belongs to the region and lives until
   * {@linkcode MemoryRegion.deregister}.
   *
   * @throws {RdmaError} `Exhausted` where there is no memory
   */
  allocate(lengthBytes: number, access: number = Access.LocalOnly, options: AllocationOptions = {}): MemoryRegion {
    if (!Number.isSafeInteger(lengthBytes) || lengthBytes <= 0) throw new RangeError("the length must be positive");
    const { native, handle, out } = this.device.usable();
    const word = accessWord(access, options) | (options.hugePages ? MemoryFlag.HugePages : 0);
    check(native.weft_memory_allocate(handle, this.id, lengthBytes, word, out));
    const [stag, address, to] = out;
    const pointer = Deno.UnsafePointer.create(BigInt(address))!;
    const bytes = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(pointer, lengthBytes));
    return this.#add(new MemoryRegion(this, { stag, address, to, bytes, access, owned: true }));
  }

  /**
   * Registers memory of the application's in place: a typed array or another view. The region refers to its buffer until deregistered; until then the application
   * must not detach, transfer or shrink the buffer.
   *
   * @throws {TypeError} for a resizable, shared or detached buffer, which cannot stay in place
   */
  register(
    view: ArrayBufferView,
    access: number = Access.LocalOnly,
    options: AddressingOptions & AssociationOptions = {},
  ): MemoryRegion {
    const word = accessWord(access, options);
    const { buffer } = view;
    if (!(buffer instanceof ArrayBuffer)) throw new TypeError("shared memory cannot be registered");
    if (buffer.resizable) throw new TypeError("a resizable buffer cannot be registered: it may not stay in place");
    if (buffer.detached) throw new TypeError("the buffer is detached");
    const { native, handle, out } = this.device.usable();
    const bytes = view instanceof Uint8Array
      ? view as Uint8Array<ArrayBuffer>
      : new Uint8Array(buffer, view.byteOffset, view.byteLength);
    const only = options.connection?.handle ?? 0;
    check(native.weft_memory_register(handle, this.id, bytes, bytes.byteLength, word, only, out));
    const [stag, address, to] = out;
    return this.#add(new MemoryRegion(this, { stag, address, to, bytes, access, owned: false }));
  }

  /** A window that is not bound yet, for work requests of the opcode "bind". */
  allocateWindow(): MemoryWindow {
    return new MemoryWindow(this);
  }

  #add(region: MemoryRegion): MemoryRegion {
    this.#regions.add(region);
    this.device.track(this, true);
    return region;
  }

  /** Takes a region off the list. For {@linkcode MemoryRegion.deregister}. */
  forget(region: MemoryRegion): void {
    this.#regions.delete(region);
    if (this.#regions.size === 0) this.device.track(this, false);
  }

  /** Deregisters every region of the domain. */
  [Symbol.dispose](): void {
    for (const region of [...this.#regions]) region.deregister();
  }
}
