/**
 * Crash enumeration in simulation: a process dies, stalls or gets an error before and after every transaction and every
 * outside call, alone and in pairs; others recover by sweeps; then the invariants must hold.
 *
 * The controls run the same schedules with one mechanism taken away, and must find a violation. A provider that honours keys
 * hides a missing fence, so what a fence protects is counted in rows that the steps themselves write.
 */
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest'
import { EventBus, type HoldfastEvent, type Schema } from '../core/index.ts'
import { withHooks, type Database, type MemoryTx } from '../store/index.ts'
import { memory, memoryDisk, type MemoryDisk } from '../store/memory/index.ts'
import { seededRandom, simulatedEnv, type SimulatedEnv } from '../testing/simulated-env.ts'
import { inbox, lease, once, outbox, refuse, saga, type DurableKit, type OutsideOnce, type Step } from './index.ts'
import { onceMemory } from './once/memory.ts'
import { sagaMemory } from './saga/memory.ts'
import type { StepRow } from './saga/port.ts'

type Fault = 'die' | 'pause' | 'error'
/** By number of the crash point that is passed, over all processes. */
type Plan = Readonly<Record<number, Fault>>

const LEASE_MS = 10_000
const STALL_MAX_MS = 22_000
/** Virtual time in which everything must be over once the faults of a plan have happened. */
const OVER_WITHIN_MS = 1_200_000
const never = <T>(): Promise<T> => new Promise(() => undefined)
const order = (): Schema<{ id: string }> => ({ '~standard': { version: 1, vendor: 'test', validate: value => ({ value: value as { id: string } }) } })

/** What the other side really did. */
class Provider {
  readonly effects: string[] = []
  readonly #answers = new Map<string, string>()
  readonly #honoursKeys: boolean

  constructor(honoursKeys: boolean) {
    this.#honoursKeys = honoursKeys
  }

  apply(effect: string, key: string): string {
    const known = this.#honoursKeys ? this.#answers.get(key) : undefined
    if (known !== undefined) return known
    this.effects.push(effect)
    const answer = `${effect} #${String(this.effects.length)}`
    this.#answers.set(key, answer)
    return answer
  }

  count(effect: string): number {
    return this.effects.filter(each => each === effect).length
  }
}

interface Process {
  readonly env: SimulatedEnv
  readonly kit: DurableKit<MemoryTx>
  /** An outside call, with a crash point on either side. */
  call<T>(name: string, apply: () => T): Promise<T>
}

/** One schedule: a world with its disk, its provider and the faults that are still to come. */
class Schedule {
  readonly env: SimulatedEnv
  readonly disk: MemoryDisk = memoryDisk()
  readonly provider: Provider
  readonly facts: HoldfastEvent[] = []
  readonly violations: string[] = []
  readonly trace: string[] = []
  readonly answers = new Set<string>()
  points = 0
  /** Processes that are stalled now. */
  stalled = 0
  readonly #plan: Plan
  readonly #main: (process: Process) => void
  #booted = 0

  constructor(seed: number, plan: Plan, honoursKeys: boolean, main: (schedule: Schedule) => (process: Process) => void) {
    this.env = simulatedEnv({ seed })
    this.#plan = plan
    this.provider = new Provider(honoursKeys)
    this.#main = main(this)
  }

