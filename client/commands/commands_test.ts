/**
 * The commands, over a server in memory: what they do, print and return.
 *
 * @module
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { MemoryServer, type MemoryServerOptions } from "../../tests/integration/memory_server.ts";
import { encodeName } from "../names.ts";
import { mount } from "../mount.ts";
import type { NfsFileSystem } from "../file_system.ts";
import { type Command, runCommand } from "./command.ts";
import { cat } from "./cat.ts";
import { cp } from "./cp.ts";
import { df } from "./df.ts";
import { ls } from "./ls.ts";
import { mkdir } from "./mkdir.ts";
import { mv } from "./mv.ts";
import { rm } from "./rm.ts";
import { stat } from "./stat.ts";

const commands = { cat, cp, df, ls, mkdir, mv, rm, stat } as unknown as Record<string, Command>;

/** What a command did. */
interface Result {
  status: number;
  out: string;
  err: string;
}

/** A server, a local directory, and a shell of sorts. */
class World implements AsyncDisposable {
  readonly server: MemoryServer;
  readonly fs: NfsFileSystem;
  readonly local: string;
  columns: number | undefined;

  private constructor(server: MemoryServer, fs: NfsFileSystem, local: string) {
    this.server = server;
    this.fs = fs;
    this.local = local;
  }

  static async create(options: MemoryServerOptions = {}): Promise<World> {
    const server = new MemoryServer(options);
    return new World(server, await mount("nfs://s/", { dial: server.dial }), await Deno.makeTempDir());
  }

  /** Runs a command line; `~` stands for the local directory. */
  async run(
    line: string | string[],
    options: { signal?: AbortSignal; write?: (bytes: Uint8Array) => Promise<void> } = {},
  ): Promise<Result> {
    const [name, ...args] = typeof line === "string" ? line.split(" ") : line;
    const out: Uint8Array<ArrayBuffer>[] = [];
    let err = "";
    const status = await runCommand(commands[name], args.map((arg) => arg.replaceAll("~", this.local)), {
      write: options.write as never ?? ((text: string | Uint8Array) => {
        out.push((typeof text === "string" ? encodeName(text) : text).slice() as Uint8Array<ArrayBuffer>);
        return Promise.resolve();
      }),
      warn: (text) => void (err += text),
      columns: this.columns,
      progress: () => undefined,
      signal: options.signal ?? new AbortController().signal,
      killSignal: new AbortController().signal,
      mountOptions: { dial: this.server.dial },
    });
    const text = await new Blob(out).text();
    return { status, out: text.replaceAll(this.local, "~"), err: err.replaceAll(this.local, "~") };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.fs[Symbol.asyncDispose]();
    await Deno.remove(this.local, { recursive: true });
  }
}

const ok = (out = ""): Result => ({ status: 0, out, err: "" });
const failed = (err: string, status = 1): Result => ({ status, out: "", err: `${err}\n` });

Deno.test("every command has help, and points to it", async () => {
  await using world = await World.create();
  for (const [name, command] of Object.entries(commands)) {
    const help = await world.run([name, "--help"]);
    assertEquals([help.status, help.err], [0, ""]);
    assertStringIncludes(help.out, `Usage: weft ${name} `);
    for (const { long } of Object.values(command.options)) if (long) assertStringIncludes(help.out, `--${long}`);
    const wrong = await world.run([name, "--no-such-option"]);
    assertEquals(wrong.status, name === "ls" ? 2 : 1);
    assertEquals(
      wrong.err,
      `weft ${name}: unrecognized option '--no-such-option'\nTry 'weft ${name} --help' for more information.\n`,
    );
    const none = await world.run([name]);
    assertEquals(none.status, name === "ls" ? 2 : 1);
    assertStringIncludes(none.err, "missing");
  }
});

Deno.test("operands that are no URL, or a bad one", async () => {
  await using world = await World.create();
  assertEquals(await world.run("cat file"), failed("weft cat: 'file' is not an nfs:// URL"));
  assertEquals(await world.run("ls file"), failed("weft ls: 'file' is not an nfs:// URL", 2));
  assertEquals(
    await world.run("cat nfs://s/x?colour=red"),
    failed(
      "weft cat: invalid NFS URL 'nfs://s/x?colour=red': unknown option 'colour' (known: proto, version, uid, gid, mountport, crc)",
    ),
  );
});

