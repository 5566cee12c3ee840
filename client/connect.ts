/**
 * Connections to a server: RDMA first, plain TCP where the peer has no iWARP.
 *
 * @module
 */
import { BufferPool, Device, type MemoryRegion, type ProtectionDomain, RdmaError } from "../rdma/mod.ts";
import type { ClientTransport } from "../rpc/transport.ts";
import { connectRdma, connectTcp } from "../rpc/transports/connect.ts";
import type { NfsUrl, Proto } from "./url.ts";

/** What an RDMA connection fails with where the peer speaks plain TCP: it answered otherwise, hung up, or kept silent. */
const noIwarp: ReadonlySet<string> = new Set(["NotIwarp", "Closed", "Reset", "TimedOut"]);

/** Connects to one server, again and again, with memory that outlives each connection. */
export class Connector implements AsyncDisposable {
  readonly #url: NfsUrl;
  readonly #crc: boolean | undefined;
  #proto: Proto | undefined;
  #device: Device | undefined;
  #domain: ProtectionDomain | undefined;
  #pool: BufferPool | undefined;

  /** Opens nothing yet. Without `proto` the first connection finds out what the server speaks. */
  constructor(url: NfsUrl, options: { proto?: Proto; crc?: boolean }) {
    this.#url = url;
    this.#proto = options.proto ?? url.proto;
    this.#crc = options.crc ?? url.crc;
  }

  /** Connects. Rejects with `Deno.errors.ConnectionRefused`, `TimedOut` and the like, or the signal's reason. */
  async dial(signal: AbortSignal): Promise<ClientTransport> {
    try {
      const transport = await this.#connect(signal);
      this.#proto = transport.kind === "rdma" ? "rdma" : "tcp";
      return transport;
    } catch (error) {
      throw asConnectionError(error);
    }
  }

  /** Gives the device and its memory back. Every connection must be closed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#pool?.[Symbol.dispose]();
    await this.#device?.close();
    this.#device = undefined;
  }

  /** Connects by TCP to another service of the same host. */
  async dialPort(port: number, signal: AbortSignal): Promise<ClientTransport> {
    const { device, pd, pool } = this.#open();
    try {
      return await connectTcp(device, { hostname: this.#url.hostname, port, pd, pool, signal });
    } catch (error) {
      throw asConnectionError(error);
    }
  }

  /** Registers memory of the application's once, instead of for each transfer. */
  register(bytes: Uint8Array): MemoryRegion {
    return this.#open().pd.register(bytes);
  }

  async #connect(signal: AbortSignal): Promise<ClientTransport> {
    const { device, pd, pool } = this.#open();
    const { hostname, port } = this.#url;
    const options = { hostname, port, pd, pool, crc: this.#crc, signal };
    if (this.#proto === "tcp") return await connectTcp(device, options);
    try {
      return await connectRdma(device, options);
    } catch (error) {
      signal.throwIfAborted();
      if (this.#proto === "rdma" || !speaksNoIwarp(error)) throw error;
    }
    return await connectTcp(device, options);
  }

  #open(): { device: Device; pd: ProtectionDomain; pool: BufferPool } {
    const device = this.#device ??= Device.open();
    const pd = this.#domain ??= device.allocateProtectionDomain();
    const pool = this.#pool ??= new BufferPool(pd);
    return { device, pd, pool };
  }
}

/** An error of the verbs as the one that Deno throws for the same fault of a connection. */
function asConnectionError(error: unknown): unknown {
  if (!(error instanceof RdmaError)) return error;
  const options = { cause: error };
  switch (error.code) {
    case "ConnectionRefused":
      return new Deno.errors.ConnectionRefused(error.message, options);
    case "TimedOut":
      return new Deno.errors.TimedOut(error.message, options);
    case "Reset":
    case "Closed":
      return new Deno.errors.ConnectionReset(error.message, options);
    case "Unreachable":
      return new Deno.errors.NetworkUnreachable(error.message, options);
    default:
      return error;
  }
}

/** Whether a failed RDMA connection is worth a try by TCP. */
function speaksNoIwarp(error: unknown): boolean {
  return error instanceof RdmaError && noIwarp.has(error.code);
}
