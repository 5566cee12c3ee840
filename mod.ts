/**
 * Weft: RDMA without an adapter, and files over it.
 *
 * ```ts ignore
 * import { mount } from "@weft/weft";
 *
 * await using fs = await mount("nfs://localhost/");
 * await fs.writeTextFile("hello.txt", "Hello");
 * console.log(await fs.readTextFile("hello.txt"));
 * ```
 *
 * Importing it loads nothing native; that happens with the first mount, server or device. The verbs, ONC RPC and the types of NFS are
 * exports of their own: `@weft/weft/rdma`, `@weft/weft/rpc`, `@weft/weft/storage`.
 *
 * @module
 */
export {
  decodeName,
  encodeName,
  type FileAccess,
  type FileSystemStatus,
  formatNfsUrl,
  isNfsUrl,
  type LentMemory,
  mount,
  type MountOptions,
  type NfsAttributes,
  type NfsDirEntry,
  NfsFile,
  type NfsFileInfo,
  NfsFileSystem,
  type NfsUrl,
  parseNfsUrl,
  type Proto,
} from "./client/mod.ts";
export { NfsServer, serve, type ServeOptions } from "./server/mod.ts";
export { NfsError, type NfsFailure, nfsstat3 } from "./storage/nfs/mod.ts";
