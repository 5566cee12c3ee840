/**
 * A client and a server transport joined in memory, for tests of what is built on RPC.
 *
 * Messages pass as bytes, one turn of the microtask queue later. Lent memory is overwritten when its lease ends, so that a use
 * after that shows.
 *
 * @module
 */
import { ProtocolError } from "../errors.ts";
import { decodeReply, encodeCall } from "../protocol/call_message.ts";
import { CallTable } from "../protocol/call_table.ts";
import type {
  Bulk,
  ClientTransport,
  IncomingCall,
  PeerInfo,
  RpcRequest,
  RpcResponse,
  ServerTransport,
  XdrMessage,
} from "../transport.ts";
import { peekMessage } from "../wire/rpc_message.ts";
import { flatten, XdrWriter } from "../xdr/xdr_writer.ts";

/** How bulk items travel: in the stream, as over TCP; or beside it, as RDMA chunks. */
export type MemoryBulk = "linear" | "reduced";

/** Choices for a pair. */
export interface MemoryPairOptions {
  /** "reduced" where left out. */
  bulk?: MemoryBulk;
  /** Linear: a call longer than this arrives cut in two here, as the TCP transport cuts long records. */
  cutBytes?: number;
  /** The server's view of the client. */
  peer?: PeerInfo;
}

/** What overwrites memory whose lease has ended. */
const POISON = 0xdb;
const CUT_BYTES = 1024;

interface Pending {
  request: RpcRequest;
  resolve: (response: RpcResponse) => void;
  reject: (error: unknown) => void;
  /** Ends the wait for an abort. */
  settled: () => void;
}

/** Joins two transports. Closing either ends both. Set `server.onCall`, or give it to an `RpcServer`, before the first call. */
export function memoryPair(options: MemoryPairOptions = {}): { client: ClientTransport; server: ServerTransport } {
  const link = new Link(options);
  return { client: new MemoryClient(link), server: new MemoryServer(link) };
}

/** What the two ends share. */
class Link {
  readonly bulk: MemoryBulk;
  readonly cutBytes: number;
  readonly peer: PeerInfo;
  readonly closed: Promise<Error | undefined>;
  isOpen = true;
  onCall: (call: IncomingCall) => void = (call) => call.reply(undefined);
  onReply: (message: XdrMessage) => void = () => {};
  onEnd: () => void = () => {};
  #resolveClosed!: (why: Error | undefined) => void;

  constructor(options: MemoryPairOptions) {
    this.bulk = options.bulk ?? "reduced";
    this.cutBytes = options.cutBytes ?? CUT_BYTES;
    this.peer = options.peer ?? { transport: "memory", address: "memory", port: 0 };
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
  }

  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.onEnd();
    this.#resolveClosed(undefined);
  }
}

class MemoryClient implements ClientTransport {
  readonly kind = "memory";
  readonly #link: Link;
  readonly #calls = new CallTable<Pending>();
  readonly #writer = new XdrWriter();

  constructor(link: Link) {
    this.#link = link;
    link.onReply = (message) => this.#handleReply(message);
    link.onEnd = () => {
      for (const call of this.#calls.drain()) {
        call.settled();
        call.reject(new ProtocolError("ConnectionLost", "the connection was closed"));
      }
    };
  }

  get closed(): Promise<Error | undefined> {
    return this.#link.closed;
  }

