/** Thousands of connections whose bytes were right once. `WEFT_SEED` repeats a run, whose seed is printed. */
import { assert, assertEquals } from "@std/assert";
import { generator, within } from "../../../rdma/_testing/pair.ts";
import { RawPeer } from "./raw_peer.ts";
import { onScene, RECEIVE_BYTES, REGION_BYTES, type Scene } from "./scene.ts";
import { atomicRequest, be, concat, crc32c, mpaRequest, Opcode, readRequest, tagged, untagged } from "./wire.ts";

const CONNECTIONS = 4000;
const AT_ONCE = 16;
const RECEIVES = 4;

/** Random choices from one seed. */
class Dice {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = generator(seed);
  }

  /** A number from 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor(this.#next() * limit);
  }

  chance(probability: number): boolean {
    return this.#next() < probability;
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(length).map(() => this.below(256));
  }
}

/** The FPDUs of a peer that does everything right. */
function goodStream(dice: Dice, scene: Scene, crc: boolean): Uint8Array<ArrayBuffer>[] {
  const options = { crc: crc ? "right" : "zero" } as const;
  const fpdus: Uint8Array<ArrayBuffer>[] = [];
  let [sends, reads] = [0, 0];
  for (let count = 1 + dice.below(6); count > 0; count--) {
    const memory = [scene.open, scene.writable][dice.below(2)].region;
    switch (dice.below(6)) {
      case 0:
        fpdus.push(
          untagged(Opcode.AtomicRequest, { msn: ++reads }, atomicRequest(scene.atomic.region, dice.below(3)), options),
        );
        break;
      case 1:
        if (sends < RECEIVES) fpdus.push(untagged(Opcode.Immediate, { msn: ++sends }, dice.bytes(8), options));
        break;
      case 2: {
        const offset = dice.below(REGION_BYTES);
        const length = dice.below(Math.min(600, REGION_BYTES - offset + 1));
        const cut = dice.below(length + 1);
        const payload = dice.bytes(length);
        const target = (at: number) => ({ stag: memory.stag, address: memory.address + BigInt(offset + at) });
        fpdus.push(tagged(Opcode.Write, target(0), payload.subarray(0, cut), { ...options, last: false }));
        fpdus.push(tagged(Opcode.Write, target(cut), payload.subarray(cut), options));
        break;
      }
      case 3: {
        const region = [scene.open, scene.readable][dice.below(2)].region;
        fpdus.push(
          untagged(Opcode.ReadRequest, { msn: ++reads }, readRequest(region, dice.below(REGION_BYTES)), options),
        );
        break;
      }
      default: {
        if (sends === RECEIVES) break;
        const payload = dice.bytes(dice.below(RECEIVE_BYTES + 1));
        const cut = dice.below(payload.byteLength + 1);
        const opcode = dice.chance(0.5) ? Opcode.Send : Opcode.SendSolicited;
        const place = { msn: ++sends };
        fpdus.push(untagged(opcode, place, payload.subarray(0, cut), { ...options, last: false }));
        fpdus.push(untagged(opcode, { ...place, mo: cut }, payload.subarray(cut), options));
      }
    }
  }
  return fpdus;
}

/** Something that goes wrong with some bytes. */
function mutate(dice: Dice, bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (bytes.byteLength === 0) return dice.bytes(dice.below(40));
  const at = dice.below(bytes.byteLength);
  const length = 1 + dice.below(Math.min(64, bytes.byteLength - at));
  const copy = bytes.slice();
  switch (dice.below(8)) {
    case 0: // one bit
      copy[at] ^= 1 << dice.below(8);
      return copy;
    case 1: // one byte
      copy[at] = [0, 1, 0x7f, 0x80, 0xff, dice.below(256)][dice.below(6)];
      return copy;
    case 2: // a whole field
      copy.fill([0, 0xff, 0x80][dice.below(3)], at, at + 2);
      return copy;
    case 3: // cut out
      return concat(bytes.subarray(0, at), bytes.subarray(at + length));
    case 4: // put in
      return concat(bytes.subarray(0, at), dice.bytes(length), bytes.subarray(at));
    case 5: // doubled
      return concat(bytes.subarray(0, at + length), bytes.subarray(at));
    case 6: // cut off
      return bytes.slice(0, at);
    default: // scrambled
      copy.set(dice.bytes(length), at);
      return copy;
  }
}

