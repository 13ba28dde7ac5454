/**
 * Kills real processes at crash points of flows, lets another one recover on the same database, and judges.
 *
 * One process per kill: the one that recovers what a death left goes on with the next iteration and dies there. The next
 * one is started meanwhile, so that a death costs no loading. The parent is the time, the outside world and the judge.
 */
import { join } from 'node:path'
import type { Json } from '../../../src/core/index.ts'
import type { SqlTx } from '../../../src/store/index.ts'
import { OutsideError, seededRandom, type OutsideOptions } from '../../../src/testing/index.ts'
import { bundled, type Bundle } from '../bundle.ts'
import type { Flow, FlowMechanism, FlowView, Outside } from '../flow.ts'
import type { KillPlan } from './plan.ts'
import { startProgram, type Program } from './program.ts'
import type { Kill } from './protocol.ts'
import type { KillStore } from './stores.ts'
import { writtenRows } from './timed-store.ts'

/** What was seen in one iteration. */
export interface Iterated {
  readonly plan: KillPlan
  readonly violations: readonly string[]
  /** Names of the points at which processes really died. */
  readonly diedAt: readonly string[]
  /** Names of all points that the first process passed, in order. */
  readonly passed: readonly string[]
  readonly operations: number
  /** From the last death until everything was over, real time. */
  readonly recoveryMs: number | undefined
  /** The same in the time of the run. */
  readonly recoveryVirtualMs: number | undefined
}

export interface Conditions {
  readonly outside?: OutsideOptions
  readonly without?: readonly FlowMechanism[]
}

const START_MS = Date.UTC(2026, 0, 1)
/** As in the simulation: shorter than a lease and longer. */
const REBOOT_MS = [1_000, 15_000] as const
const OVER_WITHIN_MS = 1_200_000
/** After everything is over, whoever would still do something again has had a lease's time to do it. */
const LINGER_MS = 11_000
const DRAIN_MS = 60_000
/** Real time in which a process must say something: opening an embedded database takes seconds on a busy machine. */
const SILENT_MS = 60_000

export class KillRig {
  nowMs = START_MS
  readonly reached = new Map<string, number>()
  readonly #seed: number
  readonly #random: () => number
  #bundle: Bundle | undefined
  #store: KillStore | undefined
  #spare: Program | undefined
  #live: Program | undefined
  #iterations = 0
  #processes = 0

  constructor(seed: number) {
    this.#seed = seed
    this.#random = seededRandom(seed ^ 0xc1a54)
  }

  async open(store: (nowMs: () => number) => Promise<KillStore>): Promise<void> {
    this.#bundle = await bundled(join(import.meta.dirname, 'process.ts'))
    this.#store = await store(() => this.nowMs)
  }

