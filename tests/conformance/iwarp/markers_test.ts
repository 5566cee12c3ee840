// Markers (RFC 5044 §4.3), against a reference that puts them in byte by byte.
import { assert, assertEquals } from "@std/assert";
import { connectPair, fill, generator, same, until, whole, within } from "../../../rdma/_testing/pair.ts";
import { Access, Device, type QueuePair, type WorkCompletion } from "../../../rdma/mod.ts";
import { concat, crc32c, type Fpdu, mpaRequest, Opcode, parseFpdu, readRequest, tagged, untagged } from "./wire.ts";
import { parseTerminate } from "./wire.ts";

/** One direction of a stream: FPDUs go in, bytes with markers come out. */
class Reference {
  readonly bytes: number[] = [];
  readonly #crc: boolean;

  constructor(crc: boolean) {
    this.#crc = crc;
  }

  /** Appends an FPDU, of which the CRC field is made anew. `spoil` may change a marker. */
  add(fpdu: Uint8Array, spoil: (marker: number[]) => void = () => {}): void {
    const covered: number[] = [];
    let start = -1;
    const marker = () => {
      if (this.bytes.length % 512 !== 0) return;
      const distance = start < 0 ? 0 : this.bytes.length - start;
      assert(distance <= 0xffff, "a marker has 16 bits for how far away its FPDU begins");
      const four = [0, 0, distance >> 8, distance & 0xff];
      spoil(four);
      this.bytes.push(...four);
      covered.push(...four);
    };
    for (const byte of fpdu.subarray(0, -4)) {
      marker();
      if (start < 0) start = this.bytes.length;
      this.bytes.push(byte);
      covered.push(byte);
    }
    marker();
    const sum = this.#crc ? crc32c(new Uint8Array(covered)) : 0;
    this.bytes.push(sum & 0xff, sum >> 8 & 0xff, sum >> 16 & 0xff, sum >>> 24);
  }

  /** What was appended so far. */
  get stream(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.bytes);
  }

  /** The FPDUs of a stream. Throws where its markers or sums are not those of the reference. */
  static read(stream: Uint8Array, crc: boolean): Fpdu[] {
    const plain = new Uint8Array([...stream].filter((_, i) => i % 512 >= 4));
    const fpdus: Fpdu[] = [];
    const again = new Reference(crc);
    for (let at = 0; at < plain.byteLength;) {
      const fpdu = parseFpdu(plain.slice(at, at + 70_000));
      if (fpdu === undefined) {
        throw new Error(`the stream ends within an FPDU: ${plain.byteLength - at} bytes are left`);
      }
      at += fpdu.bytes.byteLength;
      fpdus.push(fpdu);
      again.add(fpdu.bytes);
    }
    assert(same(again.stream, stream), "markers and CRCs are where the reference has them");
    return fpdus;
  }
}

/** A listening device of ours, and a peer that speaks for itself. */
async function scene(options: { crc: boolean; asks: boolean; weAsk: boolean; receives?: number; mulpdu?: number }) {
  const device = Device.open();
  const pd = device.allocateProtectionDomain();
  const accepted = Promise.withResolvers<QueuePair>();
  const received: WorkCompletion[] = [];
  const inbox = pd.allocate(1 << 20);
  const { crc } = options;
  const listener = device.listen({
    port: 0,
    onRequest: (request) =>
      void request.accept({
        pd,
        crc,
        markers: options.weAsk,
        mulpdu: options.mulpdu,
        onReady: (qp) => {
          for (let i = 0; i < (options.receives ?? 0); i++) {
            const local = [{ region: inbox, offset: i * 20_000, length: 20_000 }];
            qp.postRecv(local, (done) => received.push(done));
          }
          accepted.resolve(qp);
        },
      }),
  });
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: listener.port });
  await conn.write(mpaRequest({ markers: options.asks, crc }));
  const reply = new Uint8Array(24);
  for (let at = 0; at < 24;) at += (await conn.read(reply.subarray(at)))!;
  assertEquals(reply[16] & 0xa0, options.weAsk ? 0x80 : 0, "accepted, with the flag M where we want markers");
  const qp = await accepted.promise;
  return {
    device,
    pd,
    conn,
    qp,
    received,
    inbox,
    /** Everything until the end. */
    async rest(): Promise<Uint8Array> {
      const parts: Uint8Array[] = [];
      const read = async () => {
        for await (const part of conn.readable) parts.push(part);
      };
      await within(read(), 10_000);
      return concat(...parts);
    },
    async [Symbol.asyncDispose]() {
      await device.close();
    },
  };
}

