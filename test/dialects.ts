/**
 * Two dialects of one port do the same: what simulation finds out on the memory store then holds for the SQL.
 *
 * A script of random operations runs on both, statement by statement at the same simulated moment, and after each all that
 * can be read must be equal. Twice: with times that meet exactly (`aligned`: which side of a bound belongs to what; lists
 * are compared as sets, because equal times have no order), and with times that never meet (the order and limits of lists).
 */
import fc from 'fast-check'
import { afterAll, beforeAll, expect } from 'vitest'
import { EventBus } from '../src/core/index.ts'
import { pgliteMemory } from '../src/store/embedded/testing.ts'
import type { Database, SqlTx } from '../src/store/index.ts'
import { memory } from '../src/store/memory/index.ts'
import { simulatedEnv } from '../src/testing/index.ts'
import { prepareDatabase } from './reliability/kill/timed-store.ts'

type Rest<Operation> = Operation extends (tx: never, ...rest: infer Args) => unknown ? Args : never

/** How each operation of the port is called. Each must be there; `weight` is how often beside the others, default 1. */
export type Script<Port> = { readonly [Name in keyof Port]: { readonly args: fc.Arbitrary<Readonly<Rest<Port[Name]>>>; readonly weight?: number } }

export interface Comparison<MemoryPort, SqlPort> {
  readonly memory: MemoryPort
  readonly sql: SqlPort
  /** `ms`: durations, and `limit`: of lists, in the way of the run. */
  readonly script: (ms: fc.Arbitrary<number>, limit: fc.Arbitrary<number>) => Script<MemoryPort>
  /** States in which scripts begin, as many in each, so that random operations meet what takes several in order. Default none. */
  readonly preludes?: readonly (readonly Call<MemoryPort>[])[]
  /** What is refused only where several operations came before: played as it stands. */
  readonly cases?: readonly (readonly Call<MemoryPort>[])[]
  /** Operations whose lists have no promised order. */
  readonly unordered?: readonly (string & keyof MemoryPort)[]
  /** Reads that are made after each operation, beside the operation's own answer; `limit` of their lists shows what comes first. */
  readonly observe: (limit: number) => readonly Call<MemoryPort>[]
}

export type Call<Port> = readonly [name: string & keyof Port, ...args: readonly unknown[]]

interface Step {
  readonly name: string
  readonly args: readonly unknown[]
  readonly pauseMs: number
}

/** A limit that nothing reaches. */
export const ALL = 100

const BEGIN_MS = Date.UTC(2026, 0, 1)
const RUNS = 8
/** From each of several preludes at least. */
const RUNS_OF_PRELUDE_MIN = 3
const STEPS_MAX = 40
/** So many scripts instead, other ones each time. */
const LONG = process.env['HOLDFAST_DIALECT_RUNS']
/** For the tests of a file. */
export const DIALECTS_TIMEOUT_MS: number = LONG === undefined ? 30_000 : 86_400_000

/** For a test file: one SQL database, whose clock is set. `endOnFailure`: a script that fails is not made shorter. */
export function dialects(): <MemoryPort extends object, SqlPort extends object>(comparison: Comparison<MemoryPort, SqlPort>, aligned: boolean, search?: { readonly endOnFailure: boolean }) => Promise<void> {
  let sql: Database<SqlTx>
  beforeAll(async () => { sql = await prepareDatabase(pgliteMemory({ transactionTimeoutMs: 60_000 }), () => BEGIN_MS) })
  afterAll(() => sql.close())
  return async (comparison, aligned, search) => {
    const ms = aligned ? fc.integer({ min: 0, max: 6 }).map(seconds => seconds * 1_000) : fc.integer({ min: 1, max: 20_000 })
    const script = comparison.script(ms, aligned ? fc.constant(ALL) : fc.constantFrom(1, 2, ALL)) as Readonly<Record<string, { readonly args: fc.Arbitrary<readonly unknown[]>; readonly weight?: number }>>
    const step = fc.oneof(...Object.entries(script).map(([name, { args, weight = 1 }]) => ({ weight, arbitrary: fc.record({ name: fc.constant(name), args, pauseMs: fc.oneof({ arbitrary: fc.constant(aligned ? 0 : 1), weight: 2 }, ms) }) })))
    const preludes = comparison.preludes ?? [[]]
    const runs = LONG === undefined ? { numRuns: Math.max(RUNS_OF_PRELUDE_MIN, Math.ceil(RUNS / preludes.length)), seed: 1 } : { numRuns: Math.ceil(Number(LONG) / preludes.length), seed: Date.now() }
    const fixed = (calls: readonly (readonly [name: string, ...args: readonly unknown[]])[]): readonly Step[] => calls.map(([name, ...args]) => ({ name, args, pauseMs: aligned ? 0 : 1 }))
    for (const each of comparison.cases ?? []) await play(comparison, sql, fixed(each), aligned)
    for (const prelude of preludes) {
      await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: STEPS_MAX, size: 'max' }), steps => play(comparison, sql, [...fixed(prelude), ...steps], aligned)), { ...search, ...runs })
    }
  }
}

