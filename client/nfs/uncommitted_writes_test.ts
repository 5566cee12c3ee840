import { assertEquals } from "@std/assert";
import type { NfsClient } from "./nfs_client.ts";
import { UncommittedWrites } from "./uncommitted_writes.ts";

/** A server with one file, that forgets on a crash what was not committed. */
class FakeServer {
  verifier = 1n;
  volatile = new Uint8Array(64);
  stable = new Uint8Array(64);
  /** Called before each COMMIT is answered. */
  beforeCommit: () => void | Promise<void> = () => {};
  commits = 0;

  crash(): void {
    this.verifier++;
    this.volatile = this.stable.slice();
  }

  file(writeBytesMax = 8): { client: NfsClient; handle: Uint8Array; readBytesMax: number; writeBytesMax: number } {
    const client = {
      write: (_: Uint8Array, { offset, data }: { offset: bigint; data: Uint8Array }) => {
        this.volatile.set(data, Number(offset));
        return Promise.resolve({ bytesWritten: data.byteLength, isStable: false, verifier: this.verifier });
      },
      commit: async () => {
        await this.beforeCommit();
        this.commits++;
        this.stable = this.volatile.slice();
        return this.verifier;
      },
    };
    return { client: client as unknown as NfsClient, handle: new Uint8Array(1), readBytesMax: 8, writeBytesMax };
  }
}

const fill = (length: number, value: number) => new Uint8Array(length).fill(value);

Deno.test("what a restart loses is written again from what was kept", async () => {
  const server = new FakeServer();
  const writes = new UncommittedWrites(server.file());
  const data = fill(20, 7);
  await writes.write({ offset: 3n, data, retained: data });
  assertEquals(writes.retainedBytes, 20);
  server.crash();
  assertEquals(await writes.commit(), []);
  assertEquals(server.stable.slice(0, 25), Uint8Array.of(...fill(3, 0), ...fill(20, 7), 0, 0));
  assertEquals(writes.count, 0);
  assertEquals(server.commits, 2);
});

Deno.test("what was not kept is told to be lost, once", async () => {
  const server = new FakeServer();
  const writes = new UncommittedWrites(server.file());
  await writes.write({ offset: 0n, data: fill(8, 1) });
  await writes.write({ offset: 8n, data: fill(8, 2), retained: fill(8, 2) });
  server.crash();
  assertEquals(await writes.commit(), [{ offset: 0n, length: 8 }]);
  assertEquals(server.stable.slice(0, 16), Uint8Array.of(...fill(8, 0), ...fill(8, 2)));
  assertEquals(await writes.commit(), []);
});

Deno.test("old contents never come back over newer ones", async () => {
  const server = new FakeServer();
  const writes = new UncommittedWrites(server.file(64));
  const old = fill(30, 1);
  await writes.write({ offset: 0n, data: old, retained: old });
  server.crash();
  const newer = fill(10, 2);
  await writes.write({ offset: 10n, data: newer, retained: newer });
  writes.truncate(25n);
  assertEquals(await writes.commit(), []);
  assertEquals(server.stable.slice(0, 30), Uint8Array.of(...fill(10, 1), ...fill(10, 2), ...fill(5, 1), ...fill(5, 0)));
});

Deno.test("a write during a COMMIT that has to write again waits its turn", async () => {
  const server = new FakeServer();
  const writes = new UncommittedWrites(server.file(64));
  const old = fill(8, 1);
  await writes.write({ offset: 0n, data: old, retained: old });
  server.crash();
  let late: Promise<void> | undefined;
  server.beforeCommit = () => {
    late ??= writes.write({ offset: 0n, data: fill(8, 9), retained: fill(8, 9) });
  };
  await writes.commit();
  await late;
  await writes.commit();
  assertEquals(server.stable.slice(0, 8), fill(8, 9));
});

Deno.test("a server that restarts again and again is not followed for ever", async () => {
  const server = new FakeServer();
  const writes = new UncommittedWrites(server.file());
  await writes.write({ offset: 0n, data: fill(8, 1), retained: fill(8, 1) });
  server.beforeCommit = () => server.crash();
  let message = "";
  await writes.commit().catch((error) => message = error.message);
  assertEquals(message, "the server restarted 8 times while data was written to it");
  server.beforeCommit = () => {};
  assertEquals(await writes.commit(), []);
  assertEquals(server.stable.slice(0, 8), fill(8, 1));
});

Deno.test("random writes, truncations, crashes and commits against a model", async () => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0];
  let state = seed;
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor(state / 2 ** 32 * below);
  };
  for (let round = 0; round < 300; round++) {
    const server = new FakeServer();
    const writes = new UncommittedWrites(server.file(1 + random(16)));
    const model = new Uint8Array(64);
    for (let step = 0; step < 20; step++) {
      const offset = random(48);
      const data = fill(1 + random(16), 1 + random(255));
      const choice = random(6);
      if (choice < 4) {
        await writes.write({ offset: BigInt(offset), data, retained: data.slice() });
        model.set(data, offset);
      } else if (choice === 4) {
        server.crash();
      } else {
        assertEquals(await writes.commit(), []);
        assertEquals(server.stable, model, `seed ${seed}, round ${round}`);
      }
    }
    await writes.commit();
    assertEquals(server.stable, model, `seed ${seed}, round ${round}`);
  }
});
