import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { formatOptions, parseOptions, UsageError } from "./options.ts";

const specs = {
  long: { short: "l", help: "long listing" },
  all: { short: "a", long: "all", help: "everything" },
  human: { short: "h", long: "human-readable", help: "with units" },
  format: { short: "c", long: "format", value: "FORMAT", help: "how" },
  help: { long: "help", help: "this" },
};

Deno.test("short options bundle, operands stand anywhere", () => {
  assertEquals(parseOptions(["x", "-la", "y", "-h"], specs), {
    options: { long: true, all: true, human: true },
    operands: ["x", "y"],
  });
});

Deno.test("values", () => {
  for (const args of [["-c", "%n"], ["-c%n"], ["-lc%n"], ["--format=%n"], ["--format", "%n"], ["--form=%n"]]) {
    assertEquals(parseOptions(args, specs).options.format, "%n");
  }
  assertEquals(parseOptions(["--format=a=b"], specs).options.format, "a=b");
});

Deno.test("a double dash ends the options, a single one is an operand", () => {
  assertEquals(parseOptions(["-", "--", "-l", "--all"], specs), { options: {}, operands: ["-", "-l", "--all"] });
});

Deno.test("mistakes", () => {
  const cases: [string[], string][] = [
    [["-x"], "invalid option -- 'x'"],
    [["--nope"], "unrecognized option '--nope'"],
    [["--h"], "option '--h' is ambiguous; possibilities: '--human-readable' '--help'"],
    [["--all=1"], "option '--all' doesn't allow an argument"],
    [["-c"], "option requires an argument -- 'c'"],
    [["--format"], "option '--format' requires an argument"],
  ];
  for (const [args, message] of cases) assertThrows(() => parseOptions(args, specs), UsageError, message);
});

Deno.test("help lists every option", () => {
  const text = formatOptions(specs);
  assertStringIncludes(text, "  -l  ");
  assertStringIncludes(text, "  -h, --human-readable");
  assertStringIncludes(text, "  -c, --format=FORMAT");
  assertStringIncludes(text, "      --help");
});
