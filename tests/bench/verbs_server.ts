/**
 * The other end of the verbs' benchmark: offers a region for RDMA Writes and Reads, and echoes pings. Prints its port.
 *
 * @module
 */
import { Access, type ConnectionRequest, Device } from "../../rdma/mod.ts";
import { echo } from "./pings.ts";
import { ASK_CPU, ASLEEP, cpuMicros, IN_EVENT_LOOP, Purpose, TRANSFER_BYTES } from "./verbs_protocol.ts";

const device = Device.open();
/** Two that never poll on their own. */
const sleepers = [ASLEEP, IN_EVENT_LOOP].map((polling) => Device.open({ polling }));
const ports = [device, ...sleepers].map((device) =>
  device.listen({ hostname: "127.0.0.1", port: 0, onRequest: (request) => accept(device, request) }).port
);
console.log(ports.join(" "));

async function accept(device: Device, request: ConnectionRequest): Promise<void> {
  const pd = device.allocateProtectionDomain();
  const privateData = new Uint8Array(16);
  if (request.privateData[0] === Purpose.Transfers) {
    const region = pd.allocate(TRANSFER_BYTES, Access.RemoteRead | Access.RemoteWrite);
    region.bytes.fill(0x5a); // memory that nobody has written to is one page of zeros, always in the cache
    const view = new DataView(privateData.buffer);
    view.setUint32(0, region.stag);
    view.setBigUint64(8, region.address);
  }
  const tell = (question: number, answer: DataView) => {
    if (question === ASK_CPU) return answer.setFloat64(0, cpuMicros());
    const { bytesPlaced, bytesStagedLarge } = device.counters();
    answer.setFloat64(0, bytesPlaced);
    answer.setFloat64(8, bytesStagedLarge);
  };
  const queuePair = await request.accept({
    pd,
    privateData,
    onReady: (queuePair) => echo(queuePair, pd, tell),
  });
  await queuePair.closed;
  pd[Symbol.dispose]();
}
