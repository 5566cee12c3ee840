/**
 * XDR (RFC 4506): declared types with static types inferred, and the reader and writer beneath them.
 *
 * @module
 */
export {
  array,
  arrayFixed,
  bool,
  bulk,
  byteString,
  decode,
  encode,
  enumeration,
  type Infer,
  type InferArm,
  type InferFields,
  type InferUnion,
  int32,
  int64,
  list,
  opaque,
  opaqueFixed,
  optional,
  type Simplify,
  string,
  struct,
  uint32,
  uint64,
  union,
  voidType,
  type XdrCases,
  type XdrEnum,
  type XdrFields,
  type XdrType,
} from "./codec.ts";
export { XdrReader, type XdrReaderOptions } from "./xdr_reader.ts";
export { flatten, SentPieces, XdrWriter } from "./xdr_writer.ts";
