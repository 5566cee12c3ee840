/**
 * Compares the layout that ARCHITECTURE.md draws with the tree.
 *
 * @module
 */
import type { SourceFile } from "./source_tree.ts";

/** A line of the layout: the paths that it is about, and what it says of them. */
interface LayoutLine {
  paths: string[];
  description: string;
}

/** Every path that the layout names exists, and every directory of the first two levels is named. */
export function layoutMatches(tree: readonly SourceFile[]): string[] {
  const architecture = tree.find((file) => file.path === "ARCHITECTURE.md")?.text ?? "";
  const drawn = architecture.match(/## Layout\n+```\n([\s\S]*?)```/)?.[1];
  if (drawn === undefined) return ["ARCHITECTURE.md has no layout"];
  const lines = parseLayout(drawn);
  const paths = tree.map((file) => file.path);
  const offences: string[] = [];

  for (const line of lines) {
    for (const path of line.paths) {
      const isThere = path.endsWith("/") ? paths.some((other) => other.startsWith(path)) : paths.includes(path);
      if (!isThere) offences.push(`ARCHITECTURE.md draws ${path}, which is not there`);
    }
    const [home] = line.paths;
    for (const [name] of line.description.matchAll(/[\w*{},/]*[\w*}]\.(ts|rs)\b|\b[\w]+\/(?=[ ,({]|$)/g)) {
      for (const alternative of expandBraces(name)) {
        if (!paths.some((path) => isNamed(path, home, alternative))) {
          offences.push(`ARCHITECTURE.md names ${alternative} under ${home}, which is not there`);
        }
      }
    }
  }

  const directories = new Set(paths.flatMap((path) => {
    const [first, second, ...rest] = path.split("/");
    if (second === undefined || first.startsWith(".")) return [];
    return rest.length > 0 && !second.startsWith(".") ? [`${first}/`, `${first}/${second}/`] : [`${first}/`];
  }));
  for (const directory of directories) {
    const [first, second] = directory.split("/");
    const isDrawn = second === ""
      ? lines.some((line) => line.paths.includes(directory))
      : lines.some((line) => line.paths.some((path) => path.startsWith(directory))) ||
        lines.some((line) => line.paths[0] === `${first}/` && line.description.includes(`${second}/`));
    if (!isDrawn) offences.push(`${directory} is not in ARCHITECTURE.md's layout`);
  }
  return offences;
}

/** A name of the description stands for a path: below the line's own directory, or from the root. */
function isNamed(path: string, home: string, name: string): boolean {
  const pattern = name.replaceAll(".", "\\.").replaceAll("*", "[^/]*");
  const end = name.endsWith("/") ? "" : "$";
  const below = home.endsWith("/") ? home : "";
  return new RegExp(`^${below}(.*/)?${pattern}${end}`).test(path) || new RegExp(`^${pattern}${end}`).test(path);
}

function expandBraces(name: string): string[] {
  const match = name.match(/^(.*)\{([^}]*)\}(.*)$/);
  return match === null ? [name] : match[2].split(",").map((part) => match[1] + part + match[3]);
}

/** Lines begin with one or more paths, indented below their directory; deeper ones continue the line above. */
function parseLayout(drawn: string): LayoutLine[] {
  const lines: LayoutLine[] = [];
  let directory = "";
  for (const text of drawn.split("\n").filter((line) => line.trim() !== "")) {
    const indent = text.match(/^ */)![0].length;
    if (indent > 2) {
      lines.at(-1)!.description += ` ${text.trim()}`;
      continue;
    }
    const [, names, description] = text.trim().match(/^((?:[\w./]+ {1,2})*?[\w./]+)(?: {2,}(.*)|$)/) ??
      [undefined, text.trim(), ""];
    const parent = indent === 0 ? "" : directory;
    const paths = names.split(/ +/).map((name) => parent + name);
    if (indent === 0) directory = paths[0].endsWith("/") ? paths[0] : "";
    lines.push({ paths, description: description ?? "" });
  }
  return lines;
}