Deno.test("mkdir", async () => {
  await using world = await World.create();
  assertEquals(await world.run("mkdir nfs://s/a nfs://s/b"), ok());
  assertEquals(
    await world.run("mkdir nfs://s/a"),
    failed("weft mkdir: cannot create directory 'nfs://s/a': File exists"),
  );
  assertEquals(
    await world.run("mkdir nfs://s/x/y nfs://s/c"),
    failed("weft mkdir: cannot create directory 'nfs://s/x/y': No such file or directory"),
  );
  assertEquals((await world.fs.stat("c")).isDirectory, true); // the others are made all the same
  assertEquals(
    await world.run("mkdir -pv nfs://s/x/y/z nfs://s/a"),
    ok("weft mkdir: created directory 'nfs://s/x/y/z'\n"),
  );
  assertEquals(await world.run("mkdir -m 701 nfs://s/m"), ok());
  assertEquals((await world.fs.stat("m")).mode, 0o040701);
  assertEquals((await world.run("mkdir -m 9 nfs://s/n")).status, 1);
});

Deno.test("cat", async () => {
  await using world = await World.create({ transferBytesMax: 4096 });
  await world.fs.writeTextFile("a", "first\n");
  await world.fs.writeFile("b", new Uint8Array(6_000_000).map((_, at) => 32 + at % 90));
  assertEquals(await world.run("cat nfs://s/a nfs://s/a"), ok("first\nfirst\n"));
  assertEquals((await world.run("cat nfs://s/b")).out, await world.fs.readTextFile("b"));
  assertEquals(await world.run("cat nfs://s/no nfs://s/a"), {
    status: 1,
    out: "first\n",
    err: "weft cat: nfs://s/no: No such file or directory\n",
  });
  assertEquals(await world.run("cat nfs://s/"), failed("weft cat: nfs://s/: Is a directory"));
});

Deno.test("a reader that goes away ends a command quietly", async () => {
  await using world = await World.create();
  await world.fs.writeFile("b", new Uint8Array(6_000_000));
  const write = () => Promise.reject(new Deno.errors.BrokenPipe("Broken pipe (os error 32)"));
  for (const line of ["cat nfs://s/b", "ls nfs://s/", "ls -l nfs://s/b", "stat nfs://s/b", "df nfs://s/"]) {
    assertEquals(await world.run(line, { write }), { status: 141, out: "", err: "" }, line);
  }
});

Deno.test("ls", async () => {
  await using world = await World.create();
  const { fs } = world;
  await fs.mkdir("d/sub", { recursive: true });
  await fs.writeTextFile("d/file", "hello");
  await fs.writeTextFile("d/.hidden", "");
  await fs.symlink("file", "d/link");
  await fs.chmod("d/file", 0o755);
  await fs.utime("d/file", 1, 86400 * 365);
  assertEquals(await world.run("ls nfs://s/d"), ok("file\nlink\nsub\n"));
  assertEquals(await world.run("ls -A nfs://s/d"), ok(".hidden\nfile\nlink\nsub\n"));
  assertEquals(await world.run("ls -aF nfs://s/d"), ok("./\n../\n.hidden\nfile*\nlink@\nsub/\n"));
  assertEquals(await world.run("ls -r nfs://s/d"), ok("sub\nlink\nfile\n"));
  assertEquals(await world.run("ls -d nfs://s/d nfs://s/d/file"), ok("nfs://s/d\nnfs://s/d/file\n"));
  assertEquals(await world.run("ls -R nfs://s/d"), ok("nfs://s/d:\nfile\nlink\nsub\n\nnfs://s/d/sub:\n"));
  assertEquals(await world.run("ls nfs://s/d/file nfs://s/d/sub"), ok("nfs://s/d/file\n\nnfs://s/d/sub:\n"));
  const long = await world.run("ls -ln nfs://s/d");
  assertMatch(
    long.out,
    /^total \d+\n-rwxr-xr-x 1 0 0 +5 Jan {2}1 {2}1971 file\nlrwxrwxrwx 1 0 0 +4 .* link -> file\ndrwx/,
  );
  assertEquals(await world.run("ls -lhd nfs://s/d/nope nfs://s/d/file").then(({ status, err }) => [status, err]), [
    2,
    "weft ls: cannot access 'nfs://s/d/nope': No such file or directory\n",
  ]);
  world.columns = 40;
  assertEquals(await world.run("ls nfs://s/d"), ok("file  link  sub\n"));
  await fs.writeTextFile("d/\x1b[2Jevil", "");
  assertEquals(await world.run("ls nfs://s/d"), ok("?[2Jevil  file  link  sub\n"));
});

