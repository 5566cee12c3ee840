/**
 * The portmapper (rpcbind version 2, RFC 1833 §3): asked for the port of a MOUNT service that is not where NFS is.
 *
 * @module
 */
import { defineProgram, procedure } from "../../rpc/program.ts";
import { RpcClient } from "../../rpc/client.ts";
import type { ClientTransport } from "../../rpc/transport.ts";
import { struct, uint32 } from "../../rpc/xdr/mod.ts";
import { MOUNT3 } from "../../storage/nfs/mod.ts";
import type { Options } from "./nfs_client.ts";

/** Where a portmapper listens (RFC 1833 §3.1). */
export const PORTMAPPER_PORT = 111;

const IPPROTO_TCP = 6;

/** The one procedure that a client needs. */
const PMAP = defineProgram({
  name: "PMAP",
  number: 100000,
  version: 2,
  procedures: {
    GETPORT: procedure({
      number: 3,
      args: struct({ prog: uint32, vers: uint32, prot: uint32, port: uint32 }),
      results: uint32,
      idempotent: true,
    }),
  },
});

/** The TCP port of a host's MOUNT service; 0 where none is registered. The transport leads to the portmapper. */
export async function findMountPort(transport: ClientTransport, options?: Options): Promise<number> {
  const client = new RpcClient(transport, { program: PMAP });
  const wanted = { prog: MOUNT3.number, vers: MOUNT3.version, prot: IPPROTO_TCP, port: 0 };
  return await client.call(PMAP.procedures.GETPORT, wanted, options);
}
