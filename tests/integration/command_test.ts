/**
 * The `weft` command as a process: exit statuses, signals, pipes, terminals, what it loads.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { ROOT } from "../../rdma/_ffi/build.ts";
import { pause } from "../../client/nfs/reconnecting_transport.ts";
import { freePort, WeftServer } from "../weft_server.ts";
import { startWeft, weft } from "./weft_command.ts";

Deno.test("help and version load nothing native", async () => {
  for (const args of [["--help"], ["--version"], ["cp", "--help"], ["serve", "--help"], ["ls", "--bad"]]) {
    const command = new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-read", "--allow-env", "--allow-sys", `${ROOT}/main.ts`, ...args],
      env: { NO_COLOR: "1", WEFT_LIBRARY: "/nonexistent" },
    });
    const { code, stdout, stderr } = await command.output();
    const decoder = new TextDecoder();
    if (args.includes("--bad")) {
      assertEquals(code, 2);
      assertStringIncludes(decoder.decode(stderr), "unrecognized option '--bad'");
    } else {
      assertEquals([code, decoder.decode(stderr)], [0, ""], args.join(" "));
      assertMatch(decoder.decode(stdout), /^(Usage: weft|weft \d)/);
    }
  }
});

Deno.test("importing the library loads nothing native", async () => {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--quiet", `const weft = await import("${ROOT}/mod.ts"); console.log(typeof weft.mount);`],
    env: { NO_COLOR: "1", WEFT_LIBRARY: "/nonexistent" },
  });
  const { code, stdout } = await command.output();
  assertEquals([code, new TextDecoder().decode(stdout)], [0, "function\n"]);
});

Deno.test("an unknown command, and none", async () => {
  assertEquals(await weft("frobnicate"), {
    status: 2,
    out: "",
    err: "weft: 'frobnicate' is not a weft command\nTry 'weft --help' for more information.\n",
  });
  const none = await weft();
  assertEquals([none.status, none.out], [2, ""]);
  assertStringIncludes(none.err, "Usage: weft COMMAND");
});

Deno.test("a server that is not there", async () => {
  const url = `nfs://127.0.0.1:${freePort()}/x`;
  const { status, err } = await weft("ls", url);
  assertEquals(status, 2);
  assertMatch(err, /^weft ls: cannot reach 'nfs:.*connection refused/i);
  assertEquals((await weft("cat", url)).status, 1);
});

Deno.test("a reader that goes away: quiet, with the status of SIGPIPE", async () => {
  await using server = await WeftServer.start();
  await Deno.writeFile(`${server.directory}/big`, new Uint8Array(50_000_000).fill(10));
  const script = `"${Deno.execPath()}" run -A "${ROOT}/main.ts" cat "$URL" | head -n 1; echo "\${PIPESTATUS[0]}"`;
  const command = new Deno.Command("bash", {
    args: ["-c", script],
    env: { URL: `nfs://127.0.0.1:${server.port}/big`, NO_COLOR: "1" },
  });
  const { stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  assertEquals([decoder.decode(stdout), decoder.decode(stderr)], ["\n141\n", ""]);
});

Deno.test("Ctrl-C ends a copy, which leaves what can be continued", async () => {
  await using server = await WeftServer.start();
  const local = await Deno.makeTempDir({ prefix: "weft-command-" });
  try {
    const size = 700_000_000;
    {
      // Not sparse to the copier, quick to make.
      using file = await Deno.open(`${local}/in`, { write: true, createNew: true });
      await file.write(new Uint8Array(1 << 20).fill(7));
      await file.truncate(size);
    }
    const url = `nfs://127.0.0.1:${server.port}/in`;
    const copy = startWeft("cp", "--sparse=never", `${local}/in`, url);
    const begun = async () => ((await Deno.stat(`${server.directory}/in`).catch(() => undefined))?.size ?? 0) > 30e6;
    while (!await begun()) await pause(5);
    copy.kill("SIGINT");
    const { code, stderr } = await copy.output();
    assertEquals([code, new TextDecoder().decode(stderr)], [130, ""]);
    const left = (await Deno.stat(`${server.directory}/in`)).size;
    assert(left > 0 && left < size, `${left} bytes are left`);
    assertEquals(await weft("cp", "--continue", "--sparse=never", `${local}/in`, url), { status: 0, out: "", err: "" });
    const compare = await new Deno.Command("cmp", { args: [`${local}/in`, `${server.directory}/in`] }).output();
    assertEquals(compare.code, 0);
  } finally {
    await Deno.remove(local, { recursive: true });
  }
});

Deno.test("Ctrl-C ends a command with 130, SIGTERM with 143, and not a word, also where its server has gone quiet", async () => {
  await using server = await WeftServer.start();
  const { directory } = server;
  const FILES = 300;
  for (const tree of ["flat", "flat2"]) {
    await Deno.mkdir(`${directory}/${tree}`);
    for (let at = 0; at < FILES; at++) await Deno.writeTextFile(`${directory}/${tree}/${at}`, "");
  }
  for (let at = 0; at < 20; at++) {
    await Deno.mkdir(`${directory}/deep/${at}`, { recursive: true });
    for (let file = 0; file < 20; file++) await Deno.writeTextFile(`${directory}/deep/${at}/${file}`, "");
  }
  await Deno.writeFile(`${directory}/big`, new Uint8Array(1 << 20));
  const left = (tree: string) => Array.from(Deno.readDirSync(`${directory}/${tree}`)).length;
  const removing = () => left("flat") < FILES / 2;
  const lines: [command: string, isEnough: (repliedBytes: number) => boolean, signal?: Deno.Signal][] = [
    ["ls -R flat", (bytes) => bytes > 16_000], // in the middle of a listing
    ["ls -lR deep", (bytes) => bytes > 40_000], // with directories still to come
    ["cat big", (bytes) => bytes > 100_000],
    ["stat flat", (bytes) => bytes > 0], // before it is mounted
    ["ls -R flat", (bytes) => bytes > 16_000, "SIGTERM"],
    ["stat flat", (bytes) => bytes > 0, "SIGTERM"],
    ["rm -r flat", removing],
    ["rm -r flat flat2", () => left("flat") < FILES / 4],
  ];
  for (const [line, isEnough, signal = "SIGINT"] of lines) {
    const [name, ...args] = line.split(" ");
    using relay = stallingRelay(server.port, isEnough);
    const url = (path: string) => `nfs://127.0.0.1:${relay.port}/${path}?proto=tcp`;
    const command = startWeft(name, ...args.map((arg) => arg.startsWith("-") ? arg : url(arg)));
    const output = command.output();
    await relay.stalled;
    command.kill(signal);
    const { code, stderr } = await output;
    assertEquals([code, new TextDecoder().decode(stderr)], [signal === "SIGTERM" ? 143 : 130, ""], line);
  }
  assert(left("flat") > 0, "something is left");
  assertEquals(left("flat2"), FILES, "what comes after the interrupt is not begun");
});

/** A way to a server of this machine that lets no more answers through once there were enough of them. */
function stallingRelay(port: number, isEnough: (repliedBytes: number) => boolean) {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { promise: stalled, resolve: stall } = Promise.withResolvers<void>();
  let repliedBytes = 0;
  (async () => {
    for await (const client of listener) {
      const server = await Deno.connect({ hostname: "127.0.0.1", port });
      void client.readable.pipeTo(server.writable).catch(() => {});
      const replies = new TransformStream<Uint8Array, Uint8Array>({
        transform(bytes, controller) {
          repliedBytes += bytes.byteLength;
          if (!isEnough(repliedBytes)) return controller.enqueue(bytes);
          stall();
          return new Promise(() => {});
        },
      });
      void server.readable.pipeThrough(replies).pipeTo(client.writable).catch(() => {});
    }
  })();
  return { port: listener.addr.port, stalled, [Symbol.dispose]: () => listener.close() };
}

