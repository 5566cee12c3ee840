import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { CONGESTIONS } from "../../_ffi/layout.ts";
import { Weft, weft } from "../../_testing/weft.ts";
import { Device } from "../../device.ts";
import type { Congestion } from "../../listener.ts";
import type { MemoryRegion } from "../../memory_region.ts";
import type { QueuePair } from "../../queue_pair.ts";
import { encodeDestination, encodeMtu, encodeNumber, encodeVersion } from "./messages.ts";

/** A server that waits, and its port. */
async function serve(operation: string, ...options: string[]): Promise<{ server: Weft; port: number }> {
  const server = new Weft("perf", operation, "--perftest", ...options, "-p", "0", "--listen", "127.0.0.1");
  return { server, port: await server.port() };
}

/** Runs both ends with the same options; returns what the client prints. */
async function measure(operation: string, ...options: string[]): Promise<string> {
  const { server, port } = await serve(operation, ...options);
  await using _ = server;
  const client = await weft("perf", operation, "--perftest", ...options, "-p", String(port), "127.0.0.1");
  assertEquals([client.code, client.stderr], [0, ""]);
  const { code, stdout, stderr } = await server.outcome;
  assertEquals([code, stdout], [0, ""], stderr);
  return client.stdout;
}

for (const verb of ["write", "read", "send"]) {
  for (const kind of ["bw", "lat"]) {
    Deno.test(`perftest: ${verb}_${kind} of every size between two of ours`, async () => {
      const output = await measure(`${verb}_${kind}`, "-a", "-n", "5", "--json");
      const rows = output.trimEnd().split("\n").map((line) => JSON.parse(line));
      assertEquals(rows.map(({ size }) => size), Array.from({ length: 23 }, (_, i) => 2 ** (i + 1)));
      for (const { op, iterations, bytesPerSecond, usMin } of rows) {
        assertEquals([op, iterations], [`${verb}_${kind}`, 5]);
        assertEquals((kind === "bw" ? bytesPerSecond : usMin) > 0, true);
      }
    });
  }
}

Deno.test("perftest: in a table, with CRC", async () => {
  const lines = (await measure("write_bw", "-n", "100", "-s", "4K", "--crc", "on")).split("\n");
  assertMatch(lines[0], /bandwidth with perftest on 127\.0\.0\.1:\d+: 1 connection, depth 128, CRC on, polling$/);
  assertMatch(lines[2], /^ 4096 +100 +\d+\.\d\d +\d+\.\d\d +\d+\.\d{6}$/);
});

Deno.test("perftest: more Sends than there are receives, and ping-pongs beyond the 256 marks of a message", async () => {
  await measure("send_bw", "-s", "64", "-n", "3001", "-r", "7", "-t", "32");
  await measure("send_bw", "-s", "64", "-n", "9", "-r", "8");
  await measure("write_lat", "-s", "7", "-n", "600");
  await measure("send_lat", "-s", "64", "-n", "300", "-r", "2");
});

Deno.test("perftest: for a time, where the server is idle", async () => {
  const { iterations, messagesPerSecond } = JSON.parse(await measure("write_bw", "-D", "0.2", "--json"));
  assertEquals(iterations / messagesPerSecond >= 0.2, true);
  assertEquals(JSON.parse(await measure("read_lat", "-D", "0.1", "--json")).size, 2);
});

Deno.test("perftest: atomic_lat", async () => {
  assertEquals(JSON.parse(await measure("atomic_lat", "-n", "20", "--json")).size, 8);
});

Deno.test("perftest: what does not go with it", async () => {
  const calls: [string[], RegExp][] = [
    [["write_bw", "-b"], /--bidirectional does not go with --perftest/],
    [["send_lat", "-e"], /--events does not go/],
    [["write_bw", "-q", "2"], /--qp does not go/],
    [["write_bw", "--floor"], /--floor does not go/],
    [["write_bw", "--rounds", "3"], /--rounds does not go/],
    [["send_bw", "-D", "1"], /--duration does not go with --perftest in send_bw/],
    [["write_lat", "-D", "1"], /--duration does not go with --perftest in write_lat/],
    [["write_bw", "-n", "4"], /a number from 5 to/],
  ];
  for (const [args, message] of calls) {
    const { code, stderr } = await weft("perf", ...args, "--perftest", "127.0.0.1");
    assertEquals(code, 2);
    assertMatch(stderr, message);
  }
});

