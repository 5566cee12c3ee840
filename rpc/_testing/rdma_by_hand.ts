/**
 * One end of RPC-over-RDMA under test, the other one played by the test.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { RpcClient, RpcServer, service } from "../mod.ts";
import { RdmaClientTransport } from "../transports/rdma_client.ts";
import { RdmaServerTransport } from "../transports/rdma_server.ts";
import {
  type ChunkLists,
  decodeFixedHeader,
  decodeMessage,
  encodeHeader,
  type RdmaMessage,
  type RdmaSegment,
} from "../wire/rpc_rdma.ts";
import { decodeReplyHeader, encodeCallHeader } from "../wire/rpc_message.ts";
import { encodeCmPrivateData, OUR_SETTINGS } from "../wire/rpc_rdma_cm.ts";
import { encode, XdrReader, type XdrType, XdrWriter } from "../xdr/mod.ts";
import { join } from "./bytes.ts";
import { STORE, Store } from "./store.ts";
import { type FakeDomain, FakePool, type FakeQueuePair, verbsPair } from "./verbs_pair.ts";

/** Lets everything happen that is ready to. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 500; turn++) await Promise.resolve();
}

/** A message as it came. */
export interface Received {
  message: Uint8Array;
  invalidatedStag?: number;
}

/** The end that the test plays: sends what it likes. */
export class Hand {
  readonly qp: FakeQueuePair;
  readonly #received: Received[] = [];

  constructor(qp: FakeQueuePair, receives = 256) {
    this.qp = qp;
    for (let i = 0; i < receives; i++) this.#postReceive();
  }

  /** Messages that have come since the last time. */
  async take(): Promise<Received[]> {
    await settle();
    return this.#received.splice(0);
  }

  /** The one message that has come. */
  async takeOne(): Promise<Received> {
    const all = await this.take();
    if (all.length !== 1) throw new Error(`${all.length} messages where one was expected`);
    return all[0];
  }

  /** Sends a message. */
  send(message: Uint8Array, invalidate?: number): void {
    const region = this.qp.domain.register(message.slice());
    this.qp.postSend({ opcode: "send", local: [{ region, offset: 0, length: message.byteLength }], invalidate });
  }

  #postReceive(): void {
    const region = this.qp.domain.register(new Uint8Array(4096));
    this.qp.postRecv([{ region, offset: 0, length: 4096 }], ({ status, byteLength, invalidatedStag }) => {
      if (status !== "success") return;
      this.#received.push({ message: region.bytes.slice(0, byteLength), invalidatedStag });
    });
  }
}

/** A client under test. */
export interface ClientUnderTest {
  client: RpcClient;
  transport: RdmaClientTransport;
  /** The client's queue pair and memory. */
  qp: FakeQueuePair;
  domain: FakeDomain;
  pool: FakePool;
  /** The server, played by the test. */
  server: Hand;
  /** Registrations of the client's that are there without any call. */
  registrationsAtRest: number;
}

/** Connects a client to a server that the test plays, and closes it. */
export async function withClient(
  options: Partial<ConstructorParameters<typeof RdmaClientTransport>[1]>,
  body: (setup: ClientUnderTest) => Promise<void>,
): Promise<void> {
  const [left, right] = verbsPair();
  left.privateData = encodeCmPrivateData(OUR_SETTINGS);
  const { domain } = left;
  const pool = new FakePool(domain);
  const transport = new RdmaClientTransport(left, {
    pd: domain,
    pool,
    findRegion: (bytes) => domain.findRegion(bytes),
    ...options,
  });
  const registrationsAtRest = domain.registrations.size;
  const client = new RpcClient(transport, { program: STORE });
  await body({ client, transport, qp: left, domain, pool, server: new Hand(right), registrationsAtRest });
  await transport.close();
  if (pool.lent !== 0) throw new Error(`${pool.lent} leases of the pool are left`);
  // The pool's region remains.
  if (domain.registrations.size !== 1) throw new Error(`${domain.registrations.size - 1} registrations are left`);
}

