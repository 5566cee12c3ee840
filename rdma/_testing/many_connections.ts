/**
 * A process that makes connections by the thousand, and ends them in every way: `deno run --v8-flags=--expose-gc many_connections.ts COUNT`. It prints, as JSON, what
 * it holds after a tenth of them and after all.
 *
 * @module
 */
import { Access, Device, type QueuePair } from "../mod.ts";
import { openDescriptors, until, whole } from "./pair.ts";

const AT_ONCE = 20;

/** What a process holds. */
export interface Holdings {
  /** Open descriptors. */
  descriptors: number;
  /** Resident memory, bytes. */
  rss: number;
  /** Memory of JavaScript's, bytes. */
  heap: number;
  /** Native threads. */
  threads: number;
  /** Regions and windows of both devices. */
  regions: number;
  /** Connections in memory at both devices. */
  liveConnections: number;
  /** Connections that there have been at both devices. */
  connections: number;
}

const collect = () => (globalThis as unknown as { gc(): void }).gc();

if (import.meta.main) {
  const count = Number(Deno.args[0]);
  const [client, server] = [Device.open(), Device.open()];
  const [pd, serverPd] = [client.allocateProtectionDomain(), server.allocateProtectionDomain()];
  const target = serverPd.allocate(4096, Access.RemoteRead | Access.RemoteWrite);
  const inbox = serverPd.allocate(4096);
  /** By the peer's port. */
  const accepted = new Map<number, QueuePair>();
  const listener = server.listen({
    port: 0,
    onRequest: (request) => {
      if (request.privateData[0] === 1) return request.reject();
      void request.accept({
        pd: serverPd,
        onReady: (qp) => {
          for (let i = 0; i < 4; i++) qp.postRecv(whole(inbox), () => {});
          accepted.set(request.remotePort, qp);
        },
      });
    },
    onStream: (stream) => void stream.close(),
  });
  const there = { hostname: "127.0.0.1", port: listener.port };

  const one = async (number: number): Promise<void> => {
    if (number % 10 === 8) {
      await client.connect({ ...there, pd, privateData: new Uint8Array([1]) }).catch(() => {});
      return;
    }
    if (number % 10 === 9) {
      const stream = await client.connectStream(there);
      stream.send([new Uint8Array(16)]);
      await stream.close();
      return;
    }
    const qp = await client.connect({ ...there, pd });
    using region = pd.allocate(4096, Access.RemoteRead);
    using _part = region.bind({ length: 64, access: Access.RemoteRead });
    await qp.write(whole(region), target);
    await qp.read(whole(region), target);
    if (number % 10 === 0) await qp.send(whole(region));
    switch (number % 4) {
      case 0:
        return await qp.close();
      case 1:
        qp.abort();
        return void await qp.closed;
      case 2: // a violation: there are fewer receives
        for (let i = 0; i < 6; i++) qp.postSend({ opcode: "send", local: [] });
        return void await qp.closed;
      default: // from the other side
        await qp.send(whole(region));
        void accepted.get(qp.localPort)!.close();
        return void await qp.closed;
    }
  };

  const holdings = async (): Promise<Holdings> => {
    accepted.clear();
    const both = () => [client.counters(), server.counters()];
    const sum = (name: "regions" | "liveConnections" | "connections") => both()[0][name] + both()[1][name];
    await until(() => sum("liveConnections") === 0, 10_000);
    for (let i = 0; i < 3; i++) {
      collect();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const { rss, heapUsed } = Deno.memoryUsage();
    return {
      descriptors: openDescriptors(),
      rss,
      heap: heapUsed,
      threads: [...Deno.readDirSync("/proc/self/task")].length,
      regions: sum("regions"),
      liveConnections: sum("liveConnections"),
      connections: sum("connections"),
    };
  };

  let next = 0;
  const upTo = async (end: number): Promise<Holdings> => {
    const worker = async () => {
      while (next < end) {
        if (next % 250 === 0) collect();
        await one(next++);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    return await holdings();
  };
  // Deno opens a socket pair and a thread of its own half a second after its start
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const before = await upTo(count / 10);
  const after = await upTo(count);
  console.log(JSON.stringify({ before, after }));
  Deno.exit(0);
}
