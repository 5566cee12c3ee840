/**
 * The client: a server's files with Deno's own file API.
 *
 * @module
 */
export { type FileAccess, NfsFile } from "./file.ts";
export type { NfsFileInfo } from "./file_info.ts";
export { type FileSystemStatus, type LentMemory, type NfsDirEntry, NfsFileSystem } from "./file_system.ts";
export { type Dial, mount, type MountedExport, mountExport, type MountOptions } from "./mount.ts";
export { decodeName, encodeName } from "./names.ts";
export { DEFAULT_PORT, formatNfsUrl, isNfsUrl, type NfsUrl, parseNfsUrl, type Proto } from "./url.ts";
