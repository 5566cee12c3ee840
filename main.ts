/**
 * The `weft` command. Nothing native is loaded before a command needs it.
 *
 * @module
 */
import { CLIENT_COMMANDS, runClientCommand } from "./client/cli.ts";
import { RDMA_COMMANDS, runRdmaCommand } from "./rdma/cli.ts";
import config from "./deno.json" with { type: "json" };

const SERVER_COMMANDS: Readonly<Record<string, string>> = {
  serve: "serve a directory over RDMA and TCP",
};

function help(): string {
  const lines = Object.entries({ ...SERVER_COMMANDS, ...CLIENT_COMMANDS, ...RDMA_COMMANDS })
    .map(([name, what]) => `  ${name.padEnd(7)}${what}`);
  return [
    "Usage: weft COMMAND [OPTION]... [OPERAND]...",
    "   or: weft --help | --version",
    "Files over RDMA without an adapter: serve a directory, and use it.",
    "",
    ...lines,
    "",
    "Files on servers are named by URLs: nfs://HOST[:PORT]/PATH[?proto=rdma|tcp]",
    "'weft COMMAND --help' tells more.",
    "",
  ].join("\n");
}

/** Runs a command; returns its exit status. */
async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === "--help" || name === "help") {
    console.log(help().trimEnd());
    return 0;
  }
  if (name === "--version") {
    console.log(`weft ${config.version}`);
    return 0;
  }
  if (name !== undefined && Object.hasOwn(CLIENT_COMMANDS, name)) return await runClientCommand(name, rest);
  if (name !== undefined && Object.hasOwn(RDMA_COMMANDS, name)) return await runRdmaCommand(name, rest);
  if (name === "serve") return await (await import("./server/cli.ts")).runServe(rest);
  console.error(
    name === undefined
      ? help().trimEnd()
      : `weft: '${name}' is not a weft command\nTry 'weft --help' for more information.`,
  );
  return 2;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
