/**
 * Credits (RFC 8166 §3.3.1): how many calls a client may have outstanding, as the server last said.
 *
 * @module
 */

/** Credits that a client asks for, and the most that a server grants. */
export const CREDITS_MAX = 64;

/** The client's side: one call until the first reply, then as many as were granted. */
export class CreditWindow {
  readonly #max: number;
  #granted = 1;
  #inUse = 0;

  /** `max`: receives that are posted; a grant beyond it is not used. */
  constructor(max = CREDITS_MAX) {
    this.#max = max;
  }

  /** Calls that may be outstanding. */
  get granted(): number {
    return this.#granted;
  }

  /** Calls that are. */
  get inUse(): number {
    return this.#inUse;
  }

  /** Takes a credit for a call; false where there is none. */
  take(): boolean {
    if (this.#inUse >= this.#granted) return false;
    this.#inUse++;
    return true;
  }

  /** Gives the credit of a call back. */
  put(): void {
    this.#inUse--;
  }

  /** Heeds a reply's grant. None at all would stop everything, so it counts as one. */
  handleGrant(credits: number): void {
    this.#granted = clampCredits(credits, this.#max);
  }
}

/** A number of credits that makes sense: at least 1, at most `max`. What a server grants for what was asked. */
export function clampCredits(credits: number, max = CREDITS_MAX): number {
  return Math.max(1, Math.min(credits, max));
}
