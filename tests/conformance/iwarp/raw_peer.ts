/**
 * A peer made of a TCP socket and hand-made bytes.
 *
 * @module
 */
import { within } from "../../../rdma/_testing/pair.ts";
import {
  concat,
  type Fpdu,
  type MpaFrame,
  mpaReply,
  mpaRequest,
  Opcode,
  parseFpdu,
  parseTerminate,
  tagged,
  type TerminateMessage,
} from "./wire.ts";

/** One TCP connection, and what has been read from it and not been looked at. */
export class RawPeer implements Disposable {
  /** The socket. */
  readonly conn: Deno.TcpConn;
  #rest: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #ended = false;
  #open = true;

  /** Takes over a connection. */
  constructor(conn: Deno.TcpConn) {
    this.conn = conn;
    conn.setNoDelay(true);
  }

  /** Connects, and says nothing. */
  static async connect(port: number): Promise<RawPeer> {
    return new RawPeer(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  /** Connects and goes through MPA start-up; in peer-to-peer mode the ready-to-receive Write is sent as well. */
  static async start(port: number, frame: MpaFrame = {}): Promise<RawPeer> {
    const peer = await RawPeer.connect(port);
    await peer.write(mpaRequest(frame));
    const reply = await peer.readMpa();
    if (reply[16] & 0x20) throw new Error("rejected");
    if (frame.peerToPeer) {
      await peer.write(tagged(Opcode.Write, { stag: 0, address: 0n }, new Uint8Array(0), {
        crc: frame.crc ? "right" : "zero",
      }));
    }
    return peer;
  }

  /** Takes a connection of ours and goes through MPA start-up with the reply that is given. */
  static async accept(listener: Deno.TcpListener, frame: MpaFrame | Uint8Array = {}): Promise<RawPeer> {
    const peer = new RawPeer(await listener.accept());
    await peer.readMpa();
    await peer.write(frame instanceof Uint8Array ? frame : mpaReply(frame));
    return peer;
  }

  /** Sends bytes. */
  async write(...parts: Uint8Array[]): Promise<void> {
    const bytes = concat(...parts);
    for (let at = 0; at < bytes.byteLength;) at += await this.conn.write(bytes.subarray(at));
  }

  /** Sends bytes to somebody who may be gone. */
  async tryWrite(...parts: Uint8Array[]): Promise<void> {
    try {
      await this.write(...parts);
    } catch (error) {
      if (!(error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionReset)) throw error;
    }
  }

  /** Reads more; false at the end, a reset included. */
  async #more(): Promise<boolean> {
    if (this.#ended) return false;
    const buffer = new Uint8Array(64 * 1024);
    let n: number | null;
    try {
      n = await within(this.conn.read(buffer), 15_000);
    } catch (error) {
      if (!(error instanceof Deno.errors.ConnectionReset)) throw error;
      n = null;
    }
    if (n === null) this.#ended = true;
    else this.#rest = concat(this.#rest, buffer.subarray(0, n));
    return n !== null;
  }

  /** Reads one MPA frame. Throws where the connection ends first. */
  async readMpa(): Promise<Uint8Array> {
    for (;;) {
      if (this.#rest.byteLength >= 20) {
        const length = 20 + new DataView(this.#rest.buffer).getUint16(18);
        if (this.#rest.byteLength >= length) return this.#take(length);
      }
      if (!await this.#more()) throw new Error("the connection ended in MPA start-up");
    }
  }

  #take(length: number): Uint8Array {
    const taken = this.#rest.slice(0, length);
    this.#rest = this.#rest.slice(length);
    return taken;
  }

  /** Reads one FPDU; `undefined` where the connection has ended. */
  async readFpdu(): Promise<Fpdu | undefined> {
    for (;;) {
      const fpdu = parseFpdu(this.#rest);
      if (fpdu !== undefined) {
        this.#take(fpdu.bytes.byteLength);
        return fpdu;
      }
      if (!await this.#more()) return undefined;
    }
  }

  /** Reads until the connection ends, and returns the FPDUs of it. A cut one at the end is an error. */
  async readAll(): Promise<Fpdu[]> {
    const all: Fpdu[] = [];
    for (let fpdu = await this.readFpdu(); fpdu !== undefined; fpdu = await this.readFpdu()) all.push(fpdu);
    if (this.#rest.byteLength > 0) throw new Error(`${this.#rest.byteLength} bytes of a cut FPDU`);
    return all;
  }

  /** Reads to the end, which must be a Terminate on queue 2, and returns that (RFC 5040 §7.1). */
  async readTerminate(crc: "right" | "zero" = "zero"): Promise<TerminateMessage> {
    const last = (await this.readAll()).at(-1);
    if (last === undefined) throw new Error("the connection ended without a Terminate");
    const { opcode, queue, msn, mo, tagged, last: isLast, stag } = last;
    const is = JSON.stringify({ opcode, queue, msn, mo, tagged, isLast, stag, crc: last.crc });
    const should = JSON.stringify({ opcode: 7, queue: 2, msn: 1, mo: 0, tagged: false, isLast: true, stag: 0, crc });
    if (is !== should) throw new Error(`the last FPDU is ${is}, not ${should}`);
    return parseTerminate(last.payload);
  }

  /** Reads until the other side has ended the connection, and returns what it sent. */
  async readEnd(): Promise<Uint8Array> {
    while (await this.#more());
    return this.#rest;
  }

  /** Ends our direction. */
  async finish(): Promise<void> {
    await this.conn.closeWrite();
  }

  /** Closes the socket. With unread bytes in it that is a reset. */
  close(): void {
    if (this.#open) this.conn.close();
    this.#open = false;
  }

  /** The same as {@linkcode close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
