import { assertEquals, assertThrows } from "@std/assert";
import { parseServeArguments, UsageError } from "./command_line.ts";

function parsed(...args: string[]): Record<string, unknown> {
  return { ...parseServeArguments(args) };
}

Deno.test("parseServeArguments: defaults", () => {
  assertEquals(parsed(), {
    directory: "./data",
    isDefaultDirectory: true,
    hostname: "127.0.0.1",
    port: 20049,
    readOnly: false,
    rootSquash: true,
    anonymous: undefined,
    stateDirectory: undefined,
    path: undefined,
    connectionsMax: undefined,
    crc: undefined,
    stable: true,
    portmapper: false,
    quiet: false,
  });
});

Deno.test("parseServeArguments: everything said", () => {
  const args = "-r --no-root-squash --listen=0.0.0.0:2049 --anonymous 99:98 --state-dir s --path /srv --connections 9";
  const { directory, isDefaultDirectory, ...rest } = parsed(
    ...args.split(" "),
    "--crc=off",
    "--async",
    "-q",
    "--portmapper",
    "1",
  );
  assertEquals([directory, isDefaultDirectory], ["1", false]);
  assertEquals(rest, {
    hostname: "0.0.0.0",
    port: 2049,
    readOnly: true,
    rootSquash: false,
    anonymous: { uid: 99, gid: 98 },
    stateDirectory: "s",
    path: "/srv",
    connectionsMax: 9,
    crc: false,
    stable: false,
    portmapper: true,
    quiet: true,
  });
});

Deno.test("parseServeArguments: addresses", () => {
  const cases: [string, string, number][] = [
    ["192.0.2.1:111", "192.0.2.1", 111],
    ["192.0.2.1", "192.0.2.1", 20049],
    [":0", "127.0.0.1", 0],
    ["2049", "127.0.0.1", 2049],
    ["[::1]:2049", "::1", 2049],
    ["[::]", "::", 20049],
    ["localhost:1", "localhost", 1],
  ];
  assertEquals(parsed("--listen", ":1", "--listen", ":2").port, 2, "the last one counts");
  for (const [listen, hostname, port] of cases) {
    const command = parsed("-l", listen);
    assertEquals([command.hostname, command.port], [hostname, port], listen);
  }
});

Deno.test("parseServeArguments: mistakes", () => {
  const mistakes: [string[], string][] = [
    [["a", "b"], "second one"],
    [[""], "empty"],
    [["--frobnicate"], "unrecognized option '--frobnicate'"],
    [["-x"], "unrecognized option '-x'"],
    [["--listen", "a:b"], "not ADDR:PORT"],
    [["--listen", "::1"], "not ADDR:PORT"],
    [["--listen="], "not ADDR:PORT"],
    [["dir", "--listen"], "not ADDR:PORT"],
    [["--listen", "1.2.3.4:65536"], "not a port"],
    [["--anonymous", "nobody"], "not UID:GID"],
    [["--anonymous", "1:4294967295"], "not UID:GID"],
    [["--path", "srv"], "not a path"],
    [["--path", "/srv/"], "not a path"],
    [["--connections", "0"], "not a number"],
    [["--crc", "maybe"], "on or off"],
    [["--state-dir="], "needs a value"],
  ];
  for (const [args, message] of mistakes) {
    assertThrows(() => parseServeArguments(args), UsageError, message, args.join(" "));
  }
});

Deno.test("parseServeArguments: help", () => {
  assertEquals(parseServeArguments(["--help", "whatever"]), undefined);
});