Deno.test("progress is shown on a terminal, and only there", async () => {
  await using server = await WeftServer.start();
  const local = await Deno.makeTempDir({ prefix: "weft-command-" });
  try {
    {
      using file = await Deno.open(`${local}/in`, { write: true, createNew: true });
      await file.truncate(600_000_000);
    }
    const url = `nfs://127.0.0.1:${server.port}/in`;
    const line = `"${Deno.execPath()}" run -A "${ROOT}/main.ts" cp --sparse=never "${local}/in" "${url}"`;
    // script(1) gives the command a terminal.
    const command = new Deno.Command("script", {
      args: ["--quiet", "--return", "--command", line, "/dev/null"],
      env: { NO_COLOR: "1", TERM: "xterm" },
      stdin: "null",
    });
    const { code, stdout } = await command.output();
    const shown = new TextDecoder().decode(stdout);
    assertEquals(code, 0, shown);
    assertMatch(shown, /\r +\d+% {2}[\d.]+[KMG]\/573M {2}[\d.]+ [kMG]?B\/s {2}[\d:-]+ left/);
    assert(shown.endsWith("\r\x1b[K"), "the line goes away at the end");
  } finally {
    await Deno.remove(local, { recursive: true });
  }
});

Deno.test("RDMA first, TCP where the peer has none", async () => {
  // A server that hears MPA and hangs up; then it speaks TCP for us through a relay to the real one.
  await using server = await WeftServer.start();
  await Deno.writeTextFile(`${server.directory}/f`, "by TCP");
  for (const manner of ["hangs up", "answers otherwise", "keeps silent"]) {
    const relay = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const seen: string[] = [];
    const serve = (async () => {
      for await (const connection of relay) {
        const first = new Uint8Array(4096);
        const length = await connection.read(first) ?? 0;
        const isMpa = new TextDecoder().decode(first.subarray(0, 15)) === "MPA ID Req Fram";
        seen.push(isMpa ? "mpa" : "tcp");
        if (isMpa) {
          if (manner === "answers otherwise") await connection.write(new Uint8Array(20).fill(0x80));
          if (manner === "keeps silent") void connection.read(first).catch(() => {}).finally(() => connection.close());
          else connection.close();
          continue;
        }
        const other = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
        await other.write(first.subarray(0, length));
        void connection.readable.pipeTo(other.writable).catch(() => {});
        void other.readable.pipeTo(connection.writable).catch(() => {});
      }
    })();
    const url = `nfs://127.0.0.1:${relay.addr.port}/f`;
    assertEquals(await weft("cat", url), { status: 0, out: "by TCP", err: "" }, manner);
    assertEquals(seen, ["mpa", "tcp"]);
    assertEquals((await weft("cat", `${url}?proto=rdma`)).status, 1);
    assertEquals(await weft("cat", `${url}?proto=tcp`), { status: 0, out: "by TCP", err: "" });
    assertEquals(seen, ["mpa", "tcp", "mpa", "tcp"]);
    relay.close();
    await serve;
  }
});

