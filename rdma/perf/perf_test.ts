import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { ROOT } from "../_ffi/build.ts";
import { findExecutable } from "../_ffi/toolchain.ts";
import { REQUEST } from "../_testing/perf_request.ts";
import { Weft, weft } from "../_testing/weft.ts";
import { Device } from "../device.ts";
import { RdmaError } from "../errors.ts";
import { controlBytes, encodeControl, encodeRequest, type RunRequest } from "./messages.ts";

/** Runs both roles; returns what the client did. The server must end well. */
async function measure(operation: string, options: string[], serverOptions: string[] = []): Promise<string> {
  await using server = new Weft("perf", operation, "-p", "0", "--listen", "127.0.0.1", ...serverOptions);
  const client = await weft("perf", operation, "-p", String(await server.port()), ...options, "127.0.0.1");
  assertEquals([client.code, client.stderr], [0, ""]);
  const { code, stdout, stderr } = await server.outcome;
  assertEquals([code, stdout], [0, ""], stderr);
  return client.stdout;
}

async function measureRows(...args: Parameters<typeof measure>): Promise<Record<string, number | string | boolean>[]> {
  const [operation, options, serverOptions] = args;
  const output = await measure(operation, [...options, "--json"], serverOptions);
  return output.trimEnd().split("\n").map((line) => JSON.parse(line));
}

