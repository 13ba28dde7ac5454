/**
 * Policies in an order of the user's own, outermost first, for what `dependency()` does not cover.
 *
 * `dependency()` has the right order built in and costs less; this is for special cases. Orders that cannot work, or that
 * are known to do something else than what they look like, are refused when they are made, with the order that was meant.
 */
import { humanDuration, type Effect } from '../core/index.ts'
import { Deadline } from './deadline.ts'
import { BARE_CALL, type Explanation } from './explain.ts'
import type { Fallback } from './fallback.ts'
import { refused } from './numbers.ts'
import { defaultKit, policyRun, type GuardKit, type Policy, type RunOptions, type Work } from './policy.ts'
import { leastWaitsMs } from './retry/backoff.ts'
import { Retry } from './retry/retry.ts'
import { Timeout } from './timeout.ts'

type Kind = Policy['kind']
/** Where something repeats, the effect has to be said. */
type ComposedOptions<Policies extends readonly Policy<unknown>[]> = Extract<Policies[number]['kind'], 'retry' | 'hedge'> extends never ? [options?: RunOptions] : [options: RunOptions & { readonly effect: Effect }]

/** What a fallback among them may answer. */
type FallenBack<P> = P extends Fallback<infer F> ? F : never

export interface Composition<Policies extends readonly Policy<unknown>[] = readonly Policy[]> {
  run<T>(work: Work<T>, ...options: ComposedOptions<Policies>): Promise<T | FallenBack<Policies[number]>>
  /** What a run costs at worst: latency, attempts, load on the other side, work that is held. */
  explain(): Explanation
}

interface KnownBad {
  readonly outside: Kind
  readonly inside: Kind
  readonly instead: string
}

const KNOWN_BAD: readonly KnownBad[] = [
  { outside: 'breaker', inside: 'retry', instead: 'the retry outside the breaker, which counts attempts and not whole series of them' },
  { outside: 'breaker', inside: 'hedge', instead: 'the hedge outside the breaker, which counts attempts and not whole races' },
  { outside: 'hedge', inside: 'retry', instead: 'the retry outside the hedge, because each hedge would be a whole series of attempts' },
  { outside: 'timeout', inside: 'retry', instead: 'a deadline in place of the timeout, which is for a single attempt' },
  { outside: 'timeout', inside: 'breaker', instead: 'the breaker outside the timeout, because it would never learn of timeouts' },
  { outside: 'rate-limit', inside: 'retry', instead: 'the rate limit inside the retry, because repetitions count too' },
  { outside: 'rate-limit', inside: 'hedge', instead: 'the rate limit inside the hedge, because the extra call counts too' },
  { outside: 'concurrency-limit', inside: 'retry', instead: 'the concurrency limit inside the retry, because a repetition would share the slot of work that runs on, and hold it while it waits' },
  { outside: 'concurrency-limit', inside: 'hedge', instead: 'the concurrency limit inside the hedge, because the extra call would pass it' },
]

/**
 * @throws HF_OPTION_INVALID: nothing to compose, a kind twice, an order that cannot work, a timeout longer than the
 *   deadline, waits between attempts that the deadline has no room for.
 */
export function compose<const Policies extends readonly Policy<unknown>[]>(policies: Policies, kit: GuardKit = defaultKit()): Composition<Policies> {
  // Only the outermost can be a fallback, so all others answer what the work does.
  const [outermost, ...rest] = policies as readonly [Policy<FallenBack<Policies[number]>>?, ...Policy[]]
  if (outermost === undefined) throw refused('compose', 'at least one policy', 'none')
  checkOrder(policies)
  checkTimes(policies)
  const inner = rest.reduceRight<<T>(work: Work<T>) => Work<T>>(
    (next, policy) => work => {
      const inside = next(work)
      return scope => policy.within(scope, inside)
    },
    work => work,
  )
  return {
    run: (work, ...[options]) => policyRun(outermost, kit.env, inner(work), options),
    explain: () => policies.reduceRight<Explanation>((inside, policy) => policy.explain(inside), BARE_CALL),
  }
}

function checkOrder(policies: readonly Policy<unknown>[]): void {
  const kinds = policies.map(policy => policy.kind)
  const order = kinds.join(' > ')
  for (const [index, kind] of kinds.entries()) {
    const around = kinds.slice(0, index)
    if (around.includes(kind)) throw refused('compose', `one ${kind} at most`, order)
    if (kind === 'fallback' && index > 0) throw refused('compose', 'the fallback outermost, because inside it hides failures from what should act on them', order)
    if (kind === 'deadline' && around.some(outer => outer !== 'fallback')) throw refused('compose', 'the deadline outermost (only a fallback may be around it), because it bounds the whole call', order)
    const bad = KNOWN_BAD.find(({ outside, inside }) => inside === kind && around.includes(outside))
    if (bad !== undefined) throw refused('compose', bad.instead, order)
  }
}

function checkTimes(policies: readonly Policy<unknown>[]): void {
  const deadline = policies.find(policy => policy instanceof Deadline)
  if (deadline === undefined) return
  for (const policy of policies) {
    if (policy instanceof Timeout && policy.ms > deadline.ms) throw refused('compose', `a timeout of at most the deadline (${humanDuration(deadline.ms)})`, humanDuration(policy.ms))
    if (policy instanceof Retry && leastWaitsMs(policy.rules) >= deadline.ms) {
      throw refused('compose', `a deadline that has room for the waits between ${String(policy.rules.attempts)} attempts (at least ${humanDuration(leastWaitsMs(policy.rules))})`, humanDuration(deadline.ms))
    }
  }
}
