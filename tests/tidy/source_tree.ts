/**
 * The files of the project as the tidy rules see them.
 *
 * @module
 */
import { ROOT } from "../../rdma/_ffi/build.ts";

/** One text file: its path from the root, and its text. */
export interface SourceFile {
  path: string;
  text: string;
}

/** Every file that git keeps or would keep, with the text of those that rules read. */
export async function readTree(root: string = ROOT): Promise<SourceFile[]> {
  const { success, stdout } = await new Deno.Command("git", {
    args: ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    cwd: root,
  }).output();
  if (!success) throw new Error("git ls-files failed: the tidy rules read the files that git knows");
  const files: SourceFile[] = [];
  for (const path of new Set(new TextDecoder().decode(stdout).split("\0"))) {
    if (path === "" || !await Deno.lstat(`${root}/${path}`).then((info) => info.isFile, () => false)) continue;
    files.push({ path, text: isText(path) ? await Deno.readTextFile(`${root}/${path}`) : "" });
  }
  return files.sort((a, b) => a.path < b.path ? -1 : 1);
}

function isText(path: string): boolean {
  return /\.(ts|rs|md|toml|json|c|h|sh)$/.test(path) || !/\.[^/]*$/.test(path);
}

/** Whether a file holds tests. */
export function isTest(path: string): boolean {
  return /(_test\.ts|_tests?\.rs|\/tests\.rs)$/.test(path) || path.startsWith("tests/") ||
    /\/(tests|_testing|examples|benches)\//.test(path);
}

/** TypeScript or Rust with comments blanked out; line numbers stay. Strings are kept. */
export function withoutComments(text: string): string {
  return text.replace(
    /("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|\/\/[^\n]*|\/\*[\s\S]*?\*\//g,
    (all, string: string | undefined) => string ?? all.replace(/[^\n]/g, " "),
  );
}

/** The relative specifiers that a TypeScript file imports, re-exports or names as a worker. */
export function relativeImports(file: SourceFile): string[] {
  const pattern =
    /\bfrom\s*["'](\.[^"']+)["']|\bimport\s*["'](\.[^"']+)["']|\bimport\(\s*["'](\.[^"']+)["']|\bnew URL\(\s*["'](\.[^"']+\.ts)["']/g;
  return withoutComments(file.text).matchAll(pattern)
    .map(([, a, b, c, d]) => resolve(file.path, a ?? b ?? c ?? d)).toArray();
}

function resolve(from: string, specifier: string): string {
  return new URL(specifier, `file:///${from}`).pathname.slice(1);
}

/** Calls `found` for each line of a text that matches. */
export function linesMatching(text: string, pattern: RegExp, found: (line: number, match: string) => void): void {
  for (const [index, line] of text.split("\n").entries()) {
    const match = line.match(pattern);
    if (match !== null) found(index + 1, match[0]);
  }
}
