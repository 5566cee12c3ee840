/** FPDUs that break a rule of MPA, DDP or RDMAP: each is answered by the Terminate that the RFC names, and touches nothing. */
import { assert, assertEquals } from "@std/assert";
import { RawPeer } from "./raw_peer.ts";
import { type AcceptOptions, onScene, RECEIVE_BYTES, REGION_BYTES, type Scene } from "./scene.ts";
import { atomicRequest, be, concat, crc32c, Opcode, readRequest, tagged, untagged } from "./wire.ts";

/** Layer, type and code (RFC 5040 §4.8). */
type Code = [layer: number, etype: number, code: number];

/** Which header of the segment to blame the Terminate carries: none, the DDP header, or the Read Request's as well. */
type Blame = "none" | "ddp" | "read";

interface Case {
  name: string;
  /** What to send before: it must be taken. */
  good?: (scene: Scene) => Uint8Array<ArrayBuffer>[];
  /** What is wrong. */
  bad: (scene: Scene) => Uint8Array<ArrayBuffer>;
  code: Code;
  blame?: Blame;
  accept?: AcceptOptions;
  /** Ask for CRCs, and send right ones. */
  crc?: boolean;
  /** Bytes of the scene's memory that the good part may have written. */
  writes?: boolean;
}

const INVALID_LENGTH: Code = [2, 0, 3];
const CRC_MISMATCH: Code = [2, 0, 2];
const RDMAP_VERSION: Code = [0, 2, 5];
const UNEXPECTED_OPCODE: Code = [0, 2, 6];
const CANNOT_INVALIDATE: Code = [0, 2, 9];
const UNSPECIFIED: Code = [0, 2, 0xff];
const PROTECTION = {
  stag: [0, 1, 0],
  bounds: [0, 1, 1],
  access: [0, 1, 2],
  stream: [0, 1, 3],
  wrap: [0, 1, 4],
} as const;
const TAGGED = { stag: [1, 1, 0], bounds: [1, 1, 1], stream: [1, 1, 2], wrap: [1, 1, 3], version: [1, 1, 4] } as const;
const UNTAGGED = {
  queue: [1, 2, 1],
  noBuffer: [1, 2, 2],
  msn: [1, 2, 3],
  mo: [1, 2, 4],
  tooLong: [1, 2, 5],
  version: [1, 2, 6],
} as const;

/** A payload that no memory of the scene has. */
function evil(length: number): Uint8Array {
  return new Uint8Array(length).fill(0xee);
}

const nowhere = { stag: 0xdead_beef, address: 0n };

const LENGTHS: Case[] = [
  ...[0, 1, 2, 13].map((length): Case => ({
    name: `ULPDU length ${length}, tagged`,
    bad: ({ open }) => tagged(Opcode.Write, open.region, evil(8), { length }),
    code: INVALID_LENGTH,
    blame: "none",
  })),
  ...[0, 1, 14, 17].map((length): Case => ({
    name: `ULPDU length ${length}, untagged`,
    bad: () => untagged(Opcode.Send, {}, evil(8), { length }),
    code: INVALID_LENGTH,
    blame: "none",
  })),
  {
    name: "ULPDU length 65535 into a small region",
    bad: ({ open }) => tagged(Opcode.Write, open.region, evil(65_521)),
    code: [...TAGGED.bounds],
  },
  {
    name: "ULPDU length 65535 into a small receive",
    accept: { receives: 1 },
    bad: () => untagged(Opcode.Send, {}, evil(65_517)),
    code: [...UNTAGGED.tooLong],
  },
];

const CHECKSUMS: Case[] = (["zero", "wrong"] as const).flatMap((crc) => [
  {
    name: `Write, CRC ${crc}`,
    crc: true,
    writes: true, // placed before its CRC is known, within what the peer may write
    bad: ({ open }: Scene) => tagged(Opcode.Write, open.region, evil(8), { crc }),
    code: CRC_MISMATCH,
    blame: "none" as const,
  },
  {
    name: `Send, CRC ${crc}`,
    crc: true,
    accept: { receives: 1 },
    bad: () => untagged(Opcode.Send, {}, evil(9), { crc }),
    code: CRC_MISMATCH,
    blame: "none" as const,
  },
  {
    name: `Read Request, CRC ${crc}`,
    crc: true,
    bad: ({ open }: Scene) => untagged(Opcode.ReadRequest, {}, readRequest(open.region, 8), { crc }),
    code: CRC_MISMATCH,
    blame: "none" as const,
  },
  {
    name: `the second of two, CRC ${crc}`,
    crc: true,
    accept: { receives: 2 },
    good: () => [untagged(Opcode.Send, { msn: 1 }, evil(3), { crc: "right" })],
    bad: () => untagged(Opcode.Send, { msn: 2 }, evil(3), { crc }),
    code: CRC_MISMATCH,
    blame: "none" as const,
  },
]);