/** An FPDU after mutation with a CRC that is right again, so that the layers above have their share. */
function repair(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (bytes.byteLength < 8) return bytes;
  const covered = bytes.subarray(0, -4);
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, crc32c(covered), true);
  return concat(covered, be(view.getUint32(0)));
}

/** Everything that one connection sends. */
interface Attack {
  request: Uint8Array<ArrayBuffer>;
  /** Whether the request is one, so that there will be a reply. */
  intact: boolean;
  stream: Uint8Array<ArrayBuffer>;
}

function badConnection(dice: Dice, scene: Scene): Attack {
  const crc = dice.chance(0.4);
  const peerToPeer = dice.chance(0.3);
  const request = mpaRequest({ crc, peerToPeer, rtrWrite: true, privateData: dice.bytes(dice.below(20)) });
  const fpdus = goodStream(dice, scene, crc);
  if (peerToPeer) {
    fpdus.unshift(
      tagged(Opcode.Write, { stag: 0, address: 0n }, new Uint8Array(0), { crc: crc ? "right" : "zero" }),
    );
  }
  const intact = !dice.chance(0.1);
  for (let count = dice.below(4); count > 0 && fpdus.length > 0; count--) {
    const which = dice.below(fpdus.length);
    const fault = dice.below(6);
    if (fault === 0) fpdus.splice(which, 1);
    else if (fault === 1) fpdus.splice(which, 0, fpdus[dice.below(fpdus.length)]);
    else fpdus[which] = mutate(dice, fpdus[which]);
    if (crc && dice.chance(0.7) && which < fpdus.length) fpdus[which] = repair(fpdus[which]);
  }
  return { request: intact ? request : mutate(dice, request), intact, stream: concat(...fpdus) };
}

Deno.test(
  `iwarp mutations: ${CONNECTIONS} connections with random faults`,
  onScene(async (scene) => {
    const seed = Number(Deno.env.get("WEFT_SEED") ?? Math.floor(Math.random() * 2 ** 31));
    console.log(`seed ${seed}`);
    scene.accept({ receives: RECEIVES });
    const before = scene.contents();
    const ends = new Map<string, number>();
    let next = 0;

    const attack = async (number: number): Promise<void> => {
      const dice = new Dice(seed + number);
      const { request, intact, stream } = badConnection(dice, scene);
      using peer = await RawPeer.connect(scene.port);
      await peer.write(request);
      if (intact) await peer.readMpa();
      for (let at = 0; at < stream.byteLength;) {
        const length = dice.chance(0.5) ? stream.byteLength : 1 + dice.below(200);
        await peer.tryWrite(stream.subarray(at, at + length));
        at += length;
      }
      if (dice.chance(0.2)) return; // gone, with whatever was not read
      await peer.finish().catch(() => {});
      await within(peer.readEnd(), 5000).catch((error) => {
        throw new Error(`connection ${number} of seed ${seed} did not end`, { cause: error });
      });
    };
    const attacker = async (): Promise<void> => {
      for (let number = next++; number < CONNECTIONS; number = next++) await attack(number);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, attacker));

    const victims = scene.takeVictims();
    for (const error of await Promise.all(victims.map((victim) => scene.outcome(victim)))) {
      const end = error?.code ?? "orderly";
      ends.set(end, (ends.get(end) ?? 0) + 1);
    }
    console.log(`${victims.length} accepted: ${[...ends].map(([code, count]) => `${code} ${count}`).join(", ")}`);
    // the faults must have reached the layers that they are for
    for (const code of ["orderly", "PeerViolation", "Reset"]) assert((ends.get(code) ?? 0) > CONNECTIONS / 50, code);
    const expected = ["orderly", "PeerViolation", "Reset", "PeerTerminated"];
    assertEquals([...ends.keys()].filter((code) => !expected.includes(code)), []);
    scene.checkMemory(before, true);
  }),
);
