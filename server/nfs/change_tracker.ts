/**
 * Server, NFS: which changes of a file overlap, so that weak cache consistency data never hides one (RFC 1813 §2.6).
 *
 * A client that finds its own view of a file in `before` takes `after` for its own doing. Were another client's change made in between,
 * it would not be noticed, maybe for good: `before` is left out then, and the client looks anew.
 *
 * @module
 */

interface Entry {
  /** Changes under way. */
  running: number;
  /** Changes that have ended while others were under way. */
  ended: number;
}

/** A change under way. */
export interface Change {
  /** Whether no other change of the file has been under way since this one began. */
  isAlone(): boolean;
  /** Must be called once. */
  end(): void;
}

/** Knows the changes that this server is making. */
export class ChangeTracker {
  readonly #entries = new Map<string, Entry>();

  /** Files with changes under way. */
  get size(): number {
    return this.#entries.size;
  }

  /** Notes that a change of a file begins. */
  begin(key: string): Change {
    let entry = this.#entries.get(key);
    if (entry === undefined) this.#entries.set(key, entry = { running: 0, ended: 0 });
    const { ended } = entry;
    const wasAlone = entry.running++ === 0;
    return {
      isAlone: () => wasAlone && entry.running === 1 && entry.ended === ended,
      end: () => {
        entry.ended++;
        if (--entry.running === 0) this.#entries.delete(key);
      },
    };
  }
}
