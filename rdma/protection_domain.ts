/**
 * Protection domains: which connections may use which memory.
 *
 * @module
 */
import type { Device } from "./device.ts";
import { check, codeOf, RdmaError } from "./errors.ts";
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
  /**
   * Huge pages, which pay for large regions. `true`: transparent ones, as far as the system gives them. "reserved": those that it keeps for programs that ask for them
   * (`MAP_HUGETLB`, `/proc/sys/vm/nr_hugepages`), and no others; they are taken at once, in whole pages of the default size.
   */
  hugePages?: boolean | "reserved";
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
   * @throws {RdmaError} `Exhausted` where there is no memory, or there are too few reserved huge pages
   */
  allocate(lengthBytes: number, access: number = Access.LocalOnly, options: AllocationOptions = {}): MemoryRegion {
    if (!Number.isSafeInteger(lengthBytes) || lengthBytes <= 0) throw new RangeError("the length must be positive");
    const { native, handle, out } = this.device.usable();
    const isReserved = options.hugePages === "reserved";
    const pages = isReserved ? MemoryFlag.Reserved : options.hugePages ? MemoryFlag.HugePages : 0;
    const status = native.weft_memory_allocate(handle, this.id, lengthBytes, accessWord(access, options) | pages, out);
    if (isReserved && codeOf(status) === "Exhausted") {
      throw new RdmaError("Exhausted", {
        message: `too few huge pages are reserved (/proc/sys/vm/nr_hugepages) for ${lengthBytes} bytes`,
      });
    }
    check(status);
    const [stag, address, to] = out;
    const pointer = Deno.UnsafePointer.create(BigInt(address))!;
    const bytes = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(pointer, lengthBytes));
    return this.#add(new MemoryRegion(this, { stag, address, to, bytes, access, owned: true }));
  }

  /**
   * Registers memory of the application's in place: a typed array or another view, of shared memory, too. Whatever becomes of the buffer meanwhile (an `ArrayBuffer`
   * may be transferred), its memory stays until the region is deregistered.
   *
   * @throws {TypeError} for what is no view, for a detached buffer, and for a resizable `ArrayBuffer`, whose memory may shrink (a growable `SharedArrayBuffer` will do)
   * @throws {RdmaError} `System` for an `ArrayBuffer` where the program cannot connect to itself, on 127.0.0.1, which holding its memory needs
   */
  register(
    view: ArrayBufferView,
    access: number = Access.LocalOnly,
    options: AddressingOptions & AssociationOptions = {},
  ): MemoryRegion {
    const word = accessWord(access, options);
    if (!ArrayBuffer.isView(view)) throw new TypeError("a typed array or another view is registered, nothing else");
    const { buffer } = view;
    const detachable = buffer instanceof ArrayBuffer ? buffer : undefined;
    if (detachable?.resizable) {
      throw new TypeError("a resizable buffer cannot be registered: it may not stay in place");
    }
    if (detachable?.detached) throw new TypeError("the buffer is detached");
    const { native, handle, out } = this.device.usable();
    // a view of memory that can grow may grow with it, and the region does not
    const isFixed = detachable !== undefined || !(buffer as SharedArrayBuffer).growable;
    const bytes = view instanceof Uint8Array && isFixed
      ? view as Uint8Array<ArrayBuffer>
      : new Uint8Array(buffer as ArrayBuffer, view.byteOffset, view.byteLength);
    const only = options.connection?.handle ?? 0;
    const { hold } = this.device;
    if (detachable !== undefined) hold.add(detachable);
    const status = native.weft_memory_register(handle, this.id, bytes, bytes.byteLength, word, only, out);
    if (status < 0 && detachable !== undefined) hold.release(detachable);
    check(status);
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
