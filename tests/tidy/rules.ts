/**
 * The rules of ARCHITECTURE.md and CONTRIBUTING.md that a program can hold. Each takes the tree and returns a line for each offence.
 *
 * @module
 */
import { isTest, linesMatching, relativeImports, type SourceFile, withoutComments } from "./source_tree.ts";

/** A rule: what it forbids, found in a tree. */
export type Rule = (tree: readonly SourceFile[]) => string[];

/** The most lines of a source file. */
export const LINES_MAX = 700;

const LAYERS: Readonly<Record<string, number>> = { rdma: 0, rpc: 1, storage: 2, server: 3, client: 3 };

/** Imports point one way: client, server → storage → rpc → rdma. */
export const importDirection: Rule = (tree) => {
  const offences: string[] = [];
  for (const file of tree.filter(isTypeScript)) {
    const [top] = file.path.split("/");
    if (!(top in LAYERS) || isTest(file.path)) continue;
    for (const target of relativeImports(file)) {
      const [targetTop] = target.split("/");
      const isBelow = targetTop in LAYERS && LAYERS[targetTop] < LAYERS[top];
      if (targetTop !== top && !isBelow) offences.push(`${file.path} imports ${target}`);
      if (isTest(target)) offences.push(`${file.path} imports the test file ${target}`);
    }
  }
  return offences;
};

/** Formats and protocol state do no I/O and know no clock; the Rust state machines neither. */
export const pureProtocol: Rule = (tree) => {
  const offences: string[] = [];
  const impureTs =
    /\b(Deno|setTimeout|setInterval|setImmediate|queueMicrotask|performance|fetch|WebSocket)\b|\bDate\.now\b|\bnew Date\b|["']node:/;
  const impureRust = /\bstd::(net|time|fs|thread|io)\b|\bunsafe\b|\blibc::|\brustix::/;
  for (const file of tree) {
    if (isTest(file.path)) continue;
    const isPureTs = isTypeScript(file) && /\/(wire|protocol|xdr)\//.test(file.path);
    const isPureRust = file.path.startsWith("rdma/native/proto/src/");
    if (!isPureTs && !isPureRust) continue;
    const code = withoutComments(file.text).replace(/#!\[forbid\(unsafe_code\)\]/, "");
    linesMatching(code, isPureTs ? impureTs : impureRust, (line, match) => {
      offences.push(`${file.path}:${line} names ${match}`);
    });
  }
  return offences;
};

/** A file has one subject, and a size to match. */
export const fileSize: Rule = (tree) =>
  tree.filter((file) => /\.(ts|rs)$/.test(file.path))
    .map((file) => ({ path: file.path, lines: file.text.split("\n").length - 1 }))
    .filter(({ lines }) => lines > LINES_MAX)
    .map(({ path, lines }) => `${path} has ${lines} lines`);

/** Nothing is left for later, and no test is left out. */
export const nothingUnfinished: Rule = (tree) => {
  // spelled in pieces, so that this file does not offend
  const later = ["TO" + "DO", "FIX" + "ME", "X" + "XX"].map((word) => `\\b${word}\\b`);
  const stubs = ["unimplemented" + "!", "todo" + "!", "not implemented" + " yet", "#\\[ig" + "nore"];
  const leftOut = ["test\\.ig" + "nore", "test\\.on" + "ly", "\\b(ig" + "nore|on" + "ly): true"];
  const pattern = new RegExp([...later, ...stubs, ...leftOut].join("|"));
  const offences: string[] = [];
  for (const { path, text } of tree) {
    linesMatching(text, pattern, (line, match) => offences.push(`${path}:${line} ${match}`));
  }
  return offences;
};

/** Nothing depends on where somebody's tree happens to lie. */
export const noPrivatePaths: Rule = (tree) => {
  const pattern = new RegExp("(?<![\\w.}$])/(wo" + "rk|ro" + "ot|ho" + "me/[a-z]+|Us" + "ers/[a-z]+)/");
  const offences: string[] = [];
  for (const { path, text } of tree) {
    linesMatching(text, pattern, (line, match) => offences.push(`${path}:${line} ${match}`));
  }
  return offences;
};

/** Every module is reached from an export, a task, an example or a program that is run; helpers of tests from a test. */
export const noDeadFiles: Rule = (tree) => {
  const modules = new Map(tree.filter(isTypeScript).map((file) => [file.path, file]));
  const config = tree.find((file) => file.path === "deno.json")?.text ?? "";
  const entries = config.matchAll(/["' ]\.?\/?([\w/]+\.ts)\b/g).map(([, path]) => path).toArray();
  const isEntry = (path: string) => entries.includes(path) || path.includes("/examples/");
  const reached = new Set<string>();
  const visit = (path: string): void => {
    const file = modules.get(path);
    if (file === undefined || reached.has(path)) return;
    reached.add(path);
    for (const target of relativeImports(file)) visit(target);
    // programs that are run as processes of their own are named from the root
    for (const [, target] of file.text.matchAll(/["'`/]((?:[\w.]+\/)*\w+\.ts)["'`]/g)) visit(target);
  };
  for (const path of modules.keys()) if (isEntry(path)) visit(path);
  const offences = [...modules.keys()]
    .filter((path) => !isTest(path) && !path.endsWith(".d.ts") && !reached.has(path));
  for (const path of modules.keys()) if (/_test\.ts$/.test(path)) visit(path);
  const helpers = [...modules.keys()].filter((path) => isTest(path) && !reached.has(path));
  return [...offences, ...helpers].map((path) => `${path} is imported by nothing`);
};

/** Prose cites `RFC 5044 §4.4`, one form everywhere. */
export const oneFormOfCitation: Rule = (tree) => {
  const pattern =
    /\bRFC-?\d{3,}|\b[Rr]fc[- ]?\d{3,}|\bRFC \d+(,? *(\(|of )?([Ss]ection|[Ss]ec\b|[Ss]ect\b)|,? +§ |, §|§)|[Ss]ection \d[\d.]* of RFC/;
  const offences: string[] = [];
  for (const { path, text } of tree) {
    if (!/\.(ts|rs|md)$/.test(path)) continue;
    const prose = text.replace(/https?:\S+/g, "").replace(/\brfc\d+\w*(?=[_(:.\/])|\w+_rfc\d+\w*/g, "");
    linesMatching(prose, pattern, (line, match) => offences.push(`${path}:${line} ${match}`));
  }
  return offences;
};

function isTypeScript(file: SourceFile): boolean {
  return file.path.endsWith(".ts");
}
