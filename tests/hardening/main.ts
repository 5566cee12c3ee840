/**
 * `deno task hardening`: the core's own tests where every mistake shows: each interleaving of what threads share (loom), memory and threads
 * under sanitizers, the protocol state in an interpreter (Miri).
 *
 * A check that cannot run on this machine is skipped, and says what it lacks.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { ROOT } from "../../rdma/_ffi/build.ts";
import { type Cargo, findCargo } from "../../rdma/_ffi/toolchain.ts";
import { addTotals, countCargoTests, formatTotals, judge, type Totals } from "../totals.ts";

interface Check {
  name: string;
  what: string;
  /** The component of a nightly toolchain that it needs; absent where the usual toolchain will do. */
  component?: "rust-src" | "miri";
  /** Arguments of cargo, behind the toolchain. */
  args: string[];
  env: Record<string, string>;
}

/** Random cases of a property: an instrumented program is slow, Miri very. */
const CASES_SANITIZED = "16";
const CASES_INTERPRETED = "2";

const CHECKS: readonly Check[] = [
  {
    name: "loom",
    what: "rings, memory table and hand-over between threads, in every interleaving",
    args: ["test", "-p", "weft-engine", "--lib", "--release", "models"],
    env: { RUSTFLAGS: "--cfg loom" },
  },
  sanitizer("address", "the engine's tests: memory that is used wrongly, or left"),
  sanitizer("thread", "the engine's tests: memory that two threads use at once"),
  {
    name: "miri",
    what: "the unit tests of the protocol state, interpreted",
    component: "miri",
    args: ["miri", "test", "-p", "weft-proto", "--lib"],
    env: { MIRIFLAGS: "-Zmiri-disable-isolation", PROPTEST_CASES: CASES_INTERPRETED },
  },
];

const HELP = `usage: deno task hardening [CHECK...]

Runs every check, or those that are named:
${CHECKS.map(({ name, what }) => `  ${name.padEnd(8)} ${what}`).join("\n")}

loom needs nothing more than the build does; the others a nightly toolchain:
  rustup toolchain install nightly --component rust-src --component miri`;

/** The engine's tests under a sanitizer, which the standard library is built for as well. */
function sanitizer(name: "address" | "thread", what: string): Check {
  const target = `${Deno.build.arch}-unknown-linux-gnu`;
  return {
    name,
    what,
    component: "rust-src",
    args: ["test", "-p", "weft-engine", "--lib", "--tests", "-Zbuild-std", "--target", target],
    env: { RUSTFLAGS: `-Zsanitizer=${name}`, PROPTEST_CASES: CASES_SANITIZED },
  };
}

async function main(): Promise<number> {
  const args = parseArgs(Deno.args, { boolean: ["help"], string: ["_"] });
  if (args.help) return console.log(HELP), 0;
  const unknown = args._.filter((name) => !CHECKS.some((check) => check.name === name));
  if (unknown.length > 0) return console.error(`${HELP}\n\nno check ${unknown.join(", ")}`), 2;
  const cargo = await findCargo();
  let totals: Totals = { passed: 0, failed: 0, skipped: 0 };
  for (const check of CHECKS.filter(({ name }) => args._.length === 0 || args._.includes(name))) {
    console.log(`\n== ${check.name}: ${check.what}`);
    const lack = check.component && await missing(cargo, check.component);
    if (lack !== undefined) {
      console.log(`SKIPPED ${check.name}: ${lack}`);
      totals = addTotals(totals, { passed: 0, failed: 0, skipped: 1 });
      continue;
    }
    const result = judge(await run(cargo, check), countCargoTests);
    if (result.complaint !== undefined) console.log(`FAILED ${check.name}: ${result.complaint}`);
    totals = addTotals(totals, result.totals);
  }
  console.log(formatTotals(totals));
  return totals.failed === 0 ? 0 : 1;
}

/** What of a nightly toolchain with a component is missing, or `undefined` where nothing is. */
async function missing(cargo: Cargo, component: "rust-src" | "miri"): Promise<string | undefined> {
  const says = async (program: string, ...args: string[]) => {
    const command = new Deno.Command(program, { args: ["+nightly", ...args], env: cargo.env, stderr: "null" });
    const output = await command.output().catch(() => undefined);
    return output?.success ? new TextDecoder().decode(output.stdout).trim() : undefined;
  };
  const sysroot = await says(cargo.path.replace(/cargo$/, "rustc"), "--print", "sysroot");
  if (sysroot === undefined) return "no nightly Rust toolchain";
  const isThere = component === "miri"
    ? await says(cargo.path, "miri", "--version") !== undefined
    : await Deno.stat(`${sysroot}/lib/rustlib/src/rust/library`).then(() => true, () => false);
  return isThere ? undefined : `the nightly Rust toolchain has no ${component}`;
}

/** Runs a check with a target folder of its own, showing and keeping what it prints. */
async function run(cargo: Cargo, check: Check): Promise<{ code: number; output: string }> {
  const toolchain = check.component === undefined ? [] : ["+nightly"];
  const child = new Deno.Command(cargo.path, {
    args: [...toolchain, ...check.args, "--locked", "--no-fail-fast", "--target-dir", `target/hardening/${check.name}`],
    cwd: ROOT,
    env: { CARGO_TERM_COLOR: "never", ...cargo.env, ...check.env },
    stdin: "null",
    stdout: "piped",
  }).spawn();
  let output = "";
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    output += text;
    await Deno.stdout.write(new TextEncoder().encode(text));
  }
  return { code: (await child.status).code, output };
}

if (import.meta.main) Deno.exit(await main());
