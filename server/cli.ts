/**
 * The server's half of the `weft` command.
 *
 * @module
 */
import type { LocalDirectory } from "../storage/backend/local_directory.ts";
import { FsError } from "../storage/backend/file_system.ts";
import { announce, isUnspecified } from "./announcement.ts";
import { parseServeArguments, SERVE_HELP, type ServeCommand, UsageError } from "./command_line.ts";
import { ANONYMOUS_GID, ANONYMOUS_UID } from "./exports.ts";
import { FaultLog } from "./fault_log.ts";
import { type NfsServer, serve } from "./server.ts";

/** Exit statuses. */
const FAILURE = 1;
const USAGE = 2;
const SIGNALS = { SIGINT: 130, SIGTERM: 143 } as const;

/** Runs `weft serve` in this process, until a signal; returns its exit status. */
export async function runServe(args: readonly string[]): Promise<number> {
  try {
    const command = parseServeArguments(args);
    if (command !== undefined) return await run(command);
    print(Deno.stdout, SERVE_HELP);
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      complain(`${error.message}\nTry 'weft serve --help' for more information.`);
      return USAGE;
    }
    throw error;
  }
}

async function run(command: ServeCommand): Promise<number> {
  const faults = new FaultLog({ write: complain });
  let server: NfsServer;
  try {
    prepareDirectory(command);
    server = await serve({ ...command, onError: (error, about) => faults.report(error, about) });
  } catch (error) {
    const reason = explain(error, command);
    if (reason === undefined) throw error;
    complain(reason);
    return FAILURE;
  }
  if (!command.quiet) print(Deno.stdout, announcementOf(server, command));
  const stopListening = endOnSignals(server, command);
  await server.finished;
  stopListening();
  return 0;
}

/** Makes the directory that is ours to make: as root one for everybody's files, as /tmp is, since clients are not root here. */
function prepareDirectory({ directory, isDefaultDirectory }: ServeCommand): void {
  if (!isDefaultDirectory) return;
  try {
    Deno.mkdirSync(directory);
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return;
    throw error;
  }
  if (Deno.uid() === 0) Deno.chmodSync(directory, 0o1777);
}

function announcementOf(server: NfsServer, command: ServeCommand): string {
  const { hostname, port } = server;
  const { fileSystem, path } = server.export;
  return announce({
    ...command,
    directory: Deno.realPathSync(command.directory),
    hostname,
    port,
    path,
    anonymous: command.anonymous ?? { uid: ANONYMOUS_UID, gid: ANONYMOUS_GID },
    uid: Deno.uid() ?? 0,
    traits: (fileSystem as LocalDirectory).traits,
    reachableAs: isUnspecified(hostname) ? firstAddress(hostname) : hostname,
    clientModule: `${new URL("..", import.meta.url).href}client/mod.ts`,
  });
}

/** An address of this host's that others know it by; the loopback one where it has no other. */
function firstAddress(unspecified: string): string {
  const family = unspecified === "::" ? "IPv6" : "IPv4";
  const loopback = family === "IPv6" ? "::1" : "127.0.0.1";
  const known = Deno.networkInterfaces().filter((each) => each.family === family && each.name !== "lo");
  return known.find(({ address }) => !address.startsWith("fe80:"))?.address ?? loopback;
}

/** The first signal drains the server, the second one ends the process. */
function endOnSignals(server: NfsServer, { quiet }: ServeCommand): () => void {
  let isEnding = false;
  const handlers = Object.entries(SIGNALS).map(([signal, status]) => {
    const handler = (): void => {
      if (isEnding) Deno.exit(status);
      isEnding = true;
      if (!quiet) {
        const { connections } = server;
        print(
          Deno.stdout,
          `Ending${connections > 0 ? `, with ${connections} connected` : ""}; again to end at once.\n`,
        );
      }
      server.close().catch((error) => complain(error instanceof Error ? error.message : String(error)));
    };
    Deno.addSignalListener(signal as keyof typeof SIGNALS, handler);
    return () => Deno.removeSignalListener(signal as keyof typeof SIGNALS, handler);
  });
  return () => {
    for (const remove of handlers) remove();
  };
}

/** Why the server cannot start, in words for who called it; `undefined` where the fault is ours. */
function explain(error: unknown, command: ServeCommand): string | undefined {
  const { directory, hostname, port } = command;
  if (error instanceof Deno.errors.AddrInUse) {
    return `port ${port} of ${hostname} is in use, maybe by another server of this kind; --listen chooses another one`;
  }
  if (error instanceof FsError) {
    switch (error.code) {
      case "ENOENT":
        return `${directory}: no such directory`;
      case "ENOTDIR":
        return `${directory}: not a directory`;
      case "EBUSY":
        return `${directory}: another process serves it with the same state; --state-dir chooses another place for it`;
      case "EINVAL":
        return `${directory}: the state would lie within what is served; --state-dir chooses another place for it`;
      case "EACCES":
      case "EPERM":
        return `${directory}: permission denied, or others may read the key in the state directory`;
      default:
        return error.message;
    }
  }
  const isKnown = error instanceof Error &&
    (error.name in Deno.errors || ["RdmaError", "PortmapperError"].includes(error.name));
  return isKnown ? error.message : undefined;
}

function complain(message: string): void {
  print(Deno.stderr, `weft serve: ${message}\n`);
}

function print(to: { writeSync(bytes: Uint8Array): number }, text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let at = 0; at < bytes.byteLength;) at += to.writeSync(bytes.subarray(at));
  } catch {
    // Nobody listens: there is nobody to tell, and the server goes on.
  }
}
