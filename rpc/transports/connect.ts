/**
 * RPC transports over connections of rdma/, the client's end: how it introduces itself, and which of its memory it finds.
 *
 * @module
 */
import { type BufferPool, type Device, findRegion, type ProtectionDomain } from "../../rdma/mod.ts";
import { encodeCmPrivateData, OUR_SETTINGS } from "../wire/rpc_rdma_cm.ts";
import { RdmaClientTransport } from "./rdma_client.ts";
import { TcpClientTransport } from "./tcp_client.ts";

/** Where to connect to, and with which memory. */
export interface ConnectOptions {
  /** An IP address or a name. */
  hostname: string;
  /** TCP port. */
  port: number;
  /** Where the connection's memory is registered. */
  pd: ProtectionDomain;
  /** Payload memory, of the same domain. */
  pool: BufferPool;
  /** Whether to ask for CRCs (RDMA). */
  crc?: boolean;
  /** Gives up connecting. */
  signal?: AbortSignal;
}

/** Connects to an RPC-over-RDMA server. Rejects as `Device.connect` does. */
export async function connectRdma(device: Device, options: ConnectOptions): Promise<RdmaClientTransport> {
  const { hostname, port, pd, pool, crc, signal } = options;
  let transport: RdmaClientTransport | undefined;
  await device.connect({
    hostname,
    port,
    pd,
    crc,
    signal,
    privateData: encodeCmPrivateData(OUR_SETTINGS),
    onReady: (qp) =>
      transport = new RdmaClientTransport(qp, { pd, pool, findRegion: (bytes) => findRegion(pd, bytes) }),
  });
  return transport!;
}

/** Connects to an RPC server by TCP. Rejects as `Device.connectStream` does. */
export async function connectTcp(device: Device, options: ConnectOptions): Promise<TcpClientTransport> {
  const { hostname, port, pool, signal } = options;
  return new TcpClientTransport(await device.connectStream({ hostname, port, signal }), { pool });
}
