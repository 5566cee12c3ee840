/**
 * What a file server and its clients share: NFSv3 on the wire, and the interface to where the bytes live with its backends.
 *
 * @module
 */
export * from "./backend/file_system.ts";
export { LocalDirectory, type LocalDirectoryOptions, type LocalDirectoryTraits } from "./backend/local_directory.ts";
export { MemoryFileSystem, type MemoryFileSystemOptions } from "./backend/memory.ts";
export * as nfs from "./nfs/mod.ts";
