/**
 * A Worker that counts in shared memory as fast as it can, by `Atomics`, until it is told to stop. Then it says how often it has.
 *
 * @module
 */

/** Shared memory, and which words of 64 bits of it are what. */
export interface AdderRequest {
  buffer: SharedArrayBuffer;
  /** Where it counts. */
  counter: number;
  /** Set to 1 when it has begun. */
  begun: number;
  /** Other than 0 when it is to stop. */
  stop: number;
}

const scope = self as unknown as {
  postMessage(counted: bigint): void;
  onmessage: ((message: MessageEvent<AdderRequest>) => void) | null;
};

scope.onmessage = ({ data: { buffer, counter, begun, stop } }) => {
  const cells = new BigUint64Array(buffer);
  let counted = 0n;
  Atomics.store(cells, begun, 1n);
  do {
    for (let i = 0; i < 1000; i++) Atomics.add(cells, counter, 1n);
    counted += 1000n;
  } while (Atomics.load(cells, stop) === 0n);
  scope.postMessage(counted);
};
