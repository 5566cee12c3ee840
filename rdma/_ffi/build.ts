/**
 * Builds the native core with cargo, when it is missing or older than its sources.
 *
 * The tasks of deno.json run this first; nothing else in the tree runs cargo for a user.
 *
 * @module
 */
import { type Cargo, findCargo, ToolchainError } from "./toolchain.ts";

/** The root of the source tree. */
export const ROOT: string = import.meta.dirname!.replace(/\/rdma\/_ffi$/, "");
/** Where cargo leaves the library. */
export const BUILT_LIBRARY = `${ROOT}/target/release/libweft.so`;

/** What the library is made of: these files, and the manifests and Rust files below these directories. */
const SOURCE_FILES = ["Cargo.toml", "Cargo.lock"];
const SOURCE_DIRECTORIES = ["rdma/native", "storage/native"];
const STAMP = `${ROOT}/target/release/libweft.sources`;

/**
 * Returns the path of a library that is up to date, building it first where it must. `WEFT_LIBRARY` names a prebuilt one, which is taken as it is.
 *
 * Progress goes to standard error. Throws {@linkcode ToolchainError} where cargo or a C compiler is missing, `Error` where the build fails.
 */
export async function build(): Promise<string> {
  const prebuilt = Deno.env.get("WEFT_LIBRARY");
  if (prebuilt) {
    const isFile = await Deno.stat(prebuilt).then((info) => info.isFile, () => false);
    if (!isFile) throw new ToolchainError(`WEFT_LIBRARY names ${prebuilt}, which is no file.`);
    return prebuilt;
  }
  const digest = await sourceDigest();
  const isThere = await Deno.stat(BUILT_LIBRARY).then((info) => info.isFile, () => false);
  const stamp = await Deno.readTextFile(STAMP).catch(() => "");
  if (isThere && stamp === digest) return BUILT_LIBRARY;

  const cargo = await findCargo();
  console.error(
    `weft: the native core is ${isThere ? "older than its sources" : "not built yet"}: building it with cargo …`,
  );
  const started = performance.now();
  await cargoBuild(cargo, "--release", "--locked", "-p", "weft", "--target-dir", `${ROOT}/target`);
  await Deno.writeTextFile(STAMP, digest);
  console.error(`weft: built in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  return BUILT_LIBRARY;
}

/** Builds the library for tests of panics, with what injects them (`rdma/native/engine/src/faults.rs`), and returns its path. */
export async function buildWithFaults(): Promise<string> {
  const target = `${ROOT}/target/faults`;
  await cargoBuild(await findCargo(), "--locked", "-q", "-p", "weft", "--features", "faults", "--target-dir", target);
  return `${target}/debug/libweft.so`;
}

/** Runs `cargo build` on the workspace. Throws `Error` where that fails; cargo's own messages are shown. */
export async function cargoBuild(cargo: Cargo, ...args: string[]): Promise<void> {
  const { success, code } = await new Deno.Command(cargo.path, {
    args: ["build", ...args],
    cwd: ROOT,
    env: cargo.env,
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`cargo build failed with exit code ${code}; its own messages are above.`);
}

/** A digest over the names and contents of everything that the library is compiled from. */
export async function sourceDigest(root: string = ROOT): Promise<string> {
  const paths = [...SOURCE_FILES];
  for (const directory of SOURCE_DIRECTORIES) await collectSources(root, directory, paths);
  const hashes = await Promise.all(
    paths.sort().map(async (path) => {
      const hash = await crypto.subtle.digest("SHA-256", await Deno.readFile(`${root}/${path}`));
      return `${path} ${new Uint8Array(hash).toHex()}\n`;
    }),
  );
  const all = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(hashes.join("")));
  return new Uint8Array(all).toHex();
}

async function collectSources(root: string, directory: string, into: string[]): Promise<void> {
  for await (const entry of Deno.readDir(`${root}/${directory}`)) {
    const path = `${directory}/${entry.name}`;
    if (entry.isDirectory) await collectSources(root, path, into);
    else if (entry.name.endsWith(".rs") || entry.name === "Cargo.toml") into.push(path);
  }
}

if (import.meta.main) {
  try {
    await build();
  } catch (error) {
    console.error(`weft: ${error instanceof Error ? error.message : error}`);
    Deno.exit(1);
  }
}
