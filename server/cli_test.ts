/**
 * `weft serve` as a process of its own.
 */
import { assert, assertEquals } from "@std/assert";
import { BufferPool, Device } from "../rdma/mod.ts";
import { connectTcp, encodeAuthSys, RpcClient } from "../rpc/mod.ts";
import { MOUNT3, mountstat3, NFS3, nfsstat3 } from "../storage/nfs/mod.ts";

const MAIN = new URL("../main.ts", import.meta.url);
const READY = /Ctrl-C ends it\.\n/;
const TIMEOUT_MS = 30_000;
const utf8 = new TextEncoder();

interface Running extends AsyncDisposable {
  readonly stdout: string;
  readonly port: number;
  kill(signal: Deno.Signal): void;
  /** Exit status and everything printed. */
  end(): Promise<{ code: number; stdout: string; stderr: string }>;
}

function command(args: string[], cwd: string): Deno.Command {
  const env = { XDG_STATE_HOME: `${cwd}/state`, NO_COLOR: "1" };
  const all = ["run", "-A", MAIN.href, "serve", ...args];
  return new Deno.Command(Deno.execPath(), { args: all, cwd, env, stdin: "null", stdout: "piped", stderr: "piped" });
}

/** Runs the command to its end. */
async function output(args: string[], cwd: string): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = command(args, cwd).spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), TIMEOUT_MS);
  const { code, stdout, stderr } = await child.output();
  clearTimeout(timer);
  return { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
}

/** Starts the command and waits until it says that it is ready. */
async function start(args: string[], cwd: string): Promise<Running> {
  const child = command(args, cwd).spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), TIMEOUT_MS);
  const printed = { stdout: "", stderr: "" };
  const ready = Promise.withResolvers<void>();
  const collect = async (from: ReadableStream<Uint8Array<ArrayBuffer>>, to: "stdout" | "stderr"): Promise<void> => {
    for await (const text of from.pipeThrough(new TextDecoderStream())) {
      printed[to] += text;
      if (READY.test(printed.stdout)) ready.resolve();
    }
  };
  const collected = Promise.all([collect(child.stdout, "stdout"), collect(child.stderr, "stderr")]);
  collected.then(() => ready.reject(new Error(`it ended: ${printed.stdout}${printed.stderr}`)));
  await ready.promise;
  const end = async (): Promise<{ code: number; stdout: string; stderr: string }> => {
    const { code } = await child.status;
    clearTimeout(timer);
    await collected;
    return { code, ...printed };
  };
  return {
    get stdout() {
      return printed.stdout;
    },
    port: Number(/ at [^ ]*:([0-9]+): /.exec(printed.stdout)?.[1]),
    kill: (signal) => child.kill(signal),
    end,
    async [Symbol.asyncDispose]() {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended already.
      }
      await end();
    },
  };
}

function temporaryDirectory(): { path: string } & Disposable {
  const path = Deno.makeTempDirSync({ prefix: "weft_serve_" });
  return { path, [Symbol.dispose]: () => Deno.removeSync(path, { recursive: true }) };
}

Deno.test("weft serve: serves ./data, made for it, and ends with 0 at SIGINT and SIGTERM", async () => {
  using directory = temporaryDirectory();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    await using server = await start(["--listen", ":0"], directory.path);
    assert(server.port > 0);
    assert(server.stdout.startsWith(`Serving ${Deno.realPathSync(directory.path)}/data at 127.0.0.1:${server.port}: `));
    assertEquals(await listing(server.port), [".", ".."]);
    server.kill(signal);
    const { code, stdout, stderr } = await server.end();
    assertEquals([code, stderr], [0, ""]);
    assert(stdout.includes("Ending"));
  }
});

Deno.test("weft serve: a directory by name, read only", async () => {
  using directory = temporaryDirectory();
  Deno.mkdirSync(`${directory.path}/shared`);
  Deno.writeTextFileSync(`${directory.path}/shared/file`, "contents");
  await using server = await start(["--listen", ":0", "--read-only", "shared"], directory.path);
  assertEquals((await listing(server.port)).sort(), [".", "..", "file"]);
  assert(server.stdout.includes("read only."));
});

Deno.test("weft serve: --quiet prints nothing", async () => {
  using directory = temporaryDirectory();
  const port = freePort();
  const child = command(["--listen", `:${port}`, "--quiet"], directory.path).spawn();
  const ended = child.output();
  assertEquals(await patiently(() => listing(port)), [".", ".."]);
  child.kill("SIGTERM");
  const { code, stdout, stderr } = await ended;
  assertEquals([code, stdout.byteLength, stderr.byteLength], [0, 0, 0]);
});