const HEADERS: Case[] = [
  ...[0, 2, 3].flatMap((version): Case[] => [
    {
      name: `DDP version ${version}, tagged`,
      bad: ({ open }) => tagged(Opcode.Write, open.region, evil(8), { ddpVersion: version }),
      code: [...TAGGED.version],
      blame: "none",
    },
    {
      name: `DDP version ${version}, untagged`,
      bad: () => untagged(Opcode.Send, {}, evil(8), { ddpVersion: version }),
      code: [...UNTAGGED.version],
      blame: "none",
    },
    {
      name: `RDMAP version ${version}, tagged`,
      bad: ({ open }) => tagged(Opcode.Write, open.region, evil(8), { rdmapVersion: version }),
      code: RDMAP_VERSION,
      blame: "none",
    },
    {
      name: `RDMAP version ${version}, untagged`,
      bad: () => untagged(Opcode.Send, {}, evil(8), { rdmapVersion: version }),
      code: RDMAP_VERSION,
      blame: "none",
    },
  ]),
  ...[12, 13, 14, 15].flatMap((opcode): Case[] => [
    {
      name: `opcode ${opcode}, untagged`,
      accept: { receives: 1 },
      bad: () => untagged(opcode, {}, evil(28)),
      code: UNEXPECTED_OPCODE,
      blame: "none",
    },
    {
      name: `opcode ${opcode}, tagged`,
      bad: ({ open }) => tagged(opcode, open.region, evil(28)),
      code: UNEXPECTED_OPCODE,
      blame: "none",
    },
  ]),
  ...[Opcode.Write, Opcode.ReadResponse].map((opcode): Case => ({
    name: `opcode ${opcode} untagged`,
    bad: () => untagged(opcode, {}, evil(28)),
    code: UNEXPECTED_OPCODE,
    blame: "none",
  })),
  ...[Opcode.ReadRequest, Opcode.Send, Opcode.SendInvalidate, Opcode.SendSolicited, 6, Opcode.Terminate].map((
    opcode,
  ): Case => ({
    name: `opcode ${opcode} tagged`,
    accept: { receives: 1 },
    bad: ({ open }) => tagged(opcode, open.region, evil(28)),
    code: UNEXPECTED_OPCODE,
    blame: "none",
  })),
];

const QUEUES: Case[] = [
  ...[4, 5, 0x8000_0000, 0xffff_ffff].map((queue): Case => ({
    name: `queue ${queue}`,
    accept: { receives: 1 },
    bad: () => untagged(Opcode.Send, { queue }, evil(28)),
    code: [...UNTAGGED.queue],
  })),
  ...[1, 2, 3].map((queue): Case => ({
    name: `Send on queue ${queue}`,
    accept: { receives: 1 },
    bad: () => untagged(Opcode.Send, { queue }, evil(28)),
    code: UNEXPECTED_OPCODE,
    blame: "none",
  })),
  {
    name: "Read Request on queue 0",
    accept: { receives: 1 },
    bad: ({ open }) => untagged(Opcode.ReadRequest, { queue: 0 }, readRequest(open.region, 8)),
    code: UNEXPECTED_OPCODE,
    blame: "none",
  },
  ...[0, 2, 0xffff_ffff].map((msn): Case => ({
    name: `first Send with MSN ${msn}`,
    accept: { receives: 2 },
    bad: () => untagged(Opcode.Send, { msn }, evil(8)),
    code: [...UNTAGGED.msn],
  })),
  {
    name: "a Send again",
    accept: { receives: 2 },
    good: () => [untagged(Opcode.Send, { msn: 1 }, evil(8))],
    bad: () => untagged(Opcode.Send, { msn: 1 }, evil(8)),
    code: [...UNTAGGED.msn],
  },
  {
    name: "a Read Request with MSN 2",
    bad: ({ open }) => untagged(Opcode.ReadRequest, { msn: 2 }, readRequest(open.region, 8)),
    code: [...UNTAGGED.msn],
  },
  {
    name: "a Terminate with MSN 2",
    bad: () => untagged(Opcode.Terminate, { msn: 2 }, be(0)),
    code: [...UNTAGGED.msn],
  },
  ...[1, 8, 0xffff_ffff].map((mo): Case => ({
    name: `first segment with MO ${mo}`,
    accept: { receives: 1 },
    bad: () => untagged(Opcode.Send, { mo }, evil(8)),
    code: [...UNTAGGED.mo],
  })),
  ...[0, 7, 9, 0xffff_fff8].map((mo): Case => ({
    name: `second segment with MO ${mo} instead of 8`,
    accept: { receives: 1 },
    good: () => [untagged(Opcode.Send, {}, evil(8), { last: false })],
    bad: () => untagged(Opcode.Send, { mo }, evil(8)),
    code: [...UNTAGGED.mo],
  })),
  {
    name: "the next message before the end of this one",
    accept: { receives: 2 },
    good: () => [untagged(Opcode.Send, {}, evil(8), { last: false })],
    bad: () => untagged(Opcode.Send, { msn: 2 }, evil(8)),
    code: [...UNTAGGED.msn],
  },
  {
    name: "another opcode in the middle of a message",
    accept: { receives: 1 },
    good: () => [untagged(Opcode.Send, {}, evil(8), { last: false })],
    bad: () => untagged(Opcode.SendSolicited, { mo: 8 }, evil(8)),
    code: UNEXPECTED_OPCODE,
    blame: "none",
  },
];

