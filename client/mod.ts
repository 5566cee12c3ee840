/**
 * The client: a server's files with Deno's own file API.
 *
 * @module
 */
export { type FileAccess, NfsFile } from "./file.ts";
export type { NfsAttributes, NfsFileInfo } from "./file_info.ts";
export { type FileSystemStatus, type LentMemory, type NfsDirEntry, NfsFileSystem } from "./file_system.ts";
export { type Dial, mount, type MountedExport, mountExport, type MountOptions } from "./mount.ts";
export type { Changes, Time } from "./nfs/nfs_client.ts";
export { decodeName, encodeName } from "./names.ts";
export { DEFAULT_PORT, formatNfsUrl, isNfsUrl, type NfsUrl, parseNfsUrl, type Proto } from "./url.ts";
export type { Bulk, BulkPlacement, ClientTransport, RpcRequest, RpcResponse, XdrMessage } from "../rpc/transport.ts";
export type { OpaqueAuth } from "../rpc/wire/rpc_message.ts";
