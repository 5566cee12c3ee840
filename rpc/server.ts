/**
 * The server's dispatcher: finds the procedure that a call is for, checks who calls, decodes, calls the handler, encodes.
 *
 * Statuses are those of RFC 5531 §9. Handlers return results or throw; an `RpcError` becomes its status, anything else
 * SYSTEM_ERR.
 *
 * @module
 */
import { type AuthSys, decodeAuthSys } from "./auth/auth_sys.ts";
import { RpcError, WireError } from "./errors.ts";
import type { CachedCall, ReplyCache } from "./protocol/reply_cache.ts";
import {
  type ArgsOf,
  NULL_PROCEDURE,
  type Procedure,
  type Procedures,
  type Program,
  type ResultsOf,
} from "./program.ts";
import type { Bulk, BulkSink, BulkStream, IncomingCall, PeerInfo, ServerTransport, XdrMessage } from "./transport.ts";
import {
  AuthFlavor,
  AuthStat,
  type CallHeader,
  decodeCallHeader,
  encodeReplyHeader,
  MsgType,
  type OpaqueAuth,
  peekMessage,
  RPC_VERSION,
} from "./wire/rpc_message.ts";
import { XdrReader, XdrWriter } from "./xdr/mod.ts";

/** A value now, or later. */
export type MaybePromise<T> = T | Promise<T>;

/** What a handler knows of its call besides the arguments. */
export interface CallContext {
  /** Who calls, by AUTH_SYS; `undefined` for AUTH_NONE. */
  readonly credential: AuthSys | undefined;
  /** Where the call came from. */
  readonly peer: PeerInfo;
  /** The bulk item of the arguments where it is too long to be had whole; the arguments have no piece of it then. */
  readonly stream?: BulkStream;
  /** Whether a long one comes so on this connection. */
  readonly takesStreams: boolean;
  /** Where a long bulk item of the results may go piece by piece. */
  readonly sink?: BulkSink;
  /** Lends memory for the bulk item of the results. The transport takes it back when the reply has left. */
  allocateBulk(lengthBytes: number): Bulk;
}

/**
 * Carries a call out. `args` are views into memory of the transport and are valid until the results are returned. Results that
 * refer to memory (opaque values) are copied at once; a bulk item is sent from where it lies.
 */
export type Handler<A, R> = (args: A, context: CallContext) => MaybePromise<R>;

/** A handler for every procedure of a program, by name. */
export type Handlers<P extends Procedures> = { readonly [K in keyof P]: Handler<ArgsOf<P[K]>, ResultsOf<P[K]>> };

/** A program with what carries it out. */
export interface Service {
  /** The program. */
  readonly program: Program;
  /** What carries its procedures out, by their names. */
  readonly handlers: Readonly<Record<string, Handler<unknown, unknown>>>;
}

/** Puts a program and its handlers together, with their types checked. */
export function service<P extends Procedures>(program: Program<P>, handlers: Handlers<P>): Service {
  return { program, handlers: handlers as unknown as Service["handlers"] };
}

/** Choices for a server. */
export interface RpcServerOptions {
  /** The programs, and versions of them, that are served. */
  services: readonly Service[];
  /** Remembers the replies to calls that are not idempotent. */
  replyCache?: ReplyCache;
  /** Told of what a handler threw (answered with SYSTEM_ERR) and of calls that could not be read. */
  onError?: (error: unknown, about: { peer: PeerInfo; procedure?: string }) => void;
}

interface Entry {
  readonly name: string;
  readonly procedure: Procedure<unknown, unknown>;
  readonly handler: Handler<unknown, unknown>;
}

type Versions = Map<number, Map<number, Entry>>;

/** Answers the calls of any number of transports. */
export class RpcServer {
  readonly #programs = new Map<number, Versions>();
  readonly #replyCache: ReplyCache | undefined;
  readonly #onError: NonNullable<RpcServerOptions["onError"]>;
  readonly #writer = new XdrWriter();

  /** Throws `TypeError` where a handler is missing, or a version is there twice. */
  constructor(options: RpcServerOptions) {
    this.#replyCache = options.replyCache;
    this.#onError = options.onError ?? (() => {});
    for (const { program, handlers } of options.services) this.#add(program, handlers);
  }

  /** Takes the calls of a transport from now on. The transport stays its owner's, who closes it. */
  serve(transport: ServerTransport): void {
    transport.onCall = (call) => this.handleCall(call);
  }

