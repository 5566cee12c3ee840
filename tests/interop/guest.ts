/**
 * Boots the Linux guest, gives it a script, and reads its results as they come.
 *
 * The guest shares a directory with us (`/ctl` there). Scripts append `ok NAME` and `not ok NAME` lines to `results` and end with `done`.
 *
 * @module
 */
import { ROOT } from "../../rdma/_ffi/build.ts";

/** How one test ended. */
export interface TestResult {
  name: string;
  outcome: "ok" | "failed" | "skipped";
  /** What to show of a failure, or why it was skipped. */
  detail: string;
}

/** A guest that runs a script, as the host's side of a scenario sees it. */
export interface RunningGuest {
  /** The directory that is `/ctl` in the guest. */
  readonly control: string;
  /** Resolves when the script has made `/ctl/NAME`. Rejects when the guest ends first. */
  waitFor(name: string): Promise<void>;
  /** Resolves when the guest has powered off. */
  readonly ended: Promise<void>;
  /** Makes `/ctl/NAME`, for which the script may wait. */
  signal(name: string): Promise<void>;
}

/** What to boot and how. */
export interface GuestOptions {
  /** Script beside the scenarios, e.g. `mount.sh`. */
  script: string;
  /** Variables for the script. */
  env: Record<string, string | number>;
  /** Host ports of 127.0.0.1 that lead to ports of the guest. */
  forwards?: { host: number; guest: number }[];
  /** Files to put into `/ctl`. */
  files?: Record<string, string>;
  timeoutSeconds: number;
  /** What the host does while the script runs. */
  during?: (guest: RunningGuest) => Promise<void>;
  /** What the host looks at when the guest has ended and `/ctl` is still there. */
  after?: (guest: RunningGuest) => Promise<void>;
  /** Called with each result as it comes. */
  onResult: (result: TestResult) => void;
}

/** The address at which the guest finds this machine's loopback. */
export const HOST_ADDRESS = "10.0.2.2";

const GUEST = `${ROOT}/tests/interop/guest`;

/** Builds the guest's image when it is not there yet. Throws when that fails. */
export async function buildGuest(): Promise<void> {
  const { success, code } = await new Deno.Command(`${GUEST}/build`, { stdin: "null" }).spawn().status;
  if (!success) throw new Error(`the guest image could not be built (exit code ${code})`);
}

/** Boots the guest and runs a script in it. A script that does not come to its end is a failed result of its own. */
export async function runGuest(options: GuestOptions): Promise<void> {
  const control = await Deno.makeTempDir({ prefix: "weft-guest-" });
  try {
    await Deno.copyFile(`${GUEST}/lib.sh`, `${control}/lib.sh`);
    const env = Object.entries(options.env).map(([name, value]) =>
      `${name}='${String(value).replaceAll("'", `'\\''`)}'\n`
    );
    await Deno.writeTextFile(`${control}/env`, env.join(""));
    for (const [name, text] of Object.entries(options.files ?? {})) {
      await Deno.writeTextFile(`${control}/${name}`, text);
    }
    await boot(control, options);
  } finally {
    await Deno.remove(control, { recursive: true });
  }
}

async function boot(control: string, options: GuestOptions): Promise<void> {
  const args = ["-t", String(options.timeoutSeconds), "-c", control];
  for (const { host, guest } of options.forwards ?? []) args.push("-f", `${host}:${guest}`);
  const process = new Deno.Command(`${GUEST}/run`, {
    args: [...args, `${ROOT}/tests/interop/scenarios/${options.script}`],
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn();
  const stop = () => {
    process.kill("SIGTERM");
    process.status.then(() => Deno.exit(130));
  };
  Deno.addSignalListener("SIGINT", stop);
  Deno.addSignalListener("SIGTERM", stop);
  let ended = false;
  const status = process.status.then((status) => {
    ended = true;
    return status;
  });

  const exists = (name: string) => Deno.stat(`${control}/${name}`).then(() => true, () => false);
  const guest: RunningGuest = {
    control,
    ended: status.then(() => {}),
    async waitFor(name) {
      while (!await exists(name)) {
        if (ended) throw new Error(`the guest ended before it made ${name}`);
        await pause(100);
      }
    },
    signal: (name) => Deno.writeTextFile(`${control}/${name}`, ""),
  };
  const host = options.during?.(guest).catch((error: unknown) => {
    options.onResult({ name: `host side of ${options.script}`, outcome: "failed", detail: String(error) });
  });

  const reader = new ResultReader(control, options.onResult);
  while (!ended) {
    await reader.poll();
    await pause(500);
  }
  await reader.poll();
  await host;
  await options.after?.(guest);
  const { code } = await status;
  Deno.removeSignalListener("SIGINT", stop);
  Deno.removeSignalListener("SIGTERM", stop);
  if (!reader.isComplete) {
    const output = await Deno.readTextFile(`${control}/output`).catch(() => "");
    const detail = `exit code ${code}\n${output.slice(-2000)}`;
    options.onResult({ name: `${options.script} comes to its end`, outcome: "failed", detail });
  }
  const failed = reader.failed > 0 || !reader.isComplete;
  if (failed) console.log(`kernel log of the guest, its end:\n${await tail(`${control}/dmesg`, 15)}`);
}

/** Follows the results file. */
class ResultReader {
  isComplete = false;
  failed = 0;
  #linesRead = 0;

  constructor(readonly control: string, readonly onResult: (result: TestResult) => void) {}

  /** Takes the results that are there and new. */
  async poll(): Promise<void> {
    const text = await Deno.readTextFile(`${this.control}/results`).catch(() => "");
    for (const result of parseResults(text.slice(0, text.lastIndexOf("\n") + 1)).slice(this.#linesRead)) {
      if (result === "done") {
        this.isComplete = true;
        break;
      }
      this.#linesRead++;
      if (result.outcome === "failed") this.failed++;
      this.onResult(result);
    }
  }
}

/** Reads a results file. */
export function parseResults(text: string): (TestResult | "done")[] {
  const results: (TestResult | "done")[] = [];
  for (const line of text.split("\n").slice(0, -1)) {
    const match = line.match(/^(not )?ok (.*)$/);
    const last = results.at(-1);
    if (line === "done") results.push("done");
    else if (match !== null) {
      results.push({ name: match[2], outcome: match[1] === undefined ? "ok" : "failed", detail: "" });
    } else if (last !== undefined && last !== "done") last.detail += line + "\n";
  }
  return results;
}

/** Resolves after a while. */
export function pause(timeMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, timeMs));
}

async function tail(path: string, lines: number): Promise<string> {
  const text = await Deno.readTextFile(path).catch(() => "");
  return text.trimEnd().split("\n").slice(-lines).join("\n");
}