Deno.test("perftest: and our own exchange tell each other what they are", async () => {
  const { server, port } = await serve("write_bw");
  await using _ = server;
  const own = await weft("perf", "write_bw", "-p", String(port), "127.0.0.1");
  assertEquals(own.code, 1);
  assertStringIncludes(own.stderr, "refuses: the server speaks with perftest (--perftest)");
  await using plain = new Weft("perf", "write_bw", "-p", "0", "--listen", "127.0.0.1");
  const client = await weft("perf", "write_bw", "--perftest", "-p", String(await plain.port()), "127.0.0.1");
  assertEquals(client.code, 1);
  assertMatch(client.stderr, /refuses: this is 'weft perf', and the caller another program/);
});

/** A congestion control that this system has not got, if there is one. */
async function findMissing(): Promise<Congestion | undefined> {
  await using device = Device.open();
  const { port } = device.listen({ port: 0 });
  const there = { hostname: "127.0.0.1", port, pd: device.allocateProtectionDomain() };
  for (const congestion of CONGESTIONS) {
    const error = await device.connect({ ...there, congestion }).then(() => undefined, (error) => error);
    if (error?.code === "Invalid") return congestion;
  }
}

const missing = await findMissing();
if (missing !== undefined) {
  Deno.test("perftest: a client says so where the system lacks a congestion control, as without perftest", async () => {
    await using device = Device.open();
    const { port } = device.listen({ port: 0 });
    const lacking = ["--congestion", missing, "-p", String(port), "127.0.0.1"];
    for (const args of [["write_bw", "--perftest", ...lacking], ["write_bw", ...lacking]]) {
      const { code, stderr } = await weft("perf", ...args);
      assertEquals([code, stderr], [1, `weft perf: this system has no congestion control '${missing}'\n`]);
    }
  });
} else {
  Deno.test("perftest: SKIPPED: a congestion control that the system lacks", () => {
    console.log("SKIPPED: the system has every congestion control that can be asked for");
  });
}

/** A peer made by hand, of either role. */
class Peer implements AsyncDisposable {
  readonly device = Device.open();
  readonly pd = this.device.allocateProtectionDomain();
  readonly #region: MemoryRegion = this.pd.allocate(2 * 4096);
  #heard: (() => void)[] = [];
  #messages = 0;

