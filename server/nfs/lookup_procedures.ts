/**
 * Server, NFS: LOOKUP, READLINK (RFC 1813 §3.3.3, §3.3.5).
 *
 * @module
 */
import type {
  LOOKUP3args,
  LOOKUP3resfail,
  LOOKUP3resok,
  READLINK3args,
  READLINK3resfail,
  READLINK3resok,
} from "../../storage/nfs/mod.ts";
import { toFattr3 } from "./attributes.ts";
import type { Operation } from "./nfs_call.ts";
import { wait } from "./steps.ts";

/** LOOKUP (RFC 1813 §3.3.3). The parent of an export's root is the root itself. */
export const LOOKUP: Operation<LOOKUP3args, LOOKUP3resok, LOOKUP3resfail> = {
  *ok({ what: { dir, name } }, call) {
    call.checkName(name);
    const found = yield* wait(call.fileSystem.lookup(dir, name, call.as));
    return {
      object: found.handle,
      obj_attributes: toFattr3(found.attributes),
      dir_attributes: yield* call.attributes(dir),
    };
  },
  *fail({ what: { dir } }, call) {
    return { dir_attributes: yield* call.attributes(dir) };
  },
};

/** READLINK (RFC 1813 §3.3.5). */
export const READLINK: Operation<READLINK3args, READLINK3resok, READLINK3resfail> = {
  *ok({ symlink }, call) {
    const target = yield* wait(call.fileSystem.readLink(symlink, call.as));
    const bulk = call.allocateBulk(target.byteLength);
    bulk.bytes.set(target);
    return {
      symlink_attributes: yield* call.attributes(symlink),
      data: [bulk.bytes.subarray(0, target.byteLength)],
    };
  },
  *fail({ symlink }, call) {
    return { symlink_attributes: yield* call.attributes(symlink) };
  },
};
