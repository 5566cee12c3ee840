/**
 * A process that uses everything, closes it in one of several ways, and then has nothing more to do: `deno run quiet_exit.ts WAY`. It must end by itself.
 *
 * @module
 */
import { Access, Device, type QueuePair, type Stream } from "../mod.ts";

if (import.meta.main) {
  const [way] = Deno.args;
  const device = Device.open();
  const pd = device.allocateProtectionDomain();
  const target = pd.allocate(4096, Access.RemoteWrite);
  const servers: (QueuePair | Stream)[] = [];
  const listener = device.listen({
    port: 0,
    onRequest: async (request) => void servers.push(await request.accept({ pd })),
    onStream: (stream) => {
      servers.push(stream);
      stream.receive([new Uint8Array(10)], () => {});
    },
  });
  const there = { hostname: "127.0.0.1", port: listener.port };
  const client = await device.connect({ ...there, pd });
  await client.write([{ region: pd.allocate(64), offset: 0, length: 64 }], target);
  const stream = await device.connectStream(there);
  await new Promise((resolve) => stream.send([new Uint8Array(10)], resolve));
  while (servers.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));

  if (way === "device") await device.close();
  else {
    // the device itself stays open, and holds nothing up
    for (const connection of [client, stream]) {
      if (way === "close") await connection.close();
      else connection.abort();
    }
    if (way === "abort") { for (const server of servers) server.abort(); }
    await Promise.all(servers.map((server) => server.closed));
    await listener.close();
  }
  console.log("done");
}
