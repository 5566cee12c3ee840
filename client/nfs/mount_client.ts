/**
 * MOUNT version 3 (RFC 1813 §5): from a path to the handle of an export.
 *
 * @module
 */
import { RpcClient } from "../../rpc/client.ts";
import type { ClientTransport } from "../../rpc/transport.ts";
import type { OpaqueAuth } from "../../rpc/wire/rpc_message.ts";
import { AuthFlavor } from "../../rpc/wire/rpc_message.ts";
import { MOUNT3, mountstat3, NfsError, type NfsFailure, nfsstat3 } from "../../storage/nfs/mod.ts";
import { decodeName, encodeName, splitPath } from "../names.ts";
import type { Options } from "./nfs_client.ts";

/** Calls the MOUNT service of a server. */
export class MountClient {
  readonly #rpc: RpcClient;

  constructor(transport: ClientTransport, options: { credential: OpaqueAuth }) {
    this.#rpc = new RpcClient(transport, { program: MOUNT3, credential: options.credential });
  }

  /**
   * MNT (RFC 1813 §5.2.1): the handle of a directory. Rejects with `NfsError` (the statuses of MOUNT have the numbers of those of
   * NFS), also where the server accepts no credential that we have.
   */
  async mount(path: string, options?: Options): Promise<Uint8Array> {
    const result = await this.#rpc.call(MOUNT3.procedures.MNT, encodeName(path), options);
    if (result.fhs_status !== mountstat3.MNT3_OK) {
      const status = result.fhs_status as number as NfsFailure;
      throw new NfsError(status, `the server refuses to mount '${path}': ${mountstat3.nameOf(result.fhs_status)}`);
    }
    const { fhandle, auth_flavors } = result.value;
    const known: number[] = [AuthFlavor.AUTH_SYS, AuthFlavor.AUTH_NONE];
    if (auth_flavors.length > 0 && !auth_flavors.some((flavor) => known.includes(flavor))) {
      throw new NfsError(nfsstat3.NFS3ERR_ACCES, `the server wants security flavor ${auth_flavors.join(" or ")}`);
    }
    return fhandle;
  }

  /** UMNT (RFC 1813 §5.2.3): tells the server, which only keeps a list for people, that we are gone. */
  async unmount(path: string, options?: Options): Promise<void> {
    await this.#rpc.call(MOUNT3.procedures.UMNT, encodeName(path), options);
  }

  /** EXPORT (RFC 1813 §5.2.5): paths that can be mounted. */
  async exports(options?: Options): Promise<string[]> {
    const nodes = await this.#rpc.call(MOUNT3.procedures.EXPORT, undefined, options);
    return nodes.map((node) => decodeName(node.ex_dir));
  }
}

/** The longest of the exports that a path lies in, with the rest of the path; `undefined` where there is none. */
export function findExport(
  exports: readonly string[],
  path: string,
): { directory: string; rest: string[] } | undefined {
  const wanted = splitPath(path);
  let best: { directory: string; rest: string[] } | undefined;
  for (const directory of exports) {
    const parts = splitPath(directory);
    if (!parts.every((part, at) => wanted[at] === part)) continue;
    const rest = wanted.slice(parts.length);
    if (best === undefined || rest.length < best.rest.length) best = { directory, rest };
  }
  return best;
}
