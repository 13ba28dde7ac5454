/**
 * What a guarded call can cost at worst, computed from its options: how long a caller waits, how often the work is
 * begun, how much load an outage is fed with, how much work is held. As data and in words.
 *
 * Each policy says what it makes of what is inside it; from the call outwards that adds up to the whole.
 */
import { humanDuration } from '../core/index.ts'
import type { RateLimitRules } from './rate-limit.ts'
import type { RetryBudget } from './retry/budget.ts'
import { longestBackoffMs, type RetryRules } from './retry/backoff.ts'

export interface Explanation {
  /** The policies with their numbers, outermost first. */
  readonly order: readonly string[]
  /** The longest that a caller waits, milliseconds; undefined where nothing bounds it. */
  readonly worstCaseMs: number | undefined
  /** How often the work is begun for one call, at most. */
  readonly attempts: number
  /** What the work's other side sees in an outage that lasts. */
  readonly amplification: {
    /** Calls per call of ours, sustained: what the retry budget lets through. */
    readonly factor: number
    /** Repetitions a second that are allowed beside, however few calls there are. */
    readonly plusPerSecond: number
  }
  /** Pieces of work at once, those that run on after their timeout included; undefined where nothing bounds it. */
  readonly inFlight: number | undefined
  /** Callers that may wait for their turn. */
  readonly waiting: number
  /** What looks unintended. */
  readonly warnings: readonly string[]
  /** The same for a person. */
  readonly words: readonly string[]
}

type Sum = Omit<Explanation, 'words'>

/** The bare call, which nothing bounds. */
export const BARE_CALL: Explanation = worded({
  order: ['call'], worstCaseMs: undefined, attempts: 1, amplification: { factor: 1, plusPerSecond: 0 }, inFlight: undefined, waiting: 0, warnings: [],
})

/** A timeout or a deadline around it. */
export function bounded(inside: Explanation, kind: 'timeout' | 'deadline', ms: number): Explanation {
  const warnings = [...inside.warnings.filter(warning => warning !== RETRY_AFTER_UNBOUNDED)]
  const fitting = kind === 'deadline' ? attemptsThatFit(inside, ms) : undefined
  if (fitting !== undefined && fitting < inside.attempts) {
    warnings.push(`when every attempt takes as long as it may, ${String(fitting)} of ${String(inside.attempts)} attempts fit into the deadline of ${humanDuration(ms)}`)
  }
  return around(inside, `${kind} ${humanDuration(ms)}`, { worstCaseMs: Math.min(ms, inside.worstCaseMs ?? ms), warnings })
}

/** How many attempts a deadline has room for when each takes its worst time; waits are left out, so it is at most that. */
function attemptsThatFit(inside: Explanation, ms: number): number | undefined {
  if (inside.worstCaseMs === undefined || inside.attempts === 1) return undefined
  return Math.max(1, Math.min(inside.attempts, Math.ceil((ms * inside.attempts) / inside.worstCaseMs)))
}

const RETRY_AFTER_UNBOUNDED = 'a Retry-After may ask for any wait, and no deadline bounds it'

export function repeated(inside: Explanation, rules: RetryRules, budget: RetryBudget): Explanation {
  if (rules.attempts === 1) return around(inside, 'retry never', {})
  let waits = 0
  for (let attempt = 1; attempt < rules.attempts; attempt += 1) waits += longestBackoffMs(rules, attempt)
  const attempts = inside.attempts * rules.attempts
  return around(inside, `retry ${String(rules.attempts)} attempts, waits ${humanDuration(rules.minWaitMs)} to ${humanDuration(rules.maxWaitMs)} ${rules.backoff}, ${budgetWords(budget)}`, {
    worstCaseMs: inside.worstCaseMs === undefined ? undefined : inside.worstCaseMs * rules.attempts + waits,
    attempts, amplification: amplified(attempts, budget), warnings: [...inside.warnings, RETRY_AFTER_UNBOUNDED],
  })
}

export function hedged(inside: Explanation, extra: number, after: string, delayMs: number, budget: RetryBudget): Explanation {
  const attempts = inside.attempts * (1 + extra)
  return around(inside, `hedge ${String(extra)} more after ${after}, ${budgetWords(budget)}`, {
    worstCaseMs: inside.worstCaseMs === undefined ? undefined : inside.worstCaseMs + extra * delayMs,
    attempts, amplification: amplified(attempts, budget),
  })
}

/** `least` and `most` pieces of work at once: they differ under an adaptive limit, which may be at its least when it matters. */
export function queued(inside: Explanation, limit: string, { least, most, queue }: { readonly least: number; readonly most: number; readonly queue: number }): Explanation {
  const rounds = Math.ceil(queue / least)
  return around(inside, `concurrency limit ${limit}, queue ${String(queue)}`, {
    worstCaseMs: inside.worstCaseMs === undefined ? undefined : inside.worstCaseMs * (1 + rounds), inFlight: Math.min(inside.inFlight ?? most, most), waiting: inside.waiting + queue,
  })
}

export function paced(inside: Explanation, { limit, perMs, burst, maxWaitMs }: RateLimitRules): Explanation {
  return around(inside, `rate limit ${String(limit)} in ${humanDuration(perMs)}, burst ${String(burst)}, waits up to ${humanDuration(maxWaitMs)}`, {
    worstCaseMs: inside.worstCaseMs === undefined ? undefined : inside.worstCaseMs + maxWaitMs,
    waiting: inside.waiting + (maxWaitMs === 0 ? 0 : Math.floor((maxWaitMs * limit) / perMs) + 1),
  })
}

/** A policy that adds at most `waitMs` and changes nothing else. */
export function around(inside: Explanation, layer: string, change: Partial<Sum>): Explanation {
  return worded({ ...inside, ...change, order: [layer, ...inside.order] })
}

function amplified(attempts: number, budget: RetryBudget): Explanation['amplification'] {
  return { factor: Math.min(attempts, 1 + budget.ratio), plusPerSecond: budget.perSecond }
}

function budgetWords(budget: RetryBudget): string {
  return `budget ${String(Math.round(budget.ratio * 100))} % of the calls + ${String(budget.perSecond)}/s`
}

function worded(sum: Sum): Explanation {
  const { worstCaseMs, attempts, amplification: { factor, plusPerSecond }, inFlight, waiting } = sum
  const load = attempts === 1 ? 'never more than one call for one of ours' : `at most ${String(Math.round(factor * 100) / 100)} calls for one of ours in an outage that lasts${plusPerSecond === 0 ? '' : `, and ${String(plusPerSecond)} more a second`}`
  return {
    ...sum,
    words: [
      sum.order.join(' > '),
      `A caller waits ${worstCaseMs === undefined ? 'for ever when the work hangs: nothing bounds it' : `at most ${humanDuration(worstCaseMs)}`}.`,
      `The work is begun ${attempts === 1 ? 'once' : `up to ${String(attempts)} times`} for one call; ${load}.`,
      `${inFlight === undefined ? 'Nothing bounds how much work is held at once' : `At most ${String(inFlight)} pieces of work are held at once`}; ${waiting === 0 ? 'nobody waits for a turn' : `up to ${String(waiting)} callers wait for their turn`}.`,
      ...sum.warnings.map(warning => `Beware: ${warning}.`),
    ],
  }
}
