import { assert, assertEquals } from "@std/assert";
import { announce, type Announcement } from "./announcement.ts";

const about: Announcement = {
  directory: "/srv/data",
  hostname: "127.0.0.1",
  port: 20049,
  path: "/",
  readOnly: false,
  rootSquash: true,
  anonymous: { uid: 65534, gid: 65534 },
  uid: 1000,
  traits: { kernelHandles: false, takesIdentities: false, memoryBacked: false },
  stable: true,
  portmapper: false,
  reachableAs: "127.0.0.1",
  clientModule: "file:///weft/client/mod.ts",
};

const asRoot = { kernelHandles: true, takesIdentities: true, memoryBacked: false };

function lines(changes: Partial<Announcement> = {}): string[] {
  return announce({ ...about, ...changes }).split("\n").map((line) => line.trim());
}

Deno.test("announce: a line to paste for each way in", () => {
  const all = lines();
  assertEquals(all[0], "Serving /srv/data at 127.0.0.1:20049: NFSv3 over RDMA (iWARP) and TCP, reading and writing.");
  for (
    const line of [
      "deno task weft ls nfs://127.0.0.1:20049/",
      'import { mount } from "file:///weft/client/mod.ts";',
      'await using fs = await mount("nfs://127.0.0.1:20049/");',
      "mount -t nfs -o vers=3,proto=rdma,port=20049,mountport=20049,mountproto=tcp,nolock 127.0.0.1:/ /mnt",
      "mount -t nfs -o vers=3,proto=tcp,port=20049,mountport=20049,mountproto=tcp,nolock 127.0.0.1:/ /mnt",
    ]
  ) assert(all.includes(line), line);
});

Deno.test("announce: with whose rights", () => {
  assert(lines().includes("Run as an ordinary user: whoever calls acts as uid 1000."));
  assert(
    lines({ traits: asRoot }).includes("Run as root: callers act with their own uid and groups, root as 65534:65534."),
  );
  assert(
    lines({ traits: asRoot, rootSquash: false })
      .includes("Run as root: callers act with their own uid and groups, root as root."),
  );
  assert(lines({ readOnly: true })[0].endsWith("read only."));
});

Deno.test("announce: cautions where others can reach it, and only there", () => {
  const cautions = (changes: Partial<Announcement>): string[] =>
    lines(changes).filter((line) => line.startsWith("Caution"));
  assertEquals(cautions({}), []);
  assertEquals(cautions({ hostname: "127.1.2.3" }), []);
  assertEquals(cautions({ hostname: "::1" }), []);
  assertEquals(cautions({ hostname: "0.0.0.0" }).length, 1);
  assert(!cautions({ hostname: "192.0.2.1", traits: asRoot })[0].includes("root included"));
  assert(cautions({ hostname: "192.0.2.1", traits: asRoot, rootSquash: false })[0].includes("root included"));
});

Deno.test("announce: another port, path and family", () => {
  const all = lines({ hostname: "::", reachableAs: "2001:db8::1", port: 7, path: "/srv" });
  assert(all.includes("deno task weft ls nfs://[2001:db8::1]:7/srv"));
  assert(
    all.includes("mount -t nfs -o vers=3,proto=tcp6,port=7,mountport=7,mountproto=tcp6,nolock [2001:db8::1]:/srv /mnt"),
  );
});