  async boot(): Promise<void> {
    const name = `p${String(++this.#booted)}`
    const own = this.env.process(name)
    const base = memory(this.disk)
    let stalled: Promise<void> = Promise.resolve()
    const point = async (label: string, error: () => Error): Promise<void> => {
      const fault = this.#plan[this.points++]
      if (fault === undefined) return
      this.trace.push(`${name} ${fault} ${label}`)
      if (fault === 'error') throw error()
      if (fault === 'die') {
        own.kill()
        base.abandon()
        this.env.timer(1_000 + this.env.random() * 14_000, () => { void this.boot() })
        return never()
      }
      own.pause()
      this.stalled += 1
      stalled = this.env.sleep(LEASE_MS + this.env.random() * (STALL_MAX_MS - LEASE_MS)).then(() => {
        this.stalled -= 1
        own.resume()
      })
      await stalled
    }
    const hook = (when: string) => (transaction: string) => point(`${when} ${transaction}`, () => new Error('connection reset'))
    const events = new EventBus(own)
    events.onAny(fact => { this.facts.push(fact) })
    const store = withHooks(base, { before: hook('before'), after: hook('after') })
    const database: Database<MemoryTx> = await store.open({ env: own, events, service: 'test' })
    this.#main({
      env: own,
      kit: { env: own, events, service: 'test', instance: name, database: () => database },
      call: async (what, apply) => {
        if (!own.alive) return never()
        await point(`before call ${what}`, () => new TypeError('fetch failed', { cause: Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }) }))
        await this.env.sleep(200 + this.env.random() * 3_000)
        const answer = apply()
        if (own.alive) await point(`after call ${what}`, () => Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' }))
        await stalled
        return own.alive ? answer : never()
      },
    })
  }

  rows<Row>(table: string): readonly Row[] {
    return this.disk.rows<Row>(table).map(([, row]) => row)
  }

  /** Business rows in the order of their commits. */
  written(): readonly string[] {
    return this.rows<{ text: string }>('effect').map(row => row.text)
  }
}

interface Scenario {
  readonly name: string
  readonly honoursKeys?: boolean
  readonly faults?: readonly Fault[]
  readonly main: (schedule: Schedule) => (process: Process) => void
  readonly over: (schedule: Schedule) => boolean
  readonly check: (schedule: Schedule) => readonly string[]
}

function write(tx: MemoryTx, text: string): void {
  tx.table<{ text: string }>('effect').set(String(tx.sequence('effect')), { text })
}

/** Again and again while the process lives; an error is what its caller would see, and the next round is its retry. */
function loop(process: Process, everyMs: number, work: () => Promise<unknown>): void {
  const forever = async (): Promise<void> => {
    while (process.env.alive) {
      try {
        await work()
      } catch {
        // A store that is away or a call that failed: the caller comes again.
      }
      await process.env.sleep(everyMs)
    }
  }
  void forever()
}

const exactly = (schedule: Schedule, effect: string, wanted: number): readonly string[] => {
  const got = schedule.provider.count(effect)
  return got === wanted ? [] : [`${effect}: ${String(got)} effects, wanted ${String(wanted)}`]
}
const rowsOf = (schedule: Schedule, text: string, wanted: number): readonly string[] => {
  const got = schedule.written().filter(each => each === text).length
  return got === wanted ? [] : [`${text}: ${String(got)} rows, wanted ${String(wanted)}`]
}

// ---- once -----------------------------------------------------------------------------------------------------------

interface Knock { readonly freshKeys?: boolean; readonly recordUndoFirst?: boolean; readonly unguarded?: boolean }
interface OnceRow { readonly state: string; readonly result: string | null }

function onceScenario(policy: 'retry' | 'verify' | 'hold', more: Partial<Scenario> = {}, knock: Knock = {}): Scenario {
  const record = (schedule: Schedule): OnceRow | undefined => schedule.rows<OnceRow>('holdfast.once_record')[0]
  return {
    name: `once, ${policy}`,
    main: schedule => process => {
      const { kit, env } = process
      const onUnknown: OutsideOnce<{ id: string }, { id: string }, string, MemoryTx>['onUnknown'] = policy !== 'verify' ? policy : {
        verify: () => process.call('look-up', () => schedule.provider.count('pay') > 0 ? { happened: true, value: 'pay #1' } : { happened: false }),
      }
      const pay = once('pay', {
        input: order(), key: ({ id }) => id, lease: '10s', onUnknown,
        call: (_, { key }) => process.call('pay', () => schedule.provider.apply('pay', knock.freshKeys === true ? env.uuid() : key)),
        complete: async (_, { tx }) => { write(tx, 'paid') },
      }, kit)
      loop(process, 4_000, async () => {
        const answer = await pay({ id: 'o1' })
        if (answer.outcome === 'in-progress') reach('duplicate while in flight')
        if (answer.outcome === 'replayed') reach('duplicate of what is done')
        if ('value' in answer) schedule.answers.add(answer.value)
      })
      loop(process, 5_000, () => pay.sweep(10))
      // The human behind `hold` looks at the provider before saying anything.
      if (policy === 'hold') loop(process, 25_000, async () => {
        if (record(schedule)?.state !== 'unknown') return
        reach('needs a human')
        await pay.settleByHand('o1', schedule.provider.count('pay') > 0 ? 'discard' : 'retry', 'seen at the provider')
      })
    },
    over: schedule => ['done', 'discarded'].includes(record(schedule)?.state ?? ''),
    check: schedule => [
      ...exactly(schedule, 'pay', 1),
      ...(record(schedule)?.state === 'done' ? rowsOf(schedule, 'paid', 1) : rowsOf(schedule, 'paid', 0)),
      ...(schedule.answers.size > 1 ? [`different answers: ${[...schedule.answers].join(', ')}`] : []),
    ],
    ...more,
  }
}

