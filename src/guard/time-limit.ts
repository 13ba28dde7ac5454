/**
 * The mechanism that timeout and deadline share: work that is waited for only so long, and told to stop afterwards.
 */
import { HoldfastError, humanDuration, type Env } from '../core/index.ts'
import { RunningAttempt } from './attempt.ts'
import { cancelledError, errorContext, InnerScope, ScopeHost, type Scope, type Work } from './policy.ts'

/** @throws HF_TIMEOUT or HF_DEADLINE by `kind`, HF_CANCELLED; what `work` throws passes unchanged. */
export async function limited<T>(kind: 'timeout' | 'deadline', ms: number, env: Env, scope: Scope, work: Work<T>): Promise<T> {
  if (scope.ended) throw cancelledError(scope, kind)
  const now = env.monotonic()
  const attempt = new RunningAttempt<T>(new ScopeHost(scope, env), scope.number, kind)
  const deadlineAt = kind === 'deadline' ? Math.min(scope.deadlineAt, now + ms) : scope.deadlineAt
  const pending = attempt.start(() => work(new InnerScope(scope, { attempt, deadlineAt })), ms, now)
  if (pending !== undefined) {
    scope.watch(attempt)
    await pending
    scope.unwatch(attempt)
  }
  if (attempt.ending === 'value') return attempt.value as T
  if (attempt.ending === 'threw') throw attempt.error
  if (attempt.ending === 'cancelled') throw cancelledError(scope, kind)
  throw new HoldfastError(kind === 'timeout' ? 'HF_TIMEOUT' : 'HF_DEADLINE', {
    message: `no result within ${humanDuration(ms)}`, context: errorContext(scope, kind), stackless: true,
  })
}
