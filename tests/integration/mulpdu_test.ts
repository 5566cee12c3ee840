import { assertEquals } from "@std/assert";
import { Link } from "../bench/link.ts";
import { deno, firstLine, runForJson, spawn } from "../bench/processes.ts";
import type { Exchange } from "./link_peer.ts";

const PEER = "tests/integration/link_peer.ts";

Deno.test("mulpdu: between two hosts it follows from TCP's segments", async () => {
  // says why where there is none
  await using link = await Link.start([]);
  if (link === undefined) return console.error("SKIPPED: FPDUs on a link with a small MSS");
  const server = spawn(link.at("server", ...deno(PEER, link.serverAddress)));
  try {
    const port = await firstLine(server.stdout);
    // of an MTU of 1500, IPv4, TCP and its timestamps leave 1448
    const [whole, one, markers] = [11 * 1448 - 6, 1448 - 6, 32 * 4];
    const expected = [
      [{}, whole, whole],
      [{ mulpdu: "mss" }, one, whole],
      [{ mulpdu: 4096 }, 4096, whole],
      [{ markers: true }, whole, whole - markers],
    ] as const;
    for (const [options, ours, theirs] of expected) {
      const caller = link.at("client", ...deno(PEER, link.serverAddress, port, JSON.stringify(options)));
      assertEquals(await runForJson<Exchange>(caller), { ours, theirs, isWhole: true });
    }
  } finally {
    server.kill();
    await server.status;
  }
});