  /** Answers one call, at once where the handler does. Never throws. */
  handleCall(call: IncomingCall): void {
    const start = peekMessage(call.message);
    if (start === undefined || start.type !== MsgType.CALL) {
      this.#onError(new WireError("not a call", { layer: "rpc", offset: 4 }), { peer: call.peer });
      call.reply(undefined);
      return;
    }
    const { xid } = start;
    let chosen: Entry | undefined;
    let cached: CachedCall | undefined;
    try {
      const reader = new XdrReader(call.message, { inserted: call.bulk, elsewhere: call.stream });
      const header = readable(() => decodeCallHeader(reader));
      chosen = this.#find(header);
      const { procedure, handler } = chosen;
      const context: CallContext = {
        credential: authenticate(header),
        peer: call.peer,
        stream: call.stream,
        takesStreams: call.takesStreams ?? false,
        sink: procedure.streams ? call.sink : undefined,
        allocateBulk: (lengthBytes) => call.allocateBulk(lengthBytes),
      };
      if (call.stream !== undefined && !procedure.streams) throw new RpcError("GARBAGE_ARGS");
      const args = readable(() => decodeArgs(procedure, reader));
      if (!procedure.idempotent && this.#replyCache !== undefined) {
        const admission = this.#replyCache.admit(call);
        if (admission.kind === "waiting") return;
        if (admission.kind === "answered") return call.reply({ bytes: admission.reply });
        cached = admission.entry;
      }
      const results = handler(args, context);
      if (results instanceof Promise) {
        const entry = chosen;
        results.then(
          (value) => this.#succeed(call, { xid, entry, value, cached }),
          (error) => this.#fail(call, { xid, entry, error, cached }),
        );
      } else {
        this.#succeed(call, { xid, entry: chosen, value: results, cached });
      }
    } catch (error) {
      this.#fail(call, { xid, entry: chosen, error, cached });
    }
  }

  #add(program: Program, handlers: Service["handlers"]): void {
    const versions: Versions = this.#programs.get(program.number) ?? new Map();
    this.#programs.set(program.number, versions);
    if (versions.has(program.version)) throw new TypeError(`${program.name} ${program.version} is there twice`);
    const entries = new Map<number, Entry>();
    entries.set(0, { name: `${program.name}.NULL`, procedure: NULL_PROCEDURE, handler: () => {} });
    for (const [name, procedure] of Object.entries(program.procedures)) {
      const handler = handlers[name];
      if (typeof handler !== "function") throw new TypeError(`${program.name} has no handler for ${name}`);
      entries.set(procedure.number, { name: `${program.name}.${name}`, procedure, handler });
    }
    versions.set(program.version, entries);
  }

  #find(header: CallHeader): Entry {
    if (header.rpcVersion !== RPC_VERSION) {
      throw new RpcError("RPC_MISMATCH", { versions: { low: RPC_VERSION, high: RPC_VERSION } });
    }
    const versions = this.#programs.get(header.program);
    if (versions === undefined) throw new RpcError("PROG_UNAVAIL");
    const procedures = versions.get(header.version);
    if (procedures === undefined) {
      const known = [...versions.keys()];
      throw new RpcError("PROG_MISMATCH", { versions: { low: Math.min(...known), high: Math.max(...known) } });
    }
    const entry = procedures.get(header.procedure);
    if (entry === undefined) throw new RpcError("PROC_UNAVAIL");
    return entry;
  }

  #succeed(
    call: IncomingCall,
    done: { xid: number; entry: Entry; value: unknown; cached: CachedCall | undefined },
  ): void {
    const { xid, entry, value, cached } = done;
    let reply: XdrMessage;
    try {
      this.#writer.begin();
      encodeReplyHeader(this.#writer, { xid, status: "SUCCESS" });
      entry.procedure.results.encode(this.#writer, value);
      reply = this.#writer.finish();
    } catch (error) {
      return this.#fail(call, { xid, entry, error, cached });
    }
    if (cached !== undefined) this.#replyCache!.finish(cached, reply);
    call.reply(reply);
  }

  #fail(
    call: IncomingCall,
    failed: { xid: number; entry: Entry | undefined; error: unknown; cached: CachedCall | undefined },
  ): void {
    const { xid, entry, error, cached } = failed;
    const refusal = error instanceof RpcError ? error : new RpcError("SYSTEM_ERR", { cause: error });
    if (refusal.cause !== undefined) this.#onError(refusal.cause, { peer: call.peer, procedure: entry?.name });
    const { status, versions, authStatus } = refusal;
    this.#writer.begin();
    encodeReplyHeader(this.#writer, { xid, status, versions, authStatus });
    const reply = this.#writer.finish();
    if (cached !== undefined) this.#replyCache!.finish(cached, reply);
    call.reply(reply);
  }
}

/** Runs a decoder; bytes that it cannot read are the caller's fault. */
function readable<T>(decoder: () => T): T {
  try {
    return decoder();
  } catch (cause) {
    if (cause instanceof WireError) throw new RpcError("GARBAGE_ARGS", { cause });
    throw cause;
  }
}

function decodeArgs(procedure: Procedure<unknown, unknown>, reader: XdrReader): unknown {
  const args = procedure.args.decode(reader);
  reader.expectEnd();
  return args;
}

/** Who calls. Throws `RpcError` (AUTH_ERROR). */
function authenticate({ credential, verifier }: CallHeader): AuthSys | undefined {
  if (verifier.flavor !== AuthFlavor.AUTH_NONE) throw authError(AuthStat.AUTH_BADVERF);
  switch (credential.flavor) {
    case AuthFlavor.AUTH_NONE:
      return undefined;
    case AuthFlavor.AUTH_SYS:
      return decodeCredential(credential);
    case AuthFlavor.AUTH_SHORT:
      throw authError(AuthStat.AUTH_REJECTEDCRED);
    default:
      throw authError(AuthStat.AUTH_BADCRED);
  }
}

function decodeCredential(credential: OpaqueAuth): AuthSys {
  try {
    return decodeAuthSys(credential.body);
  } catch (cause) {
    throw authError(AuthStat.AUTH_BADCRED, cause);
  }
}

function authError(authStatus: number, cause?: unknown): RpcError {
  return new RpcError("AUTH_ERROR", { authStatus, cause });
}