Deno.test("weft serve: what cannot be served is told in a line, with status 1", async () => {
  using directory = temporaryDirectory();
  Deno.writeTextFileSync(`${directory.path}/file`, "");
  await using server = await start(["--listen", ":0"], directory.path);
  const cases: [string[], RegExp][] = [
    [["nowhere"], /^weft serve: nowhere: no such directory\n$/],
    [["file"], /^weft serve: file: not a directory\n$/],
    [
      ["--listen", `${server.port}`, "--state-dir", "other"],
      /^weft serve: port [0-9]+ of 127\.0\.0\.1 is in use, .*\n$/,
    ],
    [["--listen", "192.0.2.77:0", "--state-dir", "other"], /^weft serve: cannot listen on 192\.0\.2\.77:0: .*\n$/],
    [["--listen", ":0", "--portmapper", "--state-dir", "other"], /^weft serve: .*\n$/],
  ];
  // Where handles are the kernel's own, the key must be out of the clients' reach.
  if (Deno.uid() === 0) cases.push([["."], /^weft serve: \.: the state would lie within what is served; .*\n$/]);
  for (const [args, expected] of cases) {
    const { code, stdout, stderr } = await output(args, directory.path);
    assertEquals([code, stdout], [1, ""], args.join(" "));
    assert(expected.test(stderr), `${args.join(" ")}: ${stderr}`);
  }
});

Deno.test("weft serve: --help, and mistakes with status 2", async () => {
  using directory = temporaryDirectory();
  const help = await output(["--help"], directory.path);
  assertEquals([help.code, help.stderr], [0, ""]);
  assert(help.stdout.startsWith("Usage: weft serve "));
  const wrong = await output(["--wrong"], directory.path);
  assertEquals([wrong.code, wrong.stdout], [2, ""]);
  assertEquals(
    wrong.stderr,
    "weft serve: unrecognized option '--wrong'\nTry 'weft serve --help' for more information.\n",
  );
  assertEquals([...Deno.readDirSync(directory.path)], [], "nothing was made");
});

Deno.test("weft serve: the lines that it prints can be pasted", async () => {
  using directory = temporaryDirectory();
  Deno.mkdirSync(`${directory.path}/data`);
  Deno.writeTextFileSync(`${directory.path}/data/a file`, "contents");
  await using server = await start(["--listen", ":0"], directory.path);
  const lines = server.stdout.split("\n");
  const below = (title: string, count: number): string[] => {
    const at = lines.findIndex((line) => line.startsWith(title));
    assert(at >= 0, title);
    return lines.slice(at + 1, at + 1 + count).map((line) => line.trim());
  };
  const [ls] = below("The command:", 1);
  const words = ls.split(" ");
  assertEquals(words.splice(0, 3), ["deno", "task", "weft"]);
  assertEquals(await paste(["run", "-A", MAIN.href, ...words]), "a file\n");
  assertEquals(await paste(["run", "-A", "-"], below("An application:", 3).join("\n")), "a file\n");
  for (const proto of ["RDMA", "TCP"]) {
    const [mount] = below(`Linux, over ${proto}`, 1);
    assert(mount.startsWith("mount -t nfs -o ") && mount.endsWith(" 127.0.0.1:/ /mnt"), mount);
    assert(mount.includes(`proto=${proto.toLowerCase()},port=${server.port},mountport=${server.port},`), mount);
  }
});

/** Runs deno with these arguments and this input; returns what it prints. */
async function paste(args: string[], input = ""): Promise<string> {
  const options = { args, stdin: "piped", stdout: "piped", stderr: "piped" } as const;
  const child = new Deno.Command(Deno.execPath(), { ...options, env: { NO_COLOR: "1" } }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(utf8.encode(input));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

/** A port that was free a moment ago. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** Tries until it works, or long enough. */
async function patiently<T>(attempt: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + TIMEOUT_MS;
  while (true) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** The names in the served root, by a client of TCP. */
async function listing(port: number): Promise<string[]> {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  using pool = new BufferPool(pd);
  await using transport = await connectTcp(device, { hostname: "127.0.0.1", port, pd, pool });
  const credential = encodeAuthSys({ uid: 1000, gid: 1000 });
  const mount = new RpcClient(transport, { program: MOUNT3, credential });
  const mounted = await mount.call(MOUNT3.procedures.MNT, utf8.encode("/"));
  assert(mounted.fhs_status === mountstat3.MNT3_OK);
  const nfs = new RpcClient(transport, { program: NFS3, credential });
  const args = { dir: mounted.value.fhandle, cookie: 0n, cookieverf: new Uint8Array(8), count: 4096 };
  const result = await nfs.call(NFS3.procedures.READDIR, args);
  assert(result.status === nfsstat3.NFS3_OK);
  return result.value.reply.entries.map(({ name }) => new TextDecoder().decode(name));
}