const RECEIVES: Case[] = [
  { name: "a Send without a receive", bad: () => untagged(Opcode.Send, {}, evil(8)), code: [...UNTAGGED.noBuffer] },
  {
    name: "an empty Send without a receive",
    bad: () => untagged(Opcode.Send, {}, evil(0)),
    code: [...UNTAGGED.noBuffer],
  },
  {
    name: "one Send more than receives",
    accept: { receives: 1 },
    good: () => [untagged(Opcode.Send, {}, evil(8))],
    bad: () => untagged(Opcode.Send, { msn: 2 }, evil(8)),
    code: [...UNTAGGED.noBuffer],
  },
  {
    name: "a Send one byte too long",
    accept: { receives: 1 },
    bad: () => untagged(Opcode.Send, {}, evil(RECEIVE_BYTES + 1)),
    code: [...UNTAGGED.tooLong],
  },
  {
    name: "a Send whose second segment is one byte too long",
    accept: { receives: 1 },
    good: () => [untagged(Opcode.Send, {}, evil(RECEIVE_BYTES), { last: false })],
    bad: () => untagged(Opcode.Send, { mo: RECEIVE_BYTES }, evil(1)),
    code: [...UNTAGGED.tooLong],
  },
];

const WRITES: Case[] = [
  {
    name: "Write to a STag that nothing has",
    bad: () => tagged(Opcode.Write, nowhere, evil(8)),
    code: [...TAGGED.stag],
  },
  {
    name: "Write to STag 0",
    bad: () => tagged(Opcode.Write, { stag: 0, address: 0n }, evil(1)),
    code: [...TAGGED.stag],
  },
  {
    name: "Write to a region of another domain",
    bad: ({ foreign }) => tagged(Opcode.Write, foreign.region, evil(8)),
    code: [...TAGGED.stream],
  },
  {
    name: "Write to a region that may only be read",
    bad: ({ readable }) => tagged(Opcode.Write, readable.region, evil(8)),
    code: [...PROTECTION.access],
  },
  {
    name: "Write to a region for local use",
    bad: ({ local }) => tagged(Opcode.Write, local.region, evil(8)),
    code: [...PROTECTION.access],
  },
  ...([[-1, 1], [-8, 8], [-4, 8], [REGION_BYTES, 1], [REGION_BYTES - 7, 8], [0, REGION_BYTES + 1]] as const).map((
    [offset, length],
  ): Case => ({
    name: `Write of ${length} at ${offset}`,
    bad: ({ open: { region } }) =>
      tagged(Opcode.Write, { stag: region.stag, address: region.address + BigInt(offset) }, evil(length)),
    code: [...TAGGED.bounds],
  })),
  {
    name: "Write whose offset wraps around",
    bad: ({ open: { region } }) => tagged(Opcode.Write, { stag: region.stag, address: 2n ** 64n - 4n }, evil(8)),
    code: [...TAGGED.wrap],
  },
  {
    name: "a second segment for another STag",
    good: ({ open }) => [tagged(Opcode.Write, open.region, evil(8), { last: false })],
    writes: true,
    bad: ({ writable, open }) =>
      tagged(Opcode.Write, { stag: writable.region.stag, address: open.region.address + 8n }, evil(8)),
    code: [...TAGGED.stag],
  },
  {
    name: "a second segment at another offset",
    good: ({ open }) => [tagged(Opcode.Write, open.region, evil(8), { last: false })],
    writes: true,
    bad: ({ open: { region } }) => tagged(Opcode.Write, { stag: region.stag, address: region.address + 16n }, evil(8)),
    code: [...TAGGED.bounds],
  },
];

