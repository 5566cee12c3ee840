/**
 * `deno task fuzz`: random input for decoders, state machines and a live server, for a while each.
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { ROOT } from "../../rdma/_ffi/build.ts";
import { findCargo } from "../../rdma/_ffi/toolchain.ts";
import { formatTotals } from "../totals.ts";
import { decoderTargets, fuzzDecoder } from "./decoders.ts";
import { fuzzServer } from "./server.ts";

const HELP = `usage: deno task fuzz [--seconds N] [--seed N] [TARGET...]

Runs every target, or those that are named, for N seconds each (default 20). A failure prints the seed and the input.
The targets of rdma/native/fuzz need a nightly Rust toolchain, and are skipped without one.`;

/** Targets of rdma/native/fuzz. */
const NATIVE = ["mpa_frame", "fpdu_stream", "rdmap_messages", "endpoint_pair", "c_abi"];

async function main(): Promise<number> {
  const args = parseArgs(Deno.args, { boolean: ["help"], string: ["seconds", "seed", "_"] });
  if (args.help) return console.log(HELP), 0;
  const seconds = Number(args.seconds ?? 20);
  const seed = Number(args.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]);
  const decoders = decoderTargets();
  const known = [...NATIVE, ...decoders.map(({ name }) => name), "server"];
  const chosen = args._.length > 0 ? args._.map(String) : known;
  const unknown = chosen.filter((name) => !known.includes(name));
  if (unknown.length > 0 || !(seconds > 0)) {
    console.error(`${HELP}\n\nno target ${unknown.join(", ")}; there are ${known.join(", ")}`);
    return 2;
  }
  console.log(`seed ${seed}`);
  const totals = { passed: 0, failed: 0, skipped: 0 };
  for (const name of chosen) {
    try {
      const decoder = decoders.find((target) => target.name === name);
      const count = decoder !== undefined
        ? fuzzDecoder(decoder, { seconds, seed })
        : name === "server"
        ? await fuzzServer(seconds, seed)
        : await fuzzNative(name, seconds, seed);
      if (count === undefined) {
        console.log(`SKIPPED ${name}: no nightly Rust toolchain`);
        totals.skipped++;
        continue;
      }
      console.log(`OK ${name}: ${count} inputs`);
      totals.passed++;
    } catch (error) {
      console.log(`FAILED ${name} (seed ${seed}): ${error instanceof Error ? error.stack : error}`);
      totals.failed++;
    }
  }
  console.log(formatTotals(totals));
  return totals.failed === 0 ? 0 : 1;
}

/** Runs one target of rdma/native/fuzz. `undefined` without a nightly toolchain. */
async function fuzzNative(target: string, seconds: number, seed: number): Promise<number | undefined> {
  const cargo = await findCargo();
  const directory = `${ROOT}/rdma/native/fuzz`;
  const probe = await new Deno.Command(cargo.path, { args: ["+nightly", "--version"], env: cargo.env }).output().catch(
    () => undefined,
  );
  if (!probe?.success) return undefined;
  const found = `${ROOT}/target/fuzz/${target}`;
  const failures = `${ROOT}/target/fuzz/failures/`;
  await Deno.mkdir(found, { recursive: true });
  await Deno.mkdir(failures, { recursive: true });
  const { success, stderr } = await new Deno.Command(cargo.path, {
    args: [
      ...[
        "+nightly",
        "run",
        "--release",
        "--locked",
        "--target-dir",
        `${ROOT}/target/fuzz/build`,
        "--bin",
        target,
        "--",
      ],
      ...[found, `corpus/${target}`, `-max_total_time=${seconds}`, `-seed=${seed}`, `-artifact_prefix=${failures}`],
    ],
    cwd: directory,
    env: cargo.env,
  }).output();
  const said = new TextDecoder().decode(stderr);
  if (!success) throw new Error(said.slice(-4000));
  const runs = said.match(/Done (\d+) runs/);
  if (runs === null) throw new Error(`it does not say how many inputs it ran:\n${said.slice(-1000)}`);
  return Number(runs[1]);
}

if (import.meta.main) Deno.exit(await main());
