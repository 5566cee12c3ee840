/**
 * What every client transport does alike with a request and its reply: RPC headers on, RPC headers off (RFC 5531 §9).
 *
 * @module
 */
import type { RpcError } from "../errors.ts";
import type { RpcRequest, XdrMessage } from "../transport.ts";
import { AuthFlavor, decodeReplyHeader, encodeCallHeader, replyError, RPC_VERSION } from "../wire/rpc_message.ts";
import { XdrReader } from "../xdr/xdr_reader.ts";
import type { XdrWriter } from "../xdr/xdr_writer.ts";

const NO_VERIFIER = { flavor: AuthFlavor.AUTH_NONE, body: new Uint8Array(0) };

/** The whole call message of a request. Its bytes are a copy, its bulk item is the request's own. */
export function encodeCall(writer: XdrWriter, xid: number, request: RpcRequest): XdrMessage {
  const { program, version, procedure, credential, args } = request;
  writer.begin();
  const header = { xid, rpcVersion: RPC_VERSION, program, version, procedure, credential, verifier: NO_VERIFIER };
  encodeCallHeader(writer, header);
  const headerBytes = writer.position;
  writer.opaqueFixed(args.bytes);
  const { bytes } = writer.finish();
  return args.bulk === undefined
    ? { bytes }
    : { bytes, bulk: { position: headerBytes + args.bulk.position, data: args.bulk.data } };
}

/** The results in a whole reply message, or the error that stands for them. Throws `WireError`. */
export function decodeReply(message: Uint8Array): { results: Uint8Array } | { error: RpcError } {
  const reader = new XdrReader(message);
  const error = replyError(decodeReplyHeader(reader));
  return error === undefined ? { results: message.subarray(reader.offset) } : { error };
}
