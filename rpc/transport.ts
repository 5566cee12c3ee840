/**
 * The line between ONC RPC and what carries it: a tiny interface with TCP, RDMA and in-memory forms.
 *
 * A message is its XDR bytes plus at most one *bulk* item, the argument or result that a binding names DDP-eligible
 * (RFC 8166 §3.4.1, RFC 8267 for NFS). Bulk contents are never copied: the TCP transport gathers and scatters them in
 * place, the RDMA transport moves them as Read and Write chunks.
 *
 * @module
 */
import type { OpaqueAuth } from "./wire/rpc_message.ts";

/** Memory that payload is received into or sent from, lent by a transport or a pool. */
export interface Bulk {
  /** The memory itself. Views of it must not be used after `release()`. */
  readonly bytes: Uint8Array;
  /** Gives the memory back. Idempotent. */
  release(): void;
}

/** XDR bytes with one item carried beside them. */
export interface XdrMessage {
  /** The XDR stream without the contents (and padding) of the bulk item; its length word stays here (RFC 8166 §3.4.5). */
  bytes: Uint8Array;
  /** The bulk item: where in `bytes` its contents belong (just behind its length word), and the contents. */
  bulk?: { position: number; data: Uint8Array };
}

/** Tells where the bulk item of a result lies, from the first bytes of the results. */
export interface BulkPlacement {
  /** Caller's memory that the result's bulk item is to be placed in. Owned by the transport until the call settles. */
  into: Uint8Array;
  /** Bytes of results that usually precede the contents, length word included (READ3: 104). */
  headBytes: number;
  /**
   * Finds the item in a stream transport's results once `headBytes` of them (or all) have arrived.
   * Returns `undefined` where these results have none (an error status), else where the contents begin and their length.
   */
  locate(results: Uint8Array): { offset: number; length: number } | undefined;
}

/** One remote procedure call, ready to send. */
export interface RpcRequest {
  /** Program number. */
  program: number;
  /** Version of the program. */
  version: number;
  /** Procedure number. */
  procedure: number;
  /** Who calls. */
  credential: OpaqueAuth;
  /** Arguments; a bulk item here becomes a Read chunk when it does not fit inline. */
  args: XdrMessage;
  /** Where to place the results' bulk item; becomes a Write chunk. */
  placement?: BulkPlacement;
  /** The most bytes that the results can take, bulk contents not counted; above the inline threshold a Reply chunk is offered. */
  resultsBytesMax: number;
  /**
   * The xid to use, for a call that is repeated on a new connection so that the server's reply cache knows it again. The caller sees to
   * it that no other call under way has it. A fresh one where absent.
   */
  xid?: number;
  /** Gives up waiting; rejects as soon as the caller's memory is out of use. */
  signal?: AbortSignal;
}

/** A successful reply (MSG_ACCEPTED, SUCCESS). Anything else is thrown as an `RpcError`. */
export interface RpcResponse {
  /** Results. Where `placedBytes` is set the bulk contents are absent behind their length word; valid until `release()`. */
  results: Uint8Array;
  /** Length of the bulk item that was placed into `placement.into`. */
  placedBytes?: number;
  /** Gives the receive buffer behind `results` back. */
  release(): void;
}

/** The client's end of a connection. */
export interface ClientTransport extends AsyncDisposable {
  /** "rdma", "tcp" or "memory". */
  readonly kind: string;
  /** Sends a call and settles with its reply. Rejects with RpcError, ProtocolError, or the connection's error. */
  call(request: RpcRequest): Promise<RpcResponse>;
  /** Lends memory which this transport need not register for each call. */
  allocateBulk(lengthBytes: number): Bulk;
  /** Resolves when the connection has ended, with why (undefined: closed by us). Never rejects. */
  readonly closed: Promise<Error | undefined>;
  /** Ends the connection; calls under way are rejected. */
  close(): Promise<void>;
}

/** Who calls, as the transport knows it. */
export interface PeerInfo {
  /** "rdma", "tcp" or "memory". */
  readonly transport: string;
  /** Address and port, for logs and the reply cache. */
  readonly address: string;
  /** The peer's port. */
  readonly port: number;
}

/**
 * The bulk item of a call's arguments that is too long to be had whole: its pieces come while the handler takes them.
 */
export interface BulkStream {
  /** Where in the message its contents belong. */
  readonly position: number;
  /** Bytes in all; perhaps with XDR's padding. */
  readonly length: number;
  /**
   * The next piece, now or as soon as it is there; `undefined` behind the last. The one before goes back to the transport. Rejects with an
   * `RpcError` where the rest cannot be had.
   */
  next(): Uint8Array | undefined | Promise<Uint8Array | undefined>;
}

/**
 * Where the bulk item of a call's results goes if it is too long to be made whole: its pieces leave while the handler makes the next.
 * The results have {@linkcode SentPieces} for it then.
 */
export interface BulkSink {
  /** The most bytes that the caller takes. */
  readonly room: number;
  /** Bytes that were put. */
  readonly sentBytes: number;
  /**
   * Memory for the next piece, of `lengthBytes` or less, now or as soon as there is some. One at a time. Rejects with an `RpcError` where the
   * connection has ended, and as `allocateBulk` throws.
   */
  take(lengthBytes: number): Uint8Array | Promise<Uint8Array>;
  /** Sends the first `lengthBytes` of what was taken, behind what was put before. The memory is the transport's again. */
  put(lengthBytes: number): void;
}

/** A call as a server's transport hands it to the dispatcher. */
export interface IncomingCall {
  /** Where the call came from. */
  readonly peer: PeerInfo;
  /**
   * The whole RPC message from its xid on, contiguous. Where `bulk` is set, the contents of its bulk item are absent
   * behind the length word at `bulk.position`; valid until the reply has been sent.
   */
  readonly message: Uint8Array;
  /**
   * Contents that came as a Read chunk (RDMA), or as the tail of a long record (TCP, where `position` is the number of
   * message bytes that precede it and the contents may begin before `position`). Owned by the transport until the reply is sent.
   */
  readonly bulk?: { position: number; data: Uint8Array };
  /** The same where it is too long for that, in place of `bulk`. */
  readonly stream?: BulkStream;
  /** Whether long bulk items come as streams on this connection. */
  readonly takesStreams?: boolean;
  /** For a long bulk item of the results, in place of `allocateBulk`. */
  readonly sink?: BulkSink;
  /** Lends memory for the result's bulk item. The transport releases it once the reply has left. */
  allocateBulk(lengthBytes: number): Bulk;
  /** Sends the reply (a whole RPC message, from its xid on) and ends the call. `undefined`: drop the call, send nothing. */
  reply(message: XdrMessage | undefined): void;
}

/** The server's end of one connection. */
export interface ServerTransport extends AsyncDisposable {
  /** The other end. */
  readonly peer: PeerInfo;
  /** Called once for each incoming call. Set before the connection starts. */
  onCall: (call: IncomingCall) => void;
  /** Resolves when the connection has ended. Never rejects. */
  readonly closed: Promise<Error | undefined>;
  /** Stops taking calls, waits for replies under way, closes. */
  close(): Promise<void>;
}
