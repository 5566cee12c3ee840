/**
 * Storage, backends: the rules by which the in-memory file system's attributes change.
 *
 * @module
 */
import { type AttributeChanges, type Credentials, FileType, FsError, type Timespec } from "./file_system.ts";
import type { MemoryNode, NodeContents } from "./memory_nodes.ts";
import { grantedBits, inGroup, ModeBit, ownsFile, Permission } from "./permissions.ts";
import type { SparseBytes } from "./sparse_bytes.ts";

/** The node's directory part. @throws {FsError} ENOTDIR where it has none. */
export function directoryOf(node: MemoryNode): NodeContents & { type: typeof FileType.Directory } {
  if (node.contents.type !== FileType.Directory) throw new FsError("ENOTDIR");
  return node.contents;
}

/** The contents of a regular file. @throws {FsError} EISDIR, or EINVAL for what is no file at all. */
export function dataOf(node: MemoryNode): SparseBytes {
  if (node.contents.type === FileType.Directory) throw new FsError("EISDIR");
  if (node.contents.type !== FileType.Regular) throw new FsError("EINVAL", "not a regular file");
  return node.contents.data;
}

/** @throws {FsError} EACCES where the caller lacks one of the `Permission` bits. */
export function requirePermission(node: MemoryNode, bits: number, as: Credentials): void {
  if ((grantedBits(node, as, { directory: node.isDirectory }) & bits) !== bits) throw new FsError("EACCES");
}

/** Whether the caller may change the node so; nothing is changed yet. @throws {FsError} the first reason why not. */
export function checkChanges(node: MemoryNode, changes: AttributeChanges, as: Credentials, fileBytesMax: bigint): void {
  const owner = ownsFile(node, as);
  const superuser = as.uid === 0;
  if (changes.uid !== undefined && !superuser && !(owner && changes.uid === node.uid)) throw new FsError("EPERM");
  if (changes.gid !== undefined && !superuser && !(owner && (changes.gid === node.gid || inGroup(as, changes.gid)))) {
    throw new FsError("EPERM");
  }
  if (changes.mode !== undefined && !owner) throw new FsError("EPERM");
  if (changes.mode !== undefined && node.type === FileType.Symlink) {
    throw new FsError("EOPNOTSUPP", "a symbolic link has no mode of its own");
  }
  for (const time of [changes.atime, changes.mtime]) {
    if (time === undefined || owner) continue;
    if (time !== "now") throw new FsError("EPERM");
    requirePermission(node, Permission.Write, as);
  }
  if (changes.size === undefined) return;
  dataOf(node);
  if (!owner) requirePermission(node, Permission.Write, as);
  if (changes.size > fileBytesMax) throw new FsError("EFBIG");
}

/** A change of contents by anyone but the superuser takes set-uid and set-gid away. */
export function dropPrivileges(node: MemoryNode, as: Credentials): void {
  if (as.uid !== 0) clearSetIdBits(node);
}

/** Set-gid without group execute means mandatory locking, not privilege, and stays. */
export function clearSetIdBits(node: MemoryNode): void {
  node.mode &= ~ModeBit.SetUid;
  if ((node.mode & ModeBit.GroupExecute) !== 0) node.mode &= ~ModeBit.SetGid;
}

/** Where an exclusive create keeps its verifier until the client sets the times (RFC 1813 §3.3.8); the sign bits are lost. */
export function verifierTimes(verifier: Uint8Array): { atime: Timespec; mtime: Timespec } {
  if (verifier.byteLength !== 8) throw new FsError("EINVAL", "a verifier is 8 bytes");
  const view = new DataView(verifier.buffer, verifier.byteOffset, 8);
  return {
    atime: { seconds: BigInt(view.getUint32(0) & 0x7fffffff), nanoseconds: 0 },
    mtime: { seconds: BigInt(view.getUint32(4) & 0x7fffffff), nanoseconds: 0 },
  };
}
