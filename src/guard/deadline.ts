/**
 * Deadline: the whole call, with its waits and repetitions, ends by then, and everything inside is told to stop.
 *
 * Policies inside know when it is: a retry does not begin a wait that ends after it.
 */
import { durationMs, type Duration, type Env } from '../core/index.ts'
import { bounded, type Explanation } from './explain.ts'
import { defaultKit, policyRun, type GuardKit, type Policy, type RunOptions, type Scope, type Work } from './policy.ts'
import { limited } from './time-limit.ts'

export class Deadline implements Policy {
  readonly kind = 'deadline'
  readonly ms: number
  readonly #env: Env

  constructor(ms: number, env: Env) {
    this.ms = ms
    this.#env = env
  }

  /** @throws HF_DEADLINE, HF_CANCELLED */
  run<T>(work: Work<T>, options?: RunOptions): Promise<T> {
    return policyRun(this, this.#env, work, options)
  }

  within<T>(scope: Scope, work: Work<T>): Promise<T> {
    return limited('deadline', this.ms, this.#env, scope, work)
  }

  explain(inside: Explanation): Explanation {
    return bounded(inside, 'deadline', this.ms)
  }
}

/** @throws HF_OPTION_INVALID */
export function deadline(after: Duration, kit: GuardKit = defaultKit()): Deadline {
  return new Deadline(durationMs(after, 'deadline'), kit.env)
}
