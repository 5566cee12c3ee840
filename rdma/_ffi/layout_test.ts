import { assert, assertEquals } from "@std/assert";
import * as layout from "./layout.ts";
import { ABI_VERSION, symbols } from "./symbols.ts";
import { codeOf } from "../errors.ts";

/** Text of a source file of the engine, without comments. */
async function engine(name: string): Promise<string> {
  const text = await Deno.readTextFile(new URL(`../native/engine/src/${name}`, import.meta.url));
  return text.replace(/\/\/.*$/gm, "");
}

function constant(text: string, name: string): string {
  const value = text.match(new RegExp(`\\bconst ${name}: \\w+ = ([^;]+);`))?.[1];
  assert(value !== undefined, `the engine has no constant ${name}`);
  return value.replaceAll("_", "");
}

Deno.test("layout: constants are those of the engine", async () => {
  const [abi, ring] = [await engine("abi.rs"), await engine("ring.rs")];
  assertEquals(Number(constant(abi, "ABI_VERSION")), ABI_VERSION);
  assertEquals(Number(constant(abi, "WORK_WORDS")), layout.WORK_WORDS);
  assertEquals(Number(constant(abi, "SGE_WORDS")), layout.SGE_WORDS);
  assertEquals(Number(constant(abi, "SGES_MAX")), layout.SGES_MAX);
  assertEquals(Number(constant(abi, "SETTINGS_WORDS")), layout.SETTINGS_WORDS);
  assertEquals(Number(constant(abi, "LIMITS_WORDS")), layout.LIMITS_WORDS);
  assertEquals(Number(constant(await engine("tx.rs"), "INLINE_MAX")), layout.INLINE_MAX);
  const sum = constant(abi, "FACTS_BYTES").split("+").reduce((total, term) => total + Number(term), 0);
  assertEquals(sum, layout.FACTS_BYTES);
  assertEquals(Number(constant(ring, "ENTRY_WORDS")), layout.RING_ENTRY_WORDS);
  assertEquals(Number(constant(ring, "HEADER_WORDS")), layout.RING_HEADER_WORDS);
  assertEquals(Number(constant(ring, "HEAD_WORD")), layout.RING_HEAD_WORD);
});

Deno.test("layout: entry kinds, counters and statuses are those of the engine, in their order", async () => {
  const kinds = (await engine("ring.rs")).match(/enum EntryKind \{([^}]*)\}/)![1];
  const numbers = Object.fromEntries(kinds.matchAll(/(\w+) = (\d+)/g).map(([, name, value]) => [name, Number(value)]));
  assertEquals(numbers, { ...layout.EntryKind });

  const names = (await engine("counters.rs")).match(/\ncounters! \{([^}]*)\}/)![1].match(/\w+/g)!;
  const camelCase = (name: string) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
  const camel = names.map(camelCase);
  // how many regions and connections there are is not counted but asked for
  const tally = (await engine("counters.rs")).match(/\ntally! \{([^}]*)\}/)![1].match(/\w+/g)!.map(camelCase);
  assertEquals(tally, [...layout.CONNECTION_COUNTERS]);
  const elsewhere = Number(constant(await engine("counters.rs"), "TALLY_ELSEWHERE"));
  assertEquals([...camel, "regions", "liveConnections", ...tally.slice(elsewhere)], [...layout.COUNTERS]);

  const statuses = (await engine("status.rs")).match(/enum Status \{([^}]*)\}/)![1];
  for (const [, name, value] of statuses.matchAll(/(\w+) = (-?\d+)/g)) {
    const expected = name === "Refused" ? "ConnectionRefused" : name;
    assertEquals(codeOf(Number(value)), expected as ReturnType<typeof codeOf>);
  }
  assertEquals(codeOf(-99), "System");
});

Deno.test("layout: every symbol is exported by the engine with as many parameters", async () => {
  const abi = await engine("abi.rs");
  const exported = new Map(
    abi.matchAll(/extern "C" fn (weft_\w+)\(([^)]*)\) -> (\w+)/g).map(([, name, parameters, result]) => [
      name,
      { parameters: parameters.split(",").map((one) => one.trim()).filter((one) => one !== ""), result },
    ]),
  );
  const types: Record<string, string> = { f64: "f64", u32: "u32" };
  for (const [name, { parameters, result }] of Object.entries(symbols)) {
    const native = exported.get(name);
    assert(native !== undefined, `the engine does not export ${name}`);
    assertEquals(native.result, result, name);
    const expected = native.parameters.map((parameter) => types[parameter.split(": ")[1]] ?? "buffer");
    assertEquals([...parameters] as string[], expected, name);
    exported.delete(name);
  }
  assertEquals([...exported.keys()], []);
});
