/** How {@linkcode parseArgs} reads the flags. */
export interface ParseOptions<Boolean extends string, String extends string, Collect extends string> {
  /** Flags without a value; `false` when absent. */
  boolean?: readonly Boolean[];
  /** Flags with a value, kept as a string. */
  string?: readonly String[];
  /** Flags that may be given several times: an array, empty when absent. */
  collect?: readonly Collect[];
  /** Boolean flags that understand `--no-NAME`. */
  negatable?: readonly string[];
  /** Other names of a flag, by its main name. */
  alias?: Readonly<Record<string, string | readonly string[]>>;
  /** Values of flags that are absent. */
  default?: Readonly<Record<string, unknown>>;
  /** Leaves everything from the first positional argument on in `_`. */
  stopEarly?: boolean;
  /** Puts what follows `--` into the `--` property instead of `_`. */
  "--"?: boolean;
  /** Called with each argument that is no known flag; `false` leaves it out of the result. */
  unknown?: (argument: string, key?: string, value?: unknown) => unknown;
}

/** What {@linkcode parseArgs} returns: every declared flag by its name, and the rest in `_`. */
export type ParsedArgs<Boolean extends string, String extends string, Collect extends string> =
  & { [K in Boolean]: boolean }
  & { [K in Exclude<String, Collect>]: string | undefined }
  & { [K in Extract<String, Collect>]: string[] }
  & {
    /** Positional arguments; those that look like numbers are numbers unless `string` contains `_`. */
    _: (string | number)[];
    /** What followed `--`, where the option asked for it. */
    "--"?: string[];
  };

/** Parses command line arguments. */
export declare function parseArgs<
  const Boolean extends string = never,
  const String extends string = never,
  const Collect extends string = never,
>(
  args: readonly string[],
  options?: ParseOptions<Boolean, String, Collect>,
): ParsedArgs<Boolean, Exclude<String, "_">, Collect>;
