/**
 * Either end of a connection between two hosts, for tests that make them: data goes over it every way, and each end tells its MULPDU.
 *
 * ```sh
 * deno run -A tests/integration/link_peer.ts ADDRESS              # serves, and prints its port
 * deno run -A tests/integration/link_peer.ts ADDRESS PORT OPTIONS # calls, and prints an `Exchange`
 * ```
 *
 * @module
 */
import { fill, same } from "../../rdma/_testing/pair.ts";
import { Access, decodeAdvertisement, Device, encodeAdvertisement, type QueuePair } from "../../rdma/mod.ts";

/** What a call came to. */
export interface Exchange {
  /** The caller's MULPDU. */
  ours: number;
  /** The server's. */
  theirs: number;
  /** Whether what was written, read and sent arrived as it was, on the connections' other end and back. */
  isWhole: boolean;
}

/** Bytes of each transfer: no multiple of what a segment has. */
const BYTES = 1_000_003;

function serve(hostname: string): void {
  const device = Device.open();
  const pd = device.allocateProtectionDomain();
  const target = pd.allocate(BYTES, Access.RemoteRead | Access.RemoteWrite);
  const inbox = pd.allocate(BYTES);
  const answer = pd.allocate(8);
  const onReady = async (queuePair: QueuePair) => {
    await queuePair.recv([inbox.sge()]);
    const words = new DataView(answer.bytes.buffer, answer.bytes.byteOffset);
    words.setUint32(0, queuePair.facts.mulpdu);
    words.setUint32(4, Number(same(inbox.bytes, target.bytes)));
    await queuePair.send([answer.sge()]);
    target.bytes.fill(0);
  };
  const listener = device.listen({
    hostname,
    port: 0,
    onRequest: (request) => void request.accept({ pd, privateData: encodeAdvertisement(target), onReady }),
  });
  console.log(listener.port);
}

async function call(hostname: string, port: number, options: object): Promise<Exchange> {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  await using queuePair = await device.connect({ hostname, port, pd, ...options });
  const target = decodeAdvertisement(queuePair.privateData);
  if (target === undefined) throw new Error("the peer has not told where its memory is");
  const [source, back] = [pd.allocate(BYTES), pd.allocate(BYTES)];
  fill(source.bytes, 1);
  await queuePair.write([source.sge()], target);
  await queuePair.read([back.sge()], target);
  const answer = pd.allocate(8);
  const answered = queuePair.recv([answer.sge()]);
  await queuePair.send([source.sge()]);
  await answered;
  const words = new DataView(answer.bytes.buffer, answer.bytes.byteOffset);
  const isWhole = same(source.bytes, back.bytes) && words.getUint32(4) === 1;
  return { ours: queuePair.facts.mulpdu, theirs: words.getUint32(0), isWhole };
}

if (import.meta.main) {
  const [hostname, port, options] = Deno.args;
  if (port === undefined) serve(hostname);
  else console.log(JSON.stringify(await call(hostname, Number(port), JSON.parse(options))));
}