// ---- saga -----------------------------------------------------------------------------------------------------------

interface RunRow { readonly state: string; readonly fence: number; readonly steps: readonly StepRow[] }
const ID = { saga: 'provision', id: 'o1' }

function sagaScenario(third: 'idempotent' | 'verify' | 'hold', ends: 'done' | 'undone', more: Partial<Scenario> = {}, knock: Knock = {}): Scenario {
  const run = (schedule: Schedule): RunRow | undefined => schedule.rows<RunRow>('holdfast.saga_run')[0]
  const state = (schedule: Schedule, seq: number): string | undefined => run(schedule)?.steps[seq]?.state
  return {
    name: `saga, last step ${third}, ${ends}`,
    main: schedule => process => {
      const { kit, env } = process
      const { provider } = schedule
      const keyOf = (key: string): string => knock.freshKeys === true ? env.uuid() : key
      const last = async (step: Step<MemoryTx>): Promise<string> => {
        const run = ({ key }: { readonly key: string }): Promise<string> => process.call('activate', () => {
          // S1: nothing begins before what comes before it is recorded.
          if (state(schedule, 0) === 'intent' || state(schedule, 1) === 'intent' || state(schedule, 1) === undefined) schedule.violations.push('activate before record was recorded')
          if (ends === 'undone') throw refuse('not for this customer')
          return provider.apply('activate', keyOf(key))
        })
        if (third === 'idempotent') return step('activate', { effect: 'idempotent', run })
        return step('activate', { effect: 'once', run, verify: third === 'hold' ? 'hold' : () => process.call('look-up', () => provider.count('activate') > 0 ? { happened: true, value: 'activate' } : { happened: false }) })
      }
      const provision = saga('provision', {
        version: 1, input: order(), lease: '10s', attempts: 1_000,
        run: async step => {
          await step('reserve', {
            effect: 'idempotent',
            run: ({ key }) => process.call('reserve', () => provider.apply('reserve', keyOf(key))),
            undo: async (_, { key }) => {
              if (knock.recordUndoFirst === true) await kit.database().transaction('saga.undone', tx => sagaMemory.journal(tx, ID, run(schedule)?.fence ?? 0, [{ seq: 0, name: 'reserve', state: 'undone', output: null }]))
              await process.call('release', () => {
                if (state(schedule, 1) === 'done') schedule.violations.push('release before record was undone')
                return provider.apply('release', keyOf(key))
              })
            },
          })
          await step('record', { write: async ({ tx }) => { write(tx, 'record') }, undo: async (_, { tx }) => { write(tx, 'unrecord') } })
          return last(step)
        },
      }, kit)
      loop(process, 4_000, async () => {
        const answer = await provision.start('o1', { id: 'o1' })
        if (answer.outcome === 'running' && answer.reason === 'another call is at it') reach('duplicate while in flight')
      })
      loop(process, 5_000, () => provision.sweep(10))
      loop(process, 25_000, async () => {
        if (run(schedule)?.state !== 'needs-human') return
        reach('needs a human')
        await provision.resolveStep('o1', provider.count('activate') > 0 ? { happened: true, value: 'activate' } : { happened: false }, 'seen at the provider')
        await provision.retry('o1', 'seen at the provider')
      })
    },
    over: schedule => {
      // S4: what is recorded as undone is undone.
      if (knock.recordUndoFirst !== true && state(schedule, 0) === 'undone' && schedule.provider.count('release') === 0) schedule.violations.push('an undo is recorded that did not happen')
      return run(schedule)?.state === ends
    },
    check: schedule => [
      ...exactly(schedule, 'reserve', 1),
      ...exactly(schedule, 'activate', ends === 'done' ? 1 : 0),
      ...exactly(schedule, 'release', ends === 'done' ? 0 : 1),
      ...rowsOf(schedule, 'record', 1),
      ...rowsOf(schedule, 'unrecord', ends === 'done' ? 0 : 1),
      ...(ends === 'done' || schedule.written().at(-1) === 'unrecord' ? [] : ['undone, and written to afterwards']),
    ],
    ...more,
  }
}

