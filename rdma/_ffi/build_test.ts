import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { ROOT, sourceDigest } from "./build.ts";

/** A tree with the builder and one source file, and an environment of its own. */
class Scratch implements AsyncDisposable {
  constructor(readonly directory: string) {}

  static async make(): Promise<Scratch> {
    const directory = await Deno.makeTempDir({ prefix: "weft-build-" });
    for (
      const part of ["tree/rdma/_ffi", "tree/rdma/native", "tree/storage/native", "home/.cargo/bin", "bin", "empty"]
    ) {
      await Deno.mkdir(`${directory}/${part}`, { recursive: true });
    }
    for (const file of ["build.ts", "toolchain.ts"]) {
      await Deno.copyFile(`${ROOT}/rdma/_ffi/${file}`, `${directory}/tree/rdma/_ffi/${file}`);
    }
    for (const file of ["Cargo.toml", "Cargo.lock", "rdma/native/lib.rs"]) {
      await Deno.writeTextFile(`${directory}/tree/${file}`, "# a source\n");
    }
    return new Scratch(directory);
  }

  async script(path: string, text: string): Promise<void> {
    await Deno.writeTextFile(`${this.directory}/${path}`, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  }

  async build(env: Record<string, string>): Promise<{ code: number; stderr: string }> {
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-config", "-A", `${this.directory}/tree/rdma/_ffi/build.ts`],
      env: { HOME: `${this.directory}/empty`, DENO_DIR: `${this.directory}/deno`, NO_COLOR: "1", ...env },
      clearEnv: true,
    }).output();
    return { code, stderr: new TextDecoder().decode(stderr) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.directory, { recursive: true });
  }
}

Deno.test("the digest follows names and contents of the sources", async () => {
  await using scratch = await Scratch.make();
  const tree = `${scratch.directory}/tree`;
  const first = await sourceDigest(tree);
  assertEquals(await sourceDigest(tree), first);
  await Deno.writeTextFile(`${tree}/rdma/native/lib.rs`, "// changed\n");
  const second = await sourceDigest(tree);
  assertNotEquals(second, first);
  await Deno.rename(`${tree}/rdma/native/lib.rs`, `${tree}/storage/native/lib.rs`);
  assertNotEquals(await sourceDigest(tree), second);
});

Deno.test("without cargo it says what to install", async () => {
  await using scratch = await Scratch.make();
  const { code, stderr } = await scratch.build({ PATH: `${scratch.directory}/bin` });
  assertEquals(code, 1);
  assertStringIncludes(stderr, "cargo was not found. Install Rust");
  assertStringIncludes(stderr, "WEFT_LIBRARY");
});

Deno.test("without a C compiler, or with an old cargo, it says so", async () => {
  await using scratch = await Scratch.make();
  await scratch.script("bin/cargo", "echo cargo 1.95.0");
  const PATH = `${scratch.directory}/bin`;
  assertStringIncludes((await scratch.build({ PATH })).stderr, 'no C compiler ("cc"). Install a C compiler');
  await scratch.script("bin/cargo", "echo cargo 1.63.0");
  assertStringIncludes((await scratch.build({ PATH })).stderr, "is too old. Install Rust");
});

Deno.test("a rustup that was installed under another HOME is told where its toolchains are", async () => {
  await using scratch = await Scratch.make();
  const home = `${scratch.directory}/home`;
  await Deno.mkdir(`${home}/.rustup`);
  await Deno.writeTextFile(`${home}/.rustup/settings.toml`, "");
  await scratch.script("bin/cc", "");
  await scratch.script(
    "home/.cargo/bin/cargo",
    `[ "$1" = --version ] && { echo cargo 1.95.0; exit; }
    echo "toolchains in $RUSTUP_HOME; $*" >&2; exit 7`,
  );
  const { code, stderr } = await scratch.build({ PATH: `${home}/.cargo/bin:${scratch.directory}/bin:/usr/bin:/bin` });
  assertEquals(code, 1);
  assertStringIncludes(stderr, `toolchains in ${home}/.rustup; build --release --locked -p weft`);
  assertStringIncludes(stderr, "cargo build failed with exit code 7");
});

Deno.test("a build is made once, again when a source has changed, and never where WEFT_LIBRARY names a library", async () => {
  await using scratch = await Scratch.make();
  const tree = `${scratch.directory}/tree`;
  await scratch.script("bin/cc", "");
  await scratch.script(
    "bin/cargo",
    `[ "$1" = --version ] && { echo cargo 1.95.0; exit; }
    mkdir -p target/release; echo built >> target/release/libweft.so`,
  );
  const PATH = `${scratch.directory}/bin:/usr/bin:/bin`;
  const builds = async () => (await Deno.readTextFile(`${tree}/target/release/libweft.so`)).split("\n").length - 1;
  for (let i = 0; i < 2; i++) assertEquals((await scratch.build({ PATH })).code, 0);
  assertEquals(await builds(), 1);
  await Deno.writeTextFile(`${tree}/Cargo.lock`, "# newer\n");
  const named = await scratch.build({ PATH, WEFT_LIBRARY: `${tree}/target/release/libweft.so` });
  assertEquals([named.code, await builds()], [0, 1]);
  assertStringIncludes((await scratch.build({ PATH })).stderr, "older than its sources");
  assertEquals(await builds(), 2);
  const missing = await scratch.build({ PATH, WEFT_LIBRARY: "/nowhere/libweft.so" });
  assertEquals(missing.code, 1);
  assert(missing.stderr.includes("/nowhere/libweft.so, which is no file"), missing.stderr);
});
