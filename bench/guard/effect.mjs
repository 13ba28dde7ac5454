/**
 * Effect, called from asynchronous code: the program is composed once and run with `runPromise` for each call.
 *
 * It has no circuit breaker. Inside a program that is Effect throughout, `runPromise` is paid once and not per call.
 */
import { Effect, Schedule } from 'effect'
import { answer, answerWithSignal, RULES } from './work.mjs'

const call = Effect.tryPromise(answer)
const callWithSignal = Effect.tryPromise(signal => answerWithSignal({ signal }))
const SCHEDULE = Schedule.exponential(RULES.firstWaitMs).pipe(Schedule.jittered)

const retried = Effect.retry({ times: RULES.attempts - 1, schedule: SCHEDULE })
const limited = () => Effect.unsafeMakeSemaphore(RULES.concurrency).withPermits(1)
const stack = work => work.pipe(Effect.timeout(RULES.timeoutMs), limited(), retried, Effect.timeout(RULES.deadlineMs))

const running = program => () => () => Effect.runPromise(program)

export default {
  'retry': running(call.pipe(retried)),
  'timeout': running(call.pipe(Effect.timeout(RULES.timeoutMs))),
  'concurrency': running(call.pipe(limited())),
  'full stack': running(stack(call)),
  'full stack, signal read': running(stack(callWithSignal)),
}
