/**
 * Server: what is served to whom: a file system under a path, and with whose rights callers act on it.
 *
 * @module
 */
import type { AuthSys } from "../rpc/auth/auth_sys.ts";
import type { Credentials, FileSystem } from "../storage/backend/file_system.ts";

/** Whom nobody in particular is taken for, by custom: "nobody" and "nogroup". */
export const ANONYMOUS_UID = 65534;
/** The group of nobody in particular. */
export const ANONYMOUS_GID = 65534;
/** `(uid_t) -1`, which system calls take for "nobody named". No caller may be it. */
const NO_ID = 0xffffffff;

/** Choices for an export. */
export interface ExportOptions {
  /** What clients mount: "/" if absent. Begins with "/" and does not end with one unless it is that alone. */
  path?: string;
  /** What is served. */
  fileSystem: FileSystem;
  /** Refuse every change with NFS3ERR_ROFS. */
  readOnly?: boolean;
  /** Take uid 0 and gid 0 for the anonymous ones. True if absent. */
  rootSquash?: boolean;
  /** Whom callers without a credential, and a squashed root, are taken for. */
  anonymous?: { uid: number; gid: number };
}

/** A file system and the terms on which it is served. */
export class Export {
  /** What clients mount. */
  readonly path: string;
  /** What is served. */
  readonly fileSystem: FileSystem;
  /** Whether every change is refused. */
  readonly readOnly: boolean;
  /** Whether uid 0 and gid 0 are taken for the anonymous ones. */
  readonly rootSquash: boolean;
  readonly #anonymous: Credentials;

  /** Throws `TypeError` for a path that is none. */
  constructor(options: ExportOptions) {
    this.path = options.path ?? "/";
    if (!/^\/$|^(\/[^/\0]+)+$/.test(this.path)) throw new TypeError(`${this.path} is not a path for an export`);
    this.fileSystem = options.fileSystem;
    this.readOnly = options.readOnly ?? false;
    this.rootSquash = options.rootSquash ?? true;
    const { uid, gid } = options.anonymous ?? { uid: ANONYMOUS_UID, gid: ANONYMOUS_GID };
    this.#anonymous = { uid, gid, gids: [] };
  }

  /** Whose rights a caller has here. `undefined`: it did not say who it is. */
  credentialsOf(caller: AuthSys | undefined): Credentials {
    if (caller === undefined) return this.#anonymous;
    const { uid, gid } = this.#anonymous;
    const squashed = (id: number): boolean => id === NO_ID || (this.rootSquash && id === 0);
    return {
      uid: squashed(caller.uid) ? uid : caller.uid,
      gid: squashed(caller.gid) ? gid : caller.gid,
      gids: caller.gids.some(squashed) ? caller.gids.map((id) => squashed(id) ? gid : id) : caller.gids,
    };
  }
}
