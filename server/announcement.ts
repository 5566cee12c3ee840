/**
 * Server: what `weft serve` says when it is ready: what is served, with whose rights, and a line to paste for each way in.
 *
 * @module
 */
import type { LocalDirectoryTraits } from "../storage/backend/local_directory.ts";

/** What there is to tell. */
export interface Announcement {
  /** As an absolute path. */
  directory: string;
  hostname: string;
  port: number;
  /** What clients mount. */
  path: string;
  readOnly: boolean;
  rootSquash: boolean;
  anonymous: { uid: number; gid: number };
  /** Who runs the server. */
  uid: number;
  traits: LocalDirectoryTraits;
  stable: boolean;
  portmapper: boolean;
  /** By which another host, or this one, reaches the server. */
  reachableAs: string;
  /** Where an application finds the client library. */
  clientModule: string;
}

/** The lines, the last one ended. */
export function announce(about: Announcement): string {
  const { directory, port, reachableAs, clientModule } = about;
  const bracketed = inUrl(reachableAs);
  const url = `nfs://${bracketed}:${port}${about.path}`;
  const mountOptions = (proto: string): string =>
    `vers=3,proto=${proto},port=${port},mountport=${port},mountproto=${isIpv6(reachableAs) ? "tcp6" : "tcp"},nolock`;
  const mount = (proto: string): string => `mount -t nfs -o ${mountOptions(proto)} ${bracketed}:${about.path} /mnt`;
  return `${
    [
      `Serving ${directory} at ${inUrl(about.hostname)}:${port}: NFSv3 over RDMA (iWARP) and TCP, ${
        about.readOnly ? "read only" : "reading and writing"
      }.`,
      ...rights(about),
      ...cautions(about),
      "",
      "The command:",
      `  deno task weft ls ${url}`,
      "An application:",
      `  import { mount } from "${clientModule}";`,
      `  await using fs = await mount("${url}");`,
      `  for await (const { name } of fs.readDir("/")) console.log(name);`,
      "Linux, over RDMA (modprobe siw; rdma link add siw0 type siw netdev INTERFACE):",
      `  ${mount(isIpv6(reachableAs) ? "rdma6" : "rdma")}`,
      "Linux, over TCP:",
      `  ${mount(isIpv6(reachableAs) ? "tcp6" : "tcp")}`,
      "",
      "Ctrl-C ends it.",
    ].join("\n")
  }\n`;
}

function rights({ uid, traits, rootSquash, anonymous, stable, portmapper }: Announcement): string[] {
  const lines: string[] = [];
  if (traits.takesIdentities) {
    const root = rootSquash ? `root as ${anonymous.uid}:${anonymous.gid}` : "root as root";
    lines.push(`Run as root: callers act with their own uid and groups, ${root}.`);
  } else {
    lines.push(`Run as an ordinary user: whoever calls acts as uid ${uid}.`);
  }
  if (!stable) lines.push("Changes of names and attributes do not wait for the disk.");
  if (portmapper) lines.push("Registered with the portmapper.");
  return lines;
}

function cautions({ hostname, rootSquash, traits }: Announcement): string[] {
  if (isLoopback(hostname)) return [];
  const asRoot = traits.takesIdentities && !rootSquash ? ", root included" : "";
  return [
    `Caution: any host that can reach ${
      inUrl(hostname)
    } can act as any user${asRoot} (AUTH_SYS). Serve to networks that you trust.`,
  ];
}

/** Whether only this host can reach an address. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" || /^127(\.[0-9]+){3}$/.test(hostname);
}

/** Whether an address means every one that the host has. */
export function isUnspecified(hostname: string): boolean {
  return hostname === "0.0.0.0" || hostname === "::";
}

function isIpv6(hostname: string): boolean {
  return hostname.includes(":");
}

function inUrl(hostname: string): string {
  return isIpv6(hostname) ? `[${hostname}]` : hostname;
}
