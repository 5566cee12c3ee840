import { assertEquals, assertGreaterOrEqual, assertThrows } from "@std/assert";
import { decoderTargets, fuzzDecoder } from "./decoders.ts";
import { mutate, Random } from "./mutation.ts";

for (const target of decoderTargets()) {
  Deno.test(`fuzz: ${target.name} takes the recorded input and refuses changed input cleanly`, () => {
    assertGreaterOrEqual(fuzzDecoder(target, { seed: 1, inputs: 5_000 }), 5_000);
  });
}

Deno.test("fuzz: a decoder that breaks is found, with the input", () => {
  const target = {
    name: "broken",
    samples: [Uint8Array.of(1, 2, 3, 4)],
    refusals: [],
    run: (input: Uint8Array) => {
      if (input.length > 4) throw new Error("boom");
    },
  };
  assertThrows(() => fuzzDecoder(target, { seed: 1, inputs: 1_000 }), Error, "broken on ");
});

Deno.test("fuzz: a seed gives the same input again", () => {
  const samples = [Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), new Uint8Array(100)];
  const inputs = (seed: number) => {
    const random = new Random(seed);
    return Array.from({ length: 50 }, () => mutate(samples, random).toHex());
  };
  assertEquals(inputs(3), inputs(3));
});
