/**
 * A live server under random input: recorded connections, changed, are played at it. It stays up, answers others, and holds nothing back.
 *
 * @module
 */
import { mount } from "../../client/mod.ts";
import { frames, readRecording } from "../vectors/pcap.ts";
import { WeftServer } from "../weft_server.ts";
import { mutate, Random } from "./mutation.ts";

/** Connections between two checks that the server still answers others. */
const CONNECTIONS_A_CHECK = 64;
const AT_ONCE = 8;
/** What the server may have grown by in the end: its heap breathes, but does not grow with every connection. */
const GROWTH_BYTES_MAX = 96 * 1024 * 1024;
/** A connection that the server has no reason to end is ended after this. */
const PATIENCE_MS = 300;

/** Plays changed connections for a while. Returns how many. Throws when the server suffers from it. */
export async function fuzzServer(seconds: number, seed: number): Promise<number> {
  const samples = recordedConnections();
  const random = new Random(seed);
  await using server = await WeftServer.start();
  await Deno.writeTextFile(`${server.directory}/file`, "still here");
  await checkAnswers(server);
  const descriptorsBefore = await server.descriptors();
  const bytesBefore = await residentBytes(server);
  let count = 0;
  for (const until = performance.now() + seconds * 1000; performance.now() < until;) {
    for (let i = 0; i < CONNECTIONS_A_CHECK; i += AT_ONCE) {
      const inputs = Array.from({ length: AT_ONCE }, () => mutate(samples, random));
      await Promise.all(inputs.map((input) => play(server.port, input)));
    }
    count += CONNECTIONS_A_CHECK;
    await checkAnswers(server);
  }
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const descriptors = await server.descriptors();
  if (descriptors > descriptorsBefore) {
    throw new Error(`${descriptors} descriptors are open, ${descriptorsBefore} were before`);
  }
  const grown = await residentBytes(server) - bytesBefore;
  if (grown > GROWTH_BYTES_MAX) throw new Error(`the server has grown by ${grown} bytes`);
  const status = await server.stop();
  if (!status.success) throw new Error(`the server ended with ${status.code} ${status.signal ?? ""}`);
  return count;
}

/** What the initiators of recorded connections sent. */
function recordedConnections(): Uint8Array[] {
  const streams = new Map<string, Uint8Array[]>();
  for (const name of ["nfs3.pcap", "rping.pcap", "ib_write_lat.pcap", "iser-connect.pcap"]) {
    for (const { connection, fromInitiator, bytes } of frames(readRecording(name))) {
      if (!fromInitiator) continue;
      const key = `${name} ${connection}`;
      streams.set(key, [...streams.get(key) ?? [], bytes]);
    }
  }
  // the start-up and a few messages: later ones would not be reached
  return [...streams.values()].map((pieces) => new Uint8Array(pieces.slice(0, 6).flatMap((piece) => [...piece])));
}

async function play(port: number, input: Uint8Array): Promise<void> {
  try {
    using connection = await Deno.connect({ hostname: "127.0.0.1", port });
    const timer = setTimeout(() => connection.close(), PATIENCE_MS);
    try {
      for (let at = 0; at < input.length;) at += await connection.write(input.subarray(at));
      const sink = new Uint8Array(65536);
      while (await connection.read(sink) !== null);
    } finally {
      clearTimeout(timer);
    }
  } catch (error) {
    // refused, reset or ended by the timer: all are answers to such input
    if (
      !(error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.BrokenPipe ||
        error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted ||
        error instanceof Deno.errors.ConnectionRefused)
    ) throw error;
  }
}

async function checkAnswers(server: WeftServer): Promise<void> {
  for (const proto of ["rdma", "tcp"]) {
    await using fs = await mount(`nfs://127.0.0.1:${server.port}/?proto=${proto}`, {
      signal: AbortSignal.timeout(10_000),
    });
    const text = await fs.readTextFile("file");
    if (text !== "still here") throw new Error(`the server answers ${JSON.stringify(text)} over ${proto}`);
  }
}

async function residentBytes(server: WeftServer): Promise<number> {
  const status = await Deno.readTextFile(`/proc/${server.process.pid}/status`);
  return Number(status.match(/VmRSS:\s+(\d+) kB/)?.[1]) * 1024;
}