// ---- inbox and outbox -----------------------------------------------------------------------------------------------

interface MessageRow { readonly state: string }

function messageScenario(repeatable: boolean, more: Partial<Scenario> = {}): Scenario {
  const states = (schedule: Schedule): string => [...schedule.rows<MessageRow>('holdfast.inbox_row'), ...schedule.rows<MessageRow>('holdfast.outbox_message')].map(row => row.state).join(' ')
  return {
    name: `inbox and outbox, ${repeatable ? 'repeatable' : 'at most once'}`,
    main: schedule => process => {
      const { kit } = process
      const box = inbox({ lease: '10s', attempts: 100 }, kit)
      const out = outbox({ lease: '10s', poll: '2s' }, kit)
      out.topic('notice', { repeatable, attempts: 100, send: async (_, { key }) => { await process.call('send', () => schedule.provider.apply('send', key)) } })
      const settle = once('settle', { input: order(), key: ({ id }) => id, write: async ({ id }, { tx }) => {
        write(tx, 'settled')
        await out.enqueue(tx, { lane: 'chat:1', topic: 'notice', onceKey: `paid:${id}`, payload: { id } })
      } }, kit)
      // The sender delivers until it is acknowledged, and once more because its own record of that was lost.
      let acknowledged = 0
      loop(process, 3_000, async () => {
        if (acknowledged >= 2) return
        if (await box.claim({ source: 'telegram', id: '7', lane: 'user:1', payload: { id: 'o1' } }) === 'duplicate') reach('duplicate of what is done')
        acknowledged += 1
      })
      box.process('telegram', async () => {
        if ((await settle({ id: 'o1' })).outcome === 'replayed') reach('handled twice, happened once')
      }, { poll: '2s' }).start()
      out.start()
      loop(process, 5_000, () => box.sweep(10))
      loop(process, 5_000, () => out.sweep(10))
    },
    over: schedule => ['done sent', 'done unknown'].includes(states(schedule)),
    check: schedule => {
      const sent = schedule.provider.count('send')
      if (states(schedule) === 'done unknown') reach('unknown and shown')
      return [
        ...rowsOf(schedule, 'settled', 1),
        ...(sent > 1 ? [`sent ${String(sent)} times`] : []),
        ...(sent === 0 && states(schedule) === 'done sent' ? ['said to be sent, was not'] : []),
        ...(repeatable && states(schedule) !== 'done sent' ? ['a repeatable message was not sent'] : []),
      ]
    },
    ...more,
  }
}

// ---- lease ----------------------------------------------------------------------------------------------------------

function leaseScenario(knock: Knock = {}): Scenario {
  const WRITES = 12
  return {
    name: 'lease',
    main: () => process => {
      const leader = lease('leader', { ttl: '10s' }, process.kit)
      loop(process, 2_000, async () => {
        const held = await leader.acquire()
        if (held === undefined) {
          reach('duplicate while in flight')
          return
        }
        const work = async (tx: MemoryTx): Promise<void> => { write(tx, String(held.fence)) }
        try {
          for (let i = 0; i < 4; i++) {
            await (knock.unguarded === true ? process.kit.database().transaction('test.write', work) : held.transaction('test.write', work))
            await process.call('work', () => i)
          }
        } finally {
          await held.release()
        }
      })
    },
    over: schedule => schedule.written().length >= WRITES,
    // L1, L2, L5: whoever was overtaken writes no more.
    check: schedule => schedule.written().map(Number).some((fence, i, all) => fence < (all[i - 1] ?? 0)) ? [`fences went back: ${schedule.written().join(' ')}`] : [],
  }
}