  /** Takes a connection of the conversation. */
  attach = (qp: QueuePair): void => {
    for (let i = 0; i < 32; i++) {
      qp.postRecv([{ region: this.#region, offset: 0, length: 4096 }], ({ status }) => {
        if (status !== "success") return;
        this.#messages++;
        for (const wake of this.#heard.splice(0)) wake();
      });
    }
  };

  async send(qp: QueuePair, message: Uint8Array): Promise<void> {
    this.#region.bytes.set(message, 4096);
    await qp.send([{ region: this.#region, offset: 4096, length: message.byteLength }]);
  }

  /** Waits until so many messages have come, or the connection has ended. */
  async heard(qp: QueuePair, count: number): Promise<void> {
    while (this.#messages < count && !qp.isClosed) {
      await Promise.race([new Promise<void>((resolve) => this.#heard.push(resolve)), qp.closed]);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.device.close();
  }
}

const version = (text: string) => {
  const bytes = new Uint8Array(16);
  bytes.set(new TextEncoder().encode(text));
  return bytes;
};
const GREETING = [encodeVersion(), encodeNumber(4096), encodeNumber(64), encodeMtu(3)];
const DESTINATION = encodeDestination({ memory: { stag: 0, address: 0n }, readDepth: 1 });

/** Conversations that go wrong with their last message, and what is said of it. */
const MALFORMED: [string, Uint8Array[], RegExp][] = [
  ["a version of another length", [new Uint8Array(3)], /3 bytes in place of its version/],
  ["a handshake in place of the version", [DESTINATION], /56 bytes in place of its version/],
  ["no version", [version("\xff\xfe\x1b[2J")], /is perftest of an unknown kind, and not 6\.06/],
  ["a version without an end", [version("6.06000000000000")], /of an unknown kind/],
  ["an old version", [version("5.60")], /is perftest 5\.60, and not 6\.06/],
  ["a buffer of nothing", GREETING.with(1, encodeNumber(0)), /beyond the limits/],
  ["a buffer below nothing", GREETING.with(1, encodeNumber(-4096)), /beyond the limits/],
  ["a buffer of 2 GiB", GREETING.with(1, encodeNumber(2 ** 31 - 1)), /beyond the limits/],
  ["an alignment of nothing", GREETING.with(2, encodeNumber(0)), /beyond the limits/],
  ["an MTU that is none", GREETING.with(3, Uint8Array.of(0xff, 0xff)), /beyond the limits/],
  ["a handshake of another length", [...GREETING, DESTINATION.subarray(1)], /55 bytes in place of its handshake/],
  ["a message that is too long", [...GREETING, new Uint8Array(57)], /./],
];

for (const [what, messages, reason] of MALFORMED) {
  Deno.test(`perftest: a server is told ${what}`, async () => {
    const { server, port } = await serve("write_bw");
    await using _ = server;
    await using peer = new Peer();
    const qp = await peer.device.connect({ hostname: "127.0.0.1", port, pd: peer.pd, onReady: peer.attach });
    for (const [i, message] of messages.entries()) {
      await peer.send(qp, message).catch(() => {});
      if (i + 1 < messages.length) await peer.heard(qp, i + 1);
    }
    const { code, stderr } = await server.outcome;
    assertEquals(code, 1);
    assertMatch(stderr, /^weft perf: /m);
    assertMatch(stderr, reason);
    await qp.closed;
  });
}

Deno.test("perftest: a client is told what is none", async () => {
  for (const [what, messages, reason] of MALFORMED) {
    await using peer = new Peer();
    await using listener = peer.device.listen({
      port: 0,
      onRequest: (request) =>
        request.accept({ pd: peer.pd, onReady: peer.attach }).then(async (qp) => {
          for (const [i, message] of messages.entries()) {
            await peer.heard(qp, i + 1);
            await peer.send(qp, message);
          }
        }).catch(() => {}),
    });
    const { code, stderr } = await weft("perf", "read_lat", "--perftest", "-p", String(listener.port), "127.0.0.1");
    assertEquals(code, 1, what);
    assertMatch(stderr, /^weft perf: /m);
    assertMatch(stderr, reason);
  }
});

Deno.test("perftest: a server is spoken to out of turn, left, and called by others", async () => {
  await using peer = new Peer();
  {
    const { server, port } = await serve("write_bw");
    await using _ = server;
    const options = { hostname: "127.0.0.1", port, pd: peer.pd };
    const qp = await peer.device.connect({ ...options, onReady: peer.attach });
    const second = await peer.device.connect(options).then(() => "accepted", (error) => error.code);
    assertEquals(second, "Rejected");
    await peer.send(qp, GREETING[0]);
    await peer.heard(qp, 1);
    await Promise.allSettled([peer.send(qp, GREETING[1]), peer.send(qp, GREETING[2]), peer.send(qp, GREETING[3])]);
    const { code, stderr } = await server.outcome;
    assertEquals(code, 1);
    assertMatch(stderr, /refused 127.0.0.1:\d+: the server is busy/);
    assertMatch(stderr, /weft perf: the (other end|connection|peer)/);
  }
  const { server, port } = await serve("write_bw");
  await using _ = server;
  const qp = await peer.device.connect({ hostname: "127.0.0.1", port, pd: peer.pd });
  await qp.close();
  const { code, stderr } = await server.outcome;
  assertEquals(code, 1);
  assertMatch(stderr, /weft perf: the other end has gone in the middle of a run/);
});

Deno.test("perftest: in write_lat a client that sends nothing first is told so", async () => {
  const { server, port } = await serve("write_lat");
  await using _ = server;
  await using peer = new Peer();
  const options = { hostname: "127.0.0.1", port, pd: peer.pd, peerToPeer: false };
  const qp = await peer.device.connect({ ...options, onReady: peer.attach });
  for (const [i, message] of [...GREETING, DESTINATION].entries()) {
    await peer.send(qp, message);
    await peer.heard(qp, i + 1);
  }
  const data = await peer.device.connect(options);
  const { code, stderr } = await server.outcome;
  assertEquals(code, 1);
  assertMatch(stderr, /write first in perftest's write_lat, and may not \(RFC 5044 §7\.1\.2\)/);
  await Promise.all([qp.closed, data.closed]);
});

Deno.test("perftest: ends that measure different sizes say so", async () => {
  const { server, port } = await serve("send_bw", "-s", "64", "-n", "10");
  await using _ = server;
  const client = await weft("perf", "send_bw", "--perftest", "-s", "32", "-n", "10", "-p", String(port), "127.0.0.1");
  assertEquals(client.code, 1);
  const { code, stderr } = await server.outcome;
  assertEquals(code, 1);
  assertMatch(stderr, /the other end measures something else: message 1 is of 32 bytes/);
});
