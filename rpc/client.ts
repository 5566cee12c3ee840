/**
 * Typed remote procedure calls over any transport.
 *
 * @module
 */
import { AUTH_NONE } from "./auth/auth_sys.ts";
import type { Procedure, Program } from "./program.ts";
import { NULL_PROCEDURE } from "./program.ts";
import type { ClientTransport, RpcRequest } from "./transport.ts";
import type { OpaqueAuth } from "./wire/rpc_message.ts";
import { decode, XdrWriter } from "./xdr/mod.ts";

/** Choices for one call. */
export interface CallOptions {
  /**
   * Memory for the contents of the results' bulk item, which the results then refer to. The transport owns it until the call has
   * settled. Without it the contents are in memory of their own.
   */
  into?: Uint8Array;
  /** A tighter bound than the procedure's own, where the arguments imply one. */
  resultsBytesMax?: number;
  /** Instead of the client's. */
  credential?: OpaqueAuth;
  /** Gives up waiting. The server may carry the call out nevertheless. */
  signal?: AbortSignal;
}

/** Calls one program at the other end of a transport. Several clients may share a transport. */
export class RpcClient {
  /** What carries the calls. Stays its owner's, who closes it. */
  readonly transport: ClientTransport;
  /** What is called. */
  readonly program: Program;
  /** Who calls. May be changed at any time; counts for calls from then on. */
  credential: OpaqueAuth;
  readonly #writer = new XdrWriter();

  /** `credential`: who calls; AUTH_NONE where left out. */
  constructor(transport: ClientTransport, options: { program: Program; credential?: OpaqueAuth }) {
    this.transport = transport;
    this.program = options.program;
    this.credential = options.credential ?? AUTH_NONE;
  }

  /**
   * Calls a procedure. Bulk contents in `args` must not change until the call has settled. What it returns is the caller's own.
   *
   * Rejects with `RpcError` (the server refused), `WireError` (the results cannot be decoded), `ProtocolError` or the connection's
   * error, or the signal's reason. Throws `RangeError` or `TypeError` for arguments that are not of their type.
   */
  call<A, R>(procedure: Procedure<A, R>, args: A, options: CallOptions = {}): Promise<R> {
    const { into } = options;
    // Without memory of the caller's, the contents come in the reply.
    const contentsBytes = into === undefined ? procedure.results.bulkBytesMax ?? 0 : 0;
    this.#writer.begin();
    procedure.args.encode(this.#writer, args);
    const request: RpcRequest = {
      program: this.program.number,
      version: this.program.version,
      procedure: procedure.number,
      credential: options.credential ?? this.credential,
      args: this.#writer.finish(),
      resultsBytesMax: (options.resultsBytesMax ?? procedure.resultsBytesMax) + contentsBytes,
      signal: options.signal,
    };
    if (into !== undefined) {
      if (procedure.placement === undefined) throw new TypeError("the results of this procedure have no bulk item");
      request.placement = { into, ...procedure.placement };
    }
    return this.#settle(procedure, request);
  }

  /** Calls procedure 0: does the server answer, and does it have the program? */
  ping(options: { signal?: AbortSignal } = {}): Promise<void> {
    return this.call(NULL_PROCEDURE, undefined, options);
  }

  async #settle<A, R>(procedure: Procedure<A, R>, request: RpcRequest): Promise<R> {
    const response = await this.transport.call(request);
    // A copy, so that decoded views outlive the receive buffer. Bulk contents are not in it where they were placed.
    const results = response.results.slice();
    const { placedBytes } = response;
    response.release();
    const placed = request.placement && { into: request.placement.into, length: placedBytes };
    return decode(procedure.results, results, { placed });
  }
}
