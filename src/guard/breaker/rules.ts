/**
 * The options of a breaker, their defaults with sources, and the one place that merges and checks them.
 */
import { durationMs, humanDuration, type Duration } from '../../core/index.ts'
import { refused, wholeNumber } from '../numbers.ts'
import type { BreakerRules, RateRule } from './machine.ts'

/** A share of the calls that ended within a time window. */
export interface RateOptions {
  /** Above 0, at most 1; reaching it is enough. Default 0.5 (Hystrix, resilience4j, opossum). */
  readonly ratio?: number
  /** The window, in ten slots; at least 10 ms. Default `'10s'` (Hystrix, opossum). */
  readonly within?: Duration
  /** With fewer calls in the window it never opens. Default 20 (Hystrix; opossum's 0 opens at the first failure). */
  readonly minimumCalls?: number
}

export interface SlowCallRateOptions extends RateOptions {
  /** A call that takes this long or longer is slow, whether it fails or not. No default: only you know what is slow. */
  readonly slowerThan: Duration
}

/** Several opening rules may be on; whichever is reached first opens, and says so with its numbers. */
export interface BreakerOptions {
  /** Consecutive transient failures that open it; `false` turns this rule off. Default 5 (MISSION G1; Kevlar and Envoy have 5 too). */
  readonly failures?: number | false
  /** Opens when too large a share of the calls fails. `{}` takes the defaults. Default off. */
  readonly failureRate?: RateOptions | false
  /** Opens when too large a share of the calls is slow; a trial call that is slow has failed. Default off. */
  readonly slowCallRate?: SlowCallRateOptions | false
  /** How long it stays open before it tries again. Default `'60s'` (MISSION G1). */
  readonly openFor?: Duration
  /**
   * While it is open, one call in this time is let through early, to see whether the dependency is back. Its success makes the breaker half-open
   * at once (the first of `closeAfter`), its failure changes nothing. `false` for none. Default `'5s'`: with `openFor` alone a service is back
   * half a minute after an outage of half a minute, with early trials within ten seconds (docs/retry-storm.md, DESIGN §7).
   */
  readonly probeEvery?: Duration | false
  /** Successful trial calls that close it. Default 2 (MISSION G1). */
  readonly closeAfter?: number
  /** Trial calls in flight at once while half-open; others are refused. Default 3 (MISSION G1). */
  readonly trialCalls?: number
  /** A trial call that takes longer is taken for hung, and the breaker opens again. Default: as long as `openFor`. */
  readonly trialLease?: Duration
  /**
   * After closing, admission grows over this time from a tenth of the calls to all; ten calls a second always pass.
   * `false` or `'0s'` lets everything through at once. Default `'3s'`: what is left of the ten seconds in which a service must
   * be back after an outage (DESIGN §7; docs/retry-storm.md).
   */
  readonly rampFor?: Duration | false
  /**
   * Never refuses by its own decision, and announces what it would have done as `breaker.shadowed`: for tuning the numbers
   * on real traffic. An operator who forces it open is obeyed. Default false.
   */
  readonly shadow?: boolean
}

export const BREAKER_DEFAULTS: Readonly<Required<Omit<BreakerOptions, 'trialLease'>>> = Object.freeze({
  failures: 5, failureRate: false, slowCallRate: false, openFor: '60s', probeEvery: '5s', closeAfter: 2, trialCalls: 3, rampFor: '3s', shadow: false,
})
/** Of `failureRate` and `slowCallRate`, where they are on. */
export const RATE_DEFAULTS: Readonly<Required<RateOptions>> = Object.freeze({ ratio: 0.5, within: '10s', minimumCalls: 20 })
/** For a database, an algorithm of our own, and notifications, which may wait longest (MISSION G1). */
export const BREAKER_PRESETS: Readonly<Record<'db' | 'algorithm' | 'notification', BreakerOptions>> = Object.freeze({
  db: Object.freeze({ failures: 5, openFor: '30s' } as const),
  algorithm: Object.freeze({ failures: 3, openFor: '60s' } as const),
  notification: Object.freeze({ failures: 10, openFor: '120s' } as const),
})

