/**
 * The adaptive limit: finds by itself how much work a dependency (or this server) can do at once, from how long it takes.
 *
 * It is Netflix's Gradient2 (how much slower is work now than when nobody presses?) with what experience added. The baseline
 * rises only in a probe with a smaller limit: a long-term mean would follow a queue of our own making, and the limit would
 * grow without end (concurrency-limits #134). Failures and timeouts shrink it (#137), thin windows say nothing (#125), and a
 * limit that nobody uses does not grow.
 * Pure: no clock, no timer. Not here: who waits (./slots.ts), our own event loop (./event-loop-lag.ts).
 */
import { atLeast, refused, wholeNumber } from '../numbers.ts'

export interface AdaptiveOptions {
  /** It never goes below. Default 1 (failsafe-go). */
  readonly min?: number
  /** It never goes above. Default 200 (failsafe-go, Gradient2). */
  readonly max?: number
  /** Where it starts, and what it does not fall below for lack of use alone. Default 20, or what `min` and `max` allow (failsafe-go, Gradient2). */
  readonly initial?: number
  /** Work may take so many times its baseline before the limit shrinks; at least 1. Default 1.5 (Gradient2). */
  readonly tolerance?: number
  /**
   * What a stalled event loop of this process (more than 50 ms late) means. `discount`: the times measured meanwhile are our
   * fault, not the dependency's, and are not believed; for outbound calls. `shrink`: they are a sign of overload like
   * failures; for a limit that protects this process from its callers. Default `'discount'`.
   */
  readonly eventLoop?: 'discount' | 'shrink'
}

export interface AdaptiveRules {
  readonly min: number
  readonly max: number
  readonly initial: number
  readonly tolerance: number
  readonly eventLoop: 'discount' | 'shrink'
  /** Of the way down to a smaller limit, and of the way to a new baseline, in one window (Gradient2: 0.2). */
  readonly smoothing: number
  /** The limit shrinks at most to this share of itself before smoothing (Gradient2: 0.5). */
  readonly gradientMin: number
  /** A window in which more than this share of the work failed shrinks the limit. */
  readonly failureShare: number
  /** ... to this share of itself (AIMDLimit: 0.9). */
  readonly backoff: number
  /** A window pressed the dependency when at least this share of the limit was in flight (Gradient2: 0.5). */
  readonly pressedShare: number
  /** Unused, the limit falls back to so many times what was in flight (failsafe-go: 5). */
  readonly usedFactor: number
  /** A window lasts twice as long as the work, within these (failsafe-go: 1 s to 30 s). */
  readonly windowMinMs: number
  readonly windowMaxMs: number
  /** Fewer results say nothing (WindowedLimit: 10). */
  readonly samplesMin: number
  /** A baseline that was not confirmed meanwhile is probed at each multiple of this (BBR: every 10 s). */
  readonly probeEveryMs: number
  /** The same after a probe that found something new. */
  readonly probeSoonMs: number
}

export const ADAPTIVE_DEFAULTS: AdaptiveRules = Object.freeze({
  min: 1, max: 200, initial: 20, tolerance: 1.5, eventLoop: 'discount',
  smoothing: 0.2, gradientMin: 0.5, failureShare: 0.1, backoff: 0.9, pressedShare: 0.5, usedFactor: 5,
  windowMinMs: 1_000, windowMaxMs: 30_000, samplesMin: 10, probeEveryMs: 30_000, probeSoonMs: 5_000,
})

/** Work that takes at most so much longer than the baseline confirms it. */
const SAME = 1.1
/** A probe in which work takes at most this share of what it took before found a queue of our own. */
const QUICKER = 0.75

/** @throws HF_OPTION_INVALID */
export function resolveAdaptive(options: AdaptiveOptions, where: string): AdaptiveRules {
  const min = wholeNumber(options.min ?? ADAPTIVE_DEFAULTS.min, 1, `${where}: min`)
  const max = wholeNumber(options.max ?? Math.max(min, ADAPTIVE_DEFAULTS.max), min, `${where}: max`)
  const initial = wholeNumber(options.initial ?? Math.max(min, Math.min(max, ADAPTIVE_DEFAULTS.initial)), min, `${where}: initial`, max)
  const tolerance = atLeast(options.tolerance ?? ADAPTIVE_DEFAULTS.tolerance, 1, `${where}: tolerance`)
  const eventLoop: string = options.eventLoop ?? ADAPTIVE_DEFAULTS.eventLoop
  if (eventLoop !== 'discount' && eventLoop !== 'shrink') throw refused(`${where}: eventLoop`, 'discount or shrink', eventLoop)
  return { ...ADAPTIVE_DEFAULTS, min, max, initial, tolerance, eventLoop }
}

/**
 * The algorithm. Results gather in a window; when it is long and full enough, it moves the limit once:
 * - more than 10 % failed: limit x 0.9;
 * - pressed (half the limit or more was in flight): limit x gradient + sqrt(limit), where gradient is
 *   tolerance x baseline / mean duration, within 0.5 and 1; growth at once, shrinking by a fifth of the way;
 * - not pressed: a mean of at most 1.1 x baseline moves the baseline, and a limit above 5 x what was in flight falls back.
 * With a capacity of C it settles between C and about 1.5 C + sqrt(C), where work waits little and nothing is left undone.
 * While nothing confirms the baseline (pressed, or slower than it), every 30 s is a probe: for two windows, of which the first lets queues drain and the second
 * measures, the limit is limit / (2 x tolerance). When work is no quicker then, it is the dependency that has become slower,
 * and that is the new baseline; when it is, the rest was our own queue. A probe costs at most half of the work of two
 * windows in thirty. It is due at multiples of 30 s of the clock that is given, so that instances whose clocks agree probe
 * together: alone, one of many would see little of the queue that they make in common.
 */
