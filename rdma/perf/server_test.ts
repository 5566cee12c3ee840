import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { within } from "../_testing/pair.ts";
import { REQUEST } from "../_testing/perf_request.ts";
import { CommandError, type CommandIo } from "../command_line.ts";
import { Device } from "../device.ts";
import { RdmaError } from "../errors.ts";
import type { QueuePair } from "../queue_pair.ts";
import { type Control, controlBytes, encodeControl, encodeRequest, type RunRequest } from "./messages.ts";
import { parsePerfArguments } from "./options.ts";
import { runServer } from "./server.ts";

/** A server in this process, and how to stop it. */
async function serve(
  limits?: Parameters<typeof runServer>[2],
): Promise<{ ended: Promise<void>; port: number; stop: AbortController }> {
  const stop = new AbortController();
  const port = Promise.withResolvers<number>();
  const io: CommandIo = {
    write: () => {},
    progress: () => {},
    say: (text) => port.resolve(Number(/:(\d+)$/.exec(text)?.[1])),
    signal: stop.signal,
  };
  const options = parsePerfArguments(["write_bw", "-p", "0", "--listen", "127.0.0.1"])!;
  const ended = runServer(options, io, limits);
  return { ended, port: await Promise.race([port.promise, ended.then(() => 0)]), stop };
}

/** A client made by hand, on a device that it closes. */
class Client implements AsyncDisposable {
  readonly #device = Device.open();
  readonly #region = this.#device.allocateProtectionDomain().allocate(2 * controlBytes(REQUEST.sizeBytes));
  readonly #port: number;

  constructor(port: number) {
    this.#port = port;
  }

  connect(request: Partial<RunRequest>): Promise<QueuePair> {
    const privateData = encodeRequest({ ...REQUEST, ...request });
    return this.#device.connect({ hostname: "127.0.0.1", port: this.#port, pd: this.#region.pd, privateData });
  }

  /** Says something, and waits for the answer. */
  async ask(queuePair: QueuePair, control: Control): Promise<void> {
    const bytes = controlBytes(REQUEST.sizeBytes);
    const answer = queuePair.recv([this.#region.sge(bytes)]);
    encodeControl(control, this.#region.bytes);
    await queuePair.send([this.#region.sge(0, bytes)]);
    await answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#device.close();
  }
}

Deno.test("perf: a server whose client does not come back for its next run ends", async () => {
  const { ended, port } = await serve({ returnMs: 1 });
  await using client = new Client(port);
  const queuePair = await client.connect({});
  await client.ask(queuePair, { kind: "finish", more: true });
  await queuePair.close();
  await assertRejects(() => within(ended, 30_000), CommandError, "has not come back");
});

Deno.test("perf: between two runs a server waits for its client, and takes no other", async () => {
  const { ended, port, stop } = await serve();
  const over = assertRejects(() => ended, DOMException);
  await using client = new Client(port);
  for (let run = 0; run < 3; run++) {
    const queuePair = await client.connect({ run });
    await client.ask(queuePair, { kind: "finish", more: true });
    await queuePair.close();
    const error = await assertRejects(() => client.connect({ session: 2n }), RdmaError);
    assertEquals(error.code, "Rejected");
    assertStringIncludes(new TextDecoder().decode(error.privateData), "busy with another client");
  }
  stop.abort();
  await over;
});