Deno.test("ls in columns, filled downwards", async () => {
  await using world = await World.create();
  await world.fs.mkdir("d");
  for (let at = 0; at < 10; at++) await world.fs.writeTextFile(`d/name${at}`, "");
  world.columns = 24;
  assertEquals(
    (await world.run("ls nfs://s/d")).out,
    "name0  name4  name8\nname1  name5  name9\nname2  name6\nname3  name7\n",
  );
});

Deno.test("stat and df", async () => {
  await using world = await World.create({ bytesMax: 1 << 30 });
  await world.fs.writeTextFile("f", "hello");
  await world.fs.symlink("f", "l");
  assertEquals(
    await world.run(["stat", "-c", "%n %s %a %A %F %u %h %%", "nfs://s/f"]),
    ok("nfs://s/f 5 644 -rw-r--r-- regular file 0 1 %\n"),
  );
  assertEquals(await world.run(["stat", "-c", "%N %F", "nfs://s/l"]), ok("'nfs://s/l' -> 'f' symbolic link\n"));
  assertEquals(await world.run(["stat", "-Lc", "%F", "nfs://s/l"]), ok("regular file\n"));
  const long = (await world.run("stat nfs://s/f")).out;
  assertMatch(
    long,
    /^ {2}File: nfs:\/\/s\/f\n {2}Size: 5 .*regular file\nDevice: .*\nAccess: \(0644\/-rw-r--r--\) {2}Uid: /,
  );
  assertEquals(
    await world.run("stat nfs://s/no"),
    failed("weft stat: cannot stat 'nfs://s/no': No such file or directory"),
  );
  assertMatch((await world.run("df -h nfs://s/")).out, /^Filesystem +Size +Used Available Use%\nnfs:\/\/s\/ +1\.0G /);
  assertMatch((await world.run("df nfs://s/")).out, /1K-blocks[^]*1048576/);
  assertMatch((await world.run("df -i nfs://s/f")).out, /Inodes[^]*nfs:\/\/s\/f/);
});

Deno.test("rm", async () => {
  await using world = await World.create();
  await world.fs.mkdir("d/deep/er", { recursive: true });
  await world.fs.writeTextFile("d/deep/f", "");
  await world.fs.writeTextFile("f", "");
  assertEquals(await world.run("rm -v nfs://s/f"), ok("removed 'nfs://s/f'\n"));
  assertEquals(
    await world.run("rm nfs://s/f"),
    failed("weft rm: cannot remove 'nfs://s/f': No such file or directory"),
  );
  assertEquals(await world.run("rm -f nfs://s/f"), ok());
  assertEquals(await world.run("rm -f"), ok());
  assertEquals(await world.run("rm nfs://s/d"), failed("weft rm: cannot remove 'nfs://s/d': Is a directory"));
  assertEquals(await world.run("rm -d nfs://s/d"), failed("weft rm: cannot remove 'nfs://s/d': Directory not empty"));
  assertEquals(
    await world.run("rm -rf nfs://s/"),
    failed("weft rm: refusing to remove the root of what is exported: 'nfs://s/'"),
  );
  assertEquals(
    await world.run("rm -rf nfs://s/d/.."),
    failed("weft rm: refusing to remove '.' or '..' directory: skipping 'nfs://s/d/..'"),
  );
  assertEquals(await world.run("rm -r nfs://s/d"), ok());
  assertEquals((await Array.fromAsync(world.fs.readDir("/"))).length, 0);
});

Deno.test("mv on a server, and to and from here", async () => {
  await using world = await World.create();
  const { fs, local } = world;
  await fs.mkdir("d");
  await fs.writeTextFile("a", "A");
  assertEquals(await world.run("mv -v nfs://s/a nfs://s/b"), ok("renamed 'nfs://s/a' -> 'nfs://s/b'\n"));
  assertEquals(await world.run("mv nfs://s/b nfs://s/d"), ok());
  assertEquals(await fs.readTextFile("d/b"), "A");
  assertEquals(
    await world.run("mv nfs://s/no nfs://s/d"),
    failed("weft mv: cannot stat 'nfs://s/no': No such file or directory"),
  );
  assertEquals(await world.run("mv nfs://s/d ~/tree"), ok());
  assertEquals(await Deno.readTextFile(`${local}/tree/b`), "A");
  assertEquals((await Array.fromAsync(fs.readDir("/"))).length, 0);
  assertEquals(await world.run("mv ~/tree/b nfs://s/c"), ok());
  assertEquals(await fs.readTextFile("c"), "A");
  assertEquals(await Array.fromAsync(Deno.readDir(`${local}/tree`)), []);
  await fs.writeTextFile("e", "E");
  assertEquals(await world.run("mv -n nfs://s/c nfs://s/e"), ok());
  assertEquals(await fs.readTextFile("e"), "E");
});