/** In one transaction on each side, which is taken back at the end. */
async function play<MemoryPort extends object, SqlPort extends object>(comparison: Comparison<MemoryPort, SqlPort>, sql: Database<SqlTx>, steps: readonly Step[], aligned: boolean): Promise<void> {
  const env = simulatedEnv()
  const ours = await memory().open({ env, events: new EventBus(env), service: 'test' })
  const [left, right] = [await hold(ours), await hold(sql)]
  // Where times meet, what comes first among equals is nobody's promise.
  const observed = comparison.observe(aligned ? ALL : 1)
  try {
    for (const [index, step] of steps.entries()) {
      env.jump(step.pauseMs)
      await right.tx.query(`SELECT set_config('sim.now_ms', $1, true)`, [String(env.now())])
      for (const [name, ...args] of [[step.name, ...step.args] as const, ...observed]) {
        const answers = [await call(comparison.memory, name, left.tx, args), await call(comparison.sql, name, right.tx, args)].map(answer => comparable(answer, aligned || comparison.unordered?.some(each => each === name) === true))
        expect(answers[1], `SQL answers otherwise than memory to ${name}${JSON.stringify(args)} after ${text(steps.slice(0, index + 1))}`).toEqual(answers[0])
      }
    }
  } finally {
    await Promise.all([left.end(), right.end()])
    await ours.close()
  }
}

async function call(port: object, name: string, tx: unknown, args: readonly unknown[]): Promise<unknown> {
  const operation = (port as Readonly<Record<string, (tx: unknown, ...args: readonly unknown[]) => Promise<unknown>>>)[name]
  if (operation === undefined) throw new Error(`the port has no ${name}`)
  return operation(tx, ...args)
}

/** A transaction that stays open until `end`, which rolls it back. */
async function hold<Tx>(database: Database<Tx>): Promise<{ readonly tx: Tx; readonly end: () => Promise<void> }> {
  const rolledBack = new Error('taken back')
  return new Promise((resolve, reject) => {
    const done = database.transaction('test.dialects', tx => new Promise<never>((_resolve, rollBack) => {
      resolve({ tx, end: () => { rollBack(rolledBack); return done } })
    })).catch((error: unknown) => { if (error !== rolledBack) reject(new Error('the transaction of a script failed', { cause: error })) })
  })
}

/** What is nothing in one language is null or absent in the other. */
function comparable(answer: unknown, asSet: boolean): unknown {
  if (answer === null) return undefined
  if (Array.isArray(answer)) {
    const items = answer.map(item => comparable(item, asSet))
    return asSet ? items.toSorted((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1) : items
  }
  if (typeof answer === 'object') return Object.fromEntries(Object.entries(answer).map(([key, value]) => [key, comparable(value, asSet)]).sort(([a], [b]) => String(a) < String(b) ? -1 : 1))
  return answer
}

function text(steps: readonly Step[]): string {
  return steps.map(({ name, args, pauseMs }) => `${pauseMs > 0 ? `+${String(pauseMs)} ms ` : ''}${name}${JSON.stringify(args)}`).join(', ')
}
