/**
 * Which files are mutated together, and the fast tests that should notice: on the memory store, in simulated time.
 *
 * SQL is left out (a mutant of a query text is a broken query, not a wrong decision); it is held by the tiers on real stores.
 */
export interface Slice {
  readonly name: string
  readonly mutate: readonly string[]
  readonly tests: readonly string[]
}

const CODE = ['!src/durable/**/*.test.ts', '!src/durable/**/sql*.ts', '!src/durable/**/{types,port,migration,migrations,index}.ts'] as const

export const SLICES: readonly Slice[] = [
  { name: 'once', mutate: ['src/durable/once/*.ts', ...CODE], tests: ['src/durable/once/*.test.ts'] },
  { name: 'lease', mutate: ['src/durable/lease/*.ts', 'src/durable/keep-alive.ts', ...CODE], tests: ['src/durable/lease/*.test.ts', 'src/durable/stalled.test.ts', 'src/durable/keep-alive.test.ts', 'src/durable/recovery.test.ts', 'src/durable/once/*.test.ts'] },
  { name: 'inbox', mutate: ['src/durable/inbox/*.ts', ...CODE], tests: ['src/durable/inbox/*.test.ts'] },
  { name: 'outbox', mutate: ['src/durable/outbox/*.ts', 'src/durable/pump.ts', ...CODE], tests: ['src/durable/outbox/*.test.ts', 'src/durable/inbox/*.test.ts'] },
  { name: 'saga', mutate: ['src/durable/saga/{execution,undoing,ending,recording,memory,memory-table,memory-records}.ts'], tests: ['src/durable/saga/*.test.ts'] },
  { name: 'worker', mutate: ['src/worker/{worker,each,guards,pace}.ts', 'src/worker/items/memory.ts'], tests: ['src/worker/*.test.ts'] },
]
