/**
 * Reads recorded iWARP traffic: pcap, Ethernet, IPv4, TCP streams put together, MPA start-up frames, FPDUs, DDP segments, and RDMAP
 * messages put together (RFC 5044, 5041, 5040). For tests: it trusts the recording and throws `Error` where that is not as expected.
 *
 * @module
 */

/** One TCP segment with payload. */
export interface TcpSegment {
  /** "address:port" of the sender. */
  from: string;
  /** "address:port" of the receiver. */
  to: string;
  sequence: number;
  isSyn: boolean;
  payload: Uint8Array;
}

/** The segments of a capture, in the order in which they were recorded. */
export function* tcpSegments(pcap: Uint8Array): Generator<TcpSegment> {
  const view = new DataView(pcap.buffer, pcap.byteOffset, pcap.byteLength);
  if (view.getUint32(0, true) !== 0xa1b2c3d4) throw new Error("not a little-endian pcap file");
  if (view.getUint32(20, true) !== 1) throw new Error("not Ethernet");
  for (let at = 24; at < pcap.byteLength;) {
    const captured = view.getUint32(at + 8, true);
    if (captured !== view.getUint32(at + 12, true)) throw new Error("a packet was cut");
    const frame = pcap.subarray(at + 16, at + 16 + captured);
    at += 16 + captured;
    const segment = tcpSegment(frame);
    if (segment !== undefined) yield segment;
  }
}

function tcpSegment(frame: Uint8Array): TcpSegment | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const ip = 14;
  if (view.getUint16(12) !== 0x0800 || frame[ip + 9] !== 6) return undefined;
  const tcp = ip + (frame[ip] & 0x0f) * 4;
  const end = ip + view.getUint16(ip + 2);
  const address = (at: number) => frame.subarray(at, at + 4).join(".");
  return {
    from: `${address(ip + 12)}:${view.getUint16(tcp)}`,
    to: `${address(ip + 16)}:${view.getUint16(tcp + 2)}`,
    sequence: view.getUint32(tcp + 4),
    isSyn: (frame[tcp + 13] & 0x02) !== 0,
    payload: frame.subarray(tcp + (frame[tcp + 12] >> 4) * 4, end),
  };
}

/** A frame of one direction of an iWARP connection. */
export interface Frame {
  /** Number of the connection in the capture, from 0. */
  connection: number;
  /** True where the side that opened the connection sent it. */
  fromInitiator: boolean;
  /** "mpa": a start-up frame with its header. "fpdu": length, ULPDU, padding and CRC. */
  kind: "mpa" | "fpdu";
  bytes: Uint8Array;
}

const MPA_HEADER_BYTES = 20;

/** The start-up frames and FPDUs of every connection in a capture, in the order in which their last byte was recorded. */
export function* frames(pcap: Uint8Array): Generator<Frame> {
  interface Direction {
    connection: number;
    fromInitiator: boolean;
    next: number;
    isStarted: boolean;
    pending: Uint8Array;
  }
  const directions = new Map<string, Direction>();
  let connections = 0;
  for (const segment of tcpSegments(pcap)) {
    const key = `${segment.from}>${segment.to}`;
    if (segment.isSyn) {
      const other = directions.get(`${segment.to}>${segment.from}`);
      directions.set(key, {
        connection: other?.connection ?? connections++,
        fromInitiator: other === undefined,
        next: (segment.sequence + 1) >>> 0,
        isStarted: false,
        pending: new Uint8Array(0),
      });
      continue;
    }
    const direction = directions.get(key);
    if (direction === undefined || segment.payload.byteLength === 0) continue;
    const repeated = (direction.next - segment.sequence) | 0;
    if (repeated < 0) throw new Error("a segment is missing");
    if (repeated >= segment.payload.byteLength) continue;
    direction.next = (segment.sequence + segment.payload.byteLength) >>> 0;
    direction.pending = Uint8Array.from([...direction.pending, ...segment.payload.subarray(repeated)]);
    for (;;) {
      const length = frameBytes(direction.pending, direction.isStarted);
      if (length === undefined || length > direction.pending.byteLength) break;
      const { connection, fromInitiator } = direction;
      const kind = direction.isStarted ? "fpdu" : "mpa";
      yield { connection, fromInitiator, kind, bytes: direction.pending.slice(0, length) };
      direction.pending = direction.pending.subarray(length);
      direction.isStarted = true;
    }
  }
}

function frameBytes(pending: Uint8Array, isStarted: boolean): number | undefined {
  const view = new DataView(pending.buffer, pending.byteOffset, pending.byteLength);
  if (!isStarted) return pending.byteLength < MPA_HEADER_BYTES ? undefined : MPA_HEADER_BYTES + view.getUint16(18);
  if (pending.byteLength < 2) return undefined;
  return ((2 + view.getUint16(0) + 3) & ~3) + 4;
}

/** RDMAP opcodes (RFC 5040 §4.3). */
export const Opcode = {
  Write: 0,
  ReadRequest: 1,
  ReadResponse: 2,
  Send: 3,
  SendInvalidate: 4,
  SendSolicited: 5,
  SendSolicitedInvalidate: 6,
  Terminate: 7,
} as const;