// ---- the runs -------------------------------------------------------------------------------------------------------

const reached = new Map<string, number>()
function reach(what: string): void {
  reached.set(what, (reached.get(what) ?? 0) + 1)
}
let schedules = 0

interface Violation { readonly scenario: string; readonly seed: number; readonly plan: Plan; readonly violations: readonly string[]; readonly trace: readonly string[] }

async function play(scenario: Scenario, seed: number, plan: Plan): Promise<{ readonly points: number; readonly facts: readonly HoldfastEvent[]; readonly violation: Violation | undefined }> {
  schedules += 1
  const schedule = new Schedule(seed, plan, scenario.honoursKeys ?? true, scenario.main)
  await schedule.boot()
  await schedule.boot()
  let commits = -1
  let over = false
  const isOver = (): boolean => {
    if (schedule.disk.commits !== commits) {
      commits = schedule.disk.commits
      over = scenario.over(schedule)
    }
    return over || schedule.violations.length > 0
  }
  const ended = await schedule.env.until(isOver, OVER_WITHIN_MS)
  const { points } = schedule
  // Whoever is stalled wakes up and tries to go on.
  await schedule.env.until(() => schedule.stalled === 0, STALL_MAX_MS)
  if (Object.values(plan).includes('pause')) await schedule.env.advance(5_000)
  if (!scenario.over(schedule)) schedule.violations.push(ended ? 'was over and then was not' : 'never over')
  for (const { name, data } of schedule.facts) tellReached(name, data)
  for (const line of schedule.trace) if (/die after call (pay|reserve|activate|send)/.test(line)) reach('crash between effect and record')
  const violations = [...schedule.violations, ...scenario.check(schedule)]
  return { points, facts: schedule.facts, violation: violations.length === 0 ? undefined : { scenario: scenario.name, seed, plan, violations, trace: schedule.trace } }
}

function tellReached(name: string, data: unknown): void {
  const { reason = '', direction, as, state } = data as { readonly reason?: string; readonly direction?: string; readonly as?: string; readonly state?: string }
  if (name === 'lease.lost') reach(reason.includes('refused') ? 'zombie write refused' : 'lease lost in the middle')
  if (name === 'saga.resumed') reach(direction === 'undo' ? 'undo interrupted and resumed' : 'run resumed')
  if (name === 'once.settled' && as === 'done') reach('unknown outcome settled')
  if (name === 'outbox.parked' && state === 'unknown') reach('unknown and shown')
  if (name === 'store.lost') reach('unknown commit or store away')
}

/** Every single fault at every point, then pairs by the seed, `total` schedules in all. Stops at the first violation. */
async function enumerate(scenario: Scenario, total: number): Promise<Violation | undefined> {
  const kinds = scenario.faults ?? ['die', 'pause', 'error']
  const { points, violation } = await play(scenario, 1, {})
  if (violation !== undefined) return violation
  let left = total - 1
  for (let at = 0; at < points && left > 0; at++) {
    for (const kind of kinds) {
      left -= 1
      const found = (await play(scenario, 1, { [at]: kind })).violation
      if (found !== undefined) return found
    }
  }
  const random = seededRandom(7)
  for (let seed = 2; left > 0; seed++, left--) {
    const plan: Record<number, Fault> = {}
    const faults = random() < 0.3 ? 3 : 2
    for (let i = 0; i < faults; i++) plan[Math.floor(random() * (points + 15))] = kinds[Math.floor(random() * kinds.length)] ?? 'die'
    const found = (await play(scenario, seed, plan)).violation
    if (found !== undefined) return found
  }
  return undefined
}

const DEATHS: readonly Fault[] = ['die', 'error']

