/**
 * perftest's conversation beside a measurement, on a connection of its own. Both ends say the same things in the same order: the client first, then the server
 * its own.
 *
 * @module
 */
import { CommandError } from "../../command_line.ts";
import type { WorkCompletion } from "../../connection.ts";
import type { QueuePair, Sge } from "../../queue_pair.ts";
import { bytesOf } from "../run.ts";
import {
  type BandwidthReport,
  decodeDestination,
  decodeMtu,
  decodeNumber,
  decodeReport,
  decodeVersion,
  type Destination,
  encodeDestination,
  encodeMtu,
  encodeNumber,
  encodeReport,
  encodeVersion,
  isSpoken,
  MESSAGE_BYTES_MAX,
  VERSION,
} from "./messages.ts";
import type { PerftestRun } from "./run.ts";

/** Which end this is. */
export type Role = "client" | "server";

/** What perftest says of its memory, and what is said to it: the buffer within which it goes round, and its alignment there. */
const BUFFER_BYTES = 4096;
const LINE_BYTES = 64;
/** The largest such buffer that a peer may have: the largest page there is. */
const BUFFER_BYTES_MAX = 2 ** 21;
const MTU_NUMBER = 5;

/** An end of the conversation. Anything but what is due next fails it, with an error for who called the command. */
export class Exchange {
  readonly #run: PerftestRun;
  readonly #role: Role;
  readonly #in: Sge;
  readonly #out: Sge;
  #queuePair: QueuePair | undefined;
  #heard: Uint8Array | undefined;
  #ended: unknown;

  /** For a run, whose memory it takes its own of. */
  constructor(run: PerftestRun, role: Role) {
    this.#run = run;
    this.#role = role;
    const region = run.pd.allocate(2 * MESSAGE_BYTES_MAX);
    this.#in = { region, offset: 0, length: MESSAGE_BYTES_MAX };
    this.#out = { region, offset: MESSAGE_BYTES_MAX, length: MESSAGE_BYTES_MAX };
  }

  /** Takes the connection, before anything can arrive on it. */
  attach(queuePair: QueuePair): void {
    this.#queuePair = queuePair;
    this.#run.watch(queuePair, (reason) => this.#ended = reason);
    queuePair.postRecv([this.#in], this.#received);
  }

  /** Versions and properties of both ends. Returns how large a buffer the peer wants to go round in, bytes. */
  async greet(): Promise<number> {
    const version = decodeVersion(await this.#swap(encodeVersion(), "version")) ?? "of an unknown kind";
    if (!isSpoken(version)) throw new CommandError(`the other end is perftest ${version}, and not ${VERSION}`);
    const buffer = decodeNumber(await this.#swap(encodeNumber(BUFFER_BYTES), "buffer")) ?? 0;
    const line = decodeNumber(await this.#swap(encodeNumber(LINE_BYTES), "alignment")) ?? 0;
    const mtu = decodeMtu(await this.#swap(encodeMtu(MTU_NUMBER), "MTU"));
    const isSane = buffer >= 1 && buffer <= BUFFER_BYTES_MAX && line >= 1 && line <= BUFFER_BYTES_MAX;
    if (!isSane || mtu === undefined) throw new CommandError("the other end's properties are beyond the limits");
    return Math.max(BUFFER_BYTES, buffer);
  }

  /** A handshake, which tells where memory is. Either end is at the same point afterwards. */
  async shake(mine: Destination): Promise<Destination> {
    // a message of this length always decodes
    return decodeDestination(await this.#swap(encodeDestination(mine), "handshake"))!;
  }

  /** What the client has measured. The server's own report counts for nothing. */
  async report(mine: BandwidthReport): Promise<BandwidthReport> {
    const theirs: Uint8Array[] = [];
    for (const figure of encodeReport(mine)) theirs.push(await this.#swap(figure, "report"));
    const report = decodeReport(theirs);
    if (report === undefined) throw new CommandError("the other end's report makes no sense");
    return report;
  }

  async #swap(mine: Uint8Array, what: string): Promise<Uint8Array> {
    if (this.#role === "client") this.#send(mine);
    const theirs = await this.#hear(mine.byteLength, what);
    if (this.#role === "server") this.#send(mine);
    return theirs;
  }

  #send(message: Uint8Array): void {
    const element = { ...this.#out, length: message.byteLength };
    bytesOf(element).set(message);
    this.#queuePair!.postSend({ opcode: "send", local: [element] });
    this.#queuePair!.flush();
  }

  async #hear(lengthBytes: number, what: string): Promise<Uint8Array> {
    while (this.#heard === undefined) {
      if (this.#ended !== undefined) throw this.#ended;
      await this.#run.change();
    }
    const heard = this.#heard;
    this.#heard = undefined;
    if (heard.byteLength === lengthBytes) return heard;
    throw new CommandError(
      `the other end is out of step with perftest ${VERSION}: ${heard.byteLength} bytes in place of its ${what}`,
    );
  }

  #received = ({ status, byteLength }: WorkCompletion): void => {
    if (status !== "success") return; // the connection has ended, and tells why itself
    if (this.#heard !== undefined) {
      return this.#run.fail(new CommandError("the other end speaks out of turn"));
    }
    this.#heard = bytesOf({ ...this.#in, length: byteLength }).slice();
    if (!this.#queuePair!.isClosed) this.#queuePair!.postRecv([this.#in], this.#received);
    this.#run.changed();
  };
}
