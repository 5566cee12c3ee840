import { assertEquals, assertThrows } from "@std/assert";
import { decodeCmPrivateData, encodeCmPrivateData, negotiate, OUR_SETTINGS } from "./rpc_rdma_cm.ts";

Deno.test("private data: as the Linux client sends it", () => {
  const bytes = encodeCmPrivateData(OUR_SETTINGS);
  assertEquals(bytes, Uint8Array.of(0xf6, 0xab, 0x0e, 0x18, 1, 1, 3, 3));
  assertEquals(decodeCmPrivateData(bytes), OUR_SETTINGS);
  assertEquals(decodeCmPrivateData(Uint8Array.of(...bytes, 9, 9)), OUR_SETTINGS, "more behind it");
  const other = { remoteInvalidation: false, sendBytes: 1024, receiveBytes: 256 * 1024 };
  assertEquals(decodeCmPrivateData(encodeCmPrivateData(other)), other);
});

Deno.test("private data of something else is none", () => {
  const bytes = encodeCmPrivateData(OUR_SETTINGS);
  for (let length = 0; length < bytes.byteLength; length++) {
    assertEquals(decodeCmPrivateData(bytes.subarray(0, length)), undefined);
  }
  for (const at of [0, 1, 2, 3, 4]) {
    const other = bytes.slice();
    other[at] ^= 2;
    assertEquals(decodeCmPrivateData(other), undefined);
  }
});

Deno.test("sizes that cannot be told are misuse", () => {
  for (const sendBytes of [0, 1000, 257 * 1024, 1.5]) {
    assertThrows(() => encodeCmPrivateData({ ...OUR_SETTINGS, sendBytes }), RangeError);
  }
});

Deno.test("thresholds: the smaller of each pair, 1024 for a peer that says nothing", () => {
  assertEquals(negotiate(OUR_SETTINGS, undefined), { send: 1024, receive: 1024, mayInvalidate: false });
  const peer = { remoteInvalidation: true, sendBytes: 2048, receiveBytes: 8192 };
  assertEquals(negotiate(OUR_SETTINGS, peer), { send: 4096, receive: 2048, mayInvalidate: true });
});