Deno.test("cp of files, there and back", async () => {
  await using world = await World.create();
  const { fs, local } = world;
  await Deno.writeTextFile(`${local}/a`, "A");
  await Deno.chmod(`${local}/a`, 0o751);
  await Deno.utime(`${local}/a`, 1, 1_000_000_000);
  assertEquals(await world.run("cp ~/a nfs://s/"), ok());
  assertEquals([await fs.readTextFile("a"), (await fs.stat("a")).mode], ["A", 0o100751]);
  assertEquals(await world.run("cp -pv nfs://s/a nfs://s/b"), ok("'nfs://s/a' -> 'nfs://s/b'\n"));
  assertEquals(await world.run("cp -p ~/a nfs://s/p"), ok());
  assertEquals((await fs.stat("p")).mtime?.getTime(), 1e12);
  assertEquals(await world.run("cp -p nfs://s/p nfs://s/b ~/"), ok());
  assertEquals((await Deno.stat(`${local}/p`)).mtime?.getTime(), 1e12);
  assertEquals(await Deno.readTextFile(`${local}/b`), "A");
  assertEquals(await world.run("cp -t nfs://s/ ~/a ~/b"), ok());
  await fs.symlink("a", "link");
  assertEquals(await world.run("cp nfs://s/link ~/followed"), ok());
  assertEquals((await Deno.lstat(`${local}/followed`)).isFile, true);
  assertEquals(await world.run("cp -P nfs://s/link ~/kept"), ok());
  assertEquals(await Deno.readLink(`${local}/kept`), "a");
});

Deno.test("cp: what goes wrong", async () => {
  await using world = await World.create();
  const { fs, local } = world;
  await fs.mkdir("d");
  await fs.writeTextFile("f", "F");
  await Deno.mkdir(`${local}/d`);
  await Deno.writeTextFile(`${local}/f`, "local");
  const cases: [string, string][] = [
    ["cp nfs://s/no ~/x", "cannot stat 'nfs://s/no': No such file or directory"],
    ["cp ~/no nfs://s/x", "cannot stat '~/no': No such file or directory"],
    ["cp nfs://s/d ~/x", "-r not specified; omitting directory 'nfs://s/d'"],
    ["cp nfs://s/f ~/no/x", "cannot create regular file '~/no/x': No such file or directory"],
    ["cp nfs://s/f nfs://s/f", "'nfs://s/f' and 'nfs://s/f' are the same file"],
    ["cp nfs://s/f nfs://s/d/../f", "'nfs://s/f' and 'nfs://s/d/../f' are the same file"],
    ["cp nfs://s/f nfs://s/d nfs://s/no", "target 'nfs://s/no': No such file or directory"],
    ["cp nfs://s/f nfs://s/d nfs://s/f", "target 'nfs://s/f': Not a directory"],
    ["cp -r nfs://s/d nfs://s/d/e", "cannot copy a directory, 'nfs://s/d', into itself, 'nfs://s/d/e'"],
    ["cp -r nfs://s/d ~/f", "cannot overwrite non-directory '~/f' with directory 'nfs://s/d'"],
    ["cp nfs://s/f nfs://s/new/", "cannot create regular file 'nfs://s/new/': Not a directory"],
    ["cp nfs://s/f ~/new/", "cannot create regular file '~/new/': Not a directory"],
    ["cp -r nfs://s/d nfs://s/no/e", "cannot create directory 'nfs://s/no/e': No such file or directory"],
    ["cp nfs://s/f/ ~/x", "cannot stat 'nfs://s/f/': Not a directory"],
    ["cp -T nfs://s/f ~/d", "cannot overwrite directory '~/d' with non-directory 'nfs://s/f'"],
  ];
  for (const [line, message] of cases) assertEquals(await world.run(line), failed(`weft cp: ${message}`), line);
  const usage: [string, string][] = [
    ["cp", "missing file operand"],
    ["cp nfs://s/f", "missing destination file operand after 'nfs://s/f'"],
    ["cp -T a b c", "extra operand 'b'"],
    ["cp --sparse=maybe a b", "invalid argument 'maybe' for '--sparse': use auto, always or never"],
  ];
  for (const [line, message] of usage) {
    assertEquals(
      await world.run(line),
      failed(`weft cp: ${message}\nTry 'weft cp --help' for more information.`),
      line,
    );
  }
});

