/**
 * A process that offers memory for RDMA and then never returns to its event loop: `deno run busy_server.ts`. It prints its port, and the STag and address of its
 * memory, goes on printing nothing until a peer has sent it a first message, and spins from then on until the byte behind that memory's first is 0xff.
 *
 * @module
 */
import { Access, Device } from "../mod.ts";

const BYTES = 1 << 20;

if (import.meta.main) {
  const device = Device.open();
  const pd = device.allocateProtectionDomain();
  const memory = pd.allocate(BYTES, Access.RemoteRead | Access.RemoteWrite);
  const listener = device.listen({
    port: 0,
    onRequest: (request) =>
      void request.accept({
        pd,
        onReady: (qp) =>
          qp.postRecv([], () => {
            // a busy loop in the application; only the core can serve now
            const end = performance.now() + 20_000;
            while (memory.bytes[1] !== 0xff && performance.now() < end);
            console.log(JSON.stringify(device.counters()));
            Deno.exit(memory.bytes[1] === 0xff ? 0 : 1);
          }),
      }),
  });
  console.log(
    JSON.stringify({ port: listener.port, stag: memory.stag, address: String(memory.address), bytes: BYTES }),
  );
}
