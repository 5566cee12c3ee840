/**
 * The one symbol table of the engine: what `rdma/native/engine/src/abi.rs` exports, in its order.
 *
 * Handles and lengths are `f64` (integers below 2^53): a fresh bigint would cost more than the call.
 *
 * @module
 */

/** The ABI that this file describes; a library with another number is refused. */
export const ABI_VERSION = 13;

/** Symbols of the engine. */
export const symbols = {
  weft_abi_version: { parameters: [], result: "u32" },
  weft_last_errno: { parameters: [], result: "i32" },
  weft_address: { parameters: ["buffer" /* memory */], result: "f64" },
  weft_device_open: { parameters: ["buffer" /* out f64[3] */], result: "i32" },
  weft_device_close: { parameters: ["f64" /* device */], result: "i32" },
  weft_progress: { parameters: ["f64", /* device */ "u32" /* spin, ns */], result: "i32" },
  weft_wait: { parameters: ["f64", /* device */ "u32" /* wait, µs */], result: "i32" },
  weft_channel: { parameters: ["f64" /* device */], result: "i32" },
  weft_arm: { parameters: ["f64" /* device */], result: "i32" },
  weft_counters: { parameters: ["f64", /* device */ "buffer", /* out f64[] */ "u32" /* count */], result: "i32" },
  weft_connection_counters: {
    parameters: ["f64", /* connection */ "buffer", /* out f64[] */ "u32" /* count */],
    result: "i32",
  },
  weft_moderate: {
    parameters: ["f64", /* device */ "u32", /* queue */ "u32", /* completions */ "u32" /* period, µs */],
    result: "i32",
  },
  weft_memory_allocate: {
    parameters: ["f64", /* device */ "u32", /* pd */ "f64", /* bytes */ "u32", /* access */ "buffer" /* out f64[3] */],
    result: "i32",
  },
  weft_memory_register: {
    parameters: [
      "f64", /* device */
      "u32", /* pd */
      "buffer", /* memory */
      "f64", /* bytes */
      "u32", /* access */
      "f64", /* connection, or 0 */
      "buffer", /* out f64[3] */
    ],
    result: "i32",
  },
  weft_memory_bind: {
    parameters: [
      "f64", /* device */
      "u32", /* stag */
      "f64", /* offset */
      "f64", /* bytes */
      "u32", /* access */
      "f64", /* connection, or 0 */
      "buffer", /* out f64[3] */
    ],
    result: "i32",
  },
  weft_memory_invalidate: { parameters: ["f64", /* device */ "u32" /* stag */], result: "i32" },
  weft_memory_abandon: { parameters: ["f64", /* device */ "u32" /* stag */], result: "i32" },
  weft_listen: {
    parameters: [
      "f64", /* device */
      "buffer", /* host */
      "u32", /* host bytes */
      "u32", /* port */
      "u32", /* tag */
      "buffer", /* limits u32[LIMITS_WORDS] */
      "buffer", /* out f64[2] */
    ],
    result: "i32",
  },
  weft_listener_close: { parameters: ["f64" /* listener */], result: "i32" },
  weft_connect: {
    parameters: [
      "f64", /* device */
      "buffer", /* host */
      "u32", /* host bytes */
      "u32", /* port */
      "u32", /* tag */
      "buffer", /* settings u32[SETTINGS_WORDS] */
      "buffer", /* private data */
      "u32", /* private data bytes */
      "buffer", /* out f64[1] */
    ],
    result: "i32",
  },
  weft_accept: {
    parameters: [
      "f64", /* connection */
      "u32", /* tag */
      "buffer", /* settings u32[SETTINGS_WORDS] */
      "buffer", /* private data */
      "u32", /* private data bytes */
    ],
    result: "i32",
  },
  weft_reject: {
    parameters: ["f64", /* connection */ "buffer", /* private data */ "u32" /* private data bytes */],
    result: "i32",
  },
  weft_facts: { parameters: ["f64", /* connection */ "buffer" /* out u8[FACTS_BYTES] */], result: "i32" },
  weft_post: {
    parameters: ["f64", /* connection */ "buffer", /* work u32[] */ "u32" /* words */],
    result: "i32",
  },
  weft_shared_create: {
    parameters: ["f64", /* device */ "u32", /* depth */ "u32", /* tag */ "buffer" /* out f64[1] */],
    result: "i32",
  },
  weft_shared_post: {
    parameters: ["f64", /* shared receive queue */ "buffer", /* work u32[] */ "u32" /* words */],
    result: "i32",
  },
  weft_shared_limit: { parameters: ["f64", /* shared receive queue */ "u32" /* receives left */], result: "i32" },
  weft_shared_close: { parameters: ["f64" /* shared receive queue */], result: "i32" },
  weft_start: { parameters: ["f64" /* connection */], result: "i32" },
  weft_close: { parameters: ["f64" /* connection */], result: "i32" },
  weft_abort: { parameters: ["f64" /* connection */], result: "i32" },
  weft_release: { parameters: ["f64" /* connection */], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;
