/**
 * How long the last calls took. Recording is one write; quantiles are computed when somebody looks.
 */

const KEPT = 256
/** A quantile that is asked for by every call is computed anew after this many more. */
const QUANTILE_EVERY = 32

export interface LatencySnapshot {
  /** Calls it is computed from, 256 at most. */
  readonly count: number
  readonly p50Ms: number
  readonly p95Ms: number
}

export class Latency {
  readonly #ms = new Float64Array(KEPT)
  #count = 0
  #quantile = 0
  #quantileShare = 0
  #quantileAt = Number.NEGATIVE_INFINITY

  /** Calls recorded so far. */
  get count(): number {
    return this.#count
  }

  add(ms: number): void {
    this.#ms[this.#count % KEPT] = ms
    this.#count += 1
  }

  /** Undefined before the first call. */
  snapshot(): LatencySnapshot | undefined {
    const count = Math.min(this.#count, KEPT)
    if (count === 0) return undefined
    const sorted = this.#ms.slice(0, count).sort()
    return { count, p50Ms: quantileOf(sorted, 0.5), p95Ms: quantileOf(sorted, 0.95) }
  }

  /** That of the last 256 calls, at most 31 calls old. 0 before the first. */
  quantile(share: number): number {
    if (share !== this.#quantileShare || this.#count - this.#quantileAt >= QUANTILE_EVERY) {
      this.#quantile = quantileOf(this.#ms.slice(0, Math.min(this.#count, KEPT)).sort(), share)
      this.#quantileShare = share
      this.#quantileAt = this.#count
    }
    return this.#quantile
  }
}

function quantileOf(sorted: Float64Array, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? 0
}
