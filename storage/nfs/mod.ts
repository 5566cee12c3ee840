/**
 * NFSv3 and MOUNT version 3 as both ends see them: XDR types in the order and by the names of RFC 1813, procedure tables, statuses.
 *
 * @module
 */
export * from "./nfs3_status.ts";
export * from "./nfs3_types.ts";
export * from "./nfs3_procedures.ts";
export * from "./nfs3_program.ts";
export * as mount3 from "./mount3.ts";
export { LIST_BYTES_MAX, MOUNT3, MOUNT_PROGRAM, MOUNT_V3, mountstat3 } from "./mount3.ts";
