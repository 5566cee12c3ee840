import { assertEquals, assertThrows } from "@std/assert";
import { MemoryFileSystem } from "../storage/backend/memory.ts";
import { Export, type ExportOptions } from "./exports.ts";

const fileSystem = new MemoryFileSystem();

function credentials(options: Omit<ExportOptions, "fileSystem">, uid: number, gid: number, gids: number[]): unknown {
  const { uid: u, gid: g, gids: more } = new Export({ ...options, fileSystem })
    .credentialsOf({ stamp: 0, machinename: "", uid, gid, gids });
  return [u, g, more];
}

Deno.test("Export: who a caller is", () => {
  assertEquals(credentials({}, 1000, 100, [4, 24]), [1000, 100, [4, 24]]);
  assertEquals(credentials({}, 0, 0, [0, 4]), [65534, 65534, [65534, 4]]);
  assertEquals(credentials({}, 1000, 0, [4, 0]), [1000, 65534, [4, 65534]]);
  assertEquals(credentials({ rootSquash: false }, 0, 0, [0, 4]), [0, 0, [0, 4]]);
  assertEquals(credentials({ rootSquash: false }, 0xffffffff, 0xffffffff, [0xffffffff]), [65534, 65534, [65534]]);
  assertEquals(credentials({ anonymous: { uid: 7, gid: 8 } }, 0, 0, [0]), [7, 8, [8]]);
  assertEquals(new Export({ fileSystem }).credentialsOf(undefined), { uid: 65534, gid: 65534, gids: [] });
});

Deno.test("Export: paths", () => {
  for (const path of ["/", "/data", "/srv/data", "/with space"]) {
    assertEquals(new Export({ path, fileSystem }).path, path);
  }
  for (const path of ["", "data", "/data/", "//data", "/a//b", "/a\0"]) {
    assertThrows(() => new Export({ path, fileSystem }), TypeError, "not a path");
  }
});
