import { assert, assertEquals } from "@std/assert";
import { buildWithFaults } from "./_ffi/build.ts";
import { openLibrary } from "./_ffi/library.ts";
import { connectPair, fill, same, until, whole, within } from "./_testing/pair.ts";
import { Access, type AsyncEvent } from "./mod.ts";

// the library of this file's tests, and of no others: each file has its own instance of the module that opens it
const library = await buildWithFaults();
openLibrary(library);
const { weft_inject } = Deno.dlopen(library, { weft_inject: { parameters: ["u32", "f64"], result: "i32" } }).symbols;

/** Where the core panics: as `weft_inject` has them. */
const POINTS = [
  "its turn begins",
  "it is about to send",
  "payload is about to be placed",
  "work is about to be flushed",
];

const FLUSH = POINTS.length - 1;

for (const [point, when] of POINTS.entries()) {
  Deno.test(`panic: as ${when}, it ends its queue pair with an error, and nothing else`, async () => {
    await using pair = await connectPair();
    const { client, server } = pair;
    const memory = server.pd.allocate(65_536, Access.RemoteRead | Access.RemoteWrite);
    const source = client.pd.allocate(65_536);
    const remote = { stag: memory.stag, address: memory.address };
    await until(() => server.qp.state === "rts");
    // one that goes on
    const other = await client.device.connect({ hostname: "127.0.0.1", port: pair.listener.port, pd: client.pd });
    await other.write(whole(source), remote);
    const events = server.device.events();
    const flushed: string[] = [];
    server.qp.postRecv([], ({ status }) => flushed.push(status));
    const before = server.device.counters().panics;

    assertEquals(weft_inject(point, server.qp.handle), 0);
    // a Read is a turn, payload that comes, and an answer that leaves
    const work = [client.qp.write(whole(source), remote), client.qp.read(whole(source), remote)];
    if (point === FLUSH) server.qp.abort();
    const results = await within(Promise.allSettled(work));

    const error = await within(server.qp.closed);
    assertEquals([error?.code, server.qp.state], ["Panic", "err"]);
    assertEquals(flushed, ["flushed"]);
    assertEquals(server.device.counters().panics, before + (point === FLUSH ? 0 : 1));
    // the peer sees a connection that was reset
    assertEquals(results[1].status, "rejected");
    assert((await within(client.qp.closed)) !== undefined);
    let event: AsyncEvent;
    do event = (await within(events.next())).value!; while (event.type !== "localCatastrophic");
    assertEquals([event.queuePair, event.error], [server.qp, error]);

    fill(source.bytes, point + 1);
    await within(other.write(whole(source), remote));
    await within(other.read(whole(source), remote));
    assert(same(memory.bytes, source.bytes));
    const third = await client.device.connect({ hostname: "127.0.0.1", port: pair.listener.port, pd: client.pd });
    await within(third.write([], { stag: 0, address: 0n }));
  });
}
