/**
 * Decoders under random input: each either decodes, and then encodes what it decoded to the same value again, or throws the error that malformed
 * bytes have.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { parseNfsUrl } from "../../client/url.ts";
import { ProtocolError, WireError } from "../../rpc/errors.ts";
import type { Procedures } from "../../rpc/program.ts";
import { planPulls } from "../../rpc/protocol/chunks.ts";
import { decodeCallHeader, decodeReplyHeader, MsgType, peekMessage } from "../../rpc/wire/rpc_message.ts";
import { decodeError, decodeFixedHeader, decodeMessage } from "../../rpc/wire/rpc_rdma.ts";
import { decodeCmPrivateData } from "../../rpc/wire/rpc_rdma_cm.ts";
import { flatten, XdrReader, type XdrType, XdrWriter } from "../../rpc/xdr/mod.ts";
import { MOUNT3 } from "../../storage/nfs/mount3.ts";
import { NFS3 } from "../../storage/nfs/nfs3_program.ts";
import { readRecording, sendMessages } from "../vectors/pcap.ts";
import { mutate, Random } from "./mutation.ts";

/** A decoder, valid input for it, and the errors by which it may refuse. */
export interface DecoderTarget {
  name: string;
  samples: readonly Uint8Array[];
  /** Decodes; throws one of `refusals`, or something else where it has a bug. */
  run(input: Uint8Array): void;
  // deno-lint-ignore no-explicit-any
  refusals: readonly (abstract new (...args: any[]) => Error)[];
}

const REFUSALS = [WireError, ProtocolError];
const RECORDING = "nfs3.pcap";

/** Every target. */
export function decoderTargets(): DecoderTarget[] {
  const sends = [...sendMessages(readRecording(RECORDING))].map(({ payload }) => payload);
  const bodies = sends.map((payload) => decodeMessage(decodeFixedHeader(payload), payload).body).filter((body) =>
    body.length > 0
  );
  const payloads = withoutHeaders(bodies);
  const procedures: Procedures = NFS3.procedures;
  return [
    { name: "rpc-rdma", samples: sends, refusals: REFUSALS, run: runRpcRdma },
    { name: "rpc", samples: bodies, refusals: REFUSALS, run: runRpc },
    {
      name: "nfs3",
      samples: payloads,
      refusals: REFUSALS,
      run: (input) => runProcedures(procedures, input),
    },
    {
      name: "mount3",
      samples: [Uint8Array.from([1, 0, 0, 0, 2, 47, 97, 0, 0]), ...payloads.slice(0, 50)],
      refusals: REFUSALS,
      run: (input) => runProcedures(MOUNT3.procedures, input),
    },
    {
      name: "url",
      samples: ["nfs://host/a%20b?proto=rdma&crc=on", "nfs://[::1]:2049/x?uid=0&mountport=1"].map((text) =>
        new TextEncoder().encode(text)
      ),
      refusals: [TypeError],
      run: (input) => void parseNfsUrl(new TextDecoder().decode(input)),
    },
  ];
}

/** Feeds a target its samples and then changed ones, for a while or a number of them. Throws with the input that it does not take as it should. */
export function fuzzDecoder(
  target: DecoderTarget,
  options: { seed: number; seconds?: number; inputs?: number },
): number {
  const { seed, seconds = Infinity, inputs = Infinity } = options;
  const random = new Random(seed);
  for (const sample of target.samples) tryInput(target, sample);
  const until = performance.now() + seconds * 1000;
  let count = 0;
  while (count < inputs && performance.now() < until) {
    for (let i = 0; i < 256; i++) tryInput(target, mutate(target.samples, random));
    count += 256;
  }
  return count;
}

function tryInput(target: DecoderTarget, input: Uint8Array): void {
  try {
    target.run(input);
  } catch (cause) {
    if (target.refusals.some((kind) => cause instanceof kind)) return;
    throw new Error(`${target.name} on ${input.toHex()}: ${cause}`, { cause });
  }
}

function runRpcRdma(input: Uint8Array): void {
  decodeCmPrivateData(input);
  const message = decodeMessage(decodeFixedHeader(input), input);
  const { chunks } = message;
  if (chunks.reads.length + chunks.writes.length > 0) planPulls(message, 1 << 20);
  decodeError(input);
}

function runRpc(input: Uint8Array): void {
  const decode = peekMessage(input)?.type === MsgType.CALL ? decodeCallHeader : decodeReplyHeader;
  decode(new XdrReader(input));
}

/** Recorded messages without their RPC headers; in front of each a byte that says which procedure's arguments (even) or results (odd) it holds. */
function withoutHeaders(bodies: readonly Uint8Array[]): Uint8Array[] {
  const procedures = new Map<number, number>();
  return bodies.map((body) => {
    const { xid, type } = peekMessage(body)!;
    const reader = new XdrReader(body);
    if (type === MsgType.CALL) procedures.set(xid, decodeCallHeader(reader).procedure);
    else decodeReplyHeader(reader);
    const rest = body.subarray(reader.offset);
    const input = new Uint8Array(1 + rest.length);
    input[0] = (procedures.get(xid) ?? 0) * 2 + (type === MsgType.CALL ? 0 : 1);
    input.set(rest, 1);
    return input;
  });
}

function runProcedures(procedures: Procedures, input: Uint8Array): void {
  const list = Object.values(procedures);
  const choice = input[0] ?? 0;
  const { args, results } = list[(choice >> 1) % list.length];
  const type: XdrType<unknown> = choice & 1 ? results : args;
  const value = decodeAll(type, input.subarray(1));
  assertEquals(decodeAll(type, encodeAll(type, value)), value);
}

function decodeAll(type: XdrType<unknown>, bytes: Uint8Array): unknown {
  const reader = new XdrReader(bytes);
  const value = type.decode(reader);
  reader.expectEnd();
  return value;
}

function encodeAll(type: XdrType<unknown>, value: unknown): Uint8Array {
  const writer = new XdrWriter();
  writer.begin();
  type.encode(writer, value);
  return flatten(writer.finish());
}
