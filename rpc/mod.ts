/**
 * ONC RPC (RFC 5531) over TCP, RDMA (RFC 8166) and memory: clients, servers, and the XDR types beneath them.
 *
 * @module
 */
export { AUTH_NONE, type AuthSys, authsys_parms, decodeAuthSys, encodeAuthSys } from "./auth/auth_sys.ts";
export { type CallOptions, RpcClient } from "./client.ts";
export {
  ProtocolError,
  type ProtocolErrorCode,
  RpcError,
  type RpcStatus,
  WireError,
  type WireLayer,
} from "./errors.ts";
export {
  type ArgsOf,
  defineProgram,
  NULL_PROCEDURE,
  type Procedure,
  procedure,
  type Procedures,
  type Program,
  type ResultsOf,
} from "./program.ts";
export { type Admission, type CachedCall, ReplyCache } from "./protocol/reply_cache.ts";
export {
  type CallContext,
  type Handler,
  type Handlers,
  type MaybePromise,
  RpcServer,
  type RpcServerOptions,
  type Service,
  service,
} from "./server.ts";
export type {
  Bulk,
  BulkPlacement,
  BulkSink,
  BulkStream,
  ClientTransport,
  IncomingCall,
  PeerInfo,
  RpcRequest,
  RpcResponse,
  ServerTransport,
  XdrMessage,
} from "./transport.ts";
export type { BulkPool, ByteStream, Completion } from "./transports/byte_stream.ts";
export { acceptRdma, acceptTcp, type ServeOptions } from "./transports/accept.ts";
export { type ConnectOptions, connectRdma, connectTcp } from "./transports/connect.ts";
export { type MemoryBulk, memoryPair, type MemoryPairOptions } from "./transports/memory.ts";
export { type RdmaClientOptions, RdmaClientTransport } from "./transports/rdma_client.ts";
export { type RdmaServerOptions, RdmaServerTransport } from "./transports/rdma_server.ts";
export type {
  Associated,
  Domain,
  Exposed,
  FindRegion,
  LentMemory,
  ReceiveCompletion,
  Region,
  RegisteredPool,
  Sge,
  Verbs,
  Window,
  Work,
} from "./transports/verbs.ts";
export type { InlineSettings, InlineThresholds } from "./wire/rpc_rdma_cm.ts";
export { type TcpClientOptions, TcpClientTransport } from "./transports/tcp_client.ts";
export { type TcpServerOptions, TcpServerTransport } from "./transports/tcp_server.ts";
export { AuthFlavor, AuthStat, type OpaqueAuth } from "./wire/rpc_message.ts";
export {
  array,
  arrayFixed,
  bool,
  bulk,
  byteString,
  decode,
  encode,
  enumeration,
  type Infer,
  type InferArm,
  type InferFields,
  type InferUnion,
  int32,
  int64,
  list,
  opaque,
  opaqueFixed,
  optional,
  type Simplify,
  string,
  struct,
  uint32,
  uint64,
  union,
  voidType,
  type XdrCases,
  type XdrEnum,
  type XdrFields,
  type XdrType,
} from "./xdr/codec.ts";
export { XdrReader, type XdrReaderOptions } from "./xdr/xdr_reader.ts";
export { flatten, SentPieces, XdrWriter } from "./xdr/xdr_writer.ts";
