/**
 * `nfs://host[:port]/path[?option=value&…]`: where a file is, and how to get there.
 *
 * The shape follows RFC 2224; the default port is the one of NFS over RDMA (RFC 8267), on which this software serves every
 * transport. `%XX` stands for any byte, so that names which are not UTF-8, or hold a "?", can be written.
 *
 * @module
 */
import { decodeName, encodeName } from "./names.ts";

/** The port of NFS over RDMA (RFC 8267 §5.1). */
export const DEFAULT_PORT = 20049;

/** How to reach the server: RDMA, or plain TCP. */
export type Proto = "rdma" | "tcp";

/** What an `nfs://` URL says. Absent options were not given. */
export interface NfsUrl {
  /** Name or address; an IPv6 address without its brackets. */
  hostname: string;
  /** 20049 where the URL names none. */
  port: number;
  /** Decoded path, beginning with "/". */
  path: string;
  /** `proto=`: use only this transport. */
  proto?: Proto;
  /** `uid=`: whom AUTH_SYS says we are. */
  uid?: number;
  /** `gid=`: our group. */
  gid?: number;
  /** `mountport=`: TCP port of a MOUNT service that is not on the NFS port. */
  mountPort?: number;
  /** `crc=on|off`: ask for CRC32C on the iWARP connection. */
  crc?: boolean;
}

const shape = /^nfs:\/\/(\[[0-9A-Fa-f:.]+(?:%[0-9A-Za-z._~-]+)?\]|[^/?:@[\]]+)(?::([0-9]*))?(\/[^?]*)?(?:\?(.*))?$/s;

/** Whether text means an NFS URL rather than a local path. */
export function isNfsUrl(text: string): boolean {
  return /^nfs:\/\//i.test(text);
}

/** Undoes `%XX`, in bytes. Throws `TypeError` where a "%" has no two hexadecimal digits behind it. */
function decodePercent(text: string): string {
  if (!text.includes("%")) return text;
  const bytes = encodeName(text);
  const out: number[] = [];
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] !== 0x25) {
      out.push(bytes[at]);
      continue;
    }
    const digits = String.fromCharCode(bytes[at + 1] ?? 0, bytes[at + 2] ?? 0);
    if (!/^[0-9A-Fa-f]{2}$/.test(digits)) throw new TypeError(`malformed %-escape in '${text}' (write %25 for a "%")`);
    out.push(parseInt(digits, 16));
    at += 2;
  }
  return decodeName(Uint8Array.from(out));
}

function number(key: string, text: string, max: number): number {
  const value = /^[0-9]{1,10}$/.test(text) ? Number(text) : NaN;
  if (!(value <= max)) throw new TypeError(`'${text}' is no valid ${key} (0 to ${max})`);
  return value;
}

function choice<T>(key: string, text: string, choices: Record<string, T>): T {
  if (!Object.hasOwn(choices, text)) {
    throw new TypeError(`'${text}' is no valid ${key} (${Object.keys(choices).join(" or ")})`);
  }
  return choices[text];
}

/** Sets what one `key=value` of the query says. */
function setOption(url: NfsUrl, key: string, value: string): void {
  switch (key) {
    case "proto":
      url.proto = choice<Proto>(key, value, { rdma: "rdma", tcp: "tcp" });
      break;
    case "version":
    case "vers":
      choice(key, value, { "3": 3 });
      break;
    case "uid":
      url.uid = number(key, value, 0xffffffff);
      break;
    case "gid":
      url.gid = number(key, value, 0xffffffff);
      break;
    case "mountport":
      url.mountPort = number(key, value, 65535);
      break;
    case "crc":
      url.crc = choice(key, value, { on: true, off: false });
      break;
    default:
      throw new TypeError(`unknown option '${key}' (known: proto, version, uid, gid, mountport, crc)`);
  }
}

/** Takes a URL apart. Throws `TypeError` that says what is wrong with it. */
export function parseNfsUrl(text: string | URL): NfsUrl {
  const source = String(text);
  const fail = (why: string): never => {
    throw new TypeError(`invalid NFS URL '${source}': ${why}`);
  };
  if (!isNfsUrl(source)) fail("it does not begin with nfs://");
  const match = shape.exec("nfs" + source.slice(3));
  if (match === null) return fail("expected nfs://host[:port]/path[?option=value]");
  const [, host, port, path, query] = match;
  try {
    const url: NfsUrl = {
      hostname: host.startsWith("[") ? host.slice(1, -1) : host,
      port: port ? number("port", port, 65535) : DEFAULT_PORT,
      path: decodePercent(path ?? "/"),
    };
    if (url.path.includes("\0")) fail("the path holds a NUL");
    if (url.port === 0) fail("port 0");
    for (const pair of (query ?? "").split("&")) {
      if (pair === "") continue;
      const [key, ...rest] = pair.split("=");
      setOption(url, key, decodePercent(rest.join("=")));
    }
    return url;
  } catch (error) {
    if (error instanceof TypeError && !error.message.startsWith("invalid NFS URL")) return fail(error.message);
    throw error;
  }
}

/** Writes a path so that it can stand in a URL: bytes outside UTF-8, control characters, "%" and "?" become `%XX`. */
export function encodeUrlPath(path: string): string {
  let text = "";
  for (const character of path) {
    const plain = !/[\p{Cc}%?\udc80-\udcff]/u.test(character);
    if (plain) text += character;
    else for (const byte of encodeName(character)) text += "%" + byte.toString(16).toUpperCase().padStart(2, "0");
  }
  return text;
}

/** `nfs://host[:port]`, what names the server of a URL. */
export function formatAuthority(url: { hostname: string; port: number }): string {
  const host = url.hostname.includes(":") ? `[${url.hostname}]` : url.hostname;
  return `nfs://${host}${url.port === DEFAULT_PORT ? "" : `:${url.port}`}`;
}

/** The URL of a path on the same server, for messages; options are left out. */
export function formatNfsUrl(url: { hostname: string; port: number; path: string }): string {
  return formatAuthority(url) + encodeUrlPath(url.path.startsWith("/") ? url.path : `/${url.path}`);
}
