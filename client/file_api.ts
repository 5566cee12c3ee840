/**
 * What local files (`Deno`) and served ones (`NfsFileSystem`) have in common: code written for this works with both.
 *
 * @module
 */

/** An open file: `Deno.FsFile`, or `NfsFile`. */
export interface FileLike extends Disposable {
  read(p: Uint8Array): Promise<number | null>;
  write(p: Uint8Array): Promise<number>;
  seek(offset: number | bigint, whence: Deno.SeekMode): Promise<number>;
  stat(): Promise<Deno.FileInfo>;
  truncate(len?: number): Promise<void>;
  utime(atime: number | Date, mtime: number | Date): Promise<void>;
  sync(): Promise<void>;
  syncData(): Promise<void>;
  close(): void;
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
}

/** The asynchronous part of Deno's file API: the namespace `Deno` is one, and so is every `NfsFileSystem`. */
export interface FileApi {
  open(path: string, options?: Deno.OpenOptions): Promise<FileLike>;
  create(path: string): Promise<FileLike>;
  readFile(path: string, options?: Deno.ReadFileOptions): Promise<Uint8Array<ArrayBuffer>>;
  readTextFile(path: string, options?: Deno.ReadFileOptions): Promise<string>;
  writeFile(
    path: string,
    data: Uint8Array | ReadableStream<Uint8Array>,
    options?: Deno.WriteFileOptions,
  ): Promise<void>;
  writeTextFile(
    path: string,
    data: string | ReadableStream<string>,
    options?: Deno.WriteFileOptions,
  ): Promise<void>;
  readDir(path: string): AsyncIterable<Deno.DirEntry>;
  mkdir(path: string, options?: Deno.MkdirOptions): Promise<void>;
  remove(path: string, options?: Deno.RemoveOptions): Promise<void>;
  rename(oldpath: string, newpath: string): Promise<void>;
  stat(path: string): Promise<Deno.FileInfo>;
  lstat(path: string): Promise<Deno.FileInfo>;
  symlink(oldpath: string, newpath: string): Promise<void>;
  link(oldpath: string, newpath: string): Promise<void>;
  readLink(path: string): Promise<string>;
  realPath(path: string): Promise<string>;
  chmod(path: string, mode: number): Promise<void>;
  chown(path: string, uid: number | null, gid: number | null): Promise<void>;
  utime(path: string, atime: number | Date, mtime: number | Date): Promise<void>;
  truncate(path: string, len?: number): Promise<void>;
  copyFile(fromPath: string, toPath: string): Promise<void>;
  makeTempFile(options?: Deno.MakeTempOptions): Promise<string>;
  makeTempDir(options?: Deno.MakeTempOptions): Promise<string>;
}
