/**
 * Errors of the verbs.
 *
 * @module
 */

/** Names of the engine's status codes (`status.rs`), by their negated value. */
export const RDMA_ERROR_CODES = [
  "Ok",
  "BadHandle",
  "Invalid",
  "Panic",
  "Exhausted",
  "System",
  "Closed",
  "Flushed",
  "LocalProtection",
  "PeerTerminated",
  "PeerViolation",
  "Reset",
  "ConnectionRefused",
  "Rejected",
  "NotIwarp",
  "TimedOut",
  "Incompatible",
  "Unreachable",
  "Aborted",
] as const;

/** What went wrong, by name. */
export type RdmaErrorCode = typeof RDMA_ERROR_CODES[number];

const MESSAGES: Record<RdmaErrorCode, string> = {
  Ok: "no error",
  BadHandle: "the object has been closed",
  Invalid: "an argument is out of range",
  Panic: "internal error in the native core; the connection was failed",
  Exhausted: "a limit was reached",
  System: "the operating system refused",
  Closed: "the connection is closed",
  Flushed: "the connection ended before the work was done",
  LocalProtection: "the work names memory that is not registered, or beyond its bounds",
  PeerTerminated: "the peer ended the connection with a Terminate message",
  PeerViolation: "the peer broke the protocol, and the connection was terminated",
  Reset: "the connection was reset, or ended within a message",
  ConnectionRefused: "connection refused",
  Rejected: "the peer rejected the connection",
  NotIwarp: "the peer does not speak iWARP",
  TimedOut: "no answer in time",
  Incompatible: "the peer's MPA reply cannot be agreed with",
  Unreachable: "the address cannot be resolved or reached",
  Aborted: "the connection was aborted",
};

/** The error that a Terminate message names (RFC 5040 §4.8): layer 0 RDMAP, 1 DDP, 2 MPA. */
export interface TerminateInfo {
  /** Who found it: 0 RDMAP, 1 DDP, 2 MPA. */
  layer: number;
  /** Type of error, within the layer. */
  etype: number;
  /** The error, within its type. */
  code: number;
}

/** Names of layer, type and code, as RFC 5040 §4.8 lists them. */
const TERMINATES: Record<string, string> = {
  "0.0.0": "RDMAP: local catastrophic error",
  "0.1.0": "RDMAP: the steering tag is invalid",
  "0.1.1": "RDMAP: the access is outside the region's bounds",
  "0.1.2": "RDMAP: the region does not allow this access",
  "0.1.3": "RDMAP: the steering tag does not belong to this stream",
  "0.1.4": "RDMAP: the tagged offset wraps around",
  "0.1.9": "RDMAP: the steering tag cannot be invalidated",
  "0.2.5": "RDMAP: invalid version",
  "0.2.6": "RDMAP: unexpected opcode",
  "0.2.9": "RDMAP: the steering tag cannot be invalidated by this operation",
  "1.1.0": "DDP: the steering tag is invalid",
  "1.1.1": "DDP: the payload is outside the region's bounds",
  "1.1.2": "DDP: the steering tag does not belong to this stream",
  "1.1.3": "DDP: the tagged offset wraps around",
  "1.1.4": "DDP: invalid version of a tagged segment",
  "1.2.1": "DDP: invalid queue number",
  "1.2.2": "DDP: no buffer for the message",
  "1.2.3": "DDP: message sequence number out of range",
  "1.2.4": "DDP: invalid message offset",
  "1.2.5": "DDP: the message is too long for its buffer",
  "1.2.6": "DDP: invalid version of an untagged segment",
  "2.0.1": "MPA: the TCP connection was closed or lost",
  "2.0.2": "MPA: CRC mismatch",
  "2.0.4": "MPA: invalid frame",
};

/** A failure of a verb, a work request or a connection. */
export class RdmaError extends Error {
  /** "RdmaError". */
  override readonly name = "RdmaError";
  /** What went wrong. */
  readonly code: RdmaErrorCode;
  /** What the peer sent with a rejection. */
  readonly privateData?: Uint8Array;
  /** The Terminate that ended the connection, ours or the peer's. */
  readonly terminate?: TerminateInfo;

  /** An error with the message of its code, unless `options` has another. */
  constructor(
    code: RdmaErrorCode,
    options: { message?: string; privateData?: Uint8Array; terminate?: TerminateInfo; cause?: unknown } = {},
  ) {
    const { terminate } = options;
    const about = terminate === undefined ? "" : ` (${describeTerminate(terminate)})`;
    super((options.message ?? MESSAGES[code]) + about, { cause: options.cause });
    this.code = code;
    this.privateData = options.privateData;
    this.terminate = terminate;
  }
}

/** A readable sentence for a Terminate. */
export function describeTerminate({ layer, etype, code }: TerminateInfo): string {
  return TERMINATES[`${layer}.${etype}.${code}`] ?? `Terminate layer ${layer}, type ${etype}, code ${code}`;
}

/** The name of an engine status (zero or negative). */
export function codeOf(status: number): RdmaErrorCode {
  return RDMA_ERROR_CODES[-status] ?? "System";
}

/** Why a start-up was refused before it began. */
export function startupError(status: number, { congestion }: { congestion?: string }): RdmaError {
  const code = codeOf(status);
  // everything else has been checked
  const message = code === "Invalid" && congestion !== undefined
    ? `this system has no congestion control '${congestion}'`
    : undefined;
  return new RdmaError(code, { message });
}

/**
 * Reports what a function of the application's threw, like an exception that nobody catches, but lets the caller go on. In a turn of its own: the exception is lost
 * where it is reported within a callback of the runtime's, as a wake-up is.
 */
export function reportLater(error: unknown): void {
  queueMicrotask(() => reportError(error));
}

/** The Terminate in a Closed entry's detail, if there is one. */
export function unpackTerminate(detail: number): TerminateInfo | undefined {
  if (detail >>> 31 === 0) return undefined;
  return { layer: (detail >>> 16) & 0xff, etype: (detail >>> 8) & 0xff, code: detail & 0xff };
}

/** Throws for a negative status, else returns it. */
export function check(status: number, message?: string): number {
  if (status < 0) throw new RdmaError(codeOf(status), { message });
  return status;
}
