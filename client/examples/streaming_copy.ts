/**
 * Streams: a file of the server's, compressed on the way, to another one.
 *
 * ```sh
 * deno run -A client/examples/streaming_copy.ts nfs://localhost/ big.log big.log.gz
 * ```
 *
 * @module
 */
import { mount } from "../mod.ts";

/** Compresses a file. Ends early, and leaves nothing, when the signal says so. */
export async function compress(url: string, from: string, to: string, signal?: AbortSignal): Promise<void> {
  await using fs = await mount(url);
  const source = await fs.open(from);
  const target = await fs.open(to, { write: true, createNew: true });
  try {
    // When the pipe has ended, all of it is on stable storage and both files are closed.
    await source.readable.pipeThrough(new CompressionStream("gzip")).pipeTo(target.writable, { signal });
  } catch (error) {
    await fs.remove(to);
    throw error;
  }
}

if (import.meta.main) {
  const [url, from, to] = Deno.args;
  await compress(url, from, to);
}
