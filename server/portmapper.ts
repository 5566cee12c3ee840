/**
 * Server: registration with this host's portmapper (rpcbind version 2, RFC 1833 §3), for clients that ask it for ports.
 *
 * @module
 */
import { AUTH_NONE, bool, defineProgram, procedure, RpcClient, struct, uint32 } from "../rpc/mod.ts";
import type { ClientTransport } from "../rpc/transport.ts";
import { MOUNT3, NFS3 } from "../storage/nfs/mod.ts";

/** Where a portmapper listens. */
export const PORTMAPPER_PORT = 111;
const IPPROTO_TCP = 6;
const TIMEOUT_MS = 5000;

/** A program's port: `mapping` (RFC 1833 §3.1). */
export const mapping = struct({ prog: uint32, vers: uint32, prot: uint32, port: uint32 });

/** The parts of the portmapper that a server needs (RFC 1833 §3.1). */
export const PMAP = defineProgram({
  name: "PMAP",
  number: 100000,
  version: 2,
  procedures: {
    SET: procedure({ number: 1, args: mapping, results: bool, idempotent: false }),
    UNSET: procedure({ number: 2, args: mapping, results: bool, idempotent: false }),
    GETPORT: procedure({ number: 3, args: mapping, results: uint32, idempotent: true }),
  },
});

/** What went wrong in asking the portmapper. */
export class PortmapperError extends Error {
  /** "PortmapperError". */
  override readonly name = "PortmapperError";
}

/** Registers NFS and MOUNT at `port`, in the place of whoever was registered. The transport leads to the portmapper. */
export async function register(transport: ClientTransport, port: number): Promise<void> {
  const client = new RpcClient(transport, { program: PMAP, credential: AUTH_NONE });
  for (const { name, number, version } of [NFS3, MOUNT3]) {
    const entry = { prog: number, vers: version, prot: IPPROTO_TCP, port };
    await client.call(PMAP.procedures.UNSET, entry, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    const isSet = await client.call(PMAP.procedures.SET, entry, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!isSet) throw new PortmapperError(`the portmapper refused to register ${name}`);
  }
}

/** Takes the registrations away that still lead to `port`. */
export async function unregister(transport: ClientTransport, port: number): Promise<void> {
  const client = new RpcClient(transport, { program: PMAP, credential: AUTH_NONE });
  for (const { number, version } of [NFS3, MOUNT3]) {
    const entry = { prog: number, vers: version, prot: IPPROTO_TCP, port };
    const registered = await client.call(PMAP.procedures.GETPORT, entry, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (registered !== port) continue;
    await client.call(PMAP.procedures.UNSET, entry, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  }
}
