import { assertEquals, assertNotEquals } from "@std/assert";
import {
  type Control,
  controlBytes,
  decodeControl,
  decodeRefusal,
  decodeReply,
  decodeRequest,
  encodeControl,
  encodeRefusal,
  encodeReply,
  encodeRequest,
  type RunRequest,
} from "./messages.ts";

const memory = (stag: number) => ({ stag, address: 0xffff_ffff_0000_0000n + BigInt(stag) });

const REQUEST: RunRequest = {
  operation: 6,
  bidirectional: true,
  events: true,
  session: 0xfedc_ba98_7654_3210n,
  run: 0xffff_fffe,
  index: 1023,
  connections: 1024,
  sizeBytes: 2 ** 30,
  sendDepth: 8192,
  receiveDepth: 8191,
  list: 8190,
  moderation: 8189,
  mulpdu: 65535,
  congestion: "bbr",
  data: memory(0xffff_ffff),
  credit: memory(7),
};

Deno.test("messages: requests, replies and refusals come back as they were", () => {
  assertEquals(decodeRequest(encodeRequest(REQUEST)), REQUEST);
  for (const mulpdu of [0, 128, "mss"] as const) {
    assertEquals(decodeRequest(encodeRequest({ ...REQUEST, mulpdu })), { ...REQUEST, mulpdu });
  }
  for (const flag of ["bidirectional", "events"] as const) {
    const request = { ...REQUEST, [flag]: false };
    assertEquals(decodeRequest(encodeRequest(request)), request);
  }
  const reply = { floorPort: 65535, data: memory(1), credit: memory(2) };
  assertEquals(decodeReply(encodeReply(reply)), reply);
  assertEquals(decodeRefusal(encodeRefusal("not today")), "not today");
  assertEquals(decodeRefusal(encodeRefusal("")), "");
  assertEquals(decodeRefusal(encodeRefusal("a\x1b[2Jb\r\n")), "a?[2Jb??");
  assertEquals(encodeRefusal("x".repeat(1000)).byteLength <= 508, true);
});

Deno.test("messages: what is cut off, or of somebody else, is none", () => {
  const request = encodeRequest(REQUEST);
  const reply = encodeReply({ floorPort: 0, data: memory(1), credit: memory(2) });
  for (let length = 0; length < request.byteLength; length++) {
    assertEquals(decodeRequest(request.subarray(0, length)), undefined);
  }
  for (let length = 0; length < reply.byteLength; length++) {
    assertEquals(decodeReply(reply.subarray(0, length)), undefined);
  }
  for (let at = 0; at < 6; at++) {
    const changed = request.slice();
    changed[at] ^= 0x40;
    assertEquals(decodeRequest(changed), undefined);
    assertEquals(decodeReply(changed), undefined);
    assertEquals(decodeRefusal(changed), undefined);
  }
});

Deno.test("messages: control messages, at any place in memory", () => {
  const controls: Control[] = [
    { kind: "start", iterations: 2 ** 40, durationMs: 0 },
    { kind: "start", iterations: 0, durationMs: 0.5 },
    { kind: "ready" },
    { kind: "stop" },
    { kind: "done", messages: 123456789012, cpuMs: 0.25 },
    { kind: "finish", more: true },
    { kind: "finish", more: false },
  ];
  const bytes = new Uint8Array(64).subarray(3, 36);
  for (const control of controls) {
    encodeControl(control, bytes.fill(0xff));
    assertEquals(decodeControl(bytes), control);
    for (let length = 0; length < controlBytes(1); length++) {
      assertEquals(decodeControl(bytes.subarray(0, length)), undefined);
    }
  }
  bytes[7] = 99;
  assertEquals(decodeControl(bytes), undefined);
  assertEquals(decodeControl(bytes.fill(0)), undefined);
});

Deno.test("messages: no control message is as long as the measured ones", () => {
  for (let size = 1; size < 100; size++) assertNotEquals(controlBytes(size), size);
});
