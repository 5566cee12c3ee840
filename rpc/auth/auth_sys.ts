/**
 * AUTH_NONE and AUTH_SYS (RFC 5531 §10, appendix A): credentials that a server takes on trust.
 *
 * @module
 */
import { AUTH_BODY_BYTES_MAX, AuthFlavor, type OpaqueAuth } from "../wire/rpc_message.ts";
import { array, decode, encode, string, struct, uint32, type XdrType } from "../xdr/mod.ts";

/** The most bytes of a machine name (RFC 5531 appendix A). */
export const MACHINE_NAME_BYTES_MAX = 255;
/** The most supplementary groups (RFC 5531 appendix A). */
export const GIDS_MAX = 16;

/** Who calls, as AUTH_SYS says it. */
export interface AuthSys {
  /** Any number that the client likes. */
  stamp: number;
  /** The client's name, for logs. */
  machinename: string;
  /** User. */
  uid: number;
  /** Group. */
  gid: number;
  /** Supplementary groups. */
  gids: number[];
}

/** `authsys_parms`. */
export const authsys_parms: XdrType<AuthSys> = struct({
  stamp: uint32,
  machinename: string(MACHINE_NAME_BYTES_MAX),
  uid: uint32,
  gid: uint32,
  gids: array(uint32, GIDS_MAX),
});

/** No credential, and the verifier that goes with AUTH_SYS. */
export const AUTH_NONE: OpaqueAuth = Object.freeze({ flavor: AuthFlavor.AUTH_NONE, body: new Uint8Array(0) });

/** Makes an AUTH_SYS credential. `stamp` and `machinename` mean nothing to a server. Throws `RangeError` beyond the limits. */
export function encodeAuthSys(parms: {
  uid: number;
  gid: number;
  gids?: readonly number[];
  machinename?: string;
  stamp?: number;
}): OpaqueAuth {
  const { uid, gid, gids = [], machinename = "", stamp = 0 } = parms;
  const body = encode(authsys_parms, { stamp, machinename, uid, gid, gids: [...gids] }).bytes;
  if (body.byteLength > AUTH_BODY_BYTES_MAX) throw new RangeError(`a credential of ${body.byteLength} bytes`);
  return { flavor: AuthFlavor.AUTH_SYS, body };
}

/** Reads an AUTH_SYS body. Throws `WireError`. */
export function decodeAuthSys(body: Uint8Array): AuthSys {
  return decode(authsys_parms, body);
}