Deno.test("cp to a full disk, and to a read-only export", async () => {
  await using world = await World.create({ bytesMax: 1 << 20, transferBytesMax: 65536 });
  await Deno.writeFile(`${world.local}/big`, new Uint8Array(3 << 20).fill(1));
  assertEquals(
    await world.run("cp ~/big nfs://s/big"),
    failed("weft cp: error copying '~/big' to 'nfs://s/big': No space left on device"),
  );
  // What fitted is whole as far as it goes.
  const left = await world.fs.readFile("big");
  assertEquals(left, new Uint8Array(left.byteLength).fill(1));
  await using locked = await World.create({ readOnly: true });
  await Deno.writeTextFile(`${locked.local}/f`, "x");
  await Deno.mkdir(`${locked.local}/d`);
  assertEquals(
    await locked.run("cp -r ~/f ~/d nfs://s/"),
    failed(
      "weft cp: cannot create regular file 'nfs://s/f': Read-only file system\n" +
        "weft cp: cannot create directory 'nfs://s/d': Read-only file system",
    ),
  );
  assertEquals(
    await locked.run("rm -f nfs://s/"),
    failed("weft rm: refusing to remove the root of what is exported: 'nfs://s/'"),
  );
});

Deno.test("cp -n, -f", async () => {
  await using world = await World.create({ root: { mode: 0o777 } });
  const { fs, local } = world;
  await fs.writeTextFile("f", "F");
  await Deno.writeTextFile(`${local}/f`, "local");
  assertEquals(await world.run("cp -n nfs://s/f ~/f"), ok());
  assertEquals(await Deno.readTextFile(`${local}/f`), "local");
  await fs.writeTextFile("locked", "x");
  await fs.chmod("locked", 0o400);
  assertEquals(
    await world.run("cp ~/f nfs://s/locked?uid=1000"),
    failed("weft cp: cannot create regular file 'nfs://s/locked': Permission denied"),
  );
  assertEquals(await world.run("cp -f ~/f nfs://s/locked?uid=1000"), ok());
  assertEquals(await fs.readTextFile("locked"), "local");
});

/** Everything below a directory: kinds, modes, contents. */
async function snapshot(
  api: Pick<NfsFileSystem, "readDir" | "lstat" | "readFile" | "readLink">,
  path: string,
): Promise<string[]> {
  const found: string[] = [];
  const visit = async (at: string): Promise<void> => {
    for await (const { name } of api.readDir(`${path}${at}`)) {
      const here = `${at}/${name}`;
      const info = await api.lstat(`${path}${here}`);
      const mode = (info.mode! & 0o7777).toString(8);
      if (info.isDirectory) {
        found.push(`${here}/ ${mode}`);
        await visit(here);
      } else if (info.isSymlink) {
        found.push(`${here} -> ${await api.readLink(`${path}${here}`)}`);
      } else {
        found.push(`${here} ${mode} ${(await api.readFile(`${path}${here}`)).toBase64()}`);
      }
    }
  };
  await visit("");
  return found.sort();
}

