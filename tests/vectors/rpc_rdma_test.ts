/**
 * Every RPC-over-RDMA message in the recordings of the Linux kernel's NFS client and server decodes, and encodes back to the same bytes; what
 * its chunks say agrees with what went over the wire.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { planPulls, sharedStag, writtenLength } from "../../rpc/protocol/chunks.ts";
import { decodeCmPrivateData, encodeCmPrivateData, OUR_SETTINGS } from "../../rpc/wire/rpc_rdma_cm.ts";
import {
  decodeFixedHeader,
  decodeMessage,
  encodeHeader,
  headerBytes,
  type RdmaMessage,
  RdmaProc,
  type RdmaSegment,
} from "../../rpc/wire/rpc_rdma.ts";
import { MsgType, peekMessage } from "../../rpc/wire/rpc_message.ts";
import { XdrWriter } from "../../rpc/xdr/mod.ts";
import { frames, readRecording, type SendMessage, sendMessages } from "./pcap.ts";

interface Recorded {
  send: SendMessage;
  message: RdmaMessage;
}

function* messages(name: string): Generator<Recorded> {
  for (const send of sendMessages(readRecording(name))) {
    yield { send, message: decodeMessage(decodeFixedHeader(send.payload), send.payload) };
  }
}

/** Messages, calls with Read chunks, long calls, replies with a Write chunk, long replies: what is in each recording. */
const CONTENTS: Record<string, number[]> = {
  "nfs3.pcap": [1338, 5, 0, 6, 209],
  "nfs41.pcap": [1364, 5, 0, 6, 210],
  "nfs42.pcap": [1364, 5, 0, 6, 210],
};

for (const name of ["nfs3.pcap", "nfs41.pcap", "nfs42.pcap"]) {
  Deno.test(`${name}: every RPC-over-RDMA header decodes, and encodes back to the same bytes`, () => {
    const writer = new XdrWriter();
    let count = 0;
    for (const { send, message } of messages(name)) {
      const { xid, credits, proc, chunks, body } = message;
      writer.begin();
      encodeHeader(writer, { xid, credits, proc, chunks });
      const header = writer.finish().bytes;
      assertEquals(header.byteLength, headerBytes(chunks));
      assertEquals(Uint8Array.from([...header, ...body]), send.payload, `${name} ${count}`);
      count++;
    }
    assertEquals(count, CONTENTS[name][0]);
  });

  Deno.test(`${name}: chunks are what was read and written`, () => {
    const calls = new Map<string, Recorded>();
    const seen = [0, 0, 0, 0];
    for (const recorded of messages(name)) {
      const { send, message } = recorded;
      const { connection, fromInitiator, invalidatedStag } = send;
      const key = `${connection}/${message.xid}`;
      const type = peekMessage(message.body)?.type;
      const isBackchannel = type !== undefined && (type === MsgType.CALL) !== fromInitiator;
      if (isBackchannel) {
        assertEquals(message.chunks, { reads: [], writes: [] });
        continue;
      }
      if (fromInitiator) {
        calls.set(key, recorded);
        const plan = planPulls(message, 1 << 20);
        if (plan.bulk !== undefined) seen[0]++;
        if (plan.message !== undefined) seen[1]++;
        continue;
      }
      const call = calls.get(key);
      assert(call !== undefined, `a reply without a call: ${key}`);
      checkReply(call.message, recorded, seen);
      if (invalidatedStag !== undefined) assertEquals(invalidatedStag, sharedStag(call.message.chunks));
    }
    assertEquals(seen, CONTENTS[name].slice(1));
  });
}

/** Compares the chunks of a reply with those of its call and with the RDMA operations in between. */
function checkReply({ chunks }: RdmaMessage, { send, message }: Recorded, seen: number[]): void {
  for (const segment of chunks.reads) {
    assert(send.initiatorMemory(segment) !== undefined, "a Read segment that was not read");
  }
  for (const [i, returned] of message.chunks.writes.entries()) {
    if (checkWritten(send, { returned, offered: chunks.writes[i] }) > 0) seen[2]++;
  }
  const { reply } = message.chunks;
  const long = reply === undefined ? 0 : checkWritten(send, { returned: reply, offered: chunks.reply! });
  assertEquals(long > 0, message.proc === RdmaProc.RDMA_NOMSG);
  if (long > 0) {
    seen[3]++;
    const start = peekMessage(contents(send, reply!));
    assertEquals(start, { xid: message.xid, type: MsgType.REPLY });
  }
}

function checkWritten(
  send: SendMessage,
  { returned, offered }: { returned: readonly RdmaSegment[]; offered: readonly RdmaSegment[] },
): number {
  const length = writtenLength(returned, offered);
  assertEquals(contents(send, returned).byteLength, length);
  return length;
}

function contents(send: SendMessage, segments: readonly RdmaSegment[]): Uint8Array {
  const pieces = segments.map((segment) => send.initiatorMemory(segment));
  assert(pieces.every((piece) => piece !== undefined), "a segment that was not written");
  return Uint8Array.from(pieces.flatMap((piece) => [...piece!]));
}

Deno.test("nfs3.pcap: the ends introduce themselves as ours do", () => {
  const starts = [...frames(readRecording("nfs3.pcap"))].filter(({ kind }) => kind === "mpa");
  assertEquals(starts.length, 4);
  for (const { bytes, fromInitiator } of starts) {
    // Enhanced MPA: 4 bytes of IRD and ORD precede the private data (RFC 6581 §4.1).
    const privateData = bytes.subarray(24);
    // The Linux server takes no remote invalidation: nothing of its memory is ever offered.
    const settings = { ...OUR_SETTINGS, remoteInvalidation: fromInitiator };
    assertEquals(decodeCmPrivateData(privateData), settings);
    assertEquals(privateData, encodeCmPrivateData(settings));
  }
});
