import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { ROOT } from "../_ffi/build.ts";
import { until, within } from "../_testing/pair.ts";
import { ADVERTISEMENT_BYTES, Device, type QueuePair } from "../mod.ts";
import { Weft, weft } from "../_testing/weft.ts";

/** Reads until there is a match, or all there is. */
async function readTo(reader: ReadableStreamDefaultReader<string>, pattern?: RegExp): Promise<string> {
  let text = "";
  while (!pattern?.test(text)) {
    const { done, value } = await reader.read();
    if (done) break;
    text += value;
  }
  return text;
}

/** `weft ping` with its standard output to be read, or not to be read, by the test. Disposing kills it. */
function spawn(...args: string[]): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", `${ROOT}/main.ts`, "ping", ...args],
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

Deno.test("ping: rounds, and what they took", async () => {
  await using server = new Weft("ping", "-s", "-a", "127.0.0.1", "-p", "0", "-v");
  const port = String(await server.port());
  const { code, stdout, stderr } = await weft(
    "ping",
    "-C",
    "3",
    "-i",
    "0",
    "-v",
    "-p",
    port,
    "--crc",
    "on",
    "127.0.0.1",
  );
  assertEquals([code, stderr], [0, ""]);
  const lines = stdout.trimEnd().split("\n");
  assertEquals(lines[0], `PING 127.0.0.1:${port} by RDMA: 64 bytes, CRC on`);
  for (let round = 0; round < 3; round++) {
    assertMatch(lines[1 + 2 * round], new RegExp(`^64 bytes from 127\\.0\\.0\\.1: round=${round} time=\\d+\\.\\d us$`));
    assertStringIncludes(lines[2 + 2 * round], `ping data: rdma-ping-${round}: ${"ABCDEF".slice(round)}`);
  }
  assertMatch(
    lines.slice(7).join("\n"),
    /^--- .* ---\n3 rounds, min\/avg\/max\/mdev = \d+\.\d\/\d+\.\d\/\d+\.\d\/\d+\.\d us$/,
  );
  const served = await server.outcome;
  assertEquals(served.code, 0, served.stderr);
  assertMatch(served.stdout, /^(server ping data: rdma-ping-\d: .{50}\n){3}$/);
  assertMatch(served.stderr, /client 127\.0\.0\.1:\d+ has gone after 3 rounds\n$/);
});

Deno.test("ping: one client after the other and several at once, until Ctrl-C", async () => {
  await using server = new Weft("ping", "-s", "-P", "-a", "127.0.0.1", "-p", "0");
  const port = String(await server.port());
  await using endless = new Weft("ping", "-i", "0.01", "-S", "64K", "-p", port, "127.0.0.1");
  await server.says(/client 127/);
  for (let i = 0; i < 2; i++) {
    const { code, stdout } = await weft("ping", "-C", "2", "-i", "0", "-p", port, "127.0.0.1");
    assertEquals([code, stdout.split("\n").length], [0, 6]);
  }
  endless.process.kill("SIGINT");
  const { code, stdout, stderr } = await endless.outcome;
  assertEquals([code, stderr], [0, ""]);
  assertMatch(stdout, /65536 bytes from [^]*rounds, min/);
  await server.says(/(has gone after \d+ rounds\n[^]*){3}/);
  server.process.kill("SIGINT");
  assertEquals((await server.outcome).code, 0);
});

Deno.test("ping: a server that is killed, one that is none, and mistakes", async () => {
  await using server = new Weft("ping", "-s", "-a", "127.0.0.1", "-p", "0");
  const port = String(await server.port());
  await using client = new Weft("ping", "-i", "0.01", "-p", port, "127.0.0.1");
  await server.says(/client 127/);
  server.process.kill("SIGKILL");
  assertEquals((await client.outcome).code, 1);
  const refused = await weft("ping", "-p", port, "127.0.0.1");
  assertEquals(refused.code, 1);
  assertMatch(refused.stderr, /^weft ping: cannot connect to .*: connection refused$/m);
  for (const args of [[], ["-s", "-c", "x"], ["-S", "31", "x"], ["-C", "0", "x"], ["-x", "x"], ["a", "b"]]) {
    const outcome = await weft("ping", ...args);
    assertEquals([outcome.code, outcome.stdout], [2, ""]);
    assertMatch(outcome.stderr, /^weft ping: .*\nTry 'weft ping --help'/);
  }
});