  async close(): Promise<void> {
    await Promise.all([this.#live?.kill(), this.#spare?.kill()])
    await this.#store?.close()
    this.#bundle?.remove()
  }

  /** One iteration of a flow, with the deaths of its plan. */
  async iterate(flow: Flow, plan: KillPlan, conditions: Conditions = {}): Promise<Iterated> {
    const iteration = new IterationState(flow, `k${String(this.#seed)}-${String(++this.#iterations)}`, this.#store, conditions, () => this.#live)
    const diedAt: string[] = []
    let diedMs: number | undefined
    let diedVirtualMs = 0
    for (let life = 0; ; life++) {
      const program = await this.#program()
      program.tell({ type: 'begin', iteration: { flow: flow.name, id: iteration.view.id, nowMs: this.nowMs, without: conditions.without ?? [], kill: plan.kills[life] } })
      const end = await this.#drive(program, iteration, plan.kills[life], life === 0)
      if (end.type === 'over') {
        const recovered = diedMs === undefined ? {} : { recoveryMs: end.overMs - diedMs, recoveryVirtualMs: end.overVirtualMs - diedVirtualMs }
        return { plan, violations: [...iteration.violations, ...await this.#judged(iteration)], diedAt, passed: iteration.passed, operations: iteration.operations, recoveryMs: undefined, recoveryVirtualMs: undefined, ...recovered }
      }
      this.#live = undefined
      if (end.type === 'broken') {
        await program.kill()
        return { plan, violations: [...iteration.violations, end.why], diedAt, passed: iteration.passed, operations: iteration.operations, recoveryMs: undefined, recoveryVirtualMs: undefined }
      }
      diedAt.push(end.point)
      diedMs = performance.now()
      diedVirtualMs = this.nowMs
      const [min, max] = REBOOT_MS
      this.nowMs += min + this.#random() * (max - min)
    }
  }

  /** The living one, or the one that waits for its turn. */
  async #program(): Promise<Program> {
    if (this.#live !== undefined) return this.#live
    const script = this.#bundle?.script
    const store = this.#store
    if (script === undefined || store === undefined) throw new Error('the rig is not open')
    const program = this.#spare ?? startProgram(script)
    this.#live = program
    program.tell({ type: 'open', store: store.address, name: `p${String(++this.#processes)}`, nowMs: this.nowMs })
    const said = await program.next(SILENT_MS)
    if (said.type !== 'open') throw new Error(`a process did not open the store: ${JSON.stringify(said)}`)
    this.#spare = startProgram(script)
    return program
  }

  async #drive(program: Program, iteration: IterationState, kill: Kill | undefined, first: boolean): Promise<End> {
    const startedMs = this.nowMs
    let over: { readonly overMs: number; readonly overVirtualMs: number } | undefined
    let dying: string | undefined
    for (;;) {
      const said = await program.next(SILENT_MS)
      if (said.type === 'gone') {
        // Its last words may have died with it, where the parent was slow to read.
        return kill !== undefined && said.how === 'SIGKILL' ? { type: 'died', point: dying ?? String(kill.at) } : { type: 'broken', why: `the process ended by itself: ${said.how} ${said.stderr}` }
      }
      if (said.type === 'silent') return { type: 'broken', why: `the process said nothing for ${String(SILENT_MS)} ms` }
      if (said.type === 'call') iteration.answer(program, said.call, said.name, said.request)
      else if (said.type === 'told') iteration.told.push(said.fact)
      else if (said.type === 'reached') this.reached.set(said.state, (this.reached.get(said.state) ?? 0) + 1)
      else if (said.type === 'dying') {
        iteration.pass(said.passed, first)
        dying = said.passed.at(-1) ?? 'nowhere'
      } else if (said.type === 'idle' && dying === undefined) {
        iteration.pass(said.passed, first)
        if (over === undefined && await iteration.isOver()) over = { overMs: performance.now(), overVirtualMs: this.nowMs }
        if (iteration.violations.length > 0) return { type: 'broken', why: 'stopped at the violation' }
        if (over !== undefined && (said.nextAtMs === undefined || said.nextAtMs > over.overVirtualMs + LINGER_MS)) return { type: 'over', ...over }
        if (said.nextAtMs === undefined || this.nowMs - startedMs > OVER_WITHIN_MS) return { type: 'broken', why: 'never over' }
        this.nowMs = Math.max(this.nowMs, said.nextAtMs)
        program.tell({ type: 'advance', nowMs: this.nowMs })
      }
    }
  }

  /** What the flow's judge says; then its loops end. */
  async #judged(iteration: IterationState): Promise<readonly string[]> {
    const violations = [...(await iteration.isOver() ? [] : ['was over and then was not']), ...await iteration.flow.check(iteration.view)]
    const program = this.#live
    if (program === undefined) return violations
    const until = this.nowMs + DRAIN_MS
    program.tell({ type: 'end' })
    for (;;) {
      const said = await program.next(SILENT_MS)
      if (said.type === 'gone' || said.type === 'silent') return [...violations, `the process ended when its loops did: ${JSON.stringify(said)}`]
      if (said.type === 'call') iteration.answer(program, said.call, said.name, said.request)
      if (said.type !== 'idle') continue
      if (said.nextAtMs === undefined || said.nextAtMs > until) return violations
      this.nowMs = Math.max(this.nowMs, said.nextAtMs)
      program.tell({ type: 'advance', nowMs: this.nowMs })
    }
  }
}

type End =
  | { readonly type: 'over'; readonly overMs: number; readonly overVirtualMs: number }
  | { readonly type: 'died'; readonly point: string }
  | { readonly type: 'broken'; readonly why: string }

/** The part of an iteration that no crash touches. */
class IterationState {
  readonly flow: Flow
  readonly told: string[] = []
  readonly violations: string[] = []
  readonly passed: string[] = []
  readonly view: FlowView<SqlTx>
  readonly #outside: Outside
  operations = 0
  #changed = true

  constructor(flow: Flow, id: string, store: KillStore | undefined, { outside }: Conditions, live: () => Program | undefined) {
    this.flow = flow
    this.#outside = flow.outside(id, outside)
    const read = store?.read ?? (work => work(remote(live())))
    this.view = { id, dialect: 'sql', told: this.told, outside: this.#outside, read, written: () => read(tx => writtenRows(tx, id)) }
  }

  pass(points: readonly string[], first: boolean): void {
    if (first) this.passed.push(...points)
    if (points.some(point => point.startsWith('after '))) this.#changed = true
    this.operations += points.filter(point => point.startsWith('before ')).length
  }

  answer(program: Program, call: number, name: string, request: Json): void {
    this.#changed = true
    try {
      program.tell({ type: 'answer', call, value: this.#outside.handle(name, request) })
    } catch (error) {
      if (!(error instanceof OutsideError)) throw error
      program.tell({ type: 'refused', call, status: error.status, message: error.message })
    }
  }

  /** Looked at only where something has changed. */
  async isOver(): Promise<boolean> {
    if (!this.#changed) return this.#wasOver
    this.#changed = false
    for (const violation of await this.flow.holds?.(this.view) ?? []) this.violations.push(violation)
    this.#wasOver = await this.flow.over(this.view)
    return this.#wasOver
  }
  #wasOver = false
}

/** Reads through the process that has the database open, which is idle whenever it is asked. */
function remote(program: Program | undefined): SqlTx {
  return {
    async query<Row>(sql: string, params: readonly unknown[] = []): Promise<readonly Row[]> {
      if (program === undefined) throw new Error('nobody has the database open')
      program.tell({ type: 'read', sql, params })
      const said = await program.next(SILENT_MS)
      if (said.type !== 'rows') throw new Error(`expected rows, got ${JSON.stringify(said)}`)
      return said.rows as readonly Row[]
    },
  }
}
