import { assert, assertEquals } from "@std/assert";
import { layoutMatches } from "./layout.ts";
import {
  fileSize,
  importDirection,
  noDeadFiles,
  noPrivatePaths,
  nothingUnfinished,
  oneFormOfCitation,
  pureProtocol,
  type Rule,
} from "./rules.ts";
import { readTree, type SourceFile } from "./source_tree.ts";

const tree = await readTree();

const file = (path: string, text: string): SourceFile => ({ path, text });

/** Holds a rule against the project, and against planted offences that it must find. */
function rule(name: string, check: Rule, offending: SourceFile[][], innocent: SourceFile[][] = []): void {
  Deno.test(`tidy: ${name}`, () => {
    for (const planted of offending) {
      assertEquals(check(planted).length > 0, true, `finds nothing in ${planted[0].path}`);
    }
    for (const fine of innocent) assertEquals(check(fine), []);
    const offences = check(tree);
    assert(offences.length === 0, `\n${offences.join("\n")}\n`);
  });
}

rule("imports point one way", importDirection, [
  [file("rdma/a.ts", `import { x } from "../rpc/b.ts";`)],
  [file("client/a.ts", `export * from "../server/b.ts";`)],
  [file("storage/a.ts", `await import("../client/b.ts");`)],
  [file("rpc/a.ts", `import "../main.ts";`)],
  [file("rpc/a.ts", `import { x } from "./b_test.ts";`)],
], [[file("client/a.ts", `import { x } from "../rdma/mod.ts"; // from "../server/mod.ts"`)]]);

rule("formats and protocol state are pure", pureProtocol, [
  [file("rpc/xdr/a.ts", "setTimeout(f, 1);")],
  [file("rpc/wire/a.ts", `const x = Deno.env.get("A");`)],
  [file("rpc/protocol/a.ts", "const t = Date.now();")],
  [file("rdma/native/proto/src/a.rs", "use std::time::Instant;")],
  [file("rdma/native/proto/src/a.rs", "unsafe { x() }")],
], [[file("rpc/xdr/a.ts", "// no Deno here\nconst denoted = 1;"), file("rpc/transports/a.ts", "setTimeout(f, 1);")]]);

rule("files have one subject and a size to match", fileSize, [[file("a.rs", "x\n".repeat(701))]], [
  [file("a.ts", "x\n".repeat(700))],
]);

rule("nothing is left for later", nothingUnfinished, [
  [file("a.ts", "// TO" + "DO: later")],
  [file("a.rs", "to" + "do!()")],
  [file("a.rs", "#[ig" + "nore]")],
  [file("a.ts", "Deno.test.ig" + "nore(f)")],
]);

rule(
  "no private paths",
  noPrivatePaths,
  [[file("a.md", "see /ho" + "me/joe/notes")], [file("a.ts", `"/wo` + `rk/x"`)]],
  [
    [file("a.md", "nfs://host/ho" + "me/joe/x and a/wo" + "rk/b")],
  ],
);

rule("no dead files", noDeadFiles, [
  [file("deno.json", `{"exports":"./mod.ts"}`), file("mod.ts", ""), file("rdma/lonely.ts", "")],
  [file("tests/helper.ts", "")],
], [
  [
    file("deno.json", `{"exports":"./mod.ts"}`),
    file("mod.ts", `export * from "./rdma/a.ts";`),
    file("rdma/a.ts", ""),
    file("tests/a_test.ts", `import "./helper.ts";`),
    file("tests/helper.ts", ""),
  ],
]);

rule("one form of citation", oneFormOfCitation, [
  [file("a.ts", "// RFC" + "5044")],
  [file("a.ts", "// RFC 5044, " + "section 4.4")],
  [file("a.ts", "// RFC 5044, " + "§4.4")],
  [file("a.md", "section 4.4 of " + "RFC 5044")],
], [[file("a.ts", "// RFC 5044 §4.4 and RFC 5044 §5, https://example.org/rfc/rfc5044")]]);

rule("ARCHITECTURE.md draws the tree as it is", layoutMatches, [
  [file("ARCHITECTURE.md", "## Layout\n\n```\na/    things\n```\n"), file("a/b.ts", ""), file("c/d.ts", "")],
  [file("ARCHITECTURE.md", "## Layout\n\n```\na/    things: b.ts, gone.ts\n```\n"), file("a/b.ts", "")],
  [file("ARCHITECTURE.md", "## Layout\n\n```\na/    things\n```\n"), file("b.ts", "")],
], [[
  file("ARCHITECTURE.md", "## Layout\n\n```\na/    things: c/{b,d}.ts\n```\n"),
  file("a/c/b.ts", ""),
  file("a/c/d.ts", ""),
]]);