  call(request: RpcRequest): Promise<RpcResponse> {
    const { signal } = request;
    return new Promise((resolve, reject) => {
      if (!this.#link.isOpen) throw new ProtocolError("ConnectionLost", "the connection is closed");
      signal?.throwIfAborted();
      const xid = request.xid ?? this.#calls.nextXid();
      const abort = () => {
        this.#calls.take(xid);
        reject(signal!.reason);
      };
      signal?.addEventListener("abort", abort, { once: true });
      this.#calls.add(xid, { request, resolve, reject, settled: () => signal?.removeEventListener("abort", abort) });
      const message = encodeCall(this.#writer, xid, request);
      queueMicrotask(() => deliverCall(this.#link, message));
    });
  }

  allocateBulk(lengthBytes: number): Bulk {
    return lend(lengthBytes);
  }

  close(): Promise<void> {
    this.#link.close();
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #handleReply(message: XdrMessage): void {
    const xid = peekMessage(message.bytes)?.xid;
    const call = xid === undefined ? undefined : this.#calls.take(xid);
    if (call === undefined) return;
    call.settled();
    try {
      call.resolve(receive(message, { request: call.request, bulk: this.#link.bulk }));
    } catch (error) {
      call.reject(error);
    }
  }
}

/** Makes a response of a reply, with its bulk item placed as the transport that is played would. Throws the peer's refusal. */
function receive(message: XdrMessage, { request, bulk }: { request: RpcRequest; bulk: MemoryBulk }): RpcResponse {
  const { placement } = request;
  let received = flatten(message);
  let placedBytes: number | undefined;
  if (placement !== undefined && message.bulk !== undefined && bulk === "reduced") {
    const { data } = message.bulk;
    if (data.byteLength > placement.into.byteLength) {
      throw new ProtocolError("BadPlacement", "more than there is room for");
    }
    placement.into.set(data);
    received = message.bytes.slice();
    placedBytes = data.byteLength;
  }
  const reply = decodeReply(received);
  if ("error" in reply) throw reply.error;
  let { results } = reply;
  const found = placedBytes === undefined ? placement?.locate(results) : undefined;
  if (placement !== undefined && found !== undefined && found.length <= placement.into.byteLength) {
    const end = found.offset + found.length;
    placement.into.set(results.subarray(found.offset, end));
    const rest = results.subarray(end + (-found.length & 3));
    results = Uint8Array.from([...results.subarray(0, found.offset), ...rest]);
    placedBytes = found.length;
  }
  return { results, placedBytes, release: () => void results.fill(POISON) };
}

class MemoryServer implements ServerTransport {
  readonly #link: Link;

  constructor(link: Link) {
    this.#link = link;
  }

  get peer(): PeerInfo {
    return this.#link.peer;
  }

  get closed(): Promise<Error | undefined> {
    return this.#link.closed;
  }

  get onCall(): (call: IncomingCall) => void {
    return this.#link.onCall;
  }

  set onCall(handler: (call: IncomingCall) => void) {
    this.#link.onCall = handler;
  }

  close(): Promise<void> {
    this.#link.close();
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function deliverCall(link: Link, sent: XdrMessage): void {
  if (!link.isOpen) return;
  const lent: Bulk[] = [];
  let message: Uint8Array = sent.bytes.slice();
  let bulk: IncomingCall["bulk"] = sent.bulk && { position: sent.bulk.position, data: sent.bulk.data.slice() };
  if (link.bulk === "linear") {
    message = flatten(sent);
    bulk = undefined;
    if (message.byteLength > link.cutBytes) {
      bulk = { position: link.cutBytes, data: message.slice(link.cutBytes) };
      message = message.slice(0, link.cutBytes);
    }
  }
  let isReplied = false;
  link.onCall({
    peer: link.peer,
    message,
    bulk,
    allocateBulk(lengthBytes): Bulk {
      const memory = lend(lengthBytes);
      lent.push(memory);
      return memory;
    },
    reply(reply): void {
      if (isReplied) throw new TypeError("a call is replied to once");
      isReplied = true;
      const copy = reply &&
        { bytes: reply.bytes.slice(), bulk: reply.bulk && { ...reply.bulk, data: reply.bulk.data.slice() } };
      message.fill(POISON);
      bulk?.data.fill(POISON);
      for (const memory of lent) memory.release();
      if (copy !== undefined) queueMicrotask(() => link.isOpen && link.onReply(copy));
    },
  });
}

function lend(lengthBytes: number): Bulk {
  const bytes = new Uint8Array(lengthBytes);
  return { bytes, release: () => void bytes.fill(POISON) };
}
