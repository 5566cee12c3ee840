/**
 * Finds and opens the native library, at first use and once for a process.
 *
 * @module
 */
import { ABI_VERSION, symbols } from "./symbols.ts";

/** The engine's functions. */
export type Native = Deno.DynamicLibrary<typeof symbols>["symbols"];

/** Environment variable that names a prebuilt library. */
export const LIBRARY_VARIABLE = "WEFT_LIBRARY";

/** Where the library is: what `WEFT_LIBRARY` names, else what `deno task build` makes. */
export function libraryPath(): string {
  const named = Deno.env.get(LIBRARY_VARIABLE);
  if (named) return named;
  const name = Deno.build.os === "darwin" ? "libweft.dylib" : "libweft.so";
  return decodeURIComponent(new URL(`../../target/release/${name}`, import.meta.url).pathname);
}

let native: Native | undefined;

/**
 * Opens the engine. It is never closed: threads of its own may be running.
 *
 * @throws {Deno.errors.NotFound} with what to do, where there is no library
 * @throws {Error} where the library speaks another version of the ABI
 */
export function openLibrary(path: string = libraryPath()): Native {
  if (native) return native;
  let library: Deno.DynamicLibrary<typeof symbols>;
  try {
    library = Deno.dlopen(path, symbols);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotCapable) throw cause;
    throw new Deno.errors.NotFound(
      `cannot load the native library ${path}: run "deno task build", or name a prebuilt one in ${LIBRARY_VARIABLE}`,
      { cause },
    );
  }
  const version = library.symbols.weft_abi_version();
  if (version !== ABI_VERSION) {
    library.close();
    throw new Error(`${path} has ABI version ${version}, this release needs ${ABI_VERSION}: run "deno task build"`);
  }
  native = library.symbols;
  return native;
}