const READS: Case[] = [
  {
    name: "Read of a STag that nothing has",
    bad: () => untagged(Opcode.ReadRequest, {}, readRequest(nowhere, 8)),
    code: [...PROTECTION.stag],
    blame: "read",
  },
  {
    name: "Read of a region of another domain",
    bad: ({ foreign }) => untagged(Opcode.ReadRequest, {}, readRequest(foreign.region, 8)),
    code: [...PROTECTION.stream],
    blame: "read",
  },
  {
    name: "Read of a region that may only be written",
    bad: ({ writable }) => untagged(Opcode.ReadRequest, {}, readRequest(writable.region, 8)),
    code: [...PROTECTION.access],
    blame: "read",
  },
  {
    name: "Read of a region for local use",
    bad: ({ local }) => untagged(Opcode.ReadRequest, {}, readRequest(local.region, 8)),
    code: [...PROTECTION.access],
    blame: "read",
  },
  ...([[-1, 1], [REGION_BYTES, 1], [REGION_BYTES - 7, 8], [0, REGION_BYTES + 1], [0, 0xffff_ffff]] as const).map((
    [offset, length],
  ): Case => ({
    name: `Read of ${length} at ${offset}`,
    bad: ({ open: { region } }) =>
      untagged(
        Opcode.ReadRequest,
        {},
        readRequest({ stag: region.stag, address: region.address + BigInt(offset) }, length),
      ),
    code: [...PROTECTION.bounds],
    blame: "read",
  })),
  {
    name: "Read whose offset wraps around",
    bad: ({ open: { region } }) =>
      untagged(Opcode.ReadRequest, {}, readRequest({ stag: region.stag, address: 2n ** 64n - 4n }, 8)),
    code: [...PROTECTION.wrap],
    blame: "read",
  },
  ...[0, 1, 27].map((length): Case => ({
    name: `Read Request of ${length} bytes`,
    bad: ({ open }) => untagged(Opcode.ReadRequest, {}, readRequest(open.region, 8).subarray(0, length)),
    code: UNSPECIFIED,
  })),
  ...[29, 60_000].map((length): Case => ({
    name: `Read Request of ${length} bytes`,
    bad: ({ open }) =>
      untagged(Opcode.ReadRequest, {}, concat(readRequest(open.region, 8), new Uint8Array(length - 28))),
    code: [...UNTAGGED.tooLong],
  })),
  {
    name: "Read Request in two segments",
    bad: ({ open }) => untagged(Opcode.ReadRequest, {}, readRequest(open.region, 8), { last: false }),
    code: UNSPECIFIED,
  },
  {
    name: "Read where none is served",
    accept: { inboundReadDepth: 0 },
    bad: ({ open }) => untagged(Opcode.ReadRequest, {}, readRequest(open.region, 8)),
    code: [...UNTAGGED.noBuffer],
  },
  {
    name: "Read Response that nobody asked for",
    bad: ({ open }) => tagged(Opcode.ReadResponse, open.region, evil(8)),
    code: UNEXPECTED_OPCODE,
    blame: "none",
  },
];

