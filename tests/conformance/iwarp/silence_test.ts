/**
 * A responder that overlooks what came while it was still busy with its MPA reply, as Linux's siw does.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { Device } from "../../../rdma/mod.ts";
import { within } from "../../../rdma/_testing/pair.ts";
import { RawPeer } from "./raw_peer.ts";
import { Opcode, untagged } from "./wire.ts";

/** Connects to a peer played by hand, in peer-to-peer mode, and sends it one message. */
async function sendTo(play: (peer: RawPeer) => Promise<void>): Promise<void> {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepting = RawPeer.accept(listener, { peerToPeer: true, rtrWrite: true });
  const qp = await device.connect({ hostname: "127.0.0.1", port: listener.addr.port, pd, crc: false });
  using peer = await within(accepting);
  using memory = pd.allocate(64);
  qp.postRecv([{ region: memory, offset: 0, length: 32 }], () => {});
  await qp.send([{ region: memory, offset: 32, length: 32 }]);
  await play(peer);
  qp.abort();
  await qp.closed;
}

Deno.test("iwarp silence: a peer that does not answer our first message gets an empty Write, to look again", async () => {
  await sendTo(async (peer) => {
    const opcodes = [];
    for (let i = 0; i < 3; i++) {
      const fpdu = await peer.readFpdu();
      assert(fpdu !== undefined, "the connection ended");
      opcodes.push(fpdu.opcode);
      if (fpdu.opcode === Opcode.Write) assertEquals([fpdu.stag, fpdu.to, fpdu.payload.byteLength], [0, 0n, 0]);
    }
    // ready to receive, the message, the nudge
    assertEquals(opcodes, [Opcode.Write, Opcode.Send, Opcode.Write]);
  });
});

Deno.test("iwarp silence: a peer that answers is left alone", async () => {
  await sendTo(async (peer) => {
    await peer.readFpdu();
    await peer.readFpdu();
    await peer.write(untagged(Opcode.Send, { queue: 0, msn: 1, mo: 0 }, new Uint8Array(8), { crc: "zero" }));
    const more = peer.readFpdu().then((fpdu) => fpdu?.opcode);
    const quiet = new Promise((resolve) => setTimeout(resolve, 900, "quiet"));
    assertEquals(await Promise.race([more, quiet]), "quiet");
    more.catch(() => {}); // the connection is ended with this read under way
  });
});
