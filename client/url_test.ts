import { assertEquals, assertThrows } from "@std/assert";
import { encodeName } from "./names.ts";
import { formatNfsUrl, parseNfsUrl } from "./url.ts";

Deno.test("host, port and path", () => {
  assertEquals(parseNfsUrl("nfs://host/a/b"), { hostname: "host", port: 20049, path: "/a/b" });
  assertEquals(parseNfsUrl("nfs://host"), { hostname: "host", port: 20049, path: "/" });
  assertEquals(parseNfsUrl("NFS://10.0.0.1:2049/"), { hostname: "10.0.0.1", port: 2049, path: "/" });
  assertEquals(parseNfsUrl("nfs://host:/x").port, 20049);
  assertEquals(parseNfsUrl(new URL("nfs://host:99/a")).port, 99);
});

Deno.test("IPv6 addresses stand in brackets", () => {
  assertEquals(parseNfsUrl("nfs://[::1]:2049/x"), { hostname: "::1", port: 2049, path: "/x" });
  assertEquals(parseNfsUrl("nfs://[fe80::1%eth0]").hostname, "fe80::1%eth0");
  assertEquals(formatNfsUrl({ hostname: "::1", port: 20049, path: "/x" }), "nfs://[::1]/x");
  assertThrows(() => parseNfsUrl("nfs://::1/x"), TypeError, "expected nfs://");
});

Deno.test("options", () => {
  assertEquals(parseNfsUrl("nfs://h/?proto=rdma&version=3&uid=7&gid=8&mountport=20048&crc=off"), {
    hostname: "h",
    port: 20049,
    path: "/",
    proto: "rdma",
    uid: 7,
    gid: 8,
    mountPort: 20048,
    crc: false,
  });
  assertEquals(parseNfsUrl("nfs://h?proto=tcp").proto, "tcp");
});

Deno.test("the path may hold any byte", () => {
  assertEquals(encodeName(parseNfsUrl("nfs://h/%ff%41").path), Uint8Array.of(0x2f, 0xff, 0x41));
  assertEquals(parseNfsUrl("nfs://h/a%3Fb#c d").path, "/a?b#c d");
  for (const path of ["/a?b", "/100%", "/\udcff", "/ü x", "/new\nline"]) {
    assertEquals(parseNfsUrl(formatNfsUrl({ hostname: "h", port: 1, path })), { hostname: "h", port: 1, path });
  }
});

Deno.test("what is wrong is said", () => {
  const cases: [string, string][] = [
    ["http://h/", "does not begin with nfs://"],
    ["nfs:///x", "expected nfs://host"],
    ["nfs://user@h/x", "expected nfs://host"],
    ["nfs://h:0/", "port 0"],
    ["nfs://h:70000/", "'70000' is no valid port"],
    ["nfs://h/?proto=udp", "'udp' is no valid proto (rdma or tcp)"],
    ["nfs://h/?version=4", "'4' is no valid version (3)"],
    ["nfs://h/?uid=-1", "'-1' is no valid uid"],
    ["nfs://h/?colour=red", "unknown option 'colour'"],
    ["nfs://h/%zz", "malformed %-escape"],
    ["nfs://h/%00", "holds a NUL"],
    ["nfs://h/?proto=constructor", "'constructor' is no valid proto"],
  ];
  for (const [url, message] of cases) assertThrows(() => parseNfsUrl(url), TypeError, message);
});
