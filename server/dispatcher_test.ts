import { assert, assertEquals } from "@std/assert";
import { decodeCallHeader, decodeReplyHeader, encodeCallHeader } from "../rpc/wire/rpc_message.ts";
import { encodeAuthSys, flatten, type IncomingCall, type XdrMessage, XdrReader, XdrWriter } from "../rpc/mod.ts";
import { MemoryFileSystem } from "../storage/backend/memory.ts";
import { MOUNT3, NFS3 } from "../storage/nfs/mod.ts";
import { argsWith } from "../tests/conformance/nfs3/every_procedure.ts";
import { createDispatcher } from "./dispatcher.ts";
import { Export } from "./exports.ts";

const NAME = new TextEncoder().encode("name");
const PEER = { transport: "test", address: "test", port: 0 };
const NOISE_BYTES_MAX = 64;

interface Fixture {
  fileSystem: MemoryFileSystem;
  /** What the server says to a message; `undefined` where it says nothing. Throws where it says nothing at once. */
  answer(message: Uint8Array, bulk?: IncomingCall["bulk"]): XdrMessage | undefined;
  /** Every kind of call there is, each good. */
  calls: { name: string; message: Uint8Array }[];
}

function open(): Fixture {
  const fileSystem = new MemoryFileSystem({ root: { mode: 0o777 } });
  const root = { uid: 0, gid: 0, gids: [] };
  const { handle } = fileSystem.create(fileSystem.root, NAME, { kind: "guarded", changes: { mode: 0o666 } }, root);
  const dispatcher = createDispatcher({ export: new Export({ fileSystem }) });
  const answer = (message: Uint8Array, bulk?: IncomingCall["bulk"]): XdrMessage | undefined => {
    let answered: { reply: XdrMessage | undefined } | undefined;
    dispatcher.handleCall({
      peer: PEER,
      message,
      bulk,
      allocateBulk: (lengthBytes) => ({ bytes: new Uint8Array(lengthBytes), release: () => {} }),
      reply: (reply) => {
        assert(answered === undefined, "answered twice");
        answered = { reply };
      },
    });
    assert(answered !== undefined, "the call was not answered at once");
    return answered.reply;
  };
  return { fileSystem, answer, calls: allCalls({ file: handle, dir: fileSystem.root }) };
}

function allCalls({ file, dir }: { file: Uint8Array; dir: Uint8Array }): Fixture["calls"] {
  const writer = new XdrWriter();
  const args = { ...argsWith({ file, dir, name: NAME }) } as Record<string, unknown>;
  const mountArgs: Record<string, unknown> = { MNT: new TextEncoder().encode("/"), UMNT: NAME };
  return [NFS3, MOUNT3].flatMap((program) =>
    Object.entries(program.procedures).map(([name, procedure], i) => {
      writer.begin();
      encodeCallHeader(writer, {
        xid: i + 1,
        rpcVersion: 2,
        program: program.number,
        version: program.version,
        procedure: procedure.number,
        credential: encodeAuthSys({ uid: 1000, gid: 1000, gids: [1, 2], machinename: "host" }),
        verifier: { flavor: 0, body: new Uint8Array(0) },
      });
      const values = program === NFS3 ? args : mountArgs;
      (procedure.args as { encode(writer: XdrWriter, value: unknown): void }).encode(writer, values[name]);
      return { name: `${program.name}.${name}`, message: flatten(writer.finish()) };
    })
  );
}

function statusOf(reply: XdrMessage | undefined): string {
  return reply === undefined ? "nothing" : decodeReplyHeader(new XdrReader(flatten(reply))).status;
}

function headerBytes(message: Uint8Array): number {
  const reader = new XdrReader(message);
  decodeCallHeader(reader);
  return reader.offset;
}

Deno.test("createDispatcher: every procedure answers, at once where the backend does", () => {
  for (const { name, message } of open().calls) assertEquals(statusOf(open().answer(message)), "SUCCESS", name);
});

Deno.test("createDispatcher: a message cut at any byte gets GARBAGE_ARGS, or nothing where it is not a call at all", () => {
  const { answer, calls, fileSystem } = open();
  const before = fileSystem.status(fileSystem.root, { uid: 0, gid: 0, gids: [] });
  for (const { name, message } of calls) {
    const header = headerBytes(message);
    for (let length = 0; length < message.byteLength; length++) {
      const status = statusOf(answer(message.slice(0, length)));
      assertEquals(status, length < 8 ? "nothing" : "GARBAGE_ARGS", `${name}, ${length} bytes, header of ${header}`);
    }
  }
  assertEquals(fileSystem.status(fileSystem.root, { uid: 0, gid: 0, gids: [] }), before);
});

Deno.test("createDispatcher: a message cut in two anywhere by its transport is the same message", () => {
  for (const { name, message } of open().calls) {
    for (let position = 0; position <= message.byteLength; position += 4) {
      if (position < headerBytes(message)) continue;
      const { answer, calls } = open();
      const whole = calls.find((call) => call.name === name)!.message;
      const bulk = { position, data: whole.slice(position) };
      assertEquals(statusOf(answer(whole.slice(0, position), bulk)), "SUCCESS", `${name} cut at ${position}`);
    }
  }
});

const seed = Number(Deno.env.get("WEFT_TEST_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);

Deno.test(`createDispatcher: random bytes and random changes are answered, whatever they are, WEFT_TEST_SEED=${seed}`, () => {
  const random = randomNumbers(seed);
  const { answer, calls } = open();
  for (let round = 0; round < 5000; round++) {
    const message = calls[random() % calls.length].message.slice();
    for (let changes = random() % 4; changes >= 0; changes--) message[random() % message.byteLength] = random() & 0xff;
    const reply = answer(message);
    if (reply !== undefined) decodeReplyHeader(new XdrReader(flatten(reply)));
  }
  for (let round = 0; round < 500; round++) {
    const message = Uint8Array.from({ length: random() % NOISE_BYTES_MAX }, () => random() & 0xff);
    answer(message);
  }
});

/** Numbers below 2^32 that depend on the seed only (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
}
