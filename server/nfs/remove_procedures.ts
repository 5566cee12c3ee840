/**
 * Server, NFS: REMOVE, RMDIR, RENAME, LINK (RFC 1813 §3.3.12 to §3.3.15).
 *
 * @module
 */
import type {
  LINK3args,
  LINK3resok,
  REMOVE3args,
  REMOVE3resok,
  RENAME3args,
  RENAME3resok,
  RMDIR3args,
} from "../../storage/nfs/mod.ts";
import { DOTS_ARE_DIRECTORIES, DOTS_EXIST, DOTS_INVALID, DOTS_STAY } from "./names.ts";
import type { NfsCall, Operation } from "./nfs_call.ts";
import { type Steps, wait } from "./steps.ts";

/** REMOVE (RFC 1813 §3.3.12). */
export const REMOVE: Operation<REMOVE3args, REMOVE3resok, REMOVE3resok> = {
  *ok({ object: { dir, name } }, call) {
    yield* call.observeForChange(dir);
    call.checkName(name, DOTS_ARE_DIRECTORIES);
    yield* wait(call.fileSystem.remove(dir, name, call.as));
    return { dir_wcc: yield* call.wcc(dir) };
  },
  fail: directoryWcc,
};

/** RMDIR (RFC 1813 §3.3.13). */
export const RMDIR: Operation<RMDIR3args, REMOVE3resok, REMOVE3resok> = {
  *ok({ object: { dir, name } }, call) {
    yield* call.observeForChange(dir);
    call.checkName(name, DOTS_STAY);
    yield* wait(call.fileSystem.removeDirectory(dir, name, call.as));
    return { dir_wcc: yield* call.wcc(dir) };
  },
  fail: directoryWcc,
};

function* directoryWcc({ object }: REMOVE3args, call: NfsCall): Steps<REMOVE3resok> {
  return { dir_wcc: yield* call.wcc(object.dir) };
}

/** RENAME (RFC 1813 §3.3.14). */
export const RENAME: Operation<RENAME3args, RENAME3resok, RENAME3resok> = {
  *ok(args, call) {
    const { from, to } = args;
    yield* call.observeForChange(from.dir, to.dir);
    call.checkName(from.name, DOTS_INVALID);
    call.checkName(to.name, DOTS_INVALID);
    const source = { directory: from.dir, name: from.name };
    yield* wait(call.fileSystem.rename(source, { directory: to.dir, name: to.name }, call.as));
    return yield* bothWcc(args, call);
  },
  fail: bothWcc,
};

function* bothWcc({ from, to }: RENAME3args, call: NfsCall): Steps<RENAME3resok> {
  return { fromdir_wcc: yield* call.wcc(from.dir), todir_wcc: yield* call.wcc(to.dir) };
}

/** LINK (RFC 1813 §3.3.15). */
export const LINK: Operation<LINK3args, LINK3resok, LINK3resok> = {
  *ok(args, call) {
    const { file, link: { dir, name } } = args;
    yield* call.observeForChange(dir);
    call.checkName(name, DOTS_EXIST);
    yield* wait(call.fileSystem.link(file, dir, name, call.as));
    return yield* fileAndDirectory(args, call);
  },
  fail: fileAndDirectory,
};

function* fileAndDirectory({ file, link }: LINK3args, call: NfsCall): Steps<LINK3resok> {
  return { file_attributes: yield* call.attributes(file), linkdir_wcc: yield* call.wcc(link.dir) };
}
