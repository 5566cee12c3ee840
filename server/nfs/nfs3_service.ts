/**
 * Server, NFS: the 22 procedures of NFSv3 on an export (RFC 1813 §3.3).
 *
 * @module
 */
import { type Service, service } from "../../rpc/server.ts";
import { NFS3, STREAM_BYTES_MAX, TRANSFER_BYTES_MAX } from "../../storage/nfs/mod.ts";
import type { Export } from "../exports.ts";
import { ACCESS, GETATTR, SETATTR } from "./attribute_procedures.ts";
import { CREATE, MKDIR, MKNOD, SYMLINK } from "./create_procedures.ts";
import { ChangeTracker } from "./change_tracker.ts";
import { COMMIT, READ, WRITE } from "./data_procedures.ts";
import { READDIR, READDIRPLUS } from "./directory_procedures.ts";
import { FSINFO, FSSTAT, PATHCONF } from "./file_system_procedures.ts";
import { LOOKUP, READLINK } from "./lookup_procedures.ts";
import { handlerFor, type NfsServerState } from "./nfs_call.ts";
import { LINK, REMOVE, RENAME, RMDIR } from "./remove_procedures.ts";
import { WriteVerifier } from "./write_verifier.ts";

/** NFSv3 for one export. Each service has a write verifier of its own: a new one is a restarted server to clients. */
export function nfs3Service(options: { export: Export; transferBytesMax?: number }): Service {
  const server: NfsServerState = {
    export: options.export,
    writeVerifier: new WriteVerifier(),
    changes: new ChangeTracker(),
    transferBytesMax: Math.min(options.transferBytesMax ?? TRANSFER_BYTES_MAX, TRANSFER_BYTES_MAX),
    streamBytesMax: Math.min(options.transferBytesMax ?? STREAM_BYTES_MAX, STREAM_BYTES_MAX),
  };
  return service(NFS3, {
    NULL: () => {},
    GETATTR: handlerFor(server, GETATTR),
    SETATTR: handlerFor(server, SETATTR),
    LOOKUP: handlerFor(server, LOOKUP),
    ACCESS: handlerFor(server, ACCESS),
    READLINK: handlerFor(server, READLINK),
    READ: handlerFor(server, READ),
    WRITE: handlerFor(server, WRITE),
    CREATE: handlerFor(server, CREATE),
    MKDIR: handlerFor(server, MKDIR),
    SYMLINK: handlerFor(server, SYMLINK),
    MKNOD: handlerFor(server, MKNOD),
    REMOVE: handlerFor(server, REMOVE),
    RMDIR: handlerFor(server, RMDIR),
    RENAME: handlerFor(server, RENAME),
    LINK: handlerFor(server, LINK),
    READDIR: handlerFor(server, READDIR),
    READDIRPLUS: handlerFor(server, READDIRPLUS),
    FSSTAT: handlerFor(server, FSSTAT),
    FSINFO: handlerFor(server, FSINFO),
    PATHCONF: handlerFor(server, PATHCONF),
    COMMIT: handlerFor(server, COMMIT),
  });
}
