/**
 * ONC RPC message headers (RFC 5531 §8, §9). The arguments or results follow a header in the same XDR stream.
 *
 * @module
 */
import { RpcError, type RpcStatus, WireError } from "../errors.ts";
import type { XdrReader } from "../xdr/xdr_reader.ts";
import type { XdrWriter } from "../xdr/xdr_writer.ts";

/** The version of the protocol, the only one there is. */
export const RPC_VERSION = 2;

/** `msg_type`. */
export const MsgType = { CALL: 0, REPLY: 1 } as const;
/** `reply_stat`. */
export const ReplyStat = { MSG_ACCEPTED: 0, MSG_DENIED: 1 } as const;
/** `accept_stat`. */
export const AcceptStat = {
  SUCCESS: 0,
  PROG_UNAVAIL: 1,
  PROG_MISMATCH: 2,
  PROC_UNAVAIL: 3,
  GARBAGE_ARGS: 4,
  SYSTEM_ERR: 5,
} as const;
/** `reject_stat`. */
export const RejectStat = { RPC_MISMATCH: 0, AUTH_ERROR: 1 } as const;
/** `auth_stat`; those of RPCSEC_GSS left out. */
export const AuthStat = {
  AUTH_OK: 0,
  AUTH_BADCRED: 1,
  AUTH_REJECTEDCRED: 2,
  AUTH_BADVERF: 3,
  AUTH_REJECTEDVERF: 4,
  AUTH_TOOWEAK: 5,
  AUTH_INVALIDRESP: 6,
  AUTH_FAILED: 7,
} as const;
/** `auth_flavor` (RFC 5531 §8.2 and the IANA registry). */
export const AuthFlavor = { AUTH_NONE: 0, AUTH_SYS: 1, AUTH_SHORT: 2, AUTH_DH: 3, RPCSEC_GSS: 6, AUTH_TLS: 7 } as const;

/** The most bytes that an authenticator's body may have (RFC 5531 §8.2). */
export const AUTH_BODY_BYTES_MAX = 400;
/** The most bytes that a call header takes: 6 words, and two authenticators. */
export const CALL_HEADER_BYTES_MAX = 24 + 2 * (8 + AUTH_BODY_BYTES_MAX);
/** The most bytes that a reply header takes. */
export const REPLY_HEADER_BYTES_MAX = 12 + 8 + AUTH_BODY_BYTES_MAX + 12;

/** A credential or verifier: `opaque_auth`. */
export interface OpaqueAuth {
  /** `auth_flavor`. */
  flavor: number;
  /** What it says, by flavor; at most 400 bytes. */
  body: Uint8Array;
}

/** Writes an `opaque_auth`. */
export function encodeOpaqueAuth(writer: XdrWriter, auth: OpaqueAuth): void {
  writer.uint32(auth.flavor);
  writer.opaque(auth.body, AUTH_BODY_BYTES_MAX);
}

/** Reads an `opaque_auth`; its body is a view. */
export function decodeOpaqueAuth(reader: XdrReader): OpaqueAuth {
  const flavor = reader.uint32();
  return { flavor, body: reader.opaque(AUTH_BODY_BYTES_MAX) };
}

/** What precedes the arguments of a call. */
export interface CallHeader {
  xid: number;
  /** 2 in any call that this end makes. Where it is not, the rest was not decoded. */
  rpcVersion: number;
  program: number;
  version: number;
  procedure: number;
  credential: OpaqueAuth;
  verifier: OpaqueAuth;
}

/** Writes a call header. */
export function encodeCallHeader(writer: XdrWriter, header: CallHeader): void {
  writer.uint32(header.xid);
  writer.uint32(MsgType.CALL);
  writer.uint32(header.rpcVersion);
  writer.uint32(header.program);
  writer.uint32(header.version);
  writer.uint32(header.procedure);
  encodeOpaqueAuth(writer, header.credential);
  encodeOpaqueAuth(writer, header.verifier);
}

const NO_AUTH: OpaqueAuth = { flavor: AuthFlavor.AUTH_NONE, body: new Uint8Array(0) };

/**
 * Reads a call header and leaves the reader in front of the arguments. Another RPC version's header cannot be read further than
 * its version (to be answered with RPC_MISMATCH). Throws `WireError`, also where the message is not a call.
 */
export function decodeCallHeader(reader: XdrReader): CallHeader {
  const xid = reader.uint32();
  expectType(reader, MsgType.CALL);
  const rpcVersion = reader.uint32();
  if (rpcVersion !== RPC_VERSION) {
    return { xid, rpcVersion, program: 0, version: 0, procedure: 0, credential: NO_AUTH, verifier: NO_AUTH };
  }
  const program = reader.uint32();
  const version = reader.uint32();
  const procedure = reader.uint32();
  const credential = decodeOpaqueAuth(reader);
  const verifier = decodeOpaqueAuth(reader);
  return { xid, rpcVersion, program, version, procedure, credential, verifier };
}

