/**
 * Storage, native: loads the library when it is first needed, once a process.
 *
 * @module
 */
import { libraryPath } from "../../rdma/_ffi/library.ts";
import { STORAGE_ABI_VERSION, STORAGE_SYMBOLS, type StorageSymbols } from "./symbols.ts";

let loaded: StorageSymbols | undefined;

/**
 * The native functions. The library stays loaded until the process ends.
 *
 * @throws {Error} where it is missing, or of another version.
 */
export function storageLibrary(): StorageSymbols {
  if (loaded) return loaded;
  const path = libraryPath();
  const { symbols } = Deno.dlopen(path, STORAGE_SYMBOLS);
  const version = symbols.weft_fs_abi();
  if (version !== STORAGE_ABI_VERSION) {
    throw new Error(
      `${path} has version ${version} of the storage interface, not ${STORAGE_ABI_VERSION}: build it anew`,
    );
  }
  return loaded = symbols;
}