Deno.test("cp -r of trees, there, across and back", async () => {
  await using world = await World.create();
  const { fs, local } = world;
  await Deno.mkdir(`${local}/tree/empty`, { recursive: true });
  await Deno.mkdir(`${local}/tree/many/deep/er`, { recursive: true });
  for (let at = 0; at < 150; at++) await Deno.writeTextFile(`${local}/tree/many/${at}`, "x".repeat(at * 37));
  await Deno.writeTextFile(`${local}/tree/many/deep/er/file`, "deep");
  await Deno.symlink("../many/1", `${local}/tree/empty/link`);
  await Deno.symlink("/nowhere", `${local}/tree/dangling`);
  await Deno.chmod(`${local}/tree/many/deep`, 0o555);
  await Deno.chmod(`${local}/tree/many/2`, 0o600);
  const expected = await snapshot(Deno as never, `${local}/tree`);
  assertEquals(await world.run("cp -r ~/tree nfs://s/"), ok());
  assertEquals(await snapshot(fs, "/tree"), expected);
  assertEquals(await world.run("cp -r nfs://s/tree nfs://s/copy"), ok());
  assertEquals(await snapshot(fs, "/copy"), expected);
  assertEquals(await world.run("cp -a nfs://s/tree ~/back"), ok());
  assertEquals(await snapshot(Deno as never, `${local}/back`), expected);
  assertEquals(await world.run("cp -r nfs://s/ ~/all"), ok());
  assertEquals(await snapshot(Deno as never, `${local}/all/tree`), expected);
  await Deno.chmod(`${local}/tree/many/deep`, 0o755);
  for (const copy of ["back", "all/tree", "all/copy"]) await Deno.chmod(`${local}/${copy}/many/deep`, 0o755);
});

Deno.test("cp -rL copies what links point to", async () => {
  await using world = await World.create();
  await world.fs.mkdir("d/sub", { recursive: true });
  await world.fs.writeTextFile("d/f", "F");
  await world.fs.symlink("../f", "d/sub/l");
  await world.fs.symlink("sub", "d/s");
  await world.fs.symlink("no", "d/dangling");
  assertEquals(
    await world.run("cp -rL nfs://s/d ~/d"),
    failed("weft cp: cannot stat 'nfs://s/d/dangling': No such file or directory"),
  );
  assertEquals(await snapshot(Deno as never, `${world.local}/d`), [
    "/f 644 Rg==",
    "/s/ 755",
    "/s/l 644 Rg==",
    "/sub/ 755",
    "/sub/l 644 Rg==",
  ]);
});

Deno.test("a server's links do not lead a copy elsewhere", async () => {
  await using world = await World.create();
  const { fs, local } = world;
  await Deno.mkdir(`${local}/outside`);
  await fs.mkdir("one/x", { recursive: true });
  await fs.mkdir("two/x/y", { recursive: true });
  await fs.symlink(`${local}/outside`, "one/x/y");
  await fs.writeTextFile("two/x/y/planted", "evil");
  await fs.mkdir("three/x", { recursive: true });
  await fs.writeTextFile("three/x/y", "evil");
  await Deno.mkdir(`${local}/to`);
  assertEquals(
    await world.run("cp -r nfs://s/one/x nfs://s/two/x nfs://s/three/x ~/to"),
    failed(
      "weft cp: will not copy 'nfs://s/two/x/y' through just-created symlink '~/to/x/y'\n" +
        "weft cp: will not copy 'nfs://s/three/x/y' through just-created symlink '~/to/x/y'",
    ),
  );
  assertEquals(await Array.fromAsync(Deno.readDir(`${local}/outside`)), []);
  // Also where the link was there before: a tree is not merged into what a link points to.
  assertEquals(
    await world.run("cp -r nfs://s/two/x ~/to"),
    failed("weft cp: cannot overwrite non-directory '~/to/x/y' with directory 'nfs://s/two/x/y'"),
  );
  assertEquals(await Array.fromAsync(Deno.readDir(`${local}/outside`)), []);
});

Deno.test("cp of files in blocks: sizes around the block's", async () => {
  await using world = await World.create({ transferBytesMax: 4096 });
  const { fs, local } = world;
  for (const size of [0, 1, 4095, 4096, 4097, 8192, 100_000]) {
    const data = new Uint8Array(size).map((_, at) => (at * 7 + size) & 0xff);
    await Deno.writeFile(`${local}/f`, data);
    assertEquals(await world.run("cp ~/f nfs://s/f"), ok());
    assertEquals(await fs.readFile("f"), data);
    assertEquals(await world.run("cp nfs://s/f ~/g"), ok());
    assertEquals(await Deno.readFile(`${local}/g`), data);
    assertEquals(await world.run("cp nfs://s/f nfs://s/h"), ok());
    assertEquals(await fs.readFile("h"), data);
  }
});

