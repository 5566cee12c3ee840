/**
 * What bulk items that go in pieces have in common, whichever way they go.
 *
 * @module
 */
import { RpcError } from "../errors.ts";

/** What pieces have their transport do: shares of the payload that a connection has under way. */
export interface PieceOperations {
  /** Calls `start` once the budget has room for so many bytes; those who asked before come first. */
  reserve(lengthBytes: number, start: () => void): void;
  /** Gives room back. */
  giveBack(lengthBytes: number): void;
}

/** A share of the payload under way that a call, or a piece of one, waits for. */
export interface Reservation {
  length: number;
  /** Called once there is room. */
  start: () => void;
  /** Called in its place where the connection ends first, or behind it where that fails. */
  drop: () => void;
}

/** What a handler is told that asks for a piece when the connection has ended. */
export function lost(): RpcError {
  return new RpcError("SYSTEM_ERR");
}
