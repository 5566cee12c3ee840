/**
 * `@std/assert`: the standard assertions, with types for those that the project uses.
 *
 * @module
 */
// @ts-types="./assert.d.ts"
export * from "npm:deno-std@1.4.0/assert/mod.js";