const INVALIDATIONS: Case[] = [Opcode.SendInvalidate, Opcode.SendSolicitedInvalidate].flatMap((opcode) => [
  {
    name: `opcode ${opcode}: a STag that nothing has`,
    accept: { receives: 1 },
    bad: () => untagged(opcode, { invalidate: nowhere.stag }, evil(8)),
    code: CANNOT_INVALIDATE,
  },
  {
    name: `opcode ${opcode}: STag 0`,
    accept: { receives: 1 },
    bad: () => untagged(opcode, { invalidate: 0 }, evil(8)),
    code: CANNOT_INVALIDATE,
  },
  {
    name: `opcode ${opcode}: a region for local use`,
    accept: { receives: 1 },
    bad: ({ local }: Scene) => untagged(opcode, { invalidate: local.region.stag }, evil(8)),
    code: CANNOT_INVALIDATE,
  },
  {
    name: `opcode ${opcode}: a region of another domain`,
    accept: { receives: 1 },
    bad: ({ foreign }: Scene) => untagged(opcode, { invalidate: foreign.region.stag }, evil(8)),
    code: [...PROTECTION.stream] as Code,
  },
  {
    name: `opcode ${opcode}: without a receive`,
    bad: ({ open }: Scene) => untagged(opcode, { invalidate: open.region.stag }, evil(8)),
    code: [...UNTAGGED.noBuffer] as Code,
  },
  {
    name: `opcode ${opcode}: another STag in the second segment`,
    accept: { receives: 1 },
    good: ({ open }: Scene) => [untagged(opcode, { invalidate: open.region.stag }, evil(8), { last: false })],
    bad: ({ writable }: Scene) => untagged(opcode, { invalidate: writable.region.stag, mo: 8 }, evil(8)),
    code: CANNOT_INVALIDATE,
  },
]);

const atomic = ({ region }: Scene["open"], operation = 0, offset = 0) =>
  atomicRequest({ stag: region.stag, address: region.address + BigInt(offset) }, operation);

const ATOMICS: Case[] = [
  ...[7, 9].map((length): Case => ({
    name: `Immediate Data of ${length} bytes`,
    accept: { receives: 1 },
    bad: () => untagged(Opcode.Immediate, {}, evil(length)),
    code: length < 8 ? UNSPECIFIED : [...UNTAGGED.tooLong],
  })),
  {
    name: "Immediate Data without a receive",
    bad: () => untagged(Opcode.Immediate, {}, evil(8)),
    code: [...UNTAGGED.noBuffer],
  },
  {
    name: "Immediate Data in the middle of a Send",
    accept: { receives: 2 },
    good: () => [untagged(Opcode.Send, {}, evil(8), { last: false })],
    bad: () => untagged(Opcode.ImmediateSolicited, { mo: 8 }, evil(8)),
    code: UNEXPECTED_OPCODE,
    blame: "none",
  },
  ...[8, 9, 10, 11].map((opcode): Case => ({
    name: `opcode ${opcode} tagged`,
    accept: { receives: 1 },
    bad: ({ open }) => tagged(opcode, open.region, evil(12)),
    code: UNEXPECTED_OPCODE,
    blame: "none",
  })),
  ...[0, 2, 3].map((queue): Case => ({
    name: `Atomic Request on queue ${queue}`,
    accept: { receives: 1 },
    bad: ({ atomic: memory }) => untagged(Opcode.AtomicRequest, { queue }, atomic(memory)),
    code: UNEXPECTED_OPCODE,
    blame: "none",
  })),
  ...[51, 53].map((length): Case => ({
    name: `Atomic Request of ${length} bytes`,
    bad: ({ atomic: memory }) =>
      untagged(Opcode.AtomicRequest, {}, concat(atomic(memory), evil(1)).subarray(0, length)),
    code: length < 52 ? UNSPECIFIED : [...UNTAGGED.tooLong],
  })),
  ...[3, 15].map((operation): Case => ({
    name: `atomic operation ${operation}`,
    bad: ({ atomic: memory }) => untagged(Opcode.AtomicRequest, {}, atomic(memory, operation)),
    code: UNEXPECTED_OPCODE,
    blame: "none",
  })),
  {
    name: "an atomic operation where none is allowed",
    bad: ({ open }) => untagged(Opcode.AtomicRequest, {}, atomic(open)),
    code: [...PROTECTION.access],
  },
  {
    name: "an atomic operation on a region of another domain",
    bad: ({ foreign }) => untagged(Opcode.AtomicRequest, {}, atomic(foreign)),
    code: [...PROTECTION.stream],
  },
  {
    name: "an atomic operation on a STag that nothing has",
    bad: () => untagged(Opcode.AtomicRequest, {}, atomicRequest(nowhere, 0)),
    code: [...PROTECTION.stag],
  },
  ...[-8, -1, REGION_BYTES - 7, REGION_BYTES].map((offset): Case => ({
    name: `an atomic operation at ${offset}`,
    bad: ({ atomic: memory }) => untagged(Opcode.AtomicRequest, {}, atomic(memory, 0, offset)),
    code: [...PROTECTION.bounds],
  })),
  ...[1, 4].map((offset): Case => ({
    name: `an atomic operation at ${offset}, which is not aligned`,
    bad: ({ atomic: memory }) => untagged(Opcode.AtomicRequest, {}, atomic(memory, 0, offset)),
    code: UNSPECIFIED,
  })),
  {
    name: "an atomic operation whose offset wraps around",
    bad: ({ atomic: { region } }) =>
      untagged(Opcode.AtomicRequest, {}, atomicRequest({ stag: region.stag, address: 2n ** 64n - 4n }, 0)),
    code: [...PROTECTION.wrap],
  },
  {
    name: "an atomic operation where no Reads are served",
    accept: { inboundReadDepth: 0 },
    bad: ({ atomic: memory }) => untagged(Opcode.AtomicRequest, {}, atomic(memory)),
    code: [...UNTAGGED.noBuffer],
  },
  {
    name: "Atomic Response that nobody asked for",
    bad: () => untagged(Opcode.AtomicResponse, { queue: 3 }, evil(12)),
    code: UNEXPECTED_OPCODE,
    blame: "none",
  },
];

