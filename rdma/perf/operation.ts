/**
 * What `weft perf` can measure.
 *
 * @module
 */

/** A measurement: perftest's names, without their `ib_`. */
export interface Operation {
  readonly name: string;
  /** Its number between the two ends. */
  readonly code: number;
  readonly verb: "write" | "read" | "send" | "atomic";
  readonly measure: "bandwidth" | "latency";
  /** As perftest's banner has it. */
  readonly title: string;
}

/** Every measurement, by its name. */
export const OPERATIONS: ReadonlyMap<string, Operation> = new Map(
  ([
    { name: "write_bw", code: 1, verb: "write", measure: "bandwidth", title: "RDMA Write bandwidth" },
    { name: "write_lat", code: 2, verb: "write", measure: "latency", title: "RDMA Write latency" },
    { name: "read_bw", code: 3, verb: "read", measure: "bandwidth", title: "RDMA Read bandwidth" },
    { name: "read_lat", code: 4, verb: "read", measure: "latency", title: "RDMA Read latency" },
    { name: "send_bw", code: 5, verb: "send", measure: "bandwidth", title: "Send bandwidth" },
    { name: "send_lat", code: 6, verb: "send", measure: "latency", title: "Send latency" },
    { name: "atomic_lat", code: 7, verb: "atomic", measure: "latency", title: "Atomic latency" },
  ] as const).map((operation) => [operation.name, operation]),
);

/** Bytes of an atomic operation (RFC 7306 §5). */
export const ATOMIC_BYTES = 8;

/** Atomic operations, as perftest calls them. */
export const ATOMICS = { FETCH_AND_ADD: "fetchAdd", CMP_AND_SWAP: "compareSwap", SWAP: "swap" } as const;

/** The measurement with a number, if there is one. */
export function operationOf(code: number): Operation | undefined {
  return OPERATIONS.values().find((operation) => operation.code === code);
}
