import { assertEquals, assertRejects } from "@std/assert";
import { serve } from "../../server/mod.ts";
import { greet } from "./first_program.ts";
import { sumOfNumbers } from "./registered_buffers.ts";
import { compress } from "./streaming_copy.ts";

/** Runs an example against a server of a new directory. */
async function withServer(run: (url: string, directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "weft-examples-" });
  try {
    await using server = await serve({ directory, port: 0, rootSquash: false });
    await run(`nfs://127.0.0.1:${server.port}/`, directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("example: a first program", async () => {
  await withServer(async (url, directory) => {
    assertEquals(await greet(url), { text: "Hello by rdma\n", names: ["hello.txt"] });
    assertEquals(await greet(`${url}?proto=tcp`), { text: "Hello by tcp\n", names: ["hello.txt"] });
    assertEquals(await Deno.readTextFile(`${directory}/greetings/hello.txt`), "Hello by tcp\n");
  });
});

Deno.test("example: registered buffers", async () => {
  await withServer(async (url) => {
    assertEquals(await sumOfNumbers(`${url}numbers.bin`), 16384 * 31 * 32 / 2);
  });
});

Deno.test("example: a streaming copy", async () => {
  await withServer(async (url, directory) => {
    const text = "All work and no play. ".repeat(100_000);
    await Deno.writeTextFile(`${directory}/from`, text);
    await compress(url, "from", "to.gz");
    const file = await Deno.open(`${directory}/to.gz`);
    const stream = file.readable.pipeThrough(new DecompressionStream("gzip"));
    assertEquals(await new Response(stream).text(), text);
    await assertRejects(() => compress(url, "from", "to.gz"), Deno.errors.AlreadyExists);
    await assertRejects(
      () => compress(url, "from", "other.gz", AbortSignal.abort(new Error("enough"))),
      Error,
      "enough",
    );
    await assertRejects(() => Deno.stat(`${directory}/other.gz`), Deno.errors.NotFound);
  });
});
