import { assertEquals, assertThrows } from "@std/assert";
import {
  type ClientTransport,
  defineProgram,
  memoryPair,
  procedure,
  RpcClient,
  type ServerTransport,
  voidType,
} from "../rpc/mod.ts";
import { Connections } from "./connections.ts";

const PROGRAM = defineProgram({
  name: "NOTHING",
  number: 0x20000001,
  version: 1,
  procedures: { NULL: procedure({ number: 0, args: voidType, results: voidType, idempotent: true }) },
});

/** The bytes of an accepted, successful reply without results. */
function success(message: Uint8Array): Uint8Array {
  const reply = new Uint8Array(24);
  reply.set(message.subarray(0, 4));
  reply[7] = 1;
  return reply;
}

function open(
  max: number,
): { connections: Connections; connect(): { client: ClientTransport; server: ServerTransport } } {
  const connections = new Connections({ max, onCall: (call) => call.reply({ bytes: success(call.message) }) });
  return {
    connections,
    connect: () => {
      const pair = memoryPair();
      connections.add(pair.server);
      return pair;
    },
  };
}

function ping({ client }: { client: ClientTransport }): Promise<void> {
  return new RpcClient(client, { program: PROGRAM }).ping();
}

Deno.test("Connections: one too many costs the place of the one that was silent for longest", async () => {
  const { connections, connect } = open(3);
  const a = connect();
  const b = connect();
  const c = connect();
  await ping(a);
  await ping(b);
  const d = connect();
  assertEquals(await c.client.closed, undefined);
  await ping(d);
  await ping(a);
  const e = connect();
  assertEquals(await b.client.closed, undefined);
  for (const alive of [a, d, e]) await ping(alive);
  assertEquals(connections.size, 3);
});

Deno.test("Connections: those that end make room; close ends all", async () => {
  const { connections, connect } = open(2);
  const a = connect();
  const b = connect();
  await a.client.close();
  await a.server.closed;
  assertEquals(connections.size, 1);
  const c = connect();
  await ping(b);
  await ping(c);
  await connections.close();
  await Promise.all([b.client.closed, c.client.closed]);
  assertEquals(connections.size, 0);
});

Deno.test("Connections: a server without any is none", () => {
  assertThrows(() => new Connections({ max: 0, onCall: () => {} }), RangeError);
});