Deno.test("ping: Ctrl-C ends a client whose server does not answer, with its statistics", async () => {
  await using server = new Weft("ping", "-s", "-a", "127.0.0.1", "-p", "0");
  await using client = spawn("-i", "0", "-p", String(await server.port()), "127.0.0.1");
  const stdout = client.stdout.pipeThrough(new TextDecoderStream()).getReader();
  await readTo(stdout, /round=/);
  const rest = readTo(stdout);
  server.process.kill("SIGSTOP");
  await until(() => /^State:\tT/m.test(Deno.readTextFileSync(`/proc/${server.process.pid}/status`)));
  client.kill("SIGINT");
  const { code } = await within(client.status, 30_000);
  assertEquals([code, await new Response(client.stderr).text()], [0, ""]);
  assertMatch(await rest, /^--- 127\.0\.0\.1 ping statistics ---\n\d+ rounds, min\/avg\/max\/mdev = /m);
});

Deno.test("ping: a server ends when nobody reads what it shows", async () => {
  await using server = spawn("-s", "-P", "-v", "-a", "127.0.0.1", "-p", "0");
  await server.stdout.cancel();
  const stderr = server.stderr.pipeThrough(new TextDecoderStream()).getReader();
  const [, port] = (await readTo(stderr, /:\d+\n/)).match(/:(\d+)\n/)!;
  await weft("ping", "-C", "2", "-i", "0", "-p", port, "127.0.0.1");
  assertEquals((await within(server.status, 30_000)).code, 141);
  assertEquals((await readTo(stderr)).includes("Broken pipe"), false);
});

Deno.test("ping: an other end that is no rping is told of in a line, at either end", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  const memory = pd.allocate(2 * ADVERTISEMENT_BYTES);
  const [incoming, outgoing] = [memory.sge(0, ADVERTISEMENT_BYTES), memory.sge(ADVERTISEMENT_BYTES)];
  for (
    const [length, complaint] of [[16, "round 0: the text came back changed"], [10, "it sent a message of 10 bytes"]]
  ) {
    const answer = (queuePair: QueuePair) => {
      queuePair.postRecv([incoming], ({ status }) => {
        if (status !== "success") return;
        answer(queuePair);
        queuePair.postSend({ opcode: "send", local: [{ ...outgoing, length: Number(length) }] });
      });
    };
    await using listener = device.listen({
      port: 0,
      onRequest: (request) => void request.accept({ pd, onReady: answer }),
    });
    const { code, stderr } = await weft("ping", "-C", "1", "-p", String(listener.port), "127.0.0.1");
    assertEquals([code, stderr.split("\n").length], [1, 2], stderr);
    assertStringIncludes(stderr, `${complaint}`);
  }
  await using server = new Weft("ping", "-s", "-a", "127.0.0.1", "-p", "0");
  const queuePair = await device.connect({ hostname: "127.0.0.1", port: await server.port(), pd });
  await queuePair.send([{ ...outgoing, length: 10 }]);
  const { code, stderr } = await server.outcome;
  assertEquals(code, 1);
  assertMatch(stderr, /\nweft ping: the other end is no rping: it sent a message of 10 bytes, not of 16\n$/);
});

Deno.test("ping: a full disk is told of in a line", async () => {
  const { code, stderr } = await new Deno.Command("sh", {
    args: ["-c", 'exec "$0" run -A --no-check "$1" ping --help >/dev/full', Deno.execPath(), `${ROOT}/main.ts`],
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const said = new TextDecoder().decode(stderr);
  assertEquals([code, said.split("\n").length], [1, 2], said);
  assertStringIncludes(said, "weft ping: cannot write: No space left on device");
});
