/**
 * Command line options as coreutils reads them: `-lah`, `--long`, `--long=value`, `-c value`, `-cvalue`, `--`, unambiguous
 * beginnings of long names, and operands anywhere between.
 *
 * @module
 */

/** One option of a command. */
export interface OptionSpec {
  /** One letter, without its dash. */
  short?: string;
  /** Long name, without its dashes. */
  long?: string;
  /** What the value is called in the help; an option with one takes a value. */
  value?: string;
  /** Shown in the help. */
  help: string;
}

/** The options of a command by the name that its code uses. */
export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

/** What was given: `true` for a flag, the text for an option with a value. */
export type ParsedOptions<Specs extends OptionSpecs> = {
  [Name in keyof Specs]?: Specs[Name] extends { value: string } ? string : true;
};

/** A mistake in how a command was called; the command says so, points to `--help`, and exits. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

function findLong(specs: OptionSpecs, name: string): string {
  const exact = Object.keys(specs).find((key) => specs[key].long === name);
  if (exact !== undefined) return exact;
  const candidates = Object.keys(specs).filter((key) => specs[key].long?.startsWith(name) ?? false);
  if (candidates.length === 1) return candidates[0];
  if (candidates.length === 0) throw new UsageError(`unrecognized option '--${name}'`);
  const names = candidates.map((key) => `'--${specs[key].long}'`).join(" ");
  throw new UsageError(`option '--${name}' is ambiguous; possibilities: ${names}`);
}

/** Parses arguments. The last of several equal options counts. Throws `UsageError`. */
export function parseOptions<const Specs extends OptionSpecs>(
  args: readonly string[],
  specs: Specs,
): { options: ParsedOptions<Specs>; operands: string[] } {
  const options: Record<string, string | true> = {};
  const operands: string[] = [];
  const rest = [...args];
  const long = (argument: string) => {
    const [name, ...parts] = argument.slice(2).split("=");
    const key = findLong(specs, name);
    const given = parts.length > 0 ? parts.join("=") : undefined;
    if (specs[key].value === undefined) {
      if (given !== undefined) throw new UsageError(`option '--${specs[key].long}' doesn't allow an argument`);
      options[key] = true;
      return;
    }
    const value = given ?? rest.shift();
    if (value === undefined) throw new UsageError(`option '--${specs[key].long}' requires an argument`);
    options[key] = value;
  };
  const shorts = (argument: string) => {
    const letters = [...argument.slice(1)];
    while (letters.length > 0) {
      const letter = letters.shift();
      const key = Object.keys(specs).find((name) => specs[name].short === letter);
      if (key === undefined) throw new UsageError(`invalid option -- '${letter}'`);
      if (specs[key].value === undefined) {
        options[key] = true;
        continue;
      }
      const value = letters.length > 0 ? letters.splice(0).join("") : rest.shift();
      if (value === undefined) throw new UsageError(`option requires an argument -- '${letter}'`);
      options[key] = value;
    }
  };
  for (let argument = rest.shift(); argument !== undefined; argument = rest.shift()) {
    if (argument === "--") operands.push(...rest.splice(0));
    else if (argument.startsWith("--")) long(argument);
    else if (argument.startsWith("-") && argument.length > 1) shorts(argument);
    else operands.push(argument);
  }
  return { options: options as ParsedOptions<Specs>, operands };
}

/** The lines about options in a command's help. */
export function formatOptions(specs: OptionSpecs): string {
  const lines = Object.values(specs).map((spec) => {
    const short = spec.short === undefined ? "    " : `-${spec.short}${spec.long === undefined ? "" : ", "}`;
    const long = spec.long === undefined ? "" : `--${spec.long}`;
    const value = spec.value === undefined ? "" : spec.long === undefined ? ` ${spec.value}` : `=${spec.value}`;
    return { left: `  ${short}${long}${value}`, help: spec.help };
  });
  const width = Math.min(28, Math.max(...lines.map((line) => line.left.length)) + 2);
  return lines.map(({ left, help }) =>
    left.length + 2 > width ? `${left}\n${" ".repeat(width)}${help}` : left.padEnd(width) + help
  ).join("\n");
}
