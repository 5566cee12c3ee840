/**
 * `@std/streams`: helpers for web streams, with types for what the project uses.
 *
 * @module
 */
// @ts-types="./streams.d.ts"
export * from "npm:deno-std@1.4.0/streams/mod.js";