const SIZES = [0, 1, 3, 4, 480, 488, 492, 496, 508, 512, 1000, 1016, 4096, 9000, 65_472, 100_001];

for (const crc of [false, true]) {
  Deno.test(`markers: what we send has them where the reference has them, crc ${crc}`, async () => {
    await using at = await scene({ crc, asks: true, weAsk: false, receives: 1 });
    const first = untagged(Opcode.Send, {}, new Uint8Array(5), { crc: crc ? "right" : "zero" });
    await at.conn.write(first);
    await until(() => at.received.length === 1);
    assertEquals([at.qp.facts.markersSent, at.qp.facts.markersReceived], [true, false]);
    const source = at.pd.allocate(200_000, Access.RemoteRead);
    fill(source.bytes, 1);
    const payloads: Uint8Array[] = [];
    for (let round = 0; round < 8; round++) {
      for (const size of SIZES) {
        const offset = round * 1001 + size % 7;
        const half = size >> 1;
        const local = [{ region: source, offset, length: half }, {
          region: source,
          offset: offset + half,
          length: size - half,
        }];
        payloads.push(source.bytes.slice(offset, offset + size));
        if ((round + size) % 2) at.qp.postSend({ opcode: "send", local });
        else at.qp.postSend({ opcode: "write", local, remote: { stag: 7, address: 0n } });
      }
    }
    // a Read of the peer's is answered with markers as well
    const ask = readRequest({ stag: source.stag, address: source.address }, 150_000);
    await at.conn.write(untagged(Opcode.ReadRequest, {}, ask, { crc: crc ? "right" : "zero" }));
    const stream = at.rest();
    await until(() => at.device.counters().bytesSent > 150_000);
    await new Promise((resolve) => setTimeout(resolve, 100));
    await at.qp.close();
    const fpdus = Reference.read(await stream, crc);
    const messages: Uint8Array[] = [];
    const answer: Uint8Array[] = [];
    let parts: Uint8Array[] = [];
    for (const fpdu of fpdus) {
      if (fpdu.opcode === Opcode.ReadResponse) {
        answer.push(fpdu.payload);
        continue;
      }
      parts.push(fpdu.payload);
      if (!fpdu.last) continue;
      messages.push(concat(...parts));
      parts = [];
    }
    assertEquals(messages.length, payloads.length);
    messages.forEach((message, i) => assert(same(message, payloads[i]), `message ${i}`));
    assert(same(concat(...answer), source.bytes.subarray(0, 150_000)));
  });

  Deno.test(`markers: what we receive with them arrives without, however it is cut, crc ${crc}`, async () => {
    for (const seed of [1, 2, 3]) {
      await using at = await scene({ crc, asks: false, weAsk: true, receives: 40 });
      assertEquals([at.qp.facts.markersSent, at.qp.facts.markersReceived], [false, true]);
      const target = at.pd.allocate(4 << 20, Access.RemoteWrite);
      const expected = new Uint8Array(4 << 20);
      const reference = new Reference(crc);
      const dice = generator(seed);
      const messages: Uint8Array[] = [];
      let place = 0;
      for (let i = 0; i < 80; i++) {
        const size = i < SIZES.length ? SIZES[i] : Math.floor(dice() * 3000);
        const payload = fill(new Uint8Array(size), i + 1);
        const isSend = i % 2 === 0 && size <= 20_000;
        const pieces: Uint8Array[] = [];
        for (let from = 0; from === 0 || from < size; from += 9000) pieces.push(payload.subarray(from, from + 9000));
        pieces.forEach((piece, n) => {
          const last = n === pieces.length - 1;
          if (isSend) {
            reference.add(untagged(Opcode.Send, { msn: messages.length + 1, mo: n * 9000 }, piece, { last }));
          } else {
            const address = target.address + BigInt(place + n * 9000);
            reference.add(tagged(Opcode.Write, { stag: target.stag, address }, piece, { last }));
          }
        });
        if (isSend) messages.push(payload);
        else {
          expected.set(payload, place);
          place += size + 3;
        }
      }
      const stream = reference.stream;
      for (let from = 0; from < stream.byteLength;) {
        const length = dice() < 0.3 ? 1 + Math.floor(dice() * 8) : 1 + Math.floor(dice() * (seed * 20_000));
        await at.conn.write(stream.subarray(from, from + length));
        from += length;
        if (dice() < 0.2) await new Promise((resolve) => setTimeout(resolve, 0));
      }
      await until(() => at.received.length === messages.length && at.device.counters().fpdusReceived >= 80);
      at.conn.close();
      assertEquals(await at.qp.closed, undefined);
      messages.forEach((message, i) => {
        const { status, byteLength } = at.received[i];
        assertEquals([status, byteLength], ["success", message.byteLength]);
        assert(same(at.inbox.bytes.subarray(i * 20_000, i * 20_000 + message.byteLength), message), `message ${i}`);
      });
      assert(same(target.bytes, expected));
      const { bytesStaged, bytesPlaced } = at.device.counters();
      assertEquals(bytesStaged, 0, "no payload is copied");
      assert(bytesPlaced >= place - 3 * 80);
    }
  });
}

