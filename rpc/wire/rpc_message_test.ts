import { assertEquals, assertThrows } from "@std/assert";
import { words } from "../_testing/bytes.ts";
import { RpcError, WireError } from "../errors.ts";
import { XdrReader, XdrWriter } from "../xdr/mod.ts";
import {
  AUTH_BODY_BYTES_MAX,
  CALL_HEADER_BYTES_MAX,
  type CallHeader,
  decodeCallHeader,
  decodeReplyHeader,
  encodeCallHeader,
  encodeReplyHeader,
  peekMessage,
  REPLY_HEADER_BYTES_MAX,
  replyError,
  type ReplyHeader,
} from "./rpc_message.ts";

const NO_AUTH = { flavor: 0, body: new Uint8Array(0) };

function call(header: CallHeader): Uint8Array {
  const writer = new XdrWriter();
  encodeCallHeader(writer, header);
  return writer.finish().bytes;
}

function reply(header: ReplyHeader): Uint8Array {
  const writer = new XdrWriter();
  encodeReplyHeader(writer, header);
  return writer.finish().bytes;
}

const header: CallHeader = {
  xid: 0x01020304,
  rpcVersion: 2,
  program: 100003,
  version: 3,
  procedure: 7,
  credential: { flavor: 1, body: Uint8Array.of(1, 2, 3, 4, 5) },
  verifier: NO_AUTH,
};

Deno.test("a call header: its words, back again, and every truncation", () => {
  const bytes = call(header);
  assertEquals(bytes, words(0x01020304, 0, 2, 100003, 3, 7, 1, 5, 0x01020304, 0x05000000, 0, 0));
  assertEquals(decodeCallHeader(new XdrReader(bytes)), header);
  for (let length = 0; length < bytes.byteLength; length++) {
    assertThrows(() => decodeCallHeader(new XdrReader(bytes.subarray(0, length))), WireError);
  }
  assertEquals(peekMessage(bytes), { xid: 0x01020304, type: 0 });
  assertEquals(peekMessage(bytes.subarray(0, 7)), undefined);
});

Deno.test("another RPC version is told, not decoded", () => {
  const other = decodeCallHeader(new XdrReader(words(9, 0, 3)));
  assertEquals([other.xid, other.rpcVersion], [9, 3]);
});

Deno.test("authenticators have a limit", () => {
  const full = { flavor: 6, body: new Uint8Array(AUTH_BODY_BYTES_MAX) };
  const bytes = call({ ...header, credential: full, verifier: full });
  assertEquals(bytes.byteLength, CALL_HEADER_BYTES_MAX);
  assertEquals(decodeCallHeader(new XdrReader(bytes)).credential, full);
  assertThrows(() => call({ ...header, credential: { flavor: 1, body: new Uint8Array(401) } }), RangeError);
  const tooLong = new Uint8Array(1000);
  tooLong.set(words(1, 0, 2, 1, 1, 1, 1, 401));
  assertThrows(() => decodeCallHeader(new XdrReader(tooLong)), WireError, "above the limit");
});

Deno.test("reply headers: every status there and back, and every truncation", () => {
  const versions = { low: 2, high: 4 };
  const headers: [ReplyHeader, Uint8Array][] = [
    [{ xid: 5, status: "SUCCESS", verifier: NO_AUTH }, words(5, 1, 0, 0, 0, 0)],
    [{ xid: 5, status: "PROG_UNAVAIL", verifier: NO_AUTH }, words(5, 1, 0, 0, 0, 1)],
    [{ xid: 5, status: "PROG_MISMATCH", verifier: NO_AUTH, versions }, words(5, 1, 0, 0, 0, 2, 2, 4)],
    [{ xid: 5, status: "PROC_UNAVAIL", verifier: NO_AUTH }, words(5, 1, 0, 0, 0, 3)],
    [{ xid: 5, status: "GARBAGE_ARGS", verifier: NO_AUTH }, words(5, 1, 0, 0, 0, 4)],
    [{ xid: 5, status: "SYSTEM_ERR", verifier: NO_AUTH }, words(5, 1, 0, 0, 0, 5)],
    [{ xid: 5, status: "RPC_MISMATCH", versions }, words(5, 1, 1, 0, 2, 4)],
    [{ xid: 5, status: "AUTH_ERROR", authStatus: 5 }, words(5, 1, 1, 1, 5)],
  ];
  for (const [value, wire] of headers) {
    assertEquals(reply(value), wire);
    assertEquals(decodeReplyHeader(new XdrReader(wire)), value);
    assertEquals(replyError(value)?.status, value.status === "SUCCESS" ? undefined : value.status);
    for (let length = 0; length < wire.byteLength; length++) {
      assertThrows(() => decodeReplyHeader(new XdrReader(wire.subarray(0, length))), WireError);
    }
  }
  assertEquals(replyError(headers[2][0]) instanceof RpcError, true);
  const longest = {
    xid: 1,
    status: "PROG_MISMATCH",
    versions,
    verifier: { flavor: 6, body: new Uint8Array(400) },
  } as const;
  assertEquals(reply(longest).byteLength, REPLY_HEADER_BYTES_MAX);
});

Deno.test("numbers without a meaning are refused", () => {
  assertThrows(() => decodeCallHeader(new XdrReader(words(1, 1, 2, 0, 0, 0))), WireError, "msg_type 1");
  assertThrows(() => decodeReplyHeader(new XdrReader(words(1, 0, 0))), WireError, "msg_type 0");
  assertThrows(() => decodeReplyHeader(new XdrReader(words(1, 1, 2))), WireError, "reply_stat 2");
  assertThrows(() => decodeReplyHeader(new XdrReader(words(1, 1, 0, 0, 0, 6))), WireError, "accept_stat 6");
  const error = assertThrows(() => decodeReplyHeader(new XdrReader(words(1, 1, 1, 2))), WireError, "reject_stat 2");
  assertEquals([error.layer, error.offset], ["rpc", 12]);
});
