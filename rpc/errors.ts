/**
 * Errors of the RPC layer, by who is to blame: `WireError` for malformed bytes, `ProtocolError` for a peer that breaks the
 * rules with well-formed ones, `RpcError` for a peer that refused a call. Misuse by our own caller is a `TypeError` or
 * `RangeError`.
 *
 * @module
 */

/** Which decoder found the fault. */
export type WireLayer = "xdr" | "rpc" | "record" | "rpc-rdma";

/** Bytes that a peer sent cannot be decoded. */
export class WireError extends Error {
  /** Tells the class. */
  override readonly name = "WireError";
  /** The decoder that found the fault. */
  readonly layer: WireLayer;
  /** Where in that layer's message, in bytes from its start. */
  readonly offset: number;

  /** `message`: what is wrong, without the place, which is added. */
  constructor(message: string, options: { layer: WireLayer; offset: number; cause?: unknown }) {
    super(`${options.layer}: ${message} at byte ${options.offset}`, { cause: options.cause });
    this.layer = options.layer;
    this.offset = options.offset;
  }
}

/** What a peer did that its protocol forbids. */
export type ProtocolErrorCode =
  /** A reply's xid belongs to no call under way. */
  | "UnknownXid"
  /** A message of the wrong direction, or of a kind that this end does not serve. */
  | "UnexpectedMessage"
  /** A record, message or chunk larger than the limit. */
  | "TooLarge"
  /** A result that does not fit the memory given for it, or that claims more than was sent. */
  | "BadPlacement"
  /** Remote invalidation of a STag which that call did not offer. */
  | "BadInvalidation"
  /** An RPC-over-RDMA version that this end does not speak (ERR_VERS, RFC 8166 §4.5.1). */
  | "BadVersion"
  /** Chunks that cannot be used (ERR_CHUNK, RFC 8166 §4.5.3). */
  | "BadChunk"
  /** More calls outstanding than there were credits. */
  | "NoCredit"
  /** The peer went away with calls outstanding. */
  | "ConnectionLost";

/** A peer's well-formed but illegal behaviour; the connection does not survive it unless the docs of the thrower say so. */
export class ProtocolError extends Error {
  /** Tells the class. */
  override readonly name = "ProtocolError";
  /** What was broken. */
  readonly code: ProtocolErrorCode;

  /** `message`: what the peer did. */
  constructor(code: ProtocolErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** How a server refused a call: `accept_stat` and `reject_stat` by name (RFC 5531 §9). */
export type RpcStatus =
  | "PROG_UNAVAIL"
  | "PROG_MISMATCH"
  | "PROC_UNAVAIL"
  | "GARBAGE_ARGS"
  | "SYSTEM_ERR"
  | "RPC_MISMATCH"
  | "AUTH_ERROR";

/** A peer's refusal of a call. The connection lives on. */
export class RpcError extends Error {
  /** Tells the class. */
  override readonly name = "RpcError";
  /** The refusal. */
  readonly status: RpcStatus;
  /** `PROG_MISMATCH`, `RPC_MISMATCH`: the versions that the server does speak. */
  readonly versions?: { low: number; high: number };
  /** `AUTH_ERROR`: `auth_stat` (RFC 5531 §9). */
  readonly authStatus?: number;

  /** `message`: the status in words where left out. */
  constructor(
    status: RpcStatus,
    options: { versions?: { low: number; high: number }; authStatus?: number; message?: string; cause?: unknown } = {},
  ) {
    super(options.message ?? describe(status, options), { cause: options.cause });
    this.status = status;
    this.versions = options.versions;
    this.authStatus = options.authStatus;
  }
}

function describe(
  status: RpcStatus,
  options: { versions?: { low: number; high: number }; authStatus?: number },
): string {
  if (options.versions !== undefined) {
    return `${status}: the server speaks versions ${options.versions.low} to ${options.versions.high}`;
  }
  if (options.authStatus !== undefined) return `${status}: auth_stat ${options.authStatus}`;
  return status;
}