for (const verb of ["write", "read", "send"]) {
  Deno.test(`perf: ${verb}_bw in a table`, async () => {
    const lines = (await measure(`${verb}_bw`, ["-n", "300", "-s", "4K"])).split("\n");
    assertMatch(lines[0], /bandwidth with 127\.0\.0\.1:\d+: 1 connection, depth 128, CRC off, polling$/);
    assertMatch(lines[1], /^ #bytes +#iterations +BW peak\[MB\/sec\] +BW average\[MB\/sec\] +MsgRate\[Mpps\]$/);
    assertMatch(lines[2], /^ 4096 +300 +\d+\.\d\d +\d+\.\d\d +\d+\.\d{6}$/);
    assertEquals(lines.slice(3), [""]);
  });

  Deno.test(`perf: ${verb}_lat in a table`, async () => {
    const lines = (await measure(`${verb}_lat`, ["-n", "50"])).split("\n");
    const columns = ["t_min", "t_max", "t_typical", "t_avg", "t_stdev", "99%", "99.9%"].map((name) => `${name}[usec]`);
    assertEquals(lines[1].trim().split(/ +/), ["#bytes", "#iterations", ...columns]);
    const [size, iterations, min, max, median, ...others] = lines[2].trim().split(/ +/).map(Number);
    assertEquals([size, iterations, others.length], [2, 50, 4]);
    assertEquals(min > 0 && min <= median && median <= max && max >= others[3], true, lines[2]);
  });

  Deno.test(`perf: ${verb}_bw of every size`, async () => {
    const rows = await measureRows(`${verb}_bw`, ["-a", "-n", "3"]);
    assertEquals(rows.map((row) => row.size), Array.from({ length: 23 }, (_, i) => 2 ** (i + 1)).slice(0, rows.length));
    assertEquals([rows.length, rows.at(-1)!.size], [23, 8 * 2 ** 20]);
    for (const row of rows) {
      const { op, crc, iterations, connections, bidirectional } = row;
      assertEquals([op, crc, iterations, connections, bidirectional], [`${verb}_bw`, false, 3, 1, false]);
      const [bytes, messages] = [row.bytesPerSecond as number, row.messagesPerSecond as number];
      assertEquals(messages > 0 && Math.abs(bytes / messages - (row.size as number)) < 1e-6 * bytes, true);
      assertEquals((row.peakBytesPerSecond as number) >= bytes, true);
    }
  });

  Deno.test(`perf: ${verb}_lat of every size`, async () => {
    const rows = await measureRows(`${verb}_lat`, ["-a", "-n", "3"]);
    assertEquals(rows.map((row) => row.size), Array.from({ length: 23 }, (_, i) => 2 ** (i + 1)));
    for (const { op, iterations, usMedian, usP99 } of rows) {
      assertEquals([op, iterations, (usMedian as number) > 0, usP99 >= usMedian], [`${verb}_lat`, 3, true, true]);
    }
  });

  Deno.test(`perf: ${verb}_bw in both directions, on several connections, with CRC, in lists`, async () => {
    const options = [
      "-b",
      "-q",
      "3",
      "--crc",
      "on",
      "-l",
      "4",
      "-t",
      "9",
      "-r",
      "7",
      "-Q",
      "2",
      "-n",
      "1001",
      "-s",
      "32",
    ];
    const [row] = await measureRows(`${verb}_bw`, options);
    assertEquals([row.crc, row.connections, row.bidirectional, row.iterations], [true, 3, true, 1001]);
  });

  Deno.test(`perf: ${verb}_bw for a time, with both ends asleep between events`, async () => {
    const [row] = await measureRows(`${verb}_bw`, ["-e", "-D", "0.2", "-r", "16"]);
    assertEquals(row.events, true);
    const seconds = (row.iterations as number) / (row.messagesPerSecond as number);
    assertEquals(seconds >= 0.2 && seconds < 5, true, `${seconds} s`);
  });
}

for (const operation of ["read_lat", "send_lat", "atomic_lat"]) {
  Deno.test(`perf: ${operation} with both ends asleep between events`, async () => {
    const [row] = await measureRows(operation, ["-e", "-n", "20"]);
    const { usMin, usMedian, usP99, usMax } = row as Record<string, number>;
    assertEquals([row.op, row.events, row.iterations], [operation, true, 20]);
    assertEquals(usMin > 0 && usMin <= usMedian && usMedian <= usP99 && usP99 <= usMax, true);
  });
}

Deno.test("perf: write_lat beyond the 255 marks of a message, and for a time", async () => {
  assertEquals((await measureRows("write_lat", ["-n", "300", "-s", "100K"]))[0].iterations, 300);
  assertEquals((await measureRows("write_lat", ["-D", "0.1", "-s", "1"]))[0].size, 1);
});

Deno.test("perf: FPDUs of a length, a congestion control, and a number of Reads of one's choice", async () => {
  const [usual] = await measureRows("write_bw", ["-n", "50"]);
  assertEquals([usual.congestion, usual.mulpdu as number > 65_000, usual.readDepth], ["cubic", true, 64]);
  const chosen = ["--mulpdu", "1448", "--congestion", "reno", "-o", "3", "-n", "50"];
  for (const operation of ["write_bw", "read_bw", "atomic_lat"]) {
    const [row] = await measureRows(operation, chosen);
    assertEquals([row.op, row.congestion, row.readDepth, row.iterations], [operation, "reno", 3, 50]);
    assertEquals(row.mulpdu, 1448);
  }
  // a datagram, and so a segment of loopback's, is shorter than the longest FPDU
  const [segment] = await measureRows("write_bw", ["--mulpdu", "mss", "-n", "50"]);
  assertEquals((segment.mulpdu as number) < (usual.mulpdu as number), true);
});

Deno.test("perf: every atomic operation, and no other", async () => {
  for (const type of ["FETCH_AND_ADD", "CMP_AND_SWAP", "SWAP"]) {
    assertEquals((await measureRows("atomic_lat", ["-A", type, "-n", "20"]))[0].size, 8);
  }
  const { code, stderr } = await weft("perf", "atomic_lat", "-A", "XOR", "host");
  assertEquals(code, 2);
  assertMatch(stderr, /'XOR' is no atomic operation: FETCH_AND_ADD, CMP_AND_SWAP, SWAP/);
});

const script = await findExecutable("script");
if (script !== undefined) {
  Deno.test("perf: on a terminal it shows how far it has come", async () => {
    await using server = new Weft("perf", "write_bw", "-p", "0", "--listen", "127.0.0.1");
    const perf = `${ROOT}/main.ts perf write_bw -D 0.5 -p ${await server.port()} 127.0.0.1`;
    const { code, stdout } = await new Deno.Command(script, {
      args: ["-qec", `'${Deno.execPath()}' run -A --no-check ${perf}`, "/dev/null"],
      stdin: "null",
    }).output();
    const shown = new TextDecoder().decode(stdout).replaceAll("\x1b[K", "<clear>");
    assertEquals(code, 0, shown);
    const shares = [...shown.matchAll(/\rwrite_bw 65536 bytes (\d+)%<clear>/g)].map(([, share]) => Number(share));
    assertEquals([shares.length > 1, shares], [true, shares.toSorted((a, b) => a - b)], shown);
    // the row takes the place of the last one
    assertMatch(shown, /\r<clear> 65536 +\d+/);
  });
} else {
  Deno.test("perf: SKIPPED: on a terminal", () => {
    console.log("SKIPPED: script is not installed, which makes a terminal (Debian: bsdutils)");
  });
}

for (const verb of ["write", "read", "send"]) {
  Deno.test(`perf: ${verb}_bw with the processor time of both ends`, async () => {
    for (const options of [[], ["-e"], ["-b"]]) {
      const [row] = await measureRows(`${verb}_bw`, ["-n", "200", ...options]);
      const { cpuSecondsPerGB: both, serverCpuSecondsPerGB: server } = row as Record<string, number>;
      assertEquals(server > 0 && server < both, true, `${server} s of ${both} s are the server's`);
      assertEquals(["floorCpuSecondsPerGB" in row, "cpuRatio" in row], [false, false]);
    }
    const output = await measure(`${verb}_bw`, ["--cpu_util", "-n", "200"]);
    const [, head, row] = output.split("\n").map((line) => line.trim().split(/ {2,}/));
    assertEquals(head.slice(4), ["MsgRate[Mpps]", "CPU[s/GB]"]);
    assertEquals([row.length, Number(row[5]) > 0], [6, true], output);
  });
}

Deno.test("perf: beside the floor", async () => {
  const [latency] = await measureRows("send_lat", ["--floor", "--rounds", "3", "-n", "40"], ["--floor"]);
  assertEquals(
    Math.abs((latency.ratio as number) - (latency.usMedian as number) / (latency.floor as number)) < 1e-9,
    true,
  );
  assertEquals(["cpuSecondsPerGB" in latency, "floorCpuSecondsPerGB" in latency, "cpuRatio" in latency], [
    false,
    false,
    false,
  ]);
  const [{ cpuSecondsPerGB, floorCpuSecondsPerGB, cpuRatio }] = await measureRows(
    "write_bw",
    ["--floor", "--rounds", "3", "-n", "40"],
    ["--floor"],
  ) as Record<string, number>[];
  assertEquals([cpuSecondsPerGB > 0, floorCpuSecondsPerGB > 0], [true, true]);
  assertEquals(cpuRatio, cpuSecondsPerGB / floorCpuSecondsPerGB);
  const output = await measure("write_bw", ["--floor", "--rounds", "1", "-n", "40", "-b", "--report_gbits"], [
    "--floor",
  ]);
  const [, head, row] = output.split("\n").map((line) => line.trim().split(/ {2,}/));
  assertEquals(head.slice(2, 5), ["BW peak[Gb/sec]", "BW average[Gb/sec]", "MsgRate[Mpps]"]);
  assertEquals(head.slice(5), ["CPU[s/GB]", "floor[Gb/sec]", "ratio", "floor CPU[s/GB]", "CPU ratio"]);
  assertEquals([row.length, row.every((cell) => Number(cell) >= 0)], [10, true], output);
});

for (const operation of ["read_bw", "send_bw", "write_lat", "read_lat", "atomic_lat"]) {
  Deno.test(`perf: ${operation} beside the floor`, async () => {
    const [row] = await measureRows(operation, ["--floor", "--rounds", "1", "-n", "20"], ["--floor"]);
    const ours = (row.bytesPerSecond ?? row.usMedian) as number;
    assertEquals([row.op, row.ratio], [operation, ours / (row.floor as number)]);
  });
}

Deno.test("perf: how it must not be called", async () => {
  const calls: [string[], number, RegExp][] = [
    [[], 2, /an operation is missing[^]*Try 'weft perf --help'/],
    [["swim_bw"], 2, /'swim_bw' is no operation: write_bw, write_lat/],
    [["write_bw", "--frobnicate", "host"], 2, /unrecognized option '--frobnicate'/],
    [["write_bw", "-s", "many", "host"], 2, /'many' is no size/],
    [["write_lat", "-e", "host"], 2, /a Write wakes nobody/],
    [["send_lat", "-b", "host"], 2, /--bidirectional is for bandwidth/],
    [["read_lat", "--cpu_util", "host"], 2, /--cpu_util is for bandwidth/],
    [["read_bw", "--cpu_util", "--perftest", "host"], 2, /--cpu_util does not go with --perftest/],
    [["write_lat", "-n", "1", "host"], 2, /'1' is no number of iterations: a number from 2 to /],
    [["write_bw", "-s", "1G", "-q", "16", "host"], 2, /16 buffers of 1073741824 bytes are too much/],
    [["write_bw", "-a", "-q", "1024", "host"], 2, /1024 buffers of 8388608 bytes are too much/],
  ];
  for (const [args, code, message] of calls) {
    const outcome = await weft("perf", ...args);
    assertEquals([outcome.code, outcome.stdout], [code, ""], outcome.stderr);
    assertMatch(outcome.stderr, message);
  }
  const help = await weft("perf", "--help");
  assertEquals([help.code, help.stderr], [0, ""]);
  assertStringIncludes(help.stdout, "Usage: weft perf OPERATION");
  assertStringIncludes(help.stdout, "--cpu_util ");
});

Deno.test("perf: nobody there, no iWARP there, and another iWARP program there", async () => {
  const free = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const ports = [free.addr.port];
  free.close();
  using plain = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  (async () => {
    for await (const connection of plain) {
      connection.write(new TextEncoder().encode("220 mail.example.org ESMTP, whatever you want of it\r\n")).catch(
        () => {},
      );
    }
  })();
  ports.push(plain.addr.port);
  await using device = Device.open();
  using pd = device.allocateProtectionDomain();
  const other = device.listen({ port: 0, onRequest: (request) => request.accept({ pd }).catch(() => {}) });
  const rejecting = device.listen({ port: 0 });
  ports.push(other.port, rejecting.port);
  const messages = [/connection refused/, /does not speak iWARP/, /is no 'weft perf'/, /is no 'weft perf'/];
  for (const [i, port] of ports.entries()) {
    const { code, stdout, stderr } = await weft("perf", "write_bw", "-p", String(port), "127.0.0.1");
    assertEquals([code, stdout], [1, ""], stderr);
    assertMatch(stderr, messages[i]);
  }
  for (const closing of [other, rejecting]) await closing.close();
});

Deno.test("perf: a client connects before it fills its memory", async () => {
  const resident = Promise.withResolvers<number>();
  await using device = Device.open();
  const listener = device.listen({
    port: 0,
    onRequest: (request) => {
      const status = Deno.readTextFileSync(`/proc/${client.process.pid}/status`);
      resident.resolve(1024 * Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]));
      request.reject();
    },
  });
  const bytes = 2 ** 29;
  await using client = new Weft("perf", "write_bw", "-s", String(bytes), "-p", String(listener.port), "127.0.0.1");
  assertEquals((await client.outcome).code, 1);
  assertEquals(await resident.promise < bytes, true, `${await resident.promise} bytes`);
});

