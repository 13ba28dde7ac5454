/**
 * Which files are mutated together, and the fast tests that should notice: on the memory store, in simulated time; the memory
 * dialect also beside its SQL (dialects.test.ts).
 *
 * SQL is left out (a mutant of a query text is a broken query, not a wrong decision); it is held by the tiers on real stores.
 */
export interface Slice {
  readonly name: string
  readonly mutate: readonly string[]
  readonly tests: readonly string[]
  /** Names of the simulated flows (../simulation.ts) that run through it. */
  readonly flows: RegExp
}

const DURABLE = ['src/durable/stalled.test.ts', 'src/durable/recovery.test.ts', 'src/durable/dialects.test.ts'] as const
const CODE = ['!src/durable/**/*.test.ts', '!src/durable/**/sql*.ts', '!src/durable/**/{types,port,migration,migrations,index}.ts'] as const
/** One of a kind: a change that none of these notices is not noticed by the rest either, and costs their time. */
const SAGA_FLOWS = /^saga, (done|undone|hold|track|confirm|cancel), good day|^saga, (verify|stuck)$/
const SAGA = ['src/durable/saga/*.test.ts', ...DURABLE] as const

export const SLICES: readonly Slice[] = [
  { name: 'once', mutate: ['src/durable/once/*.ts', ...CODE], tests: ['src/durable/once/*.test.ts', 'src/http/idempotency.test.ts', ...DURABLE], flows: /^once/ },
  { name: 'lease', mutate: ['src/durable/lease/*.ts', 'src/durable/keep-alive.ts', ...CODE], tests: ['src/durable/lease/*.test.ts', 'src/durable/keep-alive.test.ts', 'src/durable/once/*.test.ts', ...DURABLE], flows: /^lease/ },
  { name: 'inbox', mutate: ['src/durable/inbox/*.ts', ...CODE], tests: ['src/durable/inbox/*.test.ts', ...DURABLE], flows: /^inbox/ },
  { name: 'outbox', mutate: ['src/durable/outbox/*.ts', ...CODE], tests: ['src/durable/outbox/*.test.ts', ...DURABLE], flows: /^outbox/ },
  // By itself: mutants of a loop that run for ever end at a time limit as long as all tests of their slice.
  { name: 'pump', mutate: ['src/durable/pump.ts'], tests: ['src/durable/pump.test.ts', 'src/durable/inbox/*.test.ts', 'src/durable/outbox/*.test.ts'], flows: /^inbox/ },
  { name: 'saga', mutate: ['src/durable/saga/{execution,recording}.ts'], tests: SAGA, flows: SAGA_FLOWS },
  { name: 'saga-ends', mutate: ['src/durable/saga/{ending,undoing}.ts'], tests: SAGA, flows: SAGA_FLOWS },
  { name: 'saga-memory', mutate: ['src/durable/saga/{memory,memory-table,memory-records}.ts'], tests: SAGA, flows: SAGA_FLOWS },
  { name: 'worker', mutate: ['src/worker/{worker,each,guards,pace}.ts', 'src/worker/items/memory.ts'], tests: ['src/worker/**/*.test.ts'], flows: /^(worker|schedule)/ },
]
