/**
 * A MOUNT service on a port of its own, as the Linux kernel's server has it.
 *
 * @module
 */
import { assertEquals, assertRejects } from "@std/assert";
import { mount } from "../../client/mod.ts";
import { findMountPort } from "../../client/nfs/portmap_client.ts";
import { BufferPool, Device } from "../../rdma/mod.ts";
import { RpcError } from "../../rpc/errors.ts";
import { defineProgram, procedure } from "../../rpc/program.ts";
import { RpcServer, type Service, service } from "../../rpc/server.ts";
import { acceptRdma, acceptTcp } from "../../rpc/transports/accept.ts";
import { memoryPair } from "../../rpc/transports/memory.ts";
import { struct, uint32 } from "../../rpc/xdr/mod.ts";
import { Export } from "../../server/exports.ts";
import { mount3Service } from "../../server/nfs/mount3_service.ts";
import { nfs3Service } from "../../server/nfs/nfs3_service.ts";
import { MemoryFileSystem } from "../../storage/backend/memory.ts";
import { weft } from "./weft_command.ts";

Deno.test("MOUNT on a port of its own", async () => {
  await using device = Device.open();
  const pd = device.allocateProtectionDomain();
  using pool = new BufferPool(pd);
  const exported = new Export({ path: "/srv", fileSystem: new MemoryFileSystem(), rootSquash: false });
  const listen = (services: Service[]) => {
    const server = new RpcServer({ services });
    return device.listen({
      port: 0,
      onStream: (stream) => server.serve(acceptTcp(stream, { pd, pool })),
      onRequest: (request) => void acceptRdma(request, { pd, pool, onReady: (transport) => server.serve(transport) }),
    });
  };
  await using nfs = listen([nfs3Service({ export: exported })]);
  await using mounts = listen([mount3Service({ export: exported })]);
  for (const proto of ["rdma", "tcp"] as const) {
    const url = `nfs://127.0.0.1:${nfs.port}/srv?proto=${proto}&mountport=${mounts.port}`;
    {
      await using fs = await mount(url);
      assertEquals(fs.transport, proto);
      await fs.writeTextFile("f", proto);
    }
    assertEquals(await weft("cat", url.replace("srv?", "srv/f?")), { status: 0, out: proto, err: "" });
  }
});

Deno.test("the portmapper tells the port of MOUNT", async () => {
  const mapping = struct({ prog: uint32, vers: uint32, prot: uint32, port: uint32 });
  const PMAP = defineProgram({
    name: "PMAP",
    number: 100000,
    version: 2,
    procedures: { GETPORT: procedure({ number: 3, args: mapping, results: uint32, idempotent: true }) },
  });
  const pair = memoryPair();
  const answers = service(PMAP, {
    GETPORT: ({ prog, vers, prot }) => prog === 100005 && vers === 3 && prot === 6 ? 20048 : 0,
  });
  new RpcServer({ services: [answers] }).serve(pair.server);
  assertEquals(await findMountPort(pair.client), 20048);
  const empty = memoryPair();
  new RpcServer({ services: [] }).serve(empty.server);
  await assertRejects(() => findMountPort(empty.client), RpcError, "PROG_UNAVAIL");
});
