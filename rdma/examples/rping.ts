/**
 * librdmacm's `rping` in a page: both ends of it are `rdma/ping/rping.ts`, which shows RDMA Read, RDMA Write and Send at work.
 *
 * ```sh
 * deno run -A rdma/examples/rping.ts -s -a 127.0.0.1 -p 7174 -C 3
 * deno run -A rdma/examples/rping.ts -c -a 127.0.0.1 -p 7174 -C 3
 * ```
 *
 * @module
 */
import { parseArgs } from "@std/cli";
import { rpingClient, rpingServer } from "../ping/rping.ts";

const args = parseArgs(Deno.args, { boolean: ["s", "c", "v"], string: ["a", "p", "C"] });
const options = {
  hostname: args.a ?? (args.s ? "0.0.0.0" : "127.0.0.1"),
  port: Number(args.p ?? 7174),
  count: Number(args.C ?? 1),
  onRound: (text: string) => args.v && console.log(`ping data: ${text}`),
};
if (args.s === args.c || !(Number.isInteger(options.count) && options.count >= 1)) {
  console.error("usage: rping.ts -s|-c [-a ADDRESS] [-p PORT] [-C COUNT, from 1] [-v]");
  Deno.exit(2);
}
if (args.s) await rpingServer({ ...options, onListening: (port) => console.log(`listening on port ${port}`) });
else await rpingClient(options);
