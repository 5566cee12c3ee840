/**
 * What a file server and its clients share: the interface to where the bytes live, with its backends, and how NFSv3 tells of failure.
 *
 * @module
 */
export * from "./backend/file_system.ts";
export { LocalDirectory, type LocalDirectoryOptions, type LocalDirectoryTraits } from "./backend/local_directory.ts";
export { MemoryFileSystem, type MemoryFileSystemOptions } from "./backend/memory.ts";
export { errnoOfStatus, NFS3_STATUSES, NfsError, type NfsFailure, nfsstat3, statusOfErrno } from "./nfs/nfs3_status.ts";
