/**
 * What every command has: where its words go, how it fails, and how its operands become files.
 *
 * @module
 */
import { codeOf, describeCode, type ErrorCode, isKnownCode } from "../errors.ts";
import type { MountOptions } from "../mount.ts";
import { forTerminal, quote } from "./format.ts";
import { MountCache } from "./mount_cache.ts";
import type { Progress } from "./progress.ts";
import { LocalFiles, NfsFiles, type Target } from "./target.ts";
import { isNfsUrl, parseNfsUrl } from "../url.ts";

/** The surroundings of a command; replaced in tests. */
export interface CommandIo {
  /** Writes to standard output. Rejects with `Deno.errors.BrokenPipe` where nobody reads it any more. */
  write(text: string | Uint8Array): Promise<void>;
  /** Writes to standard error. */
  warn(text: string): void;
  /** Whether standard output is a terminal, and its width. */
  readonly columns: number | undefined;
  /** Draws progress, where standard error is a terminal. */
  progress(): Progress | undefined;
  /** Ends the command: it finishes what cannot be left as it is. */
  readonly signal: AbortSignal;
  /** Ends that, too. */
  readonly killSignal: AbortSignal;
  /** How servers are reached, beyond what URLs say. */
  readonly mountOptions?: MountOptions;
}

/** One run of one command. */
export class CommandContext implements AsyncDisposable {
  readonly name: string;
  readonly io: CommandIo;
  readonly #mounts: MountCache;
  readonly #local = new LocalFiles();
  #progress: Progress | undefined;
  #status = 0;

  /** `isGraceful`: calls to servers go on after an interrupt, until the second one. */
  constructor(name: string, io: CommandIo, options: { isGraceful: boolean }) {
    this.name = name;
    this.io = io;
    const operationsSignal = options.isGraceful ? io.killSignal : io.signal;
    this.#mounts = new MountCache({ ...io.mountOptions, signal: io.signal, operationsSignal });
  }

  /** The exit status so far: 0, or that of the gravest failure. */
  get status(): number {
    return this.#status;
  }

  /** Writes a line to standard output. */
  async print(line: string): Promise<void> {
    await this.io.write(`${line}\n`);
  }

  /** A name for standard output: as it is, unless it might steer a terminal. */
  shown(name: string): string {
    return this.io.columns === undefined ? name : forTerminal(name);
  }

  /** Says what went wrong with one operand; the command goes on with the next and exits with `status`. */
  fail(what: string, error?: unknown, status = 1): void {
    if (error !== undefined && this.io.signal.aborted) return;
    this.#progress?.clear();
    this.io.warn(`weft ${this.name}: ${what}${error === undefined ? "" : `: ${describeError(error)}`}\n`);
    this.#status = Math.max(this.#status, status);
  }

  /** Starts to show progress, if it is to be shown. */
  startProgress(): Progress | undefined {
    return this.#progress ??= this.io.progress();
  }

  /** The file that an operand names, on a server or here. Says what is wrong and returns `undefined` where there is no such place. */
  async locate(operand: string, status = 1): Promise<Target<LocalFiles> | Target<NfsFiles> | undefined> {
    if (!isNfsUrl(operand)) return this.#local.target(operand);
    return await this.#locateUrl(operand, status);
  }

  async #locateUrl(operand: string, status: number): Promise<Target<NfsFiles> | undefined> {
    try {
      const url = parseNfsUrl(operand);
      const { fs, path, id } = await this.#mounts.get(url);
      const isDirectoryWanted = url.path.endsWith("/") && path !== "/";
      const display = operand.replace(/\?.*$/s, "");
      return new NfsFiles(fs, id).target(isDirectoryWanted ? `${path}/` : path, display);
    } catch (error) {
      this.io.signal.throwIfAborted();
      const isAboutUrl = error instanceof TypeError && codeOf(error) === undefined;
      if (isAboutUrl) this.fail(error.message, undefined, status);
      else this.fail(`cannot reach ${quote(operand)}`, error, status);
      return undefined;
    }
  }

  /** As `locate`, for commands that only know files on servers. */
  async locateServed(operand: string, status = 1): Promise<Target<NfsFiles> | undefined> {
    if (!isNfsUrl(operand)) {
      this.fail(`${quote(operand)} is not an nfs:// URL`, undefined, status);
      return undefined;
    }
    return await this.#locateUrl(operand, status);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#progress?.clear();
    await this.#mounts[Symbol.asyncDispose]();
  }
}

/** An error in the words that `strerror` has for it, or in its own. */
export function describeError(error: unknown): string {
  const code = codeOf(error);
  if (code !== undefined && isKnownCode(code)) return describeCode(code as ErrorCode);
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/ \(os error [0-9]+\).*$/s, "");
}
