/**
 * Holdfast, as its guides use it: policies made once, `effect` said with each call.
 */
import { answer, answerWithSignal, CALLS_IN_WINDOW, fail, RULES } from './work.mjs'

// The tests of the bench measure the sources, so that they need no build; figures are always those of the build.
const root = process.env.HOLDFAST_BENCH_SOURCE === '1' ? '../../src' : '../../dist'
const entry = process.env.HOLDFAST_BENCH_SOURCE === '1' ? 'index.ts' : 'index.js'
const { breaker, concurrencyLimit, dependency, retry, timeout } = await import(`${root}/guard/${entry}`)

const READ = Object.freeze({ effect: 'read' })
const OPTIONS = Object.freeze({
  tier: 'degradable',
  runbook: 'panel-down',
  deadline: `${RULES.deadlineMs}ms`,
  retry: Object.freeze({ attempts: RULES.attempts, minWait: `${RULES.firstWaitMs}ms` }),
  breaker: Object.freeze({ failures: RULES.failures, openFor: `${RULES.openForMs}ms` }),
  concurrency: RULES.concurrency,
  timeout: `${RULES.timeoutMs}ms`,
})
const WINDOW = Object.freeze({ ...OPTIONS.breaker, failures: false, failureRate: Object.freeze({ ratio: RULES.failureShare, within: `${RULES.windowMs}ms` }) })

/** A dependency whose breaker has opened by itself. */
async function opened() {
  const panel = dependency('panel', { ...OPTIONS, retry: false, breaker: { ...OPTIONS.breaker, openFor: '1h' } })
  for (let failures = 0; failures < RULES.failures; failures += 1) await panel.try('get', READ, fail)
  if (panel.allows()) throw new Error('the breaker did not open')
  return panel
}

async function listening() {
  const { createHoldfast } = await import(`${root}/${entry}`)
  const { pino } = await import('pino')
  let lines = 0
  const sink = { write: () => { lines += 1 } }
  const hold = createHoldfast({ service: 'bench', log: pino({}, sink) })
  // A failure must be seen by both before anything counts as listened to.
  await hold.dependency('other', { ...OPTIONS, retry: false }).try('get', READ, fail)
  if (lines === 0 || !/other/.test(hold.metrics())) throw new Error('log or metrics did not hear of a failed call')
  const panel = hold.dependency('panel', OPTIONS)
  return () => panel.call('get', READ, answer)
}

export default {
  'retry': () => {
    const policy = retry({ attempts: RULES.attempts, minWait: `${RULES.firstWaitMs}ms` })
    return () => policy.run(answer, READ)
  },
  'breaker': () => {
    const policy = breaker('panel', OPTIONS.breaker)
    return () => policy.run(answer, READ)
  },
  'timeout': () => {
    const policy = timeout(OPTIONS.timeout)
    return () => policy.run(answer, READ)
  },
  'concurrency': () => {
    const policy = concurrencyLimit('panel', RULES.concurrency)
    return () => policy.run(answer, READ)
  },
  'full stack': () => {
    const panel = dependency('panel', OPTIONS)
    return () => panel.call('get', READ, answer)
  },
  'full stack, signal read': () => {
    const panel = dependency('panel', OPTIONS)
    return () => panel.call('get', READ, answerWithSignal)
  },
  'full stack, listening': listening,
  'refusal, throwing': async () => {
    const panel = await opened()
    return () => panel.call('get', READ, answer)
  },
  'refusal, try': async () => {
    const panel = await opened()
    return () => panel.try('get', READ, answer)
  },
  'failure in a window': async () => {
    const policy = breaker('panel', WINDOW)
    for (let calls = 0; calls < CALLS_IN_WINDOW; calls += 1) await policy.run(answer, READ)
    return { call: () => policy.run(fail, READ) }
  },
  'idle breakers': () => ({
    make: async index => {
      const policy = breaker(`panel-${index}`, OPTIONS.breaker)
      await policy.run(answer, READ)
      return policy
    },
  }),
}
