/**
 * The other end of the verbs' benchmark: offers a region for RDMA Writes and Reads, and echoes pings. Prints its port.
 *
 * @module
 */
import { Access, type ConnectionRequest, Device, type ProtectionDomain, type QueuePair } from "../../rdma/mod.ts";
import {
  ASK_COUNTERS,
  COUNTERS_BYTES,
  EVENT_DRIVEN,
  PING_BYTES,
  Purpose,
  RECEIVES,
  TRANSFER_BYTES,
} from "./verbs_protocol.ts";

const device = Device.open();
/** One that never polls on its own. */
const eventDriven = Device.open({ polling: EVENT_DRIVEN });
const ports = [device, eventDriven].map((device) =>
  device.listen({ hostname: "127.0.0.1", port: 0, onRequest: (request) => accept(device, request) }).port
);
console.log(ports.join(" "));

async function accept(device: Device, request: ConnectionRequest): Promise<void> {
  const pd = device.allocateProtectionDomain();
  const privateData = new Uint8Array(16);
  if (request.privateData[0] === Purpose.Transfers) {
    const region = pd.allocate(TRANSFER_BYTES, Access.RemoteRead | Access.RemoteWrite);
    const view = new DataView(privateData.buffer);
    view.setUint32(0, region.stag);
    view.setBigUint64(8, region.address);
  }
  const queuePair = await request.accept({ pd, privateData, onReady: (queuePair) => echo(queuePair, pd) });
  await queuePair.closed;
  pd[Symbol.dispose]();
}

/** Sends every ping back from where it was received. */
function echo(queuePair: QueuePair, pd: ProtectionDomain): void {
  const region = pd.allocate(RECEIVES * PING_BYTES);
  const { bytes } = region;
  for (let slot = 0; slot < RECEIVES; slot++) {
    const local = [{ region, offset: slot * PING_BYTES, length: PING_BYTES }];
    const counters = [{ region, offset: slot * PING_BYTES, length: COUNTERS_BYTES }];
    const receive = () =>
      queuePair.postRecv(local, ({ status }) => {
        if (status !== "success") return;
        const isQuestion = bytes[slot * PING_BYTES] === ASK_COUNTERS;
        if (isQuestion) {
          const { bytesPlaced, bytesStagedLarge } = device.counters();
          const view = new DataView(bytes.buffer, bytes.byteOffset + slot * PING_BYTES);
          view.setFloat64(0, bytesPlaced);
          view.setFloat64(8, bytesStagedLarge);
        }
        queuePair.postSend({ opcode: "send", local: isQuestion ? counters : local }, (done) => {
          if (done.status === "success") receive();
        });
      });
    receive();
  }
}
