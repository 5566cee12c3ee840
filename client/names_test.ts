import { assertEquals } from "@std/assert";
import { baseName, decodeName, encodeName, isEscaped, isPlainName, joinPath, splitPath } from "./names.ts";

Deno.test("names that are UTF-8 are plain strings", () => {
  for (const name of ["a", "grüße", "日本", "😀", "\ufeffbom", "a b\n"]) {
    assertEquals(decodeName(new TextEncoder().encode(name)), name);
    assertEquals(encodeName(name), new TextEncoder().encode(name));
    assertEquals(isEscaped(name), false);
  }
});

Deno.test("every byte of a name that is not UTF-8 round trips", () => {
  const names = [
    [0xff],
    [0x61, 0x80, 0x62],
    [0xc3], // a lead byte at the end
    [0xc3, 0xa9, 0xc3], // é and a cut é
    [0xed, 0xa0, 0x80], // a surrogate in UTF-8
    [0xed, 0xb2, 0x80], // the escape's own code point in UTF-8
    [0xf0, 0x9f, 0x98, 0x80, 0xf0, 0x9f, 0x98], // an emoji and a cut one
    [0xc0, 0xaf], // an overlong slash
    [0xf5, 0x80, 0x80, 0x80],
  ];
  for (const bytes of names) {
    const text = decodeName(Uint8Array.from(bytes));
    assertEquals(isEscaped(text), true);
    assertEquals([...encodeName(text)], bytes);
  }
  assertEquals(decodeName(Uint8Array.from([0x61, 0x80, 0x62])), "a\udc80b");
});

Deno.test("random bytes round trip", () => {
  for (let round = 0; round < 2000; round++) {
    const bytes = crypto.getRandomValues(new Uint8Array(round % 17));
    assertEquals(encodeName(decodeName(bytes)), bytes);
  }
});

Deno.test("paths", () => {
  assertEquals(splitPath("//a/./b/../c/"), ["a", "b", "..", "c"]);
  assertEquals(splitPath("/"), []);
  assertEquals(joinPath("/", "a"), "/a");
  assertEquals(joinPath("/a", "b"), "/a/b");
  assertEquals(baseName("/a/b//"), "b");
  assertEquals(baseName("/"), "");
});

Deno.test("a server's names that reach elsewhere are not plain", () => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  assertEquals(isPlainName(bytes("../x")), false);
  assertEquals(isPlainName(bytes("")), false);
  assertEquals(isPlainName(bytes("a\0")), false);
  assertEquals(isPlainName(bytes("a")), true);
});
