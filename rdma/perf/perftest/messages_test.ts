import { assertEquals } from "@std/assert";
import {
  decodeDestination,
  decodeMtu,
  decodeNumber,
  decodeReport,
  decodeVersion,
  encodeDestination,
  encodeMtu,
  encodeNumber,
  encodeReport,
  encodeVersion,
  isSpoken,
} from "./messages.ts";

const bytes = (hex: string) => Uint8Array.fromHex(hex);
const DESTINATION = { memory: { stag: 0xfedc_ba98, address: 0xffff_8000_0000_1000n }, readDepth: 128 };
const REPORT = { sizeBytes: 8 * 2 ** 20, iterations: 5000, peak: 1234.5, average: 1000.25, messageRate: 0.000125 };

Deno.test("perftest messages: what ib_read_bw 6.06 says", () => {
  assertEquals(decodeVersion(bytes("362e3036000000000000000000000000")), "6.06");
  assertEquals([decodeNumber(bytes("00001000")), decodeNumber(bytes("00000040"))], [4096, 64]);
  assertEquals(decodeMtu(bytes("3300")), 3);
  const destination = "000000000000008000000002005a9d1e918c600000000000000055c0993660005254001234560000" +
    "00000000000000000000000000000000";
  assertEquals(decodeDestination(bytes(destination)), {
    memory: { stag: 0x918c6000, address: 0x55c099366000n },
    readDepth: 128,
  });
  const report = ["40", "14"].map((hex) => bytes(hex.padStart(16, "0")));
  report.push(...["3fbdea70f5e3592a", "3fb4811721641749", "3f558011f66a6d73"].map(bytes));
  const { sizeBytes, iterations, average } = decodeReport(report)!;
  assertEquals([sizeBytes, iterations, average.toFixed(2)], [64, 20, "0.08"]);
});

Deno.test("perftest messages: come back as they were", () => {
  assertEquals(decodeVersion(encodeVersion()), "6.06");
  assertEquals(encodeVersion().byteLength, 16);
  assertEquals(decodeNumber(encodeNumber(-2)), -2);
  assertEquals(decodeMtu(encodeMtu(5)), 5);
  assertEquals(decodeDestination(encodeDestination(DESTINATION)), DESTINATION);
  assertEquals(decodeReport(encodeReport(REPORT)), REPORT);
});

Deno.test("perftest messages: what is cut off, too long or nonsense is none", () => {
  const decoders: [(bytes: Uint8Array) => unknown, Uint8Array][] = [
    [decodeVersion, encodeVersion()],
    [decodeNumber, encodeNumber(4096)],
    [decodeMtu, encodeMtu(3)],
    [decodeDestination, encodeDestination(DESTINATION)],
  ];
  for (const [decode, whole] of decoders) {
    for (let length = 0; length < whole.byteLength; length++) {
      assertEquals(decode(whole.subarray(0, length)), undefined);
    }
    assertEquals(decode(new Uint8Array([...whole, 0])), undefined);
  }
  const versions = ["", "6", "6.", ".06", "6.06x", "-6.06", "6.06 ", "1e3", "99999999.1", "6.0123456789", "6.06.1"];
  for (const text of [...versions, "6.0612345678901234".slice(0, 16)]) {
    const message = new Uint8Array(16);
    message.set(new TextEncoder().encode(text).subarray(0, 16));
    assertEquals(decodeVersion(message), undefined, text);
  }
  for (const hex of ["0000", "3000", "3600", "3330", "ff00"]) assertEquals(decodeMtu(bytes(hex)), undefined, hex);
  const report = encodeReport(REPORT);
  assertEquals(decodeReport(report.slice(1)), undefined);
  assertEquals(decodeReport([]), undefined);
  assertEquals(decodeReport([...report, report[0]]), undefined);
  for (const hex of ["7ff0000000000000", "7ff8000000000000", "bff0000000000000"]) { // infinity, not a number, -1
    for (const at of [2, 3, 4]) assertEquals(decodeReport(report.with(at, bytes(hex))), undefined);
  }
  for (let at = 0; at < 5; at++) {
    assertEquals(decodeReport(report.with(at, bytes("00"))), undefined);
  }
});

Deno.test("perftest messages: versions that can be spoken with", () => {
  assertEquals(["5.69", "5.70", "6.06", "6.23"].map(isSpoken), [false, true, true, true]);
});
