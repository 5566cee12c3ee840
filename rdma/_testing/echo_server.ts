/**
 * A process that echoes every byte of plain TCP connections: `deno run echo_server.ts`. It prints its port, and the events of its device. For tests that take something away from it.
 *
 * @module
 */
import { Device, type Stream } from "../mod.ts";

function echo(stream: Stream): void {
  const byte = new Uint8Array(1);
  stream.receive([byte], ({ status }) => {
    if (status !== "success") return;
    stream.send([byte]);
    echo(stream);
  });
}

if (import.meta.main) {
  const device = Device.open();
  const { port } = device.listen({ port: 0, onStream: echo });
  const events = device.events();
  await device.hold.begin(); // from now on it opens no descriptors but for connections
  console.log(JSON.stringify({ port }));
  for await (const { type } of events) console.log(JSON.stringify({ event: type }));
}
