/**
 * How long the last successful calls took. Recording is one write; quantiles are computed when somebody looks.
 */

const KEPT = 256

export interface LatencySnapshot {
  /** Calls it is computed from, 256 at most. */
  readonly count: number
  readonly p50Ms: number
  readonly p95Ms: number
}

export class Latency {
  readonly #ms = new Float64Array(KEPT)
  #count = 0

  add(ms: number): void {
    this.#ms[this.#count % KEPT] = ms
    this.#count += 1
  }

  /** Undefined before the first call. */
  snapshot(): LatencySnapshot | undefined {
    const count = Math.min(this.#count, KEPT)
    if (count === 0) return undefined
    const sorted = this.#ms.slice(0, count).sort()
    const quantile = (share: number): number => sorted[Math.min(count - 1, Math.ceil(share * count) - 1)] ?? 0
    return { count, p50Ms: quantile(0.5), p95Ms: quantile(0.95) }
  }
}
