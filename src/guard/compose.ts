/**
 * Policies in an order of the user's own, outermost first, for what `dependency()` does not cover.
 *
 * `dependency()` has the right order built in and costs less; this is for special cases. Orders that cannot work are
 * refused when they are made.
 */
import { type Env } from '../core/index.ts'
import { Deadline } from './deadline.ts'
import { refused } from './numbers.ts'
import { defaultKit, policyRun, type GuardKit, type Policy, type RunOptions, type Work } from './policy.ts'
import { Timeout } from './timeout.ts'

export interface Composition {
  run<T>(work: Work<T>, options?: RunOptions): Promise<T>
}

/** @throws HF_OPTION_INVALID: nothing to compose, a kind twice, a deadline that is not outermost, a timeout longer than the deadline. */
export function compose(policies: readonly Policy[], kit: GuardKit = defaultKit()): Composition {
  const [outermost, ...rest] = policies
  if (outermost === undefined) throw refused('compose', 'at least one policy', 'none')
  for (const [index, policy] of policies.entries()) {
    const order = policies.map(one => one.kind).join(' > ')
    if (policies.some((other, at) => at < index && other.kind === policy.kind)) throw refused('compose', `one ${policy.kind} at most`, order)
    if (policy.kind === 'deadline' && index > 0) throw refused('compose', 'the deadline outermost, because it bounds the whole call', order)
    if (policy instanceof Timeout && outermost instanceof Deadline && policy.ms > outermost.ms) {
      throw refused('compose', `a timeout of at most the deadline (${String(outermost.ms)} ms)`, `${String(policy.ms)} ms`)
    }
  }
  const inner = rest.reduceRight<<T>(work: Work<T>) => Work<T>>(
    (next, policy) => work => scope => policy.within(scope, next(work)),
    work => work,
  )
  const env: Env = kit.env
  return { run: (work, options) => policyRun(outermost, env, inner(work), options) }
}
