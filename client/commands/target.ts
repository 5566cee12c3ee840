/**
 * Places that operands name: a path among local files, or among those of a server.
 *
 * @module
 */
import type { FileApi } from "../file_api.ts";
import type { NfsFileSystem } from "../file_system.ts";
import { baseName, encodeName, isEscaped, joinPath } from "../names.ts";
import { encodeUrlPath } from "../url.ts";

/** A tree of files, here or on a server. */
export interface Files {
  /** Its operations. */
  readonly api: FileApi;
  /** Tells one tree from the other. */
  readonly id: string;
  /** Names below an operand, as they are shown. */
  show(name: string): string;
}

/** A place in a tree: what an operand names, or something below it. */
export class Target<F extends Files = Files> {
  readonly files: F;
  /** Path in its tree. */
  readonly path: string;
  /** As the user wrote it, or below that. */
  readonly display: string;

  constructor(files: F, path: string, display: string) {
    this.files = files;
    this.path = path;
    this.display = display;
  }

  /** The operations of the tree. */
  get api(): F["api"] {
    return this.files.api;
  }

  /** Last component of the path. */
  get name(): string {
    return baseName(this.path);
  }

  /** An entry of this directory. */
  child(name: string): Target<F> {
    return new Target(this.files, joinPath(this.path, name), joinPath(this.display, this.files.show(name)));
  }
}

/** The files of this machine. */
export class LocalFiles implements Files {
  readonly api: FileApi = localApi;
  readonly id = "local";

  show(name: string): string {
    return name;
  }

  /** A path as an operand. */
  target(path: string): Target<LocalFiles> {
    return new Target(this, path, path);
  }
}

/** The files of a server. */
export class NfsFiles implements Files {
  readonly api: NfsFileSystem;
  readonly id: string;

  /** `id`: server and export. */
  constructor(api: NfsFileSystem, id: string) {
    this.api = api;
    this.id = id;
  }

  show(name: string): string {
    return encodeUrlPath(name);
  }

  /** What a URL names. */
  target(path: string, display: string): Target<NfsFiles> {
    return new Target(this, path, display);
  }
}

/** `Deno` for names that it can express: a local file with a name that is not UTF-8 cannot be named here. */
const localApi: FileApi = new Proxy<FileApi>(Deno, {
  get(target, property) {
    const value = Reflect.get(target, property);
    if (typeof value !== "function") return value;
    return (...args: unknown[]) => {
      for (const arg of args) {
        if (typeof arg === "string" && isEscaped(arg)) {
          throw Object.assign(new Error(`the name is not UTF-8 (${encodeName(arg).length} bytes)`), { code: "EILSEQ" });
        }
      }
      return value.apply(target, args);
    };
  },
});
