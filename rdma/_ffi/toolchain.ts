/**
 * Finds the Rust toolchain that builds the native core, and says what to install where there is none.
 *
 * @module
 */

/** The oldest Rust that compiles the workspace (the newest `rust-version` among its dependencies). */
export const RUST_VERSION_MIN = "1.89";

/** Something that the build needs is not installed. The message says what, and how to get it. */
export class ToolchainError extends Error {
  override readonly name = "ToolchainError";
}

/** A cargo that runs: its path, and the environment variables that it needs besides the inherited ones. */
export interface Cargo {
  /** Absolute path of the executable. */
  path: string;
  /** Variables to add to the environment. */
  env: Record<string, string>;
}

const INSTALL_RUST =
  `Install Rust ${RUST_VERSION_MIN} or newer (https://rustup.rs), or name a prebuilt library with WEFT_LIBRARY=/path/to/libweft.so.`;
const INSTALL_LINKER = "Install a C compiler, which Rust links with (Debian, Ubuntu: apt install gcc libc6-dev; " +
  "Fedora: dnf install gcc; Alpine: apk add build-base; Arch: pacman -S gcc).";

/** Finds cargo and a C compiler. Throws {@linkcode ToolchainError} where one is missing or too old. */
export async function findCargo(): Promise<Cargo> {
  const path = await findCargoExecutable();
  if (path === undefined) throw new ToolchainError(`cargo was not found. ${INSTALL_RUST}`);
  const env = await rustupEnvironment(path);
  const { success, stdout, stderr } = await new Deno.Command(path, { args: ["--version"], env }).output();
  if (!success) {
    const said = new TextDecoder().decode(stderr).trim().split("\n").slice(0, 2).join("\n");
    throw new ToolchainError(`${path} does not run:\n${said}\n${INSTALL_RUST}`);
  }
  const version = new TextDecoder().decode(stdout).match(/(\d+)\.(\d+)\.\d+/);
  if (version !== null && isOlder([Number(version[1]), Number(version[2])])) {
    throw new ToolchainError(`cargo ${version[0]} (${path}) is too old. ${INSTALL_RUST}`);
  }
  if (Deno.env.get("CC") === undefined && await findExecutable("cc") === undefined) {
    throw new ToolchainError(`cargo is there, but no C compiler ("cc"). ${INSTALL_LINKER}`);
  }
  return { path, env };
}

/** Absolute path of an executable on PATH, if there is one. */
export async function findExecutable(name: string): Promise<string | undefined> {
  for (const directory of (Deno.env.get("PATH") ?? "").split(":")) {
    if (directory !== "" && await isFile(`${directory}/${name}`)) return `${directory}/${name}`;
  }
  return undefined;
}

async function findCargoExecutable(): Promise<string | undefined> {
  const named = Deno.env.get("CARGO");
  if (named !== undefined) return named;
  const onPath = await findExecutable("cargo");
  if (onPath !== undefined) return onPath;
  // rustup's own place, where the shell's profile has not been read
  const home = Deno.env.get("HOME");
  const usual = `${home}/.cargo/bin/cargo`;
  return home !== undefined && await isFile(usual) ? usual : undefined;
}

/**
 * rustup's proxy looks for its toolchains in `~/.rustup`. Under another HOME than it was installed with it finds none, although they lie
 * right beside it (`X/.cargo/bin/cargo`, `X/.rustup`).
 */
async function rustupEnvironment(cargo: string): Promise<Record<string, string>> {
  if (Deno.env.has("RUSTUP_HOME") || await isFile(`${Deno.env.get("HOME")}/.rustup/settings.toml`)) return {};
  const beside = cargo.replace(/\/[^/]+\/bin\/cargo$/, "/.rustup");
  return beside !== cargo && await isFile(`${beside}/settings.toml`) ? { RUSTUP_HOME: beside } : {};
}

function isOlder([major, minor]: [number, number]): boolean {
  const [majorMin, minorMin] = RUST_VERSION_MIN.split(".").map(Number);
  return major < majorMin || (major === majorMin && minor < minorMin);
}

async function isFile(path: string): Promise<boolean> {
  return await Deno.stat(path).then((info) => info.isFile, () => false);
}