Deno.test("perf: an address that is taken", async () => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { code, stderr } = await weft("perf", "write_bw", "-p", String(taken.addr.port), "--listen", "127.0.0.1");
  assertEquals(code, 1);
  assertMatch(stderr, /^weft perf: cannot listen on .* address already in use/);
});

Deno.test("perf: a server that is asked for something else says so, and goes on waiting", async () => {
  await using server = new Weft("perf", "read_bw", "-p", "0", "--listen", "127.0.0.1");
  const port = await server.port();
  const wrong = await weft("perf", "write_bw", "-p", String(port), "127.0.0.1");
  assertEquals(wrong.code, 1);
  assertStringIncludes(wrong.stderr, "refuses: the server measures read_bw, the client write_bw");
  const floor = await weft("perf", "read_bw", "--floor", "-p", String(port), "127.0.0.1");
  assertEquals(floor.code, 1);
  assertStringIncludes(floor.stderr, "start it with --floor, too");
  const { code, stderr } = await server.outcome;
  assertEquals(code, 1);
  assertStringIncludes(stderr, "the server measures read_bw");
});

Deno.test("perf: a server holds out against callers that are no 'weft perf', or one gone wild", async () => {
  await using server = new Weft("perf", "write_bw", "-p", "0", "--listen", "127.0.0.1");
  const port = await server.port();
  await using device = Device.open();
  using pd = device.allocateProtectionDomain();
  const call = (privateData?: Uint8Array) => device.connect({ hostname: "127.0.0.1", port, pd, privateData });
  const refusal = async (privateData?: Uint8Array): Promise<string> => {
    const error = await call(privateData).then(() => undefined, (error) => error);
    assertEquals(error instanceof RdmaError && error.code, "Rejected");
    return new TextDecoder().decode(error.privateData.subarray(6));
  };
  // plain TCP, no private data, some of it, and numbers beyond every limit
  (await Deno.connect({ hostname: "127.0.0.1", port })).close();
  assertMatch(await refusal(), /another program/);
  assertMatch(await refusal(encodeRequest(REQUEST).subarray(0, 63)), /another program/);
  const wild: Partial<RunRequest>[] = [
    { operation: 77 },
    { connections: 0 },
    { connections: 65535 },
    { index: 1 },
    { sizeBytes: 0 },
    { sizeBytes: 2 ** 32 - 1 },
    { sizeBytes: 2 ** 30, connections: 1000 },
    { sendDepth: 0 },
    { sendDepth: 65535 },
    { receiveDepth: 0 },
    { list: 5 },
    { moderation: 0 },
    { moderation: 5 },
    { mulpdu: 127 },
  ];
  for (const part of wild) {
    assertMatch(await refusal(encodeRequest({ ...REQUEST, ...part })), /beyond the limits|too much|something else/);
  }
  // a session that has begun keeps others out, and a message that is none ends it
  const first = await call(encodeRequest({ ...REQUEST, connections: 2 }));
  assertMatch(await refusal(encodeRequest({ ...REQUEST, session: 2n })), /busy/);
  assertMatch(await refusal(encodeRequest({ ...REQUEST, connections: 2 })), /busy/);
  const second = await call(encodeRequest({ ...REQUEST, connections: 2, index: 1 }));
  const region = pd.allocate(64);
  encodeControl({ kind: "ready" }, region.bytes);
  await first.send([{ region, offset: 0, length: controlBytes(REQUEST.sizeBytes) }]);
  await Promise.all([first.closed, second.closed]);
  const { code, stderr } = await server.outcome;
  assertEquals(code, 1);
  assertMatch(stderr, /weft perf: the other end is out of step/);
});

