/**
 * A Worker with a device of its own. It listens, has its memory written by who connects, and writes to who listens elsewhere.
 *
 * @module
 */
import { Access, Device } from "../mod.ts";

/** What the worker is asked for. */
export type WorkerRequest = { connect: number; rounds: number; seed: number } | { close: true };
/** What it answers: its port at first, what it has written to the peer, and what was written to it at the end. */
export type WorkerReply = { port: number } | { written: number } | { sum: number };

const scope = self as unknown as {
  postMessage(reply: WorkerReply): void;
  onmessage: ((message: MessageEvent<WorkerRequest>) => void) | null;
  close(): void;
};

const device = Device.open();
const pd = device.allocateProtectionDomain();
const target = pd.allocate(8, Access.RemoteAtomic);
const hello = new Uint8Array(12);
new DataView(hello.buffer).setUint32(0, target.stag);
new DataView(hello.buffer).setBigUint64(4, target.address);
const listener = device.listen({
  port: 0,
  onRequest: (request) => void request.accept({ pd, privateData: hello }),
});

scope.onmessage = async ({ data }) => {
  if ("close" in data) {
    const [sum] = new Float64Array([Number(new BigUint64Array(target.bytes.slice().buffer)[0])]);
    await device.close();
    scope.postMessage({ sum });
    scope.close();
    return;
  }
  const qp = await device.connect({ hostname: "127.0.0.1", port: data.connect, pd });
  const view = new DataView(qp.privateData.slice().buffer);
  const remote = { stag: view.getUint32(0), address: view.getBigUint64(4) };
  for (let i = 0; i < data.rounds; i++) await qp.fetchAdd(remote, BigInt(data.seed));
  await qp.close();
  scope.postMessage({ written: data.rounds * data.seed });
};
scope.postMessage({ port: listener.port });
