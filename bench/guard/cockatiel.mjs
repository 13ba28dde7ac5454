/**
 * cockatiel, as its readme uses it: policies made once and wrapped, cooperative timeouts (the cheaper of its two strategies).
 */
import {
  BrokenCircuitError, bulkhead, circuitBreaker, ConsecutiveBreaker, ExponentialBackoff, fallback, handleAll, handleType,
  retry, SamplingBreaker, timeout, TimeoutStrategy, wrap,
} from 'cockatiel'
import { answer, answerWithSignal, CALLS_IN_WINDOW, fail, REFUSAL, RULES } from './work.mjs'

const makeRetry = () => retry(handleAll, { maxAttempts: RULES.attempts - 1, backoff: new ExponentialBackoff({ initialDelay: RULES.firstWaitMs }) })
const makeBreaker = (halfOpenAfter = RULES.openForMs) => circuitBreaker(handleAll, { halfOpenAfter, breaker: new ConsecutiveBreaker(RULES.failures) })
const makeTimeout = ms => timeout(ms, TimeoutStrategy.Cooperative)
const makeBulkhead = () => bulkhead(RULES.concurrency, RULES.concurrency)
const makeStack = () => wrap(makeTimeout(RULES.deadlineMs), makeRetry(), makeBreaker(), makeBulkhead(), makeTimeout(RULES.timeoutMs))

async function opened() {
  const policy = makeBreaker(3_600_000)
  for (let failures = 0; failures < RULES.failures; failures += 1) await policy.execute(fail).catch(() => undefined)
  return policy
}

const guarding = (make, work) => () => {
  const policy = make()
  return () => policy.execute(work)
}

export default {
  'retry': guarding(makeRetry, answer),
  'breaker': guarding(makeBreaker, answer),
  'timeout': guarding(() => makeTimeout(RULES.timeoutMs), answer),
  'concurrency': guarding(makeBulkhead, answer),
  'full stack': guarding(makeStack, answer),
  'full stack, signal read': guarding(makeStack, answerWithSignal),
  'refusal, throwing': async () => {
    const policy = await opened()
    return () => policy.execute(answer)
  },
  'refusal, try': async () => {
    const policy = wrap(fallback(handleType(BrokenCircuitError), REFUSAL), await opened())
    return () => policy.execute(answer)
  },
  'failure in a window': async () => {
    const policy = circuitBreaker(handleAll, { halfOpenAfter: RULES.openForMs, breaker: new SamplingBreaker({ threshold: RULES.failureShare, duration: RULES.windowMs }) })
    for (let calls = 0; calls < CALLS_IN_WINDOW; calls += 1) await policy.execute(answer)
    return { call: () => policy.execute(fail) }
  },
  'idle breakers': () => ({
    make: async () => {
      const policy = makeBreaker()
      await policy.execute(answer)
      return policy
    },
  }),
}