const TERMINATES: Case[] = [
  ...[0, 3].map((length): Case => ({
    name: `Terminate of ${length} bytes`,
    bad: () => untagged(Opcode.Terminate, {}, new Uint8Array(length)),
    code: UNSPECIFIED,
  })),
  {
    name: "Terminate of 53 bytes",
    bad: () => untagged(Opcode.Terminate, {}, new Uint8Array(53)),
    code: [...UNTAGGED.tooLong],
  },
  {
    name: "Terminate in two segments",
    bad: () => untagged(Opcode.Terminate, {}, be(0), { last: false }),
    code: UNSPECIFIED,
  },
];

async function violate(scene: Scene, test: Case, crc: boolean): Promise<void> {
  const before = scene.contents();
  const { fpdusReceived } = scene.device.counters();
  scene.accept(test.accept ?? {});
  const about = `${test.name}, crc ${crc}`;
  using peer = await RawPeer.start(scene.port, { crc });
  const victim = await scene.victim();
  assertEquals(victim.qp.crc, crc);
  const bad = withCrc(test.bad(scene), crc && !test.crc);
  const good = (test.good?.(scene) ?? []).map((bytes) => withCrc(bytes, crc && !test.crc));
  // whatever follows is not looked at
  await peer.tryWrite(...good, bad, tagged(Opcode.Write, scene.writable.region, evil(64)));
  const { ddpHeader, length, rdmapHeader, ...code } = await peer.readTerminate(crc ? "right" : "zero");
  const [layer, etype, number] = test.code;
  assertEquals(code, { layer, etype, code: number }, about);

  const { blame = "ddp" } = test;
  const headerLength = bad[2] & 0x80 ? 16 : 20;
  assertEquals(length, blame === "none" ? undefined : new DataView(bad.buffer).getUint16(0), about);
  assertEquals(ddpHeader, blame === "none" ? undefined : bad.slice(2, headerLength), about);
  assertEquals(rdmapHeader, blame === "read" ? bad.slice(20, 48) : undefined, about);

  peer.close();
  const error = await scene.outcome(victim);
  assertEquals([error?.code, error?.terminate], ["PeerViolation", { layer, etype, code: number }], about);
  const taken = victim.received.filter(({ status }) => status === "success").length;
  assertEquals(taken, good.filter((bytes) => (bytes[2] & 0xc0) === 0x40).length, about);
  scene.checkMemory(before, test.writes);
  assert(scene.device.counters().fpdusReceived >= fpdusReceived + good.length, about);
}

/** The same FPDU with its CRC put right. */
function withCrc(bytes: Uint8Array<ArrayBuffer>, right: boolean): Uint8Array<ArrayBuffer> {
  if (!right) return bytes;
  const covered = bytes.subarray(0, -4);
  return concat(covered, be(crcWord(covered)));
}

function crcWord(covered: Uint8Array): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, crc32c(covered), true);
  return view.getUint32(0);
}

for (
  const [name, cases] of Object.entries({
    lengths: LENGTHS,
    checksums: CHECKSUMS,
    headers: HEADERS,
    queues: QUEUES,
    receives: RECEIVES,
    writes: WRITES,
    reads: READS,
    invalidations: INVALIDATIONS,
    "atomics and immediate data": ATOMICS,
    terminates: TERMINATES,
  })
) {
  Deno.test(
    `iwarp violations: ${name} (${cases.length} cases)`,
    onScene(async (scene) => {
      for (const test of cases) {
        if (!test.crc) await violate(scene, test, false);
        await violate(scene, test, true);
      }
    }),
  );
}
