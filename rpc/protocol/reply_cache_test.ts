import { assert, assertEquals } from "@std/assert";
import { words } from "../_testing/bytes.ts";
import type { IncomingCall, XdrMessage } from "../transport.ts";
import { type CachedCall, ReplyCache } from "./reply_cache.ts";

class Call implements IncomingCall {
  replies: (XdrMessage | undefined)[] = [];
  constructor(
    readonly message: Uint8Array,
    readonly peer = { transport: "tcp", address: "10.0.0.1", port: 700 },
    readonly bulk?: IncomingCall["bulk"],
  ) {}
  allocateBulk(): never {
    throw new Error("no memory");
  }
  reply(message: XdrMessage | undefined): void {
    this.replies.push(message);
  }
}

const NAMES = [1, 0, 2, 100003, 3, 12, 0, 0, 0, 0];

function call(xid: number, ...args: number[]): Call {
  return new Call(words(xid, ...NAMES.slice(1), ...args));
}

function admitNew(cache: ReplyCache, call: IncomingCall): CachedCall {
  const admission = cache.admit(call);
  assert(admission.kind === "new");
  return admission.entry;
}

const reply = { bytes: words(1, 1, 0, 0, 0, 0, 99) };

Deno.test("a repeated call gets the reply again, from any port", () => {
  const cache = new ReplyCache();
  cache.finish(admitNew(cache, call(1, 5)), reply);
  const again = new Call(call(1, 5).message, { transport: "tcp", address: "10.0.0.1", port: 701 });
  assertEquals(cache.admit(again), { kind: "answered", reply: reply.bytes });
});

Deno.test("never the answer to another call", () => {
  const base = call(1, 5);
  const long = words(1, ...NAMES.slice(1), ...Array(400).fill(7));
  const others: [string, IncomingCall, IncomingCall][] = [
    ["xid", base, call(2, 5)],
    ["arguments", base, call(1, 6)],
    ["length of arguments", base, call(1, 5, 0)],
    ["address", base, new Call(base.message, { transport: "tcp", address: "10.0.0.2", port: 700 })],
    ["transport", base, new Call(base.message, { transport: "rdma", address: "10.0.0.1", port: 700 })],
    ["bulk contents", new Call(base.message, base.peer, { position: 40, data: Uint8Array.of(1) }), base],
    [
      "bulk contents",
      new Call(base.message, base.peer, { position: 40, data: Uint8Array.of(1, 2) }),
      new Call(base.message, base.peer, { position: 40, data: Uint8Array.of(1, 3) }),
    ],
    ["length of long arguments", new Call(long), new Call(long.subarray(0, long.byteLength - 4))],
  ];
  for (let word = 2; word < NAMES.length; word++) {
    const changed = words(1, ...NAMES.slice(1), 5);
    changed[word * 4 + 3] ^= 1;
    others.push([`word ${word}`, base, new Call(changed)]);
  }
  for (const [what, first, second] of others) {
    const cache = new ReplyCache();
    cache.finish(admitNew(cache, first), reply);
    assertEquals(cache.admit(second).kind, "new", what);
  }
});

Deno.test("a duplicate of a call under way waits for its reply", () => {
  const cache = new ReplyCache();
  const entry = admitNew(cache, call(1, 5));
  const duplicates = [call(1, 5), call(1, 5)];
  for (const duplicate of duplicates) assertEquals(cache.admit(duplicate).kind, "waiting");
  cache.finish(entry, reply);
  for (const duplicate of duplicates) assertEquals(duplicate.replies, [reply]);
});

Deno.test("a call that takes over an xid leaves the earlier one without influence", () => {
  const cache = new ReplyCache();
  const first = admitNew(cache, call(1, 5));
  const second = admitNew(cache, call(1, 6));
  cache.finish(first, reply);
  assertEquals(cache.admit(call(1, 6)).kind, "waiting");
  cache.finish(second, { bytes: words(2) });
  assertEquals(cache.admit(call(1, 6)), { kind: "answered", reply: words(2) });
  assertEquals(cache.size, 1);
});

Deno.test("bounded in number and in bytes; the oldest go, those under way stay", () => {
  const byNumber = new ReplyCache({ entriesMax: 3 });
  const underWay = admitNew(byNumber, call(100));
  for (let xid = 0; xid < 10; xid++) byNumber.finish(admitNew(byNumber, call(xid)), reply);
  assertEquals(byNumber.size, 3);
  assertEquals(byNumber.admit(call(9)).kind, "answered");
  assertEquals(byNumber.admit(call(100)).kind, "waiting");
  byNumber.finish(underWay, reply);
  assertEquals(byNumber.admit(call(0)).kind, "new");

  const byBytes = new ReplyCache({ bytesMax: 5000 });
  for (let xid = 0; xid < 10; xid++) byBytes.finish(admitNew(byBytes, call(xid)), { bytes: new Uint8Array(1000) });
  assertEquals(byBytes.size, 3);

  const large = new ReplyCache();
  large.finish(admitNew(large, call(1)), { bytes: new Uint8Array(100_000) });
  assertEquals(large.size, 0);
});

Deno.test("a reply is remembered as it was, with its bulk item in place", () => {
  const cache = new ReplyCache();
  const bytes = words(1, 2, 3);
  const data = Uint8Array.of(9, 9, 9);
  cache.finish(admitNew(cache, call(1)), { bytes, bulk: { position: 8, data } });
  bytes.fill(0);
  data.fill(0);
  const whole = Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 2, 9, 9, 9, 0, 0, 0, 0, 3);
  assertEquals(cache.admit(call(1)), { kind: "answered", reply: whole });
});
