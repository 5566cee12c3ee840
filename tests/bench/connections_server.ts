/**
 * The other end of the benchmark of many connections: a region for RDMA Writes, a Send for a Send, and pings on one connection. Prints its port, and that of a plain
 * TCP listener of the runtime's.
 *
 * @module
 */
import { Access, type ConnectionRequest, Device, type QueuePair } from "../../rdma/mod.ts";
import { PLACES, Purpose, Question, residentMemory, TCP_HELLO_BYTES, TRANSFER_BYTES } from "./connections_protocol.ts";
import { echo } from "./pings.ts";

const device = Device.open();
const pd = device.allocateProtectionDomain();
const target = pd.allocate(PLACES * TRANSFER_BYTES, Access.RemoteWrite);
const inbox = [{ region: pd.allocate(64), offset: 0, length: 64 }];
const many = new Set<QueuePair>();
const privateData = new Uint8Array(16);
new DataView(privateData.buffer).setUint32(0, target.stag);
new DataView(privateData.buffer).setBigUint64(8, target.address);

function accept(request: ConnectionRequest): void {
  if (request.privateData[0] === Purpose.Pings) {
    void request.accept({ pd, onReady: (queuePair) => echo(queuePair, pd, answer) });
    return;
  }
  void request.accept({
    pd,
    privateData,
    onReady: (queuePair) => {
      many.add(queuePair);
      void queuePair.closed.then(() => many.delete(queuePair));
      receive(queuePair);
    },
  });
}

function receive(queuePair: QueuePair): void {
  queuePair.postRecv(inbox, ({ status }) => {
    if (status !== "success") return;
    receive(queuePair);
    queuePair.postSend({ opcode: "send", local: inbox });
  });
}

function answer(question: number, view: DataView): void {
  if (question === Question.Memory) return view.setFloat64(0, residentMemory());
  view.setFloat64(0, device.counters().bytesPlaced);
  view.setFloat64(8, performance.now());
  view.setFloat64(16, [...many].filter(({ state }) => state === "rts").length);
}

async function answerHello(connection: Deno.TcpConn): Promise<void> {
  using _connection = connection;
  const hello = new Uint8Array(TCP_HELLO_BYTES);
  for (let received = 0; received < hello.byteLength;) {
    const count = await connection.read(hello.subarray(received));
    if (count === null) return;
    received += count;
  }
  await connection.write(hello);
  await connection.read(hello); // until the peer closes
}

const { port } = device.listen({ hostname: "127.0.0.1", port: 0, onRequest: accept });
const tcp = Deno.listen({ hostname: "127.0.0.1", port: 0 });
console.log([port, tcp.addr.port].join(" "));
for await (const connection of tcp) {
  answerHello(connection).catch(() => {}); // the client resets them
}
