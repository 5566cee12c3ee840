/**
 * Storage, native: the functions of `libweft.so` that crate weft-storage exports (storage/native/src/abi.rs).
 *
 * @module
 */

/** The version of the interface that this table describes; `weft_fs_abi` must return it. */
export const STORAGE_ABI_VERSION = 1;

/** Parameters beside their names in C; every result is a number or a negative errno. */
export const STORAGE_SYMBOLS = {
  weft_fs_abi: { parameters: [], result: "i32" },
  weft_fs_address: { parameters: ["buffer"], result: "f64" }, // memory
  weft_fs_open: {
    parameters: ["buffer", "u32", "buffer", "u32"], // request, request_length, out, out_length
    result: "i32",
  },
  weft_fs_close: { parameters: ["u32"], result: "i32" }, // id
  weft_fs_call: {
    // id, operation, request, request_length, data, data_length, out, out_length
    parameters: ["u32", "u32", "buffer", "u32", "buffer", "u32", "buffer", "u32"],
    result: "i32",
  },
  weft_fs_submit: {
    parameters: ["u32", "u32", "buffer", "u32", "u32"], // id, operation, request, request_length, token
    result: "i32",
  },
  weft_fs_poll: { parameters: ["u32", "buffer", "u32"], result: "i32" }, // id, out, out_length
  weft_fs_sweep: { parameters: ["u32"], result: "i32" }, // id
} as const satisfies Deno.ForeignLibraryInterface;

/** The functions, loaded. */
export type StorageSymbols = Deno.DynamicLibrary<typeof STORAGE_SYMBOLS>["symbols"];