Deno.test("holes stay holes, both ways", async () => {
  await using world = await World.create();
  const { fs, local } = world;
  const size = 64 << 20;
  {
    using file = await Deno.open(`${local}/sparse`, { write: true, createNew: true });
    await file.seek(20 << 20, Deno.SeekMode.Start);
    await file.write(new TextEncoder().encode("in the middle"));
    await file.truncate(size);
  }
  assertEquals(await world.run("cp ~/sparse nfs://s/sparse"), ok());
  const info = await fs.stat("sparse");
  assertEquals(info.size, size);
  assertEquals(info.attributes.used <= 1n << 20n, true);
  assertEquals(await world.run("cp nfs://s/sparse ~/back"), ok());
  const back = await Deno.stat(`${local}/back`);
  assertEquals(back.size, size);
  assertEquals((back.blocks ?? 0) * 512 <= 1 << 20, true);
  assertEquals(await Deno.readFile(`${local}/back`), await Deno.readFile(`${local}/sparse`));
  assertEquals(await world.run("cp --sparse=never nfs://s/sparse nfs://s/full"), ok());
  assertEquals((await fs.stat("full")).attributes.used >= BigInt(size), true);
  assertEquals(await world.run("cp --sparse=always nfs://s/full nfs://s/holes"), ok());
  assertEquals((await fs.stat("holes")).attributes.used <= 1n << 20n, true);
});

/** Aborts after some WRITEs have been answered. */
function abortAfter(world: World, count: number): AbortSignal {
  const controller = new AbortController();
  let seen = 0;
  world.server.onReply = (procedure) => {
    if (procedure === 7 && ++seen === count) controller.abort(new DOMException("interrupted", "AbortError"));
    return true;
  };
  return controller.signal;
}

Deno.test("an interrupted copy can be continued", async () => {
  await using world = await World.create({ transferBytesMax: 16384 });
  const { fs, local } = world;
  const data = new Uint8Array(1_000_003).map((_, at) => (at * 13 + (at >> 8)) & 0xff);
  await Deno.writeFile(`${local}/f`, data);
  await Deno.utime(`${local}/f`, 1, 1);
  const interrupted = await world.run("cp ~/f nfs://s/f", { signal: abortAfter(world, 20) });
  assertEquals(interrupted, { status: 130, out: "", err: "" });
  world.server.onReply = () => true;
  const partial = await fs.readFile("f");
  assertEquals(partial.byteLength > 0 && partial.byteLength < data.byteLength, true);
  assertEquals(partial, data.slice(0, partial.byteLength)); // no gap in what is there
  assertEquals(await world.run("cp --continue ~/f nfs://s/f"), ok());
  assertEquals(await fs.readFile("f"), data);
  // What is complete is left alone.
  let writes = 0;
  world.server.onCall = (_, procedure) => {
    if (procedure === 7) writes++;
    return true;
  };
  assertEquals(await world.run("cp --continue ~/f nfs://s/f"), ok());
  assertEquals(writes, 0);
});

Deno.test("a copy to a server goes on a little before where it was left", async () => {
  await using world = await World.create();
  const { fs, local } = world;
  const MIB = 1 << 20;
  {
    using file = await Deno.open(`${local}/f`, { write: true, createNew: true });
    await file.write(new TextEncoder().encode("source"));
    await file.seek(35 * MIB, Deno.SeekMode.Start);
    await file.write(new TextEncoder().encode("in doubt"));
    await file.seek(199 * MIB, Deno.SeekMode.Start);
    await file.write(new TextEncoder().encode("the rest"));
    await file.truncate(200 * MIB);
  }
  await Deno.utime(`${local}/f`, 1, 1);
  // What differs at the beginning shows what was not copied again.
  await fs.writeTextFile("f", "server");
  await fs.truncate("f", 190 * MIB);
  assertEquals(await world.run("cp --continue ~/f nfs://s/f"), ok());
  using file = await fs.open("f");
  const textAt = async (offset: number, length: number) => {
    const bytes = new Uint8Array(length);
    await file.readAt(bytes, offset);
    return new TextDecoder().decode(bytes);
  };
  assertEquals(await textAt(0, 6), "server");
  assertEquals(await textAt(35 * MIB, 8), "in doubt");
  assertEquals(await textAt(199 * MIB, 8), "the rest");
  assertEquals((await file.stat()).size, 200 * MIB);
});

