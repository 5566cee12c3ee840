/**
 * What a client of `weft perf` asks for, for tests that play one.
 *
 * @module
 */
import type { RunRequest } from "../perf/messages.ts";

/** One connection for 64-byte Writes. */
export const REQUEST: RunRequest = {
  operation: 1,
  bidirectional: false,
  events: false,
  session: 1n,
  run: 0,
  index: 0,
  connections: 1,
  sizeBytes: 64,
  sendDepth: 4,
  receiveDepth: 4,
  list: 0,
  moderation: 1,
  mulpdu: 0,
  congestion: "suitable",
  data: { stag: 1, address: 0n },
  credit: { stag: 1, address: 0n },
};