Deno.test("client and server introduce themselves, with CRCs where either was told to ask for them", async () => {
  const CRC_FLAG = 0x40;
  /** RFC 8797 §4.1: magic number, version, flags (remote invalidation), inline sizes. */
  const PRIVATE_DATA = /^f6ab0e180101/;
  for (const args of [[], ["--crc=off"], ["--crc=on"]]) {
    await using server = await WeftServer.start({ args });
    await Deno.writeTextFile(`${server.directory}/f`, "text");
    for (const option of ["", "&crc=off", "&crc=on"]) {
      const relay = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const frames: Uint8Array[] = []; // the request and the reply: each comes in one piece
      const relaying = (async () => {
        using client = await relay.accept();
        using other = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
        const copy = async (from: Deno.TcpConn, to: Deno.TcpConn) => {
          let isFirst = true;
          for await (const bytes of from.readable) {
            if (isFirst) frames.push(bytes.slice());
            isFirst = false;
            for (let at = 0; at < bytes.byteLength;) at += await to.write(bytes.subarray(at));
          }
          await to.closeWrite().catch(() => {});
        };
        await Promise.allSettled([copy(client, other), copy(other, client)]);
      })();
      const about = `server ${args}, URL ${option}`;
      const url = `nfs://127.0.0.1:${relay.addr.port}/f?proto=rdma${option}`;
      assertEquals(await weft("cat", url), { status: 0, out: "text", err: "" }, about);
      relay.close();
      await relaying;
      const asked = option === "&crc=on";
      const granted = asked || args.includes("--crc=on");
      assertEquals(frames.map((frame) => (frame[16] & CRC_FLAG) !== 0), [asked, granted], about);
      for (const frame of frames) assertMatch(frame.subarray(24).toHex(), PRIVATE_DATA);
    }
  }
});

Deno.test("a command acts with the groups of its process", async () => {
  if (Deno.uid() !== 0) return console.error("SKIPPED, NEEDS ROOT: groups of a process");
  const GROUP = 4321;
  await using server = await WeftServer.start({ args: ["--root-squash"] }); // root is nobody, in the groups that it is in
  await Deno.writeTextFile(`${server.directory}/f`, "for the group", { mode: 0o640 });
  await Deno.chown(`${server.directory}/f`, 1000, GROUP);
  const cat = async (...groups: string[]) => {
    const command = ["run", "-A", `${ROOT}/main.ts`, "cat", `nfs://127.0.0.1:${server.port}/f`];
    const { stdout, stderr } = await new Deno.Command("setpriv", {
      args: [...groups, Deno.execPath(), ...command],
      env: { NO_COLOR: "1" },
    }).output();
    return [new TextDecoder().decode(stdout), /Permission denied/.test(new TextDecoder().decode(stderr))];
  };
  assertEquals(await cat(`--groups=7,${GROUP}`), ["for the group", false]);
  assertEquals(await cat("--clear-groups"), ["", true]);
});
