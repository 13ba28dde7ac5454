/**
 * `npm run bench -- guard`: call protection beside its peers.
 *
 * Which cases there are, who takes part in each, and the budgets. How each subject does its part is in the file of its
 * name; `part` is the key there. A subject that has no such thing is left out of the case, never imitated.
 */
import { bytesKept, bytesPerCall, idleTime, timePerCall, timePerCallPrepared } from '../measure.mjs'
import { ANSWER, CALLS_IN_WINDOW, FAILURE } from './work.mjs'

const ALL = Object.freeze(['bare', 'holdfast', 'cockatiel', 'opossum', 'effect'])
const WITHOUT_EFFECT = Object.freeze(['bare', 'holdfast', 'cockatiel', 'opossum'])
const BREAKERS = Object.freeze(['holdfast', 'cockatiel', 'opossum'])

const PER_CALL = Object.freeze([timePerCall, bytesPerCall])
const answers = Object.freeze({ ending: 'value', expects: result => result === ANSWER })

/** The success path, outside and inside of an active AsyncLocalStorage. */
const success = [
  { name: 'retry', subjects: ALL, note: 'opossum has no retry: p-retry alone, its options a plain object (README).' },
  { name: 'breaker', subjects: WITHOUT_EFFECT, note: 'Consecutive failures; opossum has only a time window. Effect has no breaker.' },
  { name: 'timeout', subjects: ALL, note: "opossum's is part of its breaker." },
  { name: 'concurrency', subjects: ALL, note: "opossum's is part of its breaker." },
  {
    name: 'full stack',
    subjects: ALL,
    note: "Deadline, retry, breaker, concurrency limit, timeout. Effect: without a breaker. opossum: p-retry's maxRetryTime stands for the deadline.",
  },
].flatMap(one => {
  const plain = { ...one, ...answers, part: one.name, measures: PER_CALL }
  return [plain, { ...plain, name: `${one.name}, in AsyncLocalStorage`, inAsyncLocalStorage: true, note: undefined }]
})

const cases = [
  ...success,
  {
    name: 'full stack, signal read',
    part: 'full stack, signal read',
    subjects: ['bare', 'holdfast', 'cockatiel', 'effect'],
    ...answers,
    measures: PER_CALL,
    note: 'The work takes its signal, as every fetch does; bare makes a controller of its own. opossum has no signal per call.',
  },
  {
    name: 'full stack, metrics and log listening',
    part: 'full stack, listening',
    subjects: ['holdfast'],
    ...answers,
    measures: PER_CALL,
    note: 'A dependency of createHoldfast: metrics, log (pino), timeline and alerts listen.',
  },
  {
    name: 'refusal by an open breaker, throwing',
    part: 'refusal, throwing',
    subjects: BREAKERS,
    ending: 'error',
    expects: error => error instanceof Error && error !== FAILURE,
    measures: PER_CALL,
    note: 'Holdfast: through a whole dependency().',
  },
  {
    name: 'refusal by an open breaker, try',
    part: 'refusal, try',
    subjects: BREAKERS,
    ending: 'value',
    expects: result => result !== ANSWER && typeof result === 'object',
    measures: PER_CALL,
    note: 'Holdfast: dependency().try. cockatiel and opossum: their fallback, which is their way not to throw.',
  },
  {
    name: `failure path, ${CALLS_IN_WINDOW} calls in the window`,
    part: 'failure in a window',
    subjects: WITHOUT_EFFECT,
    ending: 'error',
    expects: error => error === FAILURE,
    measures: [timePerCallPrepared],
    note: 'One failed call through a breaker with a time window of 10 s.',
  },
  {
    name: '1000 idle breakers',
    part: 'idle breakers',
    subjects: BREAKERS,
    measures: [bytesKept],
    note: 'What each keeps, after one call.',
  },
  {
    name: '1000 idle breakers, cpu',
    part: 'idle breakers',
    subjects: ['bare', ...BREAKERS],
    measures: [idleTime],
    note: 'Processor time of the whole process in a second, per breaker; bare is a process without any, the floor of what can be seen.',
  },
]

/** `packagesIn` says which packages a figure is about; the installed versions become part of the subject's name. */
const subjects = [
  { key: 'bare', packagesIn: () => [] },
  { key: 'holdfast', packagesIn: () => [] },
  { key: 'cockatiel', packagesIn: () => ['cockatiel'] },
  { key: 'opossum', packagesIn: one => (['retry', 'full stack'].includes(one.part) ? ['opossum', 'p-retry'] : ['opossum']) },
  { key: 'effect', packagesIn: () => ['effect'] },
]

const FULL = 'full stack'
const IN_ALS = 'full stack, in AsyncLocalStorage'

const budgets = [
  { text: 'full stack: at most 1 µs', of: [FULL, 'holdfast', 'ns/op'], atMost: 1_000 },
  { text: 'full stack: at most 1 kB', of: [FULL, 'holdfast', 'bytes/op'], atMost: 1_000 },
  { text: 'full stack in AsyncLocalStorage: at most 5x bare', of: [IN_ALS, 'holdfast', 'ns/op'], per: [IN_ALS, 'bare', 'ns/op'], atMost: 5 },
  { text: 'full stack: at least 20x faster than cockatiel', of: [FULL, 'cockatiel', 'ns/op'], per: [FULL, 'holdfast', 'ns/op'], atLeast: 20 },
  { text: 'full stack: at least 20x faster than opossum', of: [FULL, 'opossum', 'ns/op'], per: [FULL, 'holdfast', 'ns/op'], atLeast: 20 },
  { text: 'refusal by an open breaker through try: at most 1 µs', of: ['refusal by an open breaker, try', 'holdfast', 'ns/op'], atMost: 1_000 },
  {
    text: 'metrics and log listening: at most 0.5 µs more',
    of: ['full stack, metrics and log listening', 'holdfast', 'ns/op'],
    minus: [FULL, 'holdfast', 'ns/op'],
    atMost: 500,
  },
]

export default { summary: 'call protection: retry, breaker, timeout, concurrency, all of them', subjects, cases, budgets }