/** A server under test. */
export interface ServerUnderTest {
  transport: RdmaServerTransport;
  store: Store;
  qp: FakeQueuePair;
  domain: FakeDomain;
  pool: FakePool;
  /** The client, played by the test. */
  client: Hand;
}

/** Connects a server to a client that the test plays, and closes it. */
export async function withServer(
  options: Partial<ConstructorParameters<typeof RdmaServerTransport>[1]>,
  body: (setup: ServerUnderTest) => Promise<void>,
): Promise<void> {
  const [left, right] = verbsPair();
  const { domain } = right;
  const pool = new FakePool(domain);
  const privateData = encodeCmPrivateData(OUR_SETTINGS);
  const transport = new RdmaServerTransport(right, {
    pd: domain,
    pool,
    privateData,
    findRegion: (bytes) => domain.findRegion(bytes),
    ...options,
  });
  const store = new Store();
  new RpcServer({ services: [service(STORE, store.handlers)] }).serve(transport);
  await body({ transport, store, qp: right, domain, pool, client: new Hand(left) });
  await transport.close();
  if (pool.lent !== 0) throw new Error(`${pool.lent} leases of the pool are left`);
  if (domain.registrations.size !== 1) throw new Error(`${domain.registrations.size - 1} registrations are left`);
}

/** Decodes an RDMA_MSG or RDMA_NOMSG. */
export function decodeRdma(message: Uint8Array): RdmaMessage {
  return decodeMessage(decodeFixedHeader(message), message);
}

/** An RPC-over-RDMA message. */
export function rdmaMessage(
  header: { xid: number; credits?: number; proc?: 0 | 1; chunks?: Partial<ChunkLists> },
  ...body: Uint8Array[]
): Uint8Array {
  const writer = new XdrWriter();
  const { xid, credits = 32, proc = 0, chunks = {} } = header;
  encodeHeader(writer, { xid, credits, proc, chunks: { reads: [], writes: [], ...chunks } });
  return join([writer.finish().bytes, ...body]);
}

/** A call of a procedure of `STORE`, as bytes, with arguments whose bulk item is left out. Tells where the item belongs. */
export function rpcCall<A>(
  xid: number,
  { number, args }: { number: number; args: XdrType<A> },
  value: A,
): { bytes: Uint8Array; position: number } {
  const writer = new XdrWriter();
  const none = { flavor: 0, body: new Uint8Array(0) };
  const { number: program, version } = STORE;
  encodeCallHeader(writer, {
    xid,
    rpcVersion: 2,
    program,
    version,
    procedure: number,
    credential: none,
    verifier: none,
  });
  const header = writer.finish().bytes;
  const encoded = encode(args, value);
  return { bytes: join([header, encoded.bytes]), position: header.byteLength + (encoded.bulk?.position ?? 0) };
}

/** Memory of the client's that is open to the server. */
export function open({ client }: ServerUnderTest, bytes: Uint8Array, access: number): RdmaSegment {
  const region = client.qp.domain.register(bytes, access);
  return { stag: region.stag, length: bytes.byteLength, offset: region.address };
}

/** Cuts memory into segments of its own. */
export function openCut(setup: ServerUnderTest, bytes: Uint8Array, lengths: number[], access: number): RdmaSegment[] {
  let at = 0;
  return lengths.map((length) => open(setup, bytes.subarray(at, at += length), access));
}

/** Sends a message and takes the one answer. */
export async function ask(
  setup: ServerUnderTest,
  message: Uint8Array,
): Promise<RdmaMessage & { invalidatedStag?: number }> {
  setup.client.send(message);
  const { message: answer, invalidatedStag } = await setup.client.takeOne();
  return { ...decodeRdma(answer), invalidatedStag };
}

/** The results of a reply that succeeded. */
export function resultsOf(body: Uint8Array): Uint8Array {
  const reader = new XdrReader(body);
  assertEquals(decodeReplyHeader(reader).status, "SUCCESS");
  return body.subarray(reader.offset);
}
