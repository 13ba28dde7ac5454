/**
 * Timeout: one attempt is waited for only so long, and its `signal` aborts then.
 *
 * It cannot stop work that ignores its signal; inside a concurrency limit such work still counts.
 */
import { durationMs, type Duration, type Env } from '../core/index.ts'
import { bounded, type Explanation } from './explain.ts'
import { defaultKit, policyRun, type GuardKit, type Policy, type RunOptions, type Scope, type Work } from './policy.ts'
import { limited } from './time-limit.ts'

export class Timeout implements Policy {
  readonly kind = 'timeout'
  readonly ms: number
  readonly #env: Env

  constructor(ms: number, env: Env) {
    this.ms = ms
    this.#env = env
  }

  /** @throws HF_TIMEOUT, HF_CANCELLED */
  run<T>(work: Work<T>, options?: RunOptions): Promise<T> {
    return policyRun(this, this.#env, work, options)
  }

  within<T>(scope: Scope, work: Work<T>): Promise<T> {
    return limited('timeout', this.ms, this.#env, scope, work)
  }

  explain(inside: Explanation): Explanation {
    return bounded(inside, 'timeout', this.ms)
  }
}

/** @throws HF_OPTION_INVALID */
export function timeout(after: Duration, kit: GuardKit = defaultKit()): Timeout {
  return new Timeout(durationMs(after, 'timeout'), kit.env)
}
