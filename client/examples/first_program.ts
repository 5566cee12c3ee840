/**
 * A first program: mount, write, read back.
 *
 * ```sh
 * deno run -A client/examples/first_program.ts nfs://localhost/
 * ```
 *
 * @module
 */
import { mount } from "../mod.ts";

/** Writes a greeting, reads it back, and lists what there is. */
export async function greet(url: string): Promise<{ text: string; names: string[] }> {
  await using fs = await mount(url);
  await fs.mkdir("greetings", { recursive: true });
  await fs.writeTextFile("greetings/hello.txt", `Hello by ${fs.transport}\n`);
  const text = await fs.readTextFile("greetings/hello.txt");
  const names: string[] = [];
  for await (const entry of fs.readDir("greetings")) names.push(entry.name);
  try {
    await fs.stat("greetings/none.txt");
  } catch (error) {
    // Errors are those of Deno's own file API.
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return { text, names };
}

if (import.meta.main) console.log(await greet(Deno.args[0] ?? "nfs://localhost/"));
