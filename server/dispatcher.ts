/**
 * Server: what answers the calls of every connection, whatever carried them.
 *
 * @module
 */
import { ReplyCache } from "../rpc/protocol/reply_cache.ts";
import { RpcServer, type RpcServerOptions } from "../rpc/server.ts";
import type { Export } from "./exports.ts";
import { mount3Service } from "./nfs/mount3_service.ts";
import { nfs3Service } from "./nfs/nfs3_service.ts";

/** Choices for a dispatcher. */
export interface DispatcherOptions {
  /** What is served, on which terms. */
  export: Export;
  /** The most bytes that one READ or WRITE moves; if absent the limit, which is 2 MiB, and over RDMA 8 MiB. */
  transferBytesMax?: number;
  /** Told of faults of ours and of calls that could not be read. */
  onError?: RpcServerOptions["onError"];
}

/** NFSv3 and MOUNT for one export, with one reply cache for all connections: a client repeats calls on a new one. */
export function createDispatcher(options: DispatcherOptions): RpcServer {
  return new RpcServer({
    services: [nfs3Service(options), mount3Service(options)],
    replyCache: new ReplyCache(),
    onError: options.onError,
  });
}