describe('whatever dies, stalls or fails', () => {
  const runs: readonly (readonly [Scenario, number])[] = [
    [onceScenario('retry'), 600],
    [onceScenario('verify'), 500],
    [onceScenario('hold'), 400],
    [onceScenario('verify', { name: 'once, verify, at a provider that knows no keys', honoursKeys: false, faults: ['die'] }), 200],
    [sagaScenario('idempotent', 'done'), 600],
    [sagaScenario('idempotent', 'undone'), 700],
    [sagaScenario('verify', 'done'), 450],
    [sagaScenario('hold', 'done'), 450],
    [messageScenario(true), 450],
    [messageScenario(false), 450],
    [leaseScenario(), 300],
  ]
  it.each(runs.map(([scenario, total]) => ({ name: scenario.name, scenario, total })))('$name: every invariant holds', async ({ scenario, total }) => {
    expect(await enumerate(scenario, total)).toBeUndefined()
  })

  afterAll(() => {
    process.stdout.write(`${JSON.stringify({ schedules, reached: Object.fromEntries(reached) })}\n`)
  })

  it('a schedule is replayed by its seed and plan', async () => {
    const plan: Plan = { 7: 'pause', 19: 'die' }
    const [one, two] = [await play(sagaScenario('verify', 'done'), 42, plan), await play(sagaScenario('verify', 'done'), 42, plan)]
    expect(one.facts.length).toBeGreaterThan(5)
    expect(JSON.stringify(two)).toBe(JSON.stringify(one))
    expect(JSON.stringify(await play(sagaScenario('verify', 'done'), 43, plan))).not.toBe(JSON.stringify(one))
  })

  it('every interesting state was reached', () => {
    const wanted = [
      'zombie write refused', 'lease lost in the middle', 'duplicate while in flight', 'duplicate of what is done', 'crash between effect and record', 'unknown outcome settled',
      'needs a human', 'run resumed', 'undo interrupted and resumed', 'handled twice, happened once', 'unknown and shown', 'unknown commit or store away',
    ]
    expect(wanted.filter(what => !reached.has(what))).toEqual([])
    expect(schedules).toBeGreaterThanOrEqual(5_000)
  })
})

describe('control', () => {
  afterEach(() => { vi.restoreAllMocks() })

  it.each([onceScenario('retry', {}, { freshKeys: true }), sagaScenario('idempotent', 'done', { faults: DEATHS }, { freshKeys: true })])('$name: with a fresh key for each attempt something happens twice', async scenario => {
    expect((await enumerate(scenario, 500))?.violations.join()).toMatch(/[2-9] effects, wanted 1/)
  })

  it('saga: without the fence of the journal a zombie writes', async () => {
    vi.spyOn(sagaMemory, 'journal').mockImplementation(async (tx, { saga: name, id }, _fence, entries) => {
      const table = tx.table<RunRow>('holdfast.saga_run')
      const row = table.get(`${name} ${id}`)
      if (row === undefined) return false
      const bySeq = new Map(row.steps.map(step => [step.seq, step]))
      for (const entry of entries) bySeq.set(entry.seq, entry)
      table.set(`${name} ${id}`, { ...row, steps: [...bySeq.values()].sort((a, b) => a.seq - b.seq) })
      return true
    })
    expect((await enumerate(sagaScenario('idempotent', 'done'), 1_000))?.violations.join()).toContain('record: 2 rows, wanted 1')
  })

  it('once: without the fence of the completion its consequences happen twice', async () => {
    vi.spyOn(onceMemory, 'complete').mockImplementation(async (tx, name, key, _fence, result) => {
      const table = tx.table<OnceRow>('holdfast.once_record')
      const row = table.get(`${name} ${key}`)
      if (row !== undefined) table.set(`${name} ${key}`, { ...row, state: 'done', result })
      return true
    })
    expect((await enumerate(onceScenario('retry'), 1_000))?.violations.join()).toContain('paid: 2 rows, wanted 1')
  })

  it('saga: an undo that is recorded before its effect gets lost', async () => {
    expect((await enumerate(sagaScenario('idempotent', 'undone', {}, { recordUndoFirst: true }), 1_000))?.violations.join()).toContain('release: 0 effects, wanted 1')
  })

  it('lease: without the guard an older fence writes after a newer one', async () => {
    expect((await enumerate(leaseScenario({ unguarded: true }), 1_000))?.violations.join()).toContain('fences went back')
  })

  it('once: at a provider that knows no keys a blind retry pays twice', async () => {
    expect((await enumerate(onceScenario('retry', { honoursKeys: false, faults: ['die'] }), 500))?.violations.join()).toContain('pay: 2 effects, wanted 1')
  })
})
