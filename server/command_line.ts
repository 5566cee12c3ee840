/**
 * Server: the command line of `weft serve`.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { DEFAULT_PORT } from "./server.ts";

/** The directory that is served when none is named. */
export const DEFAULT_DIRECTORY = "./data";
const DEFAULT_HOSTNAME = "127.0.0.1";

/** What `weft serve` was asked to do. */
export interface ServeCommand {
  directory: string;
  /** Whether the directory was left to us, to be made where it is missing. */
  isDefaultDirectory: boolean;
  hostname: string;
  port: number;
  readOnly: boolean;
  rootSquash: boolean;
  anonymous?: { uid: number; gid: number };
  stateDirectory?: string;
  path?: string;
  connectionsMax?: number;
  crc?: boolean;
  stable: boolean;
  portmapper: boolean;
  quiet: boolean;
}

/** A mistake in how the command was called. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** The help of `weft serve`. */
export const SERVE_HELP = `Usage: weft serve [OPTION]... [DIR]
Serve a directory to NFSv3 clients over RDMA (iWARP) and TCP, on one port.

DIR is ${DEFAULT_DIRECTORY} where none is named, and made if it is missing: by root as a place for everybody, as /tmp is.

  -l, --listen=ADDR:PORT    address and port; ${DEFAULT_HOSTNAME}:${DEFAULT_PORT} by default. Either may be left out;
                            0.0.0.0 is every address of this host, port 0 any free one
  -r, --read-only           refuse every change
      --no-root-squash      as root: let clients' root be root here. Otherwise it is nobody
      --anonymous=UID:GID   who nobody is: 65534:65534 by default
      --state-dir=DIR       where the key for file handles is kept, and the index of an ordinary user's server;
                            \$XDG_STATE_HOME/weft or ~/.local/state/weft by default
      --path=PATH           what clients mount; / by default
      --async               do not wait for the disk when names and attributes change: faster, and a power cut
                            may cost the last changes. Contents of files are not concerned
      --connections=N       connections at once; 256 by default
      --crc=on|off          ask RDMA clients for CRCs or do without; those of other hosts only, by default
      --portmapper          register with the portmapper of this host
  -q, --quiet               print nothing but errors
      --help                display this help and exit

Callers are who they say they are (AUTH_SYS): any host that can reach the port can act as any user.
One interrupt (Ctrl-C) ends the server when what is under way is done, a second one at once.

Examples:
  weft serve
  weft serve --read-only --listen 0.0.0.0:20049 /srv/pictures
`;

/** Reads the arguments; the last of several equal options counts. `undefined`: the help is asked for. @throws {UsageError} */
export function parseServeArguments(args: readonly string[]): ServeCommand | undefined {
  const parsed = parseArgs(args, {
    boolean: ["read-only", "root-squash", "async", "portmapper", "quiet", "help"],
    string: ["_", "listen", "anonymous", "state-dir", "path", "connections", "crc"],
    negatable: ["root-squash"],
    alias: { listen: "l", "read-only": "r", quiet: "q" },
    default: { "root-squash": true },
    unknown: (argument, key) => {
      if (key === undefined) return true;
      throw new UsageError(`unrecognized option '${argument}'`);
    },
  });
  if (parsed.help) return undefined;
  const [directory, ...more] = parsed._.map(String);
  if (more.length > 0) throw new UsageError(`one directory is served, and '${more[0]}' is a second one`);
  if (directory === "") throw new UsageError("the directory's name is empty");
  return {
    directory: directory ?? DEFAULT_DIRECTORY,
    isDefaultDirectory: directory === undefined,
    ...parseListen(parsed.listen),
    readOnly: parsed["read-only"],
    rootSquash: parsed["root-squash"],
    anonymous: parseAnonymous(parsed.anonymous),
    stateDirectory: filled("state-dir", parsed["state-dir"]),
    path: parsePath(parsed.path),
    connectionsMax: parseConnections(parsed.connections),
    crc: parseSwitch(parsed.crc),
    stable: !parsed.async,
    portmapper: parsed.portmapper,
    quiet: parsed.quiet,
  };
}

function filled(name: string, value: string | undefined): string | undefined {
  if (value === "") throw new UsageError(`option '--${name}' needs a value`);
  return value;
}

/** "ADDR:PORT", "ADDR", ":PORT" or "PORT", with an IPv6 address in brackets. */
function parseListen(value: string | undefined): { hostname: string; port: number } {
  if (value === undefined) return { hostname: DEFAULT_HOSTNAME, port: DEFAULT_PORT };
  const match = /^(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:[\]]*))(?::([0-9]+))?$/.exec(value);
  if (match === null || value === "") throw new UsageError(`'${value}' is not ADDR:PORT`);
  const [, bracketed, plain, port] = match;
  if (bracketed === undefined && port === undefined && /^[0-9]+$/.test(plain)) {
    return { hostname: DEFAULT_HOSTNAME, port: parsePort(plain) };
  }
  return {
    hostname: bracketed ?? (plain === "" ? DEFAULT_HOSTNAME : plain),
    port: port === undefined ? DEFAULT_PORT : parsePort(port),
  };
}

function parsePort(text: string): number {
  const port = Number(text);
  if (port > 65535) throw new UsageError(`${text} is not a port`);
  return port;
}

function parseAnonymous(value: string | undefined): { uid: number; gid: number } | undefined {
  if (value === undefined) return undefined;
  const match = /^([0-9]{1,10}):([0-9]{1,10})$/.exec(value);
  const [uid, gid] = match === null ? [NaN, NaN] : [Number(match[1]), Number(match[2])];
  if (!(uid < 0xffffffff && gid < 0xffffffff)) throw new UsageError(`'${value}' is not UID:GID, in numbers`);
  return { uid, gid };
}

function parsePath(value: string | undefined): string | undefined {
  if (value !== undefined && !/^\/$|^(\/[^/\0]+)+$/.test(value)) {
    throw new UsageError(`'${value}' is not a path that begins with "/" and does not end with one`);
  }
  return value;
}

function parseConnections(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (!/^[1-9][0-9]{0,5}$/.test(value)) throw new UsageError(`'${value}' is not a number of connections`);
  return Number(value);
}

function parseSwitch(value: string | undefined): boolean | undefined {
  if (value === undefined) return undefined;
  if (value !== "on" && value !== "off") throw new UsageError("option '--crc' is on or off");
  return value === "on";
}