Deno.test("an interrupted copy of a tree can be continued, there and back", async () => {
  await using world = await World.create({ transferBytesMax: 16384 });
  const { fs, local } = world;
  await Deno.mkdir(`${local}/tree/deep`, { recursive: true });
  const data = new Uint8Array(200_000).map((_, at) => (at * 13 + (at >> 8)) & 0xff);
  for (const name of ["complete", "deep/half", "deep/missing"]) {
    await Deno.writeFile(`${local}/tree/${name}`, data);
    await Deno.utime(`${local}/tree/${name}`, 1, 1);
  }
  await fs.mkdir("tree/deep", { recursive: true });
  await fs.writeFile("tree/complete", data);
  await fs.writeFile("tree/deep/half", data.slice(0, 100_000));
  const calls = new Map<number, number>();
  world.server.onCall = (_, procedure) => {
    calls.set(procedure, (calls.get(procedure) ?? 0) + 1);
    return true;
  };
  assertEquals(await world.run("cp -r --continue -T ~/tree nfs://s/tree"), ok());
  const expected = await snapshot(Deno as never, `${local}/tree`);
  assertEquals(await snapshot(fs, "/tree"), expected);
  const [READ, WRITE, all] = [6, 7, Math.ceil(data.byteLength / 16384)];
  assertEquals(calls.get(WRITE)! <= 2 * all, true, "what is complete is left alone");
  for (const name of ["complete", "deep/half", "deep/missing"]) await fs.utime(`tree/${name}`, 1, 1);
  await Deno.truncate(`${local}/tree/deep/half`, 100_000);
  await Deno.remove(`${local}/tree/deep/missing`);
  calls.clear();
  assertEquals(await world.run("cp -r --continue -T nfs://s/tree ~/tree"), ok());
  assertEquals(calls.get(READ)! < 2 * all, true, `${calls.get(READ)} READs: the half here is not read again`);
  assertEquals(await snapshot(Deno as never, `${local}/tree`), expected);
});

Deno.test("a copy to here goes on where it was left, and only there", async () => {
  await using world = await World.create({ transferBytesMax: 16384 });
  const { fs, local } = world;
  const data = new Uint8Array(500_000).map((_, at) => (at * 13 + (at >> 8)) & 0xff);
  await fs.writeFile("f", data);
  await fs.utime("f", 1, 1);
  await Deno.writeFile(`${local}/f`, data.slice(0, 300_000));
  let bytesRead = 0;
  world.server.onCall = (call, procedure) => {
    if (procedure === 6) {
      bytesRead += new DataView(call.message.buffer, call.message.byteOffset + call.message.byteLength - 4).getUint32(
        0,
      );
    }
    return true;
  };
  assertEquals(await world.run("cp --continue nfs://s/f ~/f"), ok());
  assertEquals(await Deno.readFile(`${local}/f`), data);
  assertEquals(bytesRead < 250_000, true);
  // A source that changed since is copied anew.
  await fs.writeFile("f", data.toReversed());
  await Deno.writeFile(`${local}/f`, data.slice(0, 300_000));
  await Deno.utime(`${local}/f`, 1, 1);
  assertEquals(await world.run("cp --continue nfs://s/f ~/f"), ok());
  assertEquals(await Deno.readFile(`${local}/f`), data.toReversed());
});

Deno.test("a copy survives crashes of the server, with what it had not committed lost", async () => {
  await using world = await World.create({ transferBytesMax: 16384 });
  const { fs, local, server } = world;
  const data = new Uint8Array(1_000_003).map((_, at) => (at * 13 + (at >> 8)) & 0xff);
  await Deno.writeFile(`${local}/f`, data);
  let seen = 0;
  server.onReply = (procedure) => {
    if (procedure === 7 && ++seen % 25 === 0 && seen < 100) void server.crash().then(() => server.restart());
    return true;
  };
  assertEquals(await world.run("cp ~/f nfs://s/f"), ok());
  await server.crash();
  server.restart();
  assertEquals(seen > 75, true);
  assertEquals(await fs.readFile("f"), data);
});

Deno.test("names that are not UTF-8 are copied on servers, and refused here with a word", async () => {
  await using world = await World.create();
  const { fs, server } = world;
  await fs.mkdir("d");
  await fs.writeTextFile("d/a\udcff", "x");
  assertEquals(await world.run("cp -r nfs://s/d nfs://s/e"), ok());
  assertEquals(await fs.readTextFile("e/a\udcff"), "x");
  assertEquals(await world.run("cat nfs://s/e/a%FF"), ok("x"));
  const { status, err } = await world.run("cp -r nfs://s/d ~/d");
  assertEquals(status, 1);
  assertMatch(err, /cannot create regular file '~\/d\/a'\$'\\377''': the name is not UTF-8/);
  assertEquals(server.exported.path, "/");
});
