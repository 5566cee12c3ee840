/**
 * `weft cat`: files of a server to standard output.
 *
 * @module
 */
import { defineCommand } from "./command.ts";
import { UsageError } from "./options.ts";

/** Pieces that are read and written at once, bytes. */
const PIECE_BYTES = 1024 * 1024;
/** Reads that run ahead of the output. */
const READS_AHEAD = 4;

/** The command. */
export const cat = defineCommand({
  name: "cat",
  usage: ["URL..."],
  description: "Write files to standard output, one behind the other.",
  options: {},
  examples: ["nfs://server/notes.txt", "nfs://server/log | tail"],
  async run(context, { operands }): Promise<void> {
    if (operands.length === 0) throw new UsageError("missing operand");
    for (const operand of operands) {
      context.io.signal.throwIfAborted();
      const target = await context.locateServed(operand);
      if (target === undefined) continue;
      const fs = target.files.api;
      const buffers = Array.from({ length: READS_AHEAD }, () => fs.allocate(PIECE_BYTES));
      let reads: Promise<number | null>[] = [];
      try {
        using file = await fs.open(target.path);
        reads = buffers.map(({ bytes }, at) => file.readAt(bytes, at * PIECE_BYTES));
        // A read that fails behind the end of the output is nobody's any more.
        for (const read of reads) read.catch(() => {});
        for (let at = 0;; at++) {
          const { bytes } = buffers[at % READS_AHEAD];
          const bytesRead = await reads[at % READS_AHEAD];
          if (bytesRead === null) break;
          await context.io.write(bytes.subarray(0, bytesRead));
          if (bytesRead < PIECE_BYTES) break;
          const next = file.readAt(bytes, (at + READS_AHEAD) * PIECE_BYTES);
          next.catch(() => {});
          reads[at % READS_AHEAD] = next;
        }
      } catch (error) {
        if (error instanceof Deno.errors.BrokenPipe) throw error;
        context.fail(target.display, error);
      } finally {
        await Promise.allSettled(reads); // until then the memory is theirs
        for (const buffer of buffers) buffer.release();
      }
    }
  },
});