/** How a call ended: `SUCCESS`, or a refusal by name. */
export type ReplyStatus = "SUCCESS" | RpcStatus;

/** What precedes the results, or stands for them. */
export interface ReplyHeader {
  xid: number;
  status: ReplyStatus;
  /** The server's verifier; missing where the call was denied. */
  verifier?: OpaqueAuth;
  /** `PROG_MISMATCH`, `RPC_MISMATCH`. */
  versions?: { low: number; high: number };
  /** `AUTH_ERROR`. */
  authStatus?: number;
}

const ACCEPTED: readonly ReplyStatus[] = [
  "SUCCESS",
  "PROG_UNAVAIL",
  "PROG_MISMATCH",
  "PROC_UNAVAIL",
  "GARBAGE_ARGS",
  "SYSTEM_ERR",
];

/** Writes a reply header. */
export function encodeReplyHeader(writer: XdrWriter, header: ReplyHeader): void {
  writer.uint32(header.xid);
  writer.uint32(MsgType.REPLY);
  const accepted = ACCEPTED.indexOf(header.status);
  if (accepted >= 0) {
    writer.uint32(ReplyStat.MSG_ACCEPTED);
    encodeOpaqueAuth(writer, header.verifier ?? NO_AUTH);
    writer.uint32(accepted);
    if (header.status === "PROG_MISMATCH") encodeVersions(writer, header);
    return;
  }
  writer.uint32(ReplyStat.MSG_DENIED);
  if (header.status === "RPC_MISMATCH") {
    writer.uint32(RejectStat.RPC_MISMATCH);
    encodeVersions(writer, header);
  } else {
    writer.uint32(RejectStat.AUTH_ERROR);
    writer.uint32(header.authStatus ?? AuthStat.AUTH_FAILED);
  }
}

/** Reads a reply header and leaves the reader in front of the results. Throws `WireError`, also where the message is not a reply. */
export function decodeReplyHeader(reader: XdrReader): ReplyHeader {
  const xid = reader.uint32();
  expectType(reader, MsgType.REPLY);
  const stat = reader.uint32();
  if (stat === ReplyStat.MSG_ACCEPTED) {
    const verifier = decodeOpaqueAuth(reader);
    const accepted = reader.uint32();
    if (accepted >= ACCEPTED.length) throw malformed(reader, `accept_stat ${accepted}`);
    const status = ACCEPTED[accepted];
    return status === "PROG_MISMATCH"
      ? { xid, status, verifier, versions: decodeVersions(reader) }
      : { xid, status, verifier };
  }
  if (stat !== ReplyStat.MSG_DENIED) throw malformed(reader, `reply_stat ${stat}`);
  const rejected = reader.uint32();
  if (rejected === RejectStat.RPC_MISMATCH) return { xid, status: "RPC_MISMATCH", versions: decodeVersions(reader) };
  if (rejected === RejectStat.AUTH_ERROR) return { xid, status: "AUTH_ERROR", authStatus: reader.uint32() };
  throw malformed(reader, `reject_stat ${rejected}`);
}

/** The refusal that a reply header holds, as an error; `undefined` for `SUCCESS`. */
export function replyError(header: ReplyHeader): RpcError | undefined {
  if (header.status === "SUCCESS") return undefined;
  return new RpcError(header.status, { versions: header.versions, authStatus: header.authStatus });
}

/** The xid and direction of any RPC message, without a look at the rest; `undefined` where it has not 8 bytes. */
export function peekMessage(message: Uint8Array): { xid: number; type: number } | undefined {
  if (message.byteLength < 8) return undefined;
  const view = new DataView(message.buffer, message.byteOffset, 8);
  return { xid: view.getUint32(0), type: view.getUint32(4) };
}

function encodeVersions(writer: XdrWriter, header: ReplyHeader): void {
  writer.uint32(header.versions?.low ?? RPC_VERSION);
  writer.uint32(header.versions?.high ?? RPC_VERSION);
}

function decodeVersions(reader: XdrReader): { low: number; high: number } {
  const low = reader.uint32();
  return { low, high: reader.uint32() };
}

function expectType(reader: XdrReader, wanted: number): void {
  const type = reader.uint32();
  if (type !== wanted) throw malformed(reader, `msg_type ${type} where ${wanted} is wanted`);
}

function malformed(reader: XdrReader, message: string): WireError {
  return new WireError(message, { layer: "rpc", offset: reader.offset - 4 });
}
