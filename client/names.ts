/**
 * File names and paths: bytes on the wire, strings in the API.
 *
 * A name on the server is bytes, mostly but not always UTF-8. Each byte that is not part of valid UTF-8 becomes one lone
 * low surrogate, U+DC80 to U+DCFF, and goes back to that byte when the name is sent: every name survives the way
 * through a string and can be opened, renamed or removed by what a listing returned.
 *
 * @module
 */

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** First of the 128 code units that stand for a byte outside UTF-8; the byte is added to it. */
const ESCAPE_BASE = 0xdc00;

/** Longest path that is accepted, bytes (PATH_MAX). */
export const PATH_BYTES_MAX = 4096;

/** Length of the valid UTF-8 sequence at `at`, or 0 where there is none. */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const lead = bytes[at];
  const length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (length < 2) return length;
  if (at + length > bytes.length) return 0;
  try {
    strict.decode(bytes.subarray(at, at + length));
    return length;
  } catch {
    return 0;
  }
}

/** Turns the bytes of a name or of a symlink's target into a string; never fails, never loses a byte. */
export function decodeName(bytes: Uint8Array): string {
  try {
    return strict.decode(bytes);
  } catch {
    // Not UTF-8 throughout: piece by piece.
  }
  let text = "";
  let from = 0;
  for (let at = 0; at < bytes.length;) {
    const length = sequenceLength(bytes, at);
    if (length > 0) {
      at += length;
      continue;
    }
    text += strict.decode(bytes.subarray(from, at)) + String.fromCharCode(ESCAPE_BASE + bytes[at]);
    from = ++at;
  }
  return text + strict.decode(bytes.subarray(from));
}

const escaped = /[\udc80-\udcff]/u;

/** Turns a string into the bytes that `decodeName` made it from. Other lone surrogates become U+FFFD, as everywhere in Deno. */
export function encodeName(name: string): Uint8Array {
  if (!escaped.test(name)) return encoder.encode(name);
  const bytes: number[] = [];
  for (const character of name) {
    const code = character.charCodeAt(0);
    if (character.length === 1 && code >= ESCAPE_BASE + 0x80 && code <= ESCAPE_BASE + 0xff) {
      bytes.push(code - ESCAPE_BASE);
    } else bytes.push(...encoder.encode(character));
  }
  return Uint8Array.from(bytes);
}

/** Whether a name holds bytes that are not UTF-8. */
export function isEscaped(name: string): boolean {
  return escaped.test(name);
}

/** The components of a path; empty ones and "." are left out. */
export function splitPath(path: string): string[] {
  return path.split("/").filter((part) => part !== "" && part !== ".");
}

/** Joins a directory's path and a name with exactly one slash. */
export function joinPath(directory: string, name: string): string {
  return directory.endsWith("/") ? directory + name : `${directory}/${name}`;
}

/** Last component of a path, "" where it has none. */
export function baseName(path: string): string {
  return path.replace(/\/+$/, "").split("/").at(-1) ?? "";
}

/** Whether a name that a server sent may stand for a single directory entry: not empty, without "/" and NUL. */
export function isPlainName(name: Uint8Array): boolean {
  return name.length > 0 && !name.includes(0x2f) && !name.includes(0);
}
