/**
 * The progress line of copies: bytes, rate, time left; one line on standard error, redrawn in place.
 *
 * @module
 */
import { formatDuration, formatRate, formatSize, forTerminal } from "./format.ts";

/** Redraws are at least this far apart. */
const REDRAW_MS = 100;
/** The rate is that of about the last this many milliseconds. */
const RATE_WINDOW_MS = 3000;

/** Width of a terminal that does not tell its own. */
const COLUMNS = 80;

/** Where the line goes, and what time it is; replaced in tests. */
export interface ProgressOutput {
  /** Writes to the terminal. */
  write(text: string): void;
  /** Width of the terminal, columns. */
  columns(): number;
  /** Milliseconds that only go forward. */
  nowMs(): number;
}

/** Counts what a copy has to do and has done, and shows it. */
export class Progress implements Disposable {
  #output: ProgressOutput;
  #totalBytes = 0;
  #doneBytes = 0;
  #totalFiles = 0;
  #doneFiles = 0;
  #name = "";
  #startMs: number;
  #drawnMs = -Infinity;
  #isDrawn = false;
  /** Bytes done at moments of the last seconds, oldest first. */
  #samples: { atMs: number; bytes: number }[];

  constructor(output: ProgressOutput) {
    this.#output = output;
    this.#startMs = output.nowMs();
    this.#samples = [{ atMs: this.#startMs, bytes: 0 }];
  }

  /** A file that will be copied was found; `bytes` of it are still to do. */
  expect(bytes: number): void {
    this.#totalBytes += bytes;
    this.#totalFiles++;
  }

  /** Bytes of a file were copied, or skipped as a hole. */
  advance(bytes: number, name: string): void {
    this.#doneBytes += bytes;
    this.#name = name;
    this.#draw();
  }

  /** A file is done. */
  finishFile(): void {
    this.#doneFiles++;
    this.#draw();
  }

  /** Takes the line away, so that something else can be printed. */
  clear(): void {
    if (!this.#isDrawn) return;
    this.#output.write("\r\x1b[K");
    this.#isDrawn = false;
    this.#drawnMs = -Infinity;
  }

  [Symbol.dispose](): void {
    this.clear();
  }

  /** The line as it is now. */
  line(): string {
    const now = this.#output.nowMs();
    const oldest = this.#samples[0];
    const elapsed = Math.max(1, now - oldest.atMs) / 1000;
    const rate = (this.#doneBytes - oldest.bytes) / elapsed;
    const left = rate > 0 ? formatDuration((this.#totalBytes - this.#doneBytes) / rate) : "-:--";
    const percent = this.#totalBytes === 0 ? 100 : Math.floor(100 * this.#doneBytes / this.#totalBytes);
    const files = this.#totalFiles > 1 ? `  ${this.#doneFiles}/${this.#totalFiles} files` : "";
    const sizes = `${formatSize(this.#doneBytes)}/${formatSize(this.#totalBytes)}`;
    const text = `${String(percent).padStart(3)}%  ${sizes}  ${formatRate(rate)}  ${left} left${files}`;
    const columns = this.#output.columns() - 1;
    const room = columns - text.length - 2;
    const name = forTerminal(this.#name);
    if (room < 8 || name === "") return text.slice(0, columns);
    return `${text}  ${name.length > room ? `…${name.slice(name.length - room + 1)}` : name}`;
  }

  #draw(): void {
    const now = this.#output.nowMs();
    if (now - this.#drawnMs < REDRAW_MS) return;
    // Nothing is shown for what is done at once.
    if (now - this.#startMs < REDRAW_MS) return;
    this.#drawnMs = now;
    while (this.#samples.length > 1 && now - this.#samples[0].atMs > RATE_WINDOW_MS) this.#samples.shift();
    const line = this.line();
    this.#samples.push({ atMs: now, bytes: this.#doneBytes });
    this.#output.write(`\r${line}\x1b[K`);
    this.#isDrawn = true;
  }
}

/** Progress on standard error, or `undefined` where that is no terminal. */
export function terminalProgress(): Progress | undefined {
  if (!Deno.stderr.isTerminal()) return undefined;
  const encoder = new TextEncoder();
  return new Progress({
    write(text) {
      try {
        Deno.stderr.writeSync(encoder.encode(text));
      } catch {
        // A terminal that went away shows nothing; the copy goes on.
      }
    },
    columns() {
      try {
        return Deno.consoleSize().columns || COLUMNS; // 0: a terminal that does not know
      } catch {
        return COLUMNS;
      }
    },
    nowMs: () => performance.now(),
  });
}
