/**
 * Connections to a server: RDMA first, plain TCP where the peer has no iWARP.
 *
 * @module
 */
import type { ClientTransport } from "../rpc/transport.ts";
import type { NfsUrl, Proto } from "./url.ts";

/** Makes a function that connects to the server of a URL, each time by the transport that worked the first time. */
export function connector(
  _url: NfsUrl,
  _options: { proto?: Proto; crc?: boolean },
): (signal: AbortSignal) => Promise<ClientTransport> {
  return () => Promise.reject(new Error("no transport"));
}
