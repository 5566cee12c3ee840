/**
 * Memory for transfers: any `Uint8Array` will do. One that is used again and again is registered once, by the application
 * or by the library, which lends it; the server then reads and writes it directly, with nothing to prepare for each transfer.
 *
 * ```sh
 * deno run -A client/examples/registered_buffers.ts nfs://localhost/numbers.bin
 * ```
 *
 * @module
 */
import { mount } from "../mod.ts";

const RECORD_BYTES = 64 * 1024;
const RECORDS = 32;

/** Writes numbers from memory of its own, and sums them up in memory that is lent. */
export async function sumOfNumbers(url: string): Promise<number> {
  const directory = url.replace(/[^/]*$/, "");
  const name = url.slice(directory.length);
  await using fs = await mount(directory);

  // Ours, registered until the end of the block.
  const numbers = new Uint32Array(RECORD_BYTES / 4);
  const bytes = new Uint8Array(numbers.buffer);
  {
    using _registration = fs.register(bytes);
    await using file = await fs.open(name, { write: true, create: true, truncate: true });
    for (let record = 0; record < RECORDS; record++) {
      numbers.fill(record);
      await file.write(bytes);
    }
  }

  // The library's, registered as long as the mount lives; several reads under way at once.
  using file = await fs.open(name);
  const sums = Array.from({ length: RECORDS }, async (_, record) => {
    using lent = fs.allocate(RECORD_BYTES);
    await file.readAt(lent.bytes, record * RECORD_BYTES);
    return new Uint32Array(lent.bytes.buffer, lent.bytes.byteOffset, RECORD_BYTES / 4).reduce((a, b) => a + b, 0);
  });
  return (await Promise.all(sums)).reduce((a, b) => a + b, 0);
}

if (import.meta.main) console.log(await sumOfNumbers(Deno.args[0] ?? "nfs://localhost/numbers.bin"));