/**
 * `false` never opens by itself, and can still be forced by an operator. `otherRule` says that it has a rule elsewhere.
 * @throws HF_OPTION_INVALID
 */
export function resolveBreaker(options: BreakerOptions | false, where: string, otherRule = false): BreakerRules {
  const given = { ...BREAKER_DEFAULTS, ...(options === false ? { failures: false as const } : options) }
  if (options !== false && !otherRule && given.failures === false && given.failureRate === false && given.slowCallRate === false) {
    throw refused(`${where}: failures`, 'a rule that opens it (failures, failureRate or slowCallRate), or false in place of all options', given.failures)
  }
  const openForMs = durationMs(given.openFor, `${where}: openFor`)
  return {
    failures: given.failures === false ? Number.POSITIVE_INFINITY : wholeNumber(given.failures, 1, `${where}: failures`),
    failureRate: given.failureRate === false ? undefined : resolveRate(given.failureRate, `${where}: failureRate`),
    slowCallRate: given.slowCallRate === false ? undefined : {
      ...resolveRate(given.slowCallRate, `${where}: slowCallRate`),
      slowerThanMs: durationMs(given.slowCallRate.slowerThan, `${where}: slowCallRate.slowerThan`),
    },
    openForMs,
    probeEveryMs: given.probeEvery === false ? Number.POSITIVE_INFINITY : durationMs(given.probeEvery, `${where}: probeEvery`),
    closeAfter: wholeNumber(given.closeAfter, 1, `${where}: closeAfter`),
    trialCalls: wholeNumber(given.trialCalls, 1, `${where}: trialCalls`),
    trialLeaseMs: given.trialLease === undefined ? openForMs : durationMs(given.trialLease, `${where}: trialLease`),
    rampForMs: given.rampFor === false ? 0 : durationMs(given.rampFor, `${where}: rampFor`, { min: 0 }),
    shadow: given.shadow,
  }
}

function resolveRate(options: RateOptions, where: string): RateRule {
  const given = { ...RATE_DEFAULTS, ...options }
  return {
    ratio: resolveRatio(given.ratio, `${where}.ratio`),
    withinMs: durationMs(given.within, `${where}.within`, { min: 10 }),
    minimumCalls: wholeNumber(given.minimumCalls, 1, `${where}.minimumCalls`),
  }
}

/** @throws HF_OPTION_INVALID */
export function resolveRatio(ratio: number, where: string): number {
  if (Number.isFinite(ratio) && ratio > 0 && ratio <= 1) return ratio
  throw refused(where, 'a share above 0 and at most 1, such as 0.5', ratio)
}

/** The rules for a person: `breaker 5 consecutive failures, open for 60 s`. */
export function breakerWords({ failures, failureRate, slowCallRate, openForMs, probeEveryMs, shadow }: BreakerRules): string {
  const share = ({ ratio, withinMs }: RateRule): string => `${String(Math.round(ratio * 100))} % of the calls within ${humanDuration(withinMs)}`
  const opens = [
    ...(failures === Number.POSITIVE_INFINITY ? [] : [`${String(failures)} consecutive failures`]),
    ...(failureRate === undefined ? [] : [`${share(failureRate)} failing`]),
    ...(slowCallRate === undefined ? [] : [`${share(slowCallRate)} slower than ${humanDuration(slowCallRate.slowerThanMs)}`]),
  ]
  const kind = shadow ? 'breaker in shadow mode' : 'breaker'
  return opens.length === 0 ? `${kind} that never opens by itself` : `${kind} ${opens.join(' or ')}, open for ${humanDuration(openForMs)}${probeEveryMs < openForMs ? ` with a call every ${humanDuration(probeEveryMs)} to see` : ''}`
}
