/** Reads a stream of bytes to its end into one `ArrayBuffer`. */
export declare function toArrayBuffer(stream: ReadableStream<Uint8Array>): Promise<ArrayBuffer>;
/** Reads a stream of bytes to its end into one `Uint8Array`. */
export declare function toBytes(stream: ReadableStream<Uint8Array>): Promise<Uint8Array<ArrayBuffer>>;
/** Reads a stream of bytes or strings to its end as UTF-8 text. */
export declare function toText(stream: ReadableStream<Uint8Array | string>): Promise<string>;
/** Joins streams one behind the other. */
export declare function concatReadableStreams<T>(...streams: ReadableStream<T>[]): ReadableStream<T>;
/** Joins streams, chunks in the order in which they arrive. */
export declare function mergeReadableStreams<T>(...streams: ReadableStream<T>[]): ReadableStream<T>;

/** Cuts text into lines, at `\n` or `\r\n`. */
export declare class TextLineStream extends TransformStream<string, string> {
  /** `allowCR`: a lone `\r` ends a line too. */
  constructor(options?: { allowCR?: boolean });
}

/** Fails, or ends where `error` is false, a stream of bytes that grows longer than `size`. */
export declare class LimitedBytesTransformStream extends TransformStream<Uint8Array, Uint8Array> {
  /** `size`: the most bytes to let through. */
  constructor(size: number, options?: { error?: boolean });
}