Deno.test("markers: one that does not agree with the lengths ends the connection, one within a wrong sum, too", async () => {
  const cases: [string, boolean, (marker: number[]) => void, [number, number, number] | undefined][] = [
    ["the pointer", false, (marker) => marker[3] ^= 4, [2, 0, 3]],
    ["the pointer, with CRCs", true, (marker) => marker[2] ^= 1, [2, 0, 3]],
    ["reserved bits are not looked at", true, (marker) => marker[0] = 0x55, undefined],
    ["nor the lowest two bits", false, (marker) => marker[3] |= 3, undefined],
  ];
  for (const [name, crc, spoil, terminate] of cases) {
    await using at = await scene({ crc, asks: false, weAsk: true, receives: 2 });
    const reference = new Reference(crc);
    reference.add(untagged(Opcode.Send, {}, new Uint8Array(2000)), (marker) => {
      if (reference.bytes.length === 1024) spoil(marker);
    });
    await at.conn.write(reference.stream);
    if (terminate === undefined) {
      await until(() => at.received.length === 1);
      assertEquals(at.received[0].status, "success", name);
      at.conn.close();
      continue;
    }
    const end = parseFpdu(await at.rest());
    assertEquals(end?.opcode, Opcode.Terminate);
    const { layer, etype, code } = parseTerminate(end!.payload);
    assertEquals([layer, etype, code], terminate, name);
    assertEquals((await at.qp.closed)?.code, "PeerViolation");
  }
  // a marker that was changed on the way, where the sum is of what it was
  await using at = await scene({ crc: true, asks: true, weAsk: true, receives: 2 });
  const reference = new Reference(true);
  reference.add(untagged(Opcode.Send, {}, new Uint8Array(2000)));
  const stream = reference.stream;
  stream[512] ^= 1;
  await at.conn.write(stream);
  const [end] = Reference.read(await at.rest(), true); // a Terminate has markers, too
  assertEquals(parseTerminate(end.payload).code, 2);
});

Deno.test("markers: between two of ours, in either direction or both", async () => {
  for (const [ours, theirs] of [[true, false], [false, true], [true, true]]) {
    for (const crc of [false, true]) {
      await using pair = await connectPair({ client: { markers: ours, crc }, server: { markers: theirs } });
      const { client, server } = pair;
      assertEquals([client.qp.facts.markersReceived, client.qp.facts.markersSent], [ours, theirs]);
      assertEquals([server.qp.facts.markersReceived, server.qp.facts.markersSent], [theirs, ours]);
      const source = client.pd.allocate(5 << 20, Access.RemoteRead);
      fill(source.bytes, 5);
      const target = server.pd.allocate(5 << 20, Access.RemoteWrite);
      for (const length of [1, 511, 70_000, 5 << 20]) {
        await client.qp.write([{ region: source, offset: 0, length }], target);
        await client.qp.write([], target);
      }
      const received = server.qp.recv(whole(target));
      server.qp.flush();
      await Promise.all([received, client.qp.send(whole(source))]);
      assert(same(target.bytes, source.bytes));
      target.bytes.fill(0);
      await server.qp.read(whole(target), source);
      assert(same(target.bytes, source.bytes));
      assertEquals([client.device.counters().bytesStagedLarge, server.device.counters().bytesStagedLarge], [0, 0]);
      await client.qp.close();
      assertEquals(await server.qp.closed, undefined);
    }
  }
});
