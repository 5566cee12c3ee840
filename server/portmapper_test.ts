import { assertEquals, assertRejects } from "@std/assert";
import { type ClientTransport, type Infer, memoryPair, RpcServer, service } from "../rpc/mod.ts";
import { type mapping, PMAP, PortmapperError, register, unregister } from "./portmapper.ts";

type Mapping = Infer<typeof mapping>;

/** A portmapper as RFC 1833 §3 has it. */
function portmapper(options: { refuses?: boolean } = {}): { client: ClientTransport; ports: Map<string, number> } {
  const ports = new Map<string, number>();
  const key = ({ prog, vers, prot }: Mapping): string => `${prog} ${vers} ${prot}`;
  const { client, server } = memoryPair();
  new RpcServer({
    services: [service(PMAP, {
      SET: (entry) => {
        if (options.refuses || ports.has(key(entry))) return false;
        ports.set(key(entry), entry.port);
        return true;
      },
      UNSET: (entry) => ports.delete(key(entry)),
      GETPORT: (entry) => ports.get(key(entry)) ?? 0,
    })],
  }).serve(server);
  return { client, ports };
}

Deno.test("register, unregister: NFS and MOUNT, in the place of whoever was there", async () => {
  const { client, ports } = portmapper();
  ports.set("100003 3 6", 2049);
  ports.set("100021 4 6", 999);
  await register(client, 20049);
  assertEquals(Object.fromEntries(ports), { "100021 4 6": 999, "100003 3 6": 20049, "100005 3 6": 20049 });
  await unregister(client, 20049);
  assertEquals(Object.fromEntries(ports), { "100021 4 6": 999 });
});

Deno.test("unregister: leaves what leads elsewhere by now", async () => {
  const { client, ports } = portmapper();
  await register(client, 20049);
  ports.set("100003 3 6", 2049);
  await unregister(client, 20049);
  assertEquals(Object.fromEntries(ports), { "100003 3 6": 2049 });
});

Deno.test("register: a refusal is an error", async () => {
  await assertRejects(() => register(portmapper({ refuses: true }).client, 20049), PortmapperError, "NFS");
});
