/**
 * Every NFSv3 message in the recording of the Linux kernel's client and server decodes, and encodes back to the same bytes, with its
 * DDP-eligible item where the kernel had it.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import type { Procedure } from "../../rpc/mod.ts";
import { decodeFixedHeader, decodeMessage, type RdmaMessage, type RdmaSegment } from "../../rpc/wire/rpc_rdma.ts";
import {
  type CallHeader,
  decodeCallHeader,
  decodeReplyHeader,
  encodeCallHeader,
  encodeReplyHeader,
} from "../../rpc/wire/rpc_message.ts";
import { flatten, XdrReader, type XdrReaderOptions, XdrWriter } from "../../rpc/xdr/mod.ts";
import { NFS3 } from "../../storage/nfs/mod.ts";
import { readRecording, type SendMessage, sendMessages } from "./pcap.ts";

/** NFSACL, which shares the port; its messages are not ours to know. */
const NFSACL_PROGRAM = 100227;

/** An RPC message put together again: its stream, and the item that was not in it. */
interface Message {
  stream: Uint8Array;
  /** Call: from Read chunks, with their position. Reply: from a Write chunk, whose place only the results tell. */
  chunk?: { position?: number; data: Uint8Array };
}

interface Exchange {
  name: string;
  procedure: Procedure<unknown, unknown>;
  header: CallHeader;
  call: Message;
  reply: Message;
}

Deno.test("nfs3.pcap: every call decodes, and encodes back to the same bytes", () => {
  for (const { name, procedure, header, call } of exchanges()) {
    const { stream, chunk } = call;
    const inserted = chunk && { position: chunk.position!, data: chunk.data };
    const reader = new XdrReader(stream, { inserted });
    decodeCallHeader(reader);
    const args = procedure.args.decode(reader);
    reader.expectEnd();
    const writer = new XdrWriter();
    encodeCallHeader(writer, header);
    procedure.args.encode(writer, args);
    compare(writer, { stream, chunk, what: `call of ${name} ${header.xid}` });
  }
});

Deno.test("nfs3.pcap: every reply decodes, and encodes back to the same bytes", () => {
  for (const { name, procedure, header: { xid }, reply } of exchanges()) {
    const { stream, chunk } = reply;
    const options: XdrReaderOptions = chunk === undefined
      ? {}
      : { placed: { into: chunk.data, length: chunk.data.byteLength } };
    const reader = new XdrReader(stream, options);
    const header = decodeReplyHeader(reader);
    assertEquals(header.status, "SUCCESS");
    const start = reader.offset;
    const results = procedure.results.decode(reader);
    reader.expectEnd();
    const writer = new XdrWriter();
    encodeReplyHeader(writer, header);
    procedure.results.encode(writer, results);
    compare(writer, { stream, chunk, what: `reply to ${name} ${xid}` });
    if (chunk !== undefined) {
      const located = procedure.placement!.locate(stream.subarray(start));
      assertEquals(located?.length, chunk.data.byteLength, "placement finds what the kernel placed");
    }
    if (procedure.placement === undefined) assert(stream.byteLength - start <= procedure.resultsBytesMax);
  }
});

Deno.test("nfs3.pcap: has what it is recorded for", () => {
  const counts: Record<string, number> = {};
  const chunked: Record<string, number> = {};
  for (const { name, call, reply } of exchanges()) {
    counts[name] = (counts[name] ?? 0) + 1;
    if (call.chunk !== undefined || reply.chunk !== undefined) chunked[name] = (chunked[name] ?? 0) + 1;
  }
  const seen = Object.keys(NFS3.procedures).filter((name) => name in counts);
  const absent = Object.keys(NFS3.procedures).filter((name) => !(name in counts));
  assertEquals(absent, ["SETATTR", "MKNOD", "READDIR"]);
  assert(counts.CREATE >= 200 && seen.length === 19);
  assertEquals(Object.keys(chunked).sort(), ["READ", "WRITE"]);
});

/** The calls of NFSv3 with their replies, as streams. */
function* exchanges(): Generator<Exchange> {
  const pending = new Map<string, RdmaMessage>();
  let acl = 0;
  for (const message of sendMessages(readRecording("nfs3.pcap"))) {
    const decoded = decodeMessage(decodeFixedHeader(message.payload), message.payload);
    const key = `${message.connection}/${decoded.xid}`;
    if (message.fromInitiator) {
      pending.set(key, decoded);
      continue;
    }
    // Only now: the server has read by now what the call lists.
    const call = assembleCall(pending.get(key)!, message);
    pending.delete(key);
    const header = decodeCallHeader(new XdrReader(call.stream));
    if (header.program === NFSACL_PROGRAM) {
      acl++;
      continue;
    }
    assertEquals([header.program, header.version], [NFS3.number, NFS3.version]);
    const [name, procedure] = Object.entries(NFS3.procedures).find(([, { number }]) => number === header.procedure)!;
    const reply = assembleReply(decoded, message);
    yield { name, procedure, header, call, reply };
  }
  assertEquals(pending.size, 0);
  assert(acl > 0, "no NFSACL in the recording");
}

function assembleCall({ chunks, body }: RdmaMessage, message: SendMessage): Message {
  const { reads } = chunks;
  if (reads.length === 0) return { stream: body };
  const [{ position }] = reads;
  assert(reads.every((read) => read.position === position), "one Read chunk");
  const data = contents(reads, message);
  return position === 0 ? { stream: data } : { stream: body, chunk: { position, data } };
}

function assembleReply({ chunks, body }: RdmaMessage, message: SendMessage): Message {
  if (chunks.reply !== undefined && body.byteLength === 0) return { stream: contents(chunks.reply, message) };
  const [write] = chunks.writes;
  if (write === undefined || write.every(({ length }) => length === 0)) return { stream: body };
  return { stream: body, chunk: { data: contents(write, message) } };
}

function contents(segments: readonly RdmaSegment[], message: SendMessage): Uint8Array {
  const parts = segments.map((segment) => {
    const part = message.initiatorMemory(segment);
    assert(part !== undefined, "memory that was not seen on the wire");
    return part;
  });
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** Holds what was encoded to what was recorded: the stream, and the item beside it. */
function compare(writer: XdrWriter, { stream, chunk, what }: Message & { what: string }): void {
  const encoded = writer.finish();
  if (chunk === undefined) return assertEquals(flatten(encoded).toHex(), stream.toHex(), what);
  assertEquals(encoded.bytes.toHex(), stream.toHex(), what);
  assertEquals(encoded.bulk?.data.toHex(), chunk.data.toHex(), what);
  if (chunk.position !== undefined) assertEquals(encoded.bulk?.position, chunk.position, what);
}