export class Gradient {
  readonly #rules: AdaptiveRules
  #estimate: number
  #baselineMs: number | undefined
  /** Mean of the window before a probe, against which it is held. */
  #lastMs = 0
  #probe: 'none' | 'draining' | 'measuring' = 'none'
  #probeAt = 0
  #windowMs: number
  #startedAt: number | undefined
  #successes = 0
  #failures = 0
  #sumMs = 0
  #peak = 0

  constructor(rules: AdaptiveRules) {
    this.#rules = rules
    this.#estimate = rules.initial
    this.#windowMs = rules.windowMinMs
  }

  /** A whole number; while it is probed, less than what was found. */
  get limit(): number {
    return Math.max(this.#rules.min, Math.floor(this.#probe !== 'none' ? this.#estimate / (2 * this.#rules.tolerance) : this.#estimate))
  }

  /** What work takes while nobody presses; undefined before the first window. */
  get baselineMs(): number | undefined {
    return this.#baselineMs
  }

  /** One result; `inFlight` is the most since the result before, `now` is best in step with other instances' clocks. Answers whether `limit` may have changed. */
  observe(durationMs: number, result: 'success' | 'failure', inFlight: number, now: number): boolean {
    const rules = this.#rules
    let abandoned = false
    if (this.#startedAt === undefined) this.#open(now)
    else if (now - this.#startedAt > rules.windowMaxMs && this.#count() < rules.samplesMin && !this.#pressed()) {
      abandoned = this.#probe !== 'none'
      this.#probe = 'none'
      this.#open(now)
    }
    if (inFlight > this.#peak) this.#peak = inFlight
    if (result === 'failure') this.#failures += 1
    else {
      this.#successes += 1
      this.#sumMs += durationMs
    }
    if (now - (this.#startedAt ?? now) < this.#windowMs) return abandoned
    if (this.#probe === 'draining') {
      this.#probe = 'measuring'
      this.#open(now)
      return false
    }
    if (this.#count() < rules.samplesMin) return abandoned
    this.#close(now)
    this.#open(now)
    return true
  }

  #count(): number {
    return this.#successes + this.#failures
  }

  #pressed(): boolean {
    return this.#peak >= this.limit * this.#rules.pressedShare
  }

  #open(now: number): void {
    this.#startedAt = now
    this.#successes = 0
    this.#failures = 0
    this.#sumMs = 0
    this.#peak = 0
  }

  #close(now: number): void {
    const rules = this.#rules
    const probed = this.#probe === 'measuring'
    const pressed = this.#pressed()
    this.#probe = 'none'
    if (this.#failures > rules.failureShare * this.#count()) {
      this.#estimate = Math.max(rules.min, this.#estimate * rules.backoff)
      return
    }
    const meanMs = this.#sumMs / this.#successes
    this.#windowMs = Math.min(rules.windowMaxMs, Math.max(rules.windowMinMs, 2 * meanMs))
    if (this.#baselineMs === undefined) {
      this.#baselineMs = meanMs
      this.#probeAfter(now, rules.probeEveryMs)
    }
    if (probed) this.#learnFromProbe(meanMs, this.#baselineMs, now)
    else if (pressed) this.#follow(meanMs, this.#baselineMs, now)
    else this.#rest(meanMs, this.#baselineMs, now)
  }

  #learnFromProbe(meanMs: number, baselineMs: number, now: number): void {
    const ours = meanMs <= QUICKER * this.#lastMs
    this.#baselineMs = ours ? Math.min(baselineMs, meanMs) : meanMs
    const news = this.#baselineMs > SAME * baselineMs || baselineMs > SAME * this.#baselineMs
    this.#probeAfter(now, news ? this.#rules.probeSoonMs : this.#rules.probeEveryMs)
  }

  #follow(meanMs: number, baselineMs: number, now: number): void {
    const rules = this.#rules
    const gradient = meanMs === 0 ? 1 : Math.max(rules.gradientMin, Math.min(1, rules.tolerance * baselineMs / meanMs))
    const target = this.#estimate * gradient + Math.sqrt(this.#estimate)
    const next = target > this.#estimate ? target : this.#estimate + rules.smoothing * (target - this.#estimate)
    this.#estimate = Math.max(rules.min, Math.min(rules.max, next))
    if (meanMs < baselineMs) this.#baselineMs = baselineMs + rules.smoothing * (meanMs - baselineMs)
    this.#probeWhenDue(meanMs, now)
  }

  #rest(meanMs: number, baselineMs: number, now: number): void {
    const rules = this.#rules
    if (meanMs <= SAME * baselineMs) {
      this.#baselineMs = baselineMs + rules.smoothing * (meanMs - baselineMs)
      this.#probeAfter(now, rules.probeEveryMs)
    } else this.#probeWhenDue(meanMs, now)
    const used = Math.max(rules.initial, rules.usedFactor * this.#peak)
    if (this.#estimate > used) this.#estimate += rules.smoothing * (used - this.#estimate)
  }

  #probeWhenDue(meanMs: number, now: number): void {
    this.#lastMs = meanMs
    if (now >= this.#probeAt) this.#probe = 'draining'
  }

  #probeAfter(now: number, everyMs: number): void {
    this.#probeAt = (Math.floor(now / everyMs) + 1) * everyMs
  }
}
