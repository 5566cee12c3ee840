import { assert, assertEquals } from "@std/assert";
import { IS_ROOT, string, testAsRoot } from "./_testing/scratch.ts";

/** nobody, nogroup. */
const NOBODY = "65534";

/** Copies what is in a directory for anyone to read. */
function copyTree(from: string, to: string): void {
  Deno.mkdirSync(to, { mode: 0o755 });
  for (const entry of Deno.readDirSync(from)) {
    if (entry.isDirectory) copyTree(`${from}/${entry.name}`, `${to}/${entry.name}`);
    else if (entry.isFile) Deno.copyFileSync(`${from}/${entry.name}`, `${to}/${entry.name}`);
  }
}

function isReadableByNobody(path: string): boolean {
  return new Deno.Command("setpriv", { args: [...AS_NOBODY, "test", "-r", path] }).outputSync().success;
}

const AS_NOBODY = [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];

testAsRoot("the same as an ordinary user", async () => {
  const here = decodeURIComponent(new URL(".", import.meta.url).pathname);
  const files = ["", "_handles", "_model"].map((part) => `${here}local_directory${part}_test.ts`);
  if (!isReadableByNobody(files[0])) {
    return console.error(`SKIPPED, AN ORDINARY USER CANNOT READ ${here}: the tests as an ordinary user`);
  }
  const home = Deno.makeTempDirSync({ prefix: "weft-nobody-" });
  try {
    const info = new Deno.Command(Deno.execPath(), { args: ["info", "--json"], stderr: "null" }).outputSync();
    const { npmCache } = JSON.parse(string(info.stdout)) as { npmCache: string };
    Deno.mkdirSync(`${home}/deno`);
    copyTree(npmCache, `${home}/deno/npm`);
    assert(new Deno.Command("chown", { args: ["-R", `${NOBODY}:${NOBODY}`, home] }).outputSync().success);
    const { success, stdout, stderr } = await new Deno.Command("setpriv", {
      args: [...AS_NOBODY, Deno.execPath(), "test", "-A", "--no-check", ...files],
      env: { HOME: home, DENO_DIR: `${home}/deno`, XDG_STATE_HOME: `${home}/state`, NO_COLOR: "1" },
      cwd: here,
    }).output();
    const report = string(stdout);
    assert(success, `${report}\n${string(stderr)}`);
    const [, passed] = /ok \| (\d+) passed \| 0 failed/.exec(report) ?? [];
    assert(Number(passed) > 20, report);
    console.log(`as an ordinary user: ${passed} tests passed`);
  } finally {
    Deno.removeSync(home, { recursive: true });
  }
});

Deno.test("LocalDirectory: the tests know who runs them", () => {
  const { uid } = Deno.statSync("/proc/self");
  assertEquals(IS_ROOT, uid === 0);
});
