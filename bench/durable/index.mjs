/**
 * `npm run bench -- durable`: what it costs that something happens once, is finished or undone, beside its peers on the same server.
 *
 * Which cases there are, who takes part in each, and the budgets. How each subject does its part is in the file of its name.
 */
import { drainedPerSecond, measuredOnce, operationsPerSecond } from '../throughput.mjs'
import { startServer } from './database.mjs'
import { COMMITS, PARALLEL, QUEUED, STEPS_RESULT } from './work.mjs'

const SEQUENTIAL = 'sequential'
const IN_PARALLEL = `${PARALLEL} in parallel`
const PER_SECOND = Object.freeze([operationsPerSecond])

const both = one => [
  { ...one, name: `${one.name}, ${SEQUENTIAL}`, parallel: 1, measures: PER_SECOND },
  { ...one, name: `${one.name}, ${IN_PARALLEL}`, parallel: PARALLEL, measures: PER_SECOND, note: undefined },
]

const cases = [
  ...both({
    name: 'once', part: 'once', subjects: ['bare', 'holdfast'], expects: answer => answer.outcome === 'done',
    note: 'One business row written in a transaction. bare: that alone; Holdfast: with the record that keeps it from happening twice.',
  }),
  ...both({
    name: 'once by hand', part: 'once by hand', subjects: ['bare'], expects: answer => answer.outcome === 'done',
    note: 'For comparison: claim, business row and completion as one writes them by hand, with the same driver.',
  }),
  ...both({
    name: 'once by hand, together', part: 'once by hand, together', subjects: ['bare'], expects: answer => answer.outcome === 'done',
    note: 'For comparison: the same statements in three turns, BEGIN with the claim and the completion with COMMIT. What a library costs begins here.',
  }),
  ...both({ name: 'once, replay', part: 'once, replay', subjects: ['holdfast'], expects: answer => answer.outcome === 'replayed', note: 'The answer of one of 100 keys that are done.' }),
  ...both({
    name: 'saga, 3 steps', part: 'saga, 3 steps', subjects: ['holdfast', 'dbos-sdk'], expects: answer => answer === STEPS_RESULT,
    note: 'From the call to the result; every step is recorded. Holdfast also records before each step that it begins, which DBOS does not.',
  }),
  {
    name: `queue of ${QUEUED}, drained`, part: 'queue', subjects: ['holdfast', 'graphile-worker', 'pg-boss'], items: QUEUED, measures: [drainedPerSecond],
    note: 'Holdfast: the inbox, each message a lane of its own. pg-boss: fetched and completed in batches of 32 by hand.',
  },
  { name: 'embedded, first open', part: 'embedded, first open', subjects: ['bare', 'holdfast'], measures: [measuredOnce('ms')], note: 'A new directory. Holdfast: from its template, with its lock.' },
  { name: 'embedded, open again', part: 'embedded, open again', subjects: ['bare', 'holdfast'], measures: [measuredOnce('ms')] },
  {
    name: 'embedded, commits', part: 'embedded, commits', subjects: ['bare', 'holdfast'], parallel: 1, expects: answer => answer === 1, measures: PER_SECOND,
    note: 'One row per transaction. Holdfast flushes each commit to the disk; PGlite as it comes does not.',
  },
  { name: 'embedded, memory when open', part: 'embedded, memory when open', subjects: ['bare', 'holdfast'], measures: [measuredOnce('MB')], note: 'Resident memory of the whole process.' },
  { name: `embedded, memory after ${COMMITS} commits`, part: 'embedded, memory after commits', subjects: ['bare', 'holdfast'], measures: [measuredOnce('MB')] },
]

const subjects = [
  { key: 'bare', packagesIn: () => [] },
  { key: 'holdfast', packagesIn: () => [] },
  { key: 'dbos-sdk', packagesIn: () => ['@dbos-inc/dbos-sdk'] },
  { key: 'graphile-worker', packagesIn: () => ['graphile-worker'] },
  { key: 'pg-boss', packagesIn: () => ['pg-boss'] },
]

const PER = 'ops/s'
const once = how => [`once, ${how}`, 'holdfast', PER]
const saga = how => [`saga, 3 steps, ${how}`, 'holdfast', PER]
const bareOf = ([name, , unit]) => [name, 'bare', unit]
const dbosOf = ([name, , unit]) => [name, 'dbos-sdk', unit]

const budgets = [
  { text: `once, ${SEQUENTIAL}: at least 80 % of the raw transaction`, of: once(SEQUENTIAL), per: bareOf(once(SEQUENTIAL)), atLeast: 0.8 },
  { text: `once, ${IN_PARALLEL}: at least 80 % of the raw transaction`, of: once(IN_PARALLEL), per: bareOf(once(IN_PARALLEL)), atLeast: 0.8 },
  { text: `saga, 3 steps, ${SEQUENTIAL}: at least 3 times DBOS`, of: saga(SEQUENTIAL), per: dbosOf(saga(SEQUENTIAL)), atLeast: 3 },
  { text: `saga, 3 steps, ${IN_PARALLEL}: at least 5 times DBOS`, of: saga(IN_PARALLEL), per: dbosOf(saga(IN_PARALLEL)), atLeast: 5 },
]

export default { summary: 'once, sagas, queues and the embedded store, on a PostgreSQL server that flushes', subjects, cases, budgets, setup: startServer }
