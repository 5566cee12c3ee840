import { assertEquals, assertRejects } from "@std/assert";
import { ProtocolError, RpcError } from "../../rpc/errors.ts";
import type { ClientTransport, RpcRequest, RpcResponse } from "../../rpc/transport.ts";
import { AUTH_NONE } from "../../rpc/auth/auth_sys.ts";
import { pause, ReconnectingTransport } from "./reconnecting_transport.ts";

const request: RpcRequest = {
  program: 1,
  version: 1,
  procedure: 1,
  credential: AUTH_NONE,
  args: { bytes: new Uint8Array(4) },
  resultsBytesMax: 4,
};

const response: RpcResponse = { results: new Uint8Array(4), release: () => {} };
const lost = () => new ProtocolError("ConnectionLost", "gone");

/** A connection whose calls end as the test says. */
class FakeTransport implements ClientTransport {
  readonly kind = "fake";
  readonly #end = Promise.withResolvers<Error | undefined>();
  readonly closed = this.#end.promise;
  readonly xids: (number | undefined)[] = [];
  readonly #waiting = new Set<(error: unknown) => void>();
  isClosed = false;

  constructor(readonly answer: (request: RpcRequest) => Promise<RpcResponse> | "never") {}

  call(request: RpcRequest): Promise<RpcResponse> {
    this.xids.push(request.xid);
    const answer = this.answer(request);
    return answer === "never" ? new Promise((_, reject) => this.#waiting.add(reject)) : answer;
  }

  allocateBulk(lengthBytes: number): { bytes: Uint8Array; release: () => void } {
    return { bytes: new Uint8Array(lengthBytes), release: () => {} };
  }

  close(): Promise<void> {
    this.isClosed = true;
    for (const reject of this.#waiting) reject(lost());
    this.#end.resolve(undefined);
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const answering = () => new FakeTransport(() => Promise.resolve(response));

Deno.test("a call whose connection breaks is sent again with its xid", async () => {
  const first = new FakeTransport(() => Promise.reject(lost()));
  const second = answering();
  await using transport = new ReconnectingTransport(first, { dial: () => Promise.resolve(second) });
  assertEquals(await transport.call(request), response);
  assertEquals(second.xids, first.xids);
  assertEquals(transport.connections, 2);
  assertEquals(first.isClosed, true);
});

Deno.test("all calls under way move to one new connection", async () => {
  const first = new FakeTransport(() => "never");
  const second = answering();
  let dials = 0;
  await using transport = new ReconnectingTransport(first, {
    dial: () => {
      dials++;
      return Promise.resolve(second);
    },
  });
  const calls = [transport.call(request), transport.call(request), transport.call(request)];
  await pause(1);
  await first.close();
  await Promise.all(calls);
  assertEquals(dials, 1);
  assertEquals([...second.xids].sort(), [...first.xids].sort());
  assertEquals(new Set(second.xids).size, 3);
});

Deno.test("a server that is down for a while is waited for", async () => {
  const first = new FakeTransport(() => Promise.reject(lost()));
  const second = answering();
  let dials = 0;
  await using transport = new ReconnectingTransport(first, {
    dial: () => ++dials < 4 ? Promise.reject(new Deno.errors.ConnectionRefused("down")) : Promise.resolve(second),
  });
  assertEquals(await transport.call(request), response);
  assertEquals(dials, 4);
});

Deno.test("patience ends", async () => {
  const first = new FakeTransport(() => Promise.reject(lost()));
  await using transport = new ReconnectingTransport(first, {
    dial: () => Promise.reject(new Deno.errors.ConnectionRefused("down")),
    retryMs: 120,
  });
  await assertRejects(() => transport.call(request), Deno.errors.TimedOut, "the server has been gone for 0.12 s");
});

Deno.test("a refusal is no loss of the connection", async () => {
  const first = new FakeTransport(() => Promise.reject(new RpcError("PROG_UNAVAIL")));
  await using transport = new ReconnectingTransport(first, {
    dial: () => Promise.reject(new Error("not to be called")),
  });
  await assertRejects(() => transport.call(request), RpcError, "PROG_UNAVAIL");
  assertEquals(transport.connections, 1);
});

Deno.test("a silent server is given up", async () => {
  const first = new FakeTransport(() => "never");
  const second = answering();
  await using transport = new ReconnectingTransport(first, { dial: () => Promise.resolve(second), silenceMs: 40 });
  const alive = setInterval(() => {}, 1000); // as a connection would
  assertEquals(await transport.call(request), response);
  clearInterval(alive);
  assertEquals(first.isClosed, true);
});

Deno.test("an abort ends the wait for a server", async () => {
  const first = new FakeTransport(() => Promise.reject(lost()));
  await using transport = new ReconnectingTransport(first, {
    dial: (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
  });
  const controller = new AbortController();
  const call = transport.call({ ...request, signal: controller.signal });
  await pause(5);
  controller.abort(new Error("enough"));
  await assertRejects(() => call, Error, "enough");
});

Deno.test("closing ends the wait for a server", async () => {
  const first = new FakeTransport(() => Promise.reject(lost()));
  const transport = new ReconnectingTransport(first, {
    dial: (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
  });
  const call = assertRejects(() => transport.call(request), ProtocolError, "closed");
  await pause(5);
  await transport.close();
  await call;
  await assertRejects(() => transport.call(request), ProtocolError, "closed");
});
