import { assertEquals } from "@std/assert";
import { WireError } from "../rpc/mod.ts";
import { FaultLog } from "./fault_log.ts";

const PEER = { transport: "tcp", address: "192.0.2.1", port: 700 };

Deno.test("FaultLog: says who, where and what, on one line", () => {
  const lines: string[] = [];
  const log = new FaultLog({ write: (line) => lines.push(line), now: () => 0 });
  log.report(new WireError("cut\x1b[31m short\n", { layer: "xdr", offset: 7 }), { peer: PEER, procedure: "NFS.READ" });
  log.report("just text", { peer: PEER });
  assertEquals(lines, [
    "tcp client 192.0.2.1 port 700, NFS.READ: WireError: xdr: cut [31m short  at byte 7",
    "tcp client 192.0.2.1 port 700: just text",
  ]);
});

Deno.test("FaultLog: a flood becomes a number", () => {
  const lines: string[] = [];
  let now = 0;
  const log = new FaultLog({ write: (line) => lines.push(line), now: () => now });
  for (let i = 0; i < 1000; i++) log.report(new Error(`${i}`), { peer: PEER });
  assertEquals(lines.length, 10);
  now = 10_000;
  log.report(new Error("later"), { peer: PEER });
  assertEquals(lines.slice(10), [
    "990 more faults like these",
    "tcp client 192.0.2.1 port 700: Error: later",
  ]);
});
