/**
 * RPC transports over connections of rdma/, the server's end: how it introduces itself, and which of its memory it finds.
 *
 * @module
 */
import {
  type BufferPool,
  type ConnectionRequest,
  findRegion,
  type ProtectionDomain,
  type QueuePair,
  type Stream,
} from "../../rdma/mod.ts";
import { decodeCmPrivateData, encodeCmPrivateData, OUR_SETTINGS } from "../wire/rpc_rdma_cm.ts";
import { RdmaServerTransport } from "./rdma_server.ts";
import { TcpServerTransport } from "./tcp_server.ts";

/** The memory of a server's connections. */
export interface ServeOptions {
  /** Where the connections' memory is registered. */
  pd: ProtectionDomain;
  /** Payload memory, of the same domain. */
  pool: BufferPool;
  /** Whether to ask for CRCs (RDMA). */
  crc?: boolean;
  /** As `RdmaServerOptions` has it (RDMA). */
  pieceBytes?: number;
  /** As `RdmaServerOptions` has it (RDMA). */
  readBytesMax?: number;
}

/**
 * Accepts an RPC-over-RDMA client. `onReady` is called with the transport before anything can arrive on it: the place to set `onCall`, or to give it to
 * an `RpcServer`. Rejects as `ConnectionRequest.accept` does.
 */
export async function acceptRdma(
  request: ConnectionRequest,
  options: ServeOptions & { onReady: (transport: RdmaServerTransport) => void },
): Promise<RdmaServerTransport> {
  const { pd, pool, crc, pieceBytes, readBytesMax } = options;
  const { privateData } = request;
  const speaksCm = decodeCmPrivateData(privateData) !== undefined;
  let transport: RdmaServerTransport | undefined;
  const start = (qp: QueuePair) => {
    transport = new RdmaServerTransport(qp, {
      pd,
      pool,
      privateData,
      pieceBytes,
      readBytesMax,
      findRegion: (bytes) => findRegion(pd, bytes),
    });
    options.onReady(transport);
  };
  await request.accept({
    pd,
    crc,
    privateData: speaksCm ? encodeCmPrivateData(OUR_SETTINGS) : undefined,
    onReady: start,
  });
  return transport!;
}

/** Serves an RPC client that came by TCP. Set `onCall`, or give the transport to an `RpcServer`, in the same turn. */
export function acceptTcp(stream: Stream, { pool }: ServeOptions): TcpServerTransport {
  return new TcpServerTransport(stream, { pool });
}
