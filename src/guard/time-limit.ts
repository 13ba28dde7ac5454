/**
 * The mechanism that timeout and deadline share: work that is waited for only so long, and told to stop afterwards.
 */
import { HoldfastError, humanDuration, type Env } from '../core/index.ts'
import { unwatchAbort, watchAbort } from './abort-watch.ts'
import { RunningAttempt } from './attempt.ts'
import { innerScope, type Scope, type Work } from './policy.ts'
import { timerQueue } from './timer-queue.ts'

/** @throws HF_TIMEOUT or HF_DEADLINE by `kind`, HF_CANCELLED; what `work` throws passes unchanged. */
export async function limited<T>(kind: 'timeout' | 'deadline', ms: number, env: Env, scope: Scope, work: Work<T>): Promise<T> {
  const now = env.monotonic()
  const signal = scope.signal
  let over = (): void => undefined
  const attempt = new RunningAttempt<T>(scope.number, scope.key, kind, env, timerQueue(env), {
    left: () => scope.runsOn?.(new Promise(resolve => { over = resolve })),
    over: () => { over() },
  })
  if (signal.aborted) attempt.aborted()
  else {
    const deadlineAt = kind === 'deadline' ? Math.min(scope.deadlineAt, now + ms) : scope.deadlineAt
    const pending = attempt.start(() => work(innerScope(scope, { attempt, deadlineAt })), ms, now)
    if (pending !== undefined) {
      watchAbort(signal, attempt)
      await pending
      unwatchAbort(signal, attempt)
    }
  }
  if (attempt.ending === 'value') return attempt.value as T
  if (attempt.ending === 'threw') throw attempt.error
  if (attempt.ending === 'cancelled') throw new HoldfastError('HF_CANCELLED', { message: 'the caller gave up', stackless: true })
  throw new HoldfastError(kind === 'timeout' ? 'HF_TIMEOUT' : 'HF_DEADLINE', { message: `no result within ${humanDuration(ms)}`, stackless: true })
}
