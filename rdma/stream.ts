/**
 * Streams: plain TCP connections on the same rings as queue pairs, so that payload is received into place and sent from place there, too.
 *
 * @module
 */
import { WorkFlag, WorkOpcode } from "./_ffi/layout.ts";
import { type Completed, Connection } from "./connection.ts";

/** A plain TCP connection. Memory is any `Uint8Array`; it must stay untouched, in place and attached until its work is done. */
export class Stream extends Connection {
  /** Sends the pieces, in order, behind what is queued. Done when the kernel has taken the last byte. */
  send(pieces: readonly Uint8Array[], done?: Completed): void {
    this.#post(WorkOpcode.Send, pieces, done);
  }

  /** Fills the pieces, in order and exactly. Several may be queued. `Flushed`, with the bytes that did come, where the connection ends first. */
  receive(pieces: readonly Uint8Array[], done: Completed): void {
    this.#post(WorkOpcode.Receive, pieces, done);
  }

  #post(opcode: number, pieces: readonly Uint8Array[], done: Completed | undefined): void {
    const { native } = this.device;
    let total = 0;
    const addresses: number[] = [];
    for (const piece of pieces) {
      if (!(piece instanceof Uint8Array)) throw new TypeError("pieces are Uint8Arrays");
      const { buffer, byteLength } = piece;
      if (buffer instanceof ArrayBuffer && (buffer.resizable || buffer.detached)) {
        throw new TypeError("a resizable or detached buffer cannot be used: it does not stay in place");
      }
      total += byteLength;
      addresses.push(byteLength === 0 ? 0 : native.weft_address(piece as Uint8Array<ArrayBuffer>));
    }
    if (total > 0xffff_ffff) throw new RangeError("at most 2^32 - 1 bytes at once");
    this.begin(opcode, done === undefined ? 0 : WorkFlag.Signalled, pieces.length, done, pieces);
    pieces.forEach((piece, i) => this.sge(0, addresses[i], piece.byteLength));
  }
}
