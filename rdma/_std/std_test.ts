import { assert, assertEquals, AssertionError, assertRejects, assertThrows } from "@std/assert";
import { parseArgs } from "@std/cli";
import { TextLineStream, toArrayBuffer, toText } from "@std/streams";

Deno.test("assertions throw AssertionError and return what was thrown", async () => {
  assertThrows(() => assertEquals<number>(1, 2), AssertionError);
  const thrown = assertThrows(() => assert(false, "no"), AssertionError, "no");
  assertEquals(thrown.message, "no");
  const rejected = await assertRejects(() => Promise.reject(new TypeError("late")), TypeError, "late");
  assertEquals(rejected.message, "late");
});

Deno.test("parseArgs has a typed property for each declared flag", () => {
  const args = parseArgs(["-r", "--listen", "[::1]:20049", "--export=a", "--export=b", "dir", "7"], {
    boolean: ["recursive", "read-only"],
    string: ["listen", "export", "_", "log"],
    collect: ["export"],
    alias: { recursive: "r" },
  });
  const recursive: boolean = args.recursive;
  const listen: string | undefined = args.listen;
  const exports: string[] = args.export;
  assertEquals([recursive, args["read-only"]], [true, false]);
  assertEquals([listen, args.log], ["[::1]:20049", undefined]);
  assertEquals(exports, ["a", "b"]);
  assertEquals(args._, ["dir", "7"]);
});

Deno.test("streams are read to their end", async () => {
  const lines = ReadableStream.from(["a\nb", "c\r\nd"]).pipeThrough(new TextLineStream());
  assertEquals(await Array.fromAsync(lines), ["a", "bc", "d"]);
  const bytes = () => ReadableStream.from([Uint8Array.of(104), Uint8Array.of(105)]);
  assertEquals(await toText(bytes()), "hi");
  assertEquals(new Uint8Array(await toArrayBuffer(bytes())), Uint8Array.of(104, 105));
});