/** A DDP segment. */
export interface DdpSegment {
  connection: number;
  fromInitiator: boolean;
  opcode: number;
  isLast: boolean;
  /** Tagged: where the payload goes. */
  tagged?: { stag: number; offset: bigint };
  /** Untagged: queue, message number, offset in it, and the STag that a Send with Invalidate names. */
  untagged?: { queue: number; message: number; offset: number; invalidate: number };
  payload: Uint8Array;
}

/** The DDP segments of a capture. */
export function* ddpSegments(pcap: Uint8Array): Generator<DdpSegment> {
  for (const { connection, fromInitiator, kind, bytes } of frames(pcap)) {
    if (kind !== "fpdu") continue;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const end = 2 + view.getUint16(0);
    const common = { connection, fromInitiator, opcode: bytes[3] & 0x0f, isLast: (bytes[2] & 0x40) !== 0 };
    if ((bytes[2] & 0x80) !== 0) {
      const tagged = { stag: view.getUint32(4), offset: view.getBigUint64(8) };
      yield { ...common, tagged, payload: bytes.subarray(16, end) };
    } else {
      const untagged = {
        invalidate: view.getUint32(4),
        queue: view.getUint32(8),
        message: view.getUint32(12),
        offset: view.getUint32(16),
      };
      yield { ...common, untagged, payload: bytes.subarray(20, end) };
    }
  }
}

/** A whole Send, and the memory that one-sided operations have moved so far. */
export interface SendMessage {
  connection: number;
  /** True for the client of a recorded NFS mount. */
  fromInitiator: boolean;
  payload: Uint8Array;
  /** The STag that it invalidates at the receiver. */
  invalidatedStag?: number;
  /**
   * What the initiator's memory holds at a STag, as far as it went over the wire *until now*: contents that the responder read
   * from it or wrote to it. Ask while this message is the current one. `undefined` where a part of it has not been seen.
   */
  initiatorMemory(segment: { stag: number; offset: bigint; length: number }): Uint8Array | undefined;
}

/** The Sends of a capture, put together: in a recording of NFS over RDMA, its RPC-over-RDMA messages. */
export function* sendMessages(pcap: Uint8Array): Generator<SendMessage> {
  const partial = new Map<string, DdpSegment[]>();
  /** By connection and STag: latest contents first. */
  const memory = new Map<string, { offset: bigint; bytes: Uint8Array }[]>();
  /** Reads of the initiator's memory under way: by connection and the reader's STag. */
  const reads = new Map<string, { sink: bigint; source: { stag: number; offset: bigint } }[]>();
  const remember = (connection: number, stag: number, contents: { offset: bigint; bytes: Uint8Array }) => {
    const key = `${connection}/${stag}`;
    memory.set(key, [contents, ...memory.get(key) ?? []]);
  };
  for (const segment of ddpSegments(pcap)) {
    const { connection, fromInitiator, opcode, payload, tagged, untagged } = segment;
    if (opcode === Opcode.Write && !fromInitiator) {
      remember(connection, tagged!.stag, { offset: tagged!.offset, bytes: payload });
    } else if (opcode === Opcode.ReadRequest && !fromInitiator) {
      const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
      const key = `${connection}/${view.getUint32(0)}`;
      const source = { stag: view.getUint32(16), offset: view.getBigUint64(20) };
      reads.set(key, [{ sink: view.getBigUint64(4), source }, ...reads.get(key) ?? []]);
    } else if (opcode === Opcode.ReadResponse && fromInitiator) {
      const candidates = reads.get(`${connection}/${tagged!.stag}`) ?? [];
      const read = candidates.find(({ sink }) => sink <= tagged!.offset);
      if (read === undefined) throw new Error("a Read Response without a request");
      const offset = read.source.offset + tagged!.offset - read.sink;
      remember(connection, read.source.stag, { offset, bytes: payload });
    } else if (opcode >= Opcode.Send && opcode <= Opcode.SendSolicitedInvalidate) {
      const key = `${connection}/${fromInitiator}`;
      const parts = [...partial.get(key) ?? [], segment];
      partial.set(key, segment.isLast ? [] : parts);
      if (!segment.isLast) continue;
      const invalidates = opcode === Opcode.SendInvalidate || opcode === Opcode.SendSolicitedInvalidate;
      yield {
        connection,
        fromInitiator,
        payload: Uint8Array.from(parts.flatMap((part) => [...part.payload])),
        invalidatedStag: invalidates ? untagged!.invalidate : undefined,
        initiatorMemory: (wanted) => gather(memory.get(`${connection}/${wanted.stag}`) ?? [], wanted),
      };
    }
  }
}

function gather(
  contents: readonly { offset: bigint; bytes: Uint8Array }[],
  wanted: { offset: bigint; length: number },
): Uint8Array | undefined {
  const whole = new Uint8Array(wanted.length);
  for (let at = 0; at < wanted.length;) {
    const address = wanted.offset + BigInt(at);
    const piece = contents.find(({ offset, bytes }) =>
      offset <= address && address < offset + BigInt(bytes.byteLength)
    );
    if (piece === undefined) return undefined;
    const from = Number(address - piece.offset);
    const part = piece.bytes.subarray(from, from + wanted.length - at);
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}

/** Reads one of the recordings beside this file. */
export function readRecording(name: string): Uint8Array {
  return Deno.readFileSync(new URL(name, import.meta.url));
}
