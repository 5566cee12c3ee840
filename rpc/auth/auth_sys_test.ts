import { assertEquals, assertThrows } from "@std/assert";
import { WireError } from "../errors.ts";
import { decodeAuthSys, encodeAuthSys } from "./auth_sys.ts";

Deno.test("AUTH_SYS there and back, and every truncation", () => {
  const credential = encodeAuthSys({ uid: 1000, gid: 100, gids: [4, 24], machinename: "weft", stamp: 7 });
  assertEquals(credential.flavor, 1);
  assertEquals(decodeAuthSys(credential.body), { stamp: 7, machinename: "weft", uid: 1000, gid: 100, gids: [4, 24] });
  for (let length = 0; length < credential.body.byteLength; length++) {
    assertThrows(() => decodeAuthSys(credential.body.subarray(0, length)), WireError);
  }
});

Deno.test("AUTH_SYS has the limits of RFC 5531", () => {
  const gids = Array.from({ length: 16 }, (_, i) => i);
  const largest = encodeAuthSys({ uid: 0xffffffff, gid: 0, gids, machinename: "m".repeat(255) });
  assertEquals(decodeAuthSys(largest.body).gids, gids);
  assertThrows(() => encodeAuthSys({ uid: 0, gid: 0, gids: [...gids, 16] }), RangeError);
  assertThrows(() => encodeAuthSys({ uid: 0, gid: 0, machinename: "m".repeat(256) }), RangeError);
  assertThrows(() => encodeAuthSys({ uid: -1, gid: 0 }), RangeError);
  const many = new Uint8Array(20 + 17 * 4);
  many[19] = 17;
  assertThrows(() => decodeAuthSys(many), WireError, "above the limit of 16");
});