for (const victim of ["client", "server"] as const) {
  Deno.test(`perf: the ${victim} is killed in the middle of a run`, async () => {
    await using server = new Weft("perf", "send_bw", "-p", "0", "--listen", "127.0.0.1");
    const port = String(await server.port());
    await using client = new Weft("perf", "send_bw", "-p", port, "-D", "30", "127.0.0.1");
    await server.says(/client 127/);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const [dead, left] = victim === "client" ? [client, server] : [server, client];
    dead.process.kill("SIGKILL");
    const { code, stderr } = await left.outcome;
    assertEquals(code, 1);
    assertMatch(stderr, /weft perf: (the other end has gone|the connection)/);
  });
}

Deno.test("perf: Ctrl-C ends the client, and the server is told", async () => {
  await using server = new Weft("perf", "write_lat", "-p", "0", "--listen", "127.0.0.1");
  await using client = new Weft("perf", "write_lat", "-p", String(await server.port()), "-D", "30", "127.0.0.1");
  await server.says(/client 127/);
  await new Promise((resolve) => setTimeout(resolve, 300));
  client.process.kill("SIGINT");
  assertEquals((await client.outcome).code, 130);
  assertEquals((await server.outcome).code, 1);
});

for (const [signal, status] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
  Deno.test(`perf: ${signal} ends a server that waits`, async () => {
    await using server = new Weft("perf", "write_lat", "-p", "0", "--listen", "127.0.0.1");
    await server.port();
    server.process.kill(signal);
    assertEquals((await server.outcome).code, status);
  });
}
