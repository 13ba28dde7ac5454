/**
 * opossum, as its readme uses it: one breaker per function, its own timeout and capacity; p-retry around it where the case retries.
 *
 * opossum has no breaker by consecutive failures; it opens at half of the calls of its window, from the same number of calls on.
 * Its statistics are left as they come: snapshots and percentiles on.
 */
import CircuitBreaker from 'opossum'
import pRetry from 'p-retry'
import { answer, CALLS_IN_WINDOW, fail, REFUSAL, RULES } from './work.mjs'

// Given as copies: opossum writes into what it is given.
const BREAKER = Object.freeze({
  timeout: false,
  errorThresholdPercentage: RULES.failureShare * 100,
  volumeThreshold: RULES.failures,
  resetTimeout: RULES.openForMs,
  rollingCountTimeout: RULES.windowMs,
})
// A plain object, as in p-retry's readme. V8 copies a frozen one far faster, which p-retry does for each call; nobody writes it so.
const RETRY = { retries: RULES.attempts - 1, minTimeout: RULES.firstWaitMs, randomize: true }

function opened() {
  const breaker = new CircuitBreaker(answer, { ...BREAKER, resetTimeout: 3_600_000 })
  breaker.open()
  return breaker
}

const guarding = options => () => {
  const breaker = new CircuitBreaker(answer, { ...BREAKER, ...options })
  return () => breaker.fire()
}

export default {
  'retry': () => () => pRetry(answer, RETRY),
  'breaker': guarding({}),
  'timeout': guarding({ timeout: RULES.timeoutMs }),
  'concurrency': guarding({ capacity: RULES.concurrency }),
  'full stack': () => {
    const breaker = new CircuitBreaker(answer, { ...BREAKER, timeout: RULES.timeoutMs, capacity: RULES.concurrency })
    const options = { ...RETRY, maxRetryTime: RULES.deadlineMs }
    return () => pRetry(() => breaker.fire(), options)
  },
  'refusal, throwing': () => {
    const breaker = opened()
    return () => breaker.fire()
  },
  'refusal, try': () => {
    const breaker = opened()
    breaker.fallback(() => REFUSAL)
    return () => breaker.fire()
  },
  'failure in a window': async () => {
    let work = answer
    const breaker = new CircuitBreaker(() => work(), { ...BREAKER })
    for (let calls = 0; calls < CALLS_IN_WINDOW; calls += 1) await breaker.fire()
    work = fail
    return { call: () => breaker.fire(), close: () => { breaker.shutdown() } }
  },
  'idle breakers': () => ({
    make: async () => {
      const breaker = new CircuitBreaker(answer, { ...BREAKER })
      await breaker.fire()
      return breaker
    },
    close: breaker => { breaker.shutdown() },
  }),
}
