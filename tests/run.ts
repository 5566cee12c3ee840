/**
 * Runs the project's checks and adds up their counts: `deno task test` and `deno task ok`.
 *
 * Each runner's own closing lines are read. A runner that crashes, is cut off or runs nothing counts as one failure, and so does a check
 * that has no counts of its own (a type check, a lint) when it fails. The last line is `N passed, N failed`.
 *
 * @module
 */
import { build, ROOT } from "../rdma/_ffi/build.ts";
import { findCargo } from "../rdma/_ffi/toolchain.ts";
import { addTotals, countCargoTests, countDenoTests, formatTotals, judge, type Totals } from "./totals.ts";

interface Step {
  name: string;
  /** Executable and arguments. */
  command: string[];
  env?: Record<string, string>;
  /** Reads the counts from what the runner printed; absent for a check that has none. */
  count?: (output: string) => Totals | undefined;
}

const STEP_TIMEOUT_MS = 30 * 60_000;

async function main(mode: string | undefined): Promise<number> {
  if (mode !== "test" && mode !== "style" && mode !== "ok") {
    console.error("usage: tests/run.ts test|style|ok");
    return 2;
  }
  const started = performance.now();
  await build();
  const steps = [...(mode === "test" ? [] : await styleSteps()), ...(mode === "style" ? [] : await testSteps())];
  let totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  const failures: string[] = [];
  for (const step of steps) {
    console.log(
      `\n== ${step.name}: ${step.command.map((word) => word.replace(ROOT + "/", "")).join(" ").slice(0, 160)}`,
    );
    const result = judge(await run(step), step.count);
    if (result.complaint !== undefined) console.log(`== ${step.name} failed: ${result.complaint}`);
    if (result.totals.failed > 0) failures.push(step.name);
    totals = addTotals(totals, result.totals);
  }
  console.log(`\n${steps.length} steps in ${((performance.now() - started) / 1000).toFixed(0)} s`);
  if (failures.length > 0) console.log(`failed: ${failures.join(", ")}`);
  console.log(formatTotals(totals));
  return totals.failed === 0 ? 0 : 1;
}

/** What `ok` checks besides the tests: formats, lints and the examples in documentation. */
async function styleSteps(): Promise<Step[]> {
  const cargo = await findCargo();
  const deno = Deno.execPath();
  const publicModules = await existing([
    "mod.ts",
    ...["rdma", "rpc", "storage", "server", "client"].map((name) => `${name}/mod.ts`),
  ]);
  const steps: Step[] = [
    { name: "format", command: [deno, "fmt", "--check"] },
    { name: "lint", command: [deno, "lint"] },
    { name: "rustfmt", command: [cargo.path, "fmt", "--all", "--check"], env: cargo.env },
    {
      name: "clippy",
      command: [cargo.path, "clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
      env: cargo.env,
    },
    { name: "documentation", command: [deno, "doc", "--lint", ...publicModules] },
  ];
  const withExamples = await filesWithExamples();
  if (withExamples.length > 0) {
    steps.push({ name: "examples", command: [deno, "test", "-A", "--doc", ...withExamples], count: countDenoTests });
  }
  return steps;
}

/** What `test` runs. */
async function testSteps(): Promise<Step[]> {
  const cargo = await findCargo();
  const deno = Deno.execPath();
  return [
    { name: "types", command: [deno, "check", "."] },
    {
      name: "rust",
      command: [cargo.path, "test", "--workspace", "--locked", "--no-fail-fast"],
      env: cargo.env,
      count: countCargoTests,
    },
    { name: "deno", command: [deno, "test", "-A", "--no-check"], count: countDenoTests },
  ];
}

/** Runs a step, showing and keeping what it prints. Cut off when it takes too long. */
async function run(step: Step): Promise<{ code: number; output: string }> {
  const [command, ...args] = step.command;
  const child = new Deno.Command(command, {
    args,
    cwd: ROOT,
    env: { NO_COLOR: "1", CARGO_TERM_COLOR: "never", ...step.env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const timer = setTimeout(() => {
    console.log(`== ${step.name}: cut off after ${STEP_TIMEOUT_MS / 60_000} minutes`);
    child.kill("SIGKILL");
  }, STEP_TIMEOUT_MS);
  let output = "";
  const decoder = new TextDecoder();
  const drain = async (stream: ReadableStream<Uint8Array>, to: typeof Deno.stdout, keep: boolean) => {
    for await (const chunk of stream) {
      if (keep) output += decoder.decode(chunk, { stream: true });
      for (let at = 0; at < chunk.byteLength;) at += to.writeSync(chunk.subarray(at));
    }
  };
  await Promise.all([drain(child.stdout, Deno.stdout, true), drain(child.stderr, Deno.stderr, false)]);
  const { code } = await child.status;
  clearTimeout(timer);
  return { code, output };
}

async function existing(paths: string[]): Promise<string[]> {
  const there = await Promise.all(paths.map((path) => Deno.stat(`${ROOT}/${path}`).then(() => true, () => false)));
  return paths.filter((_, i) => there[i]);
}

/** Files of the tree whose comments or text hold a TypeScript example. */
async function filesWithExamples(): Promise<string[]> {
  const { success, stdout } = await new Deno.Command("git", {
    args: ["grep", "-lE", "^ *\\* ```ts|^```ts", "--", "*.ts", "*.md", ":!tests/run.ts"],
    cwd: ROOT,
  }).output();
  return success ? new TextDecoder().decode(stdout).trim().split("\n") : [];
}

if (import.meta.main) {
  Deno.exit(
    await main(Deno.args[0]).catch((error: unknown) => {
      console.error(error instanceof Error ? error.message : error);
      console.log(formatTotals({ passed: 0, failed: 1, skipped: 0 }));
      return 1;
    }),
  );
}
