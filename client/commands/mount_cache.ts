/**
 * One mount for all operands on the same export.
 *
 * @module
 */
import type { NfsFileSystem } from "../file_system.ts";
import { type MountedExport, mountExport, type MountOptions } from "../mount.ts";
import { splitPath } from "../names.ts";
import { findExport } from "../nfs/mount_client.ts";
import type { NfsUrl } from "../url.ts";

/** A path on a mounted export. */
export interface Served {
  fs: NfsFileSystem;
  path: string;
  /** Tells one export from the other. */
  id: string;
}

interface Entry {
  server: string;
  mounted: MountedExport;
}

/** Mounts that a command has made, to be used again and unmounted at its end. */
export class MountCache implements AsyncDisposable {
  readonly #options: MountOptions;
  readonly #entries: Entry[] = [];
  /** One at a time, so that equal operands find what the first one mounted. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: MountOptions) {
    this.#options = options;
  }

  /** The file system on which the path of a URL lies, and the path in it. */
  get(url: NfsUrl): Promise<Served> {
    const next = this.#last.then(() => this.#find(url));
    this.#last = next.catch(() => {});
    return next;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { mounted } of this.#entries.splice(0)) await mounted.fs[Symbol.asyncDispose]();
  }

  async #find(url: NfsUrl): Promise<Served> {
    const { path, ...options } = url;
    const server = JSON.stringify(options);
    for (const { mounted, server: other } of this.#entries) {
      if (other !== server) continue;
      const { directory, exports } = mounted;
      const found = findExport(exports.length > 0 ? exports : [directory], path);
      if (found?.directory === directory) {
        return { fs: mounted.fs, path: `/${found.rest.join("/")}`, id: `${server} ${directory}` };
      }
    }
    const mounted = await mountExport(url, this.#options);
    this.#entries.push({ server, mounted });
    return { fs: mounted.fs, path: `/${splitPath(mounted.path).join("/")}`, id: `${server} ${mounted.directory}` };
  }
}
