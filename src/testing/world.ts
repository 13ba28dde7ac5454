/**
 * A world for crash tests: several simulated processes on one disk, with a crash point around every transaction and every
 * outside call, at which a schedule lets them die, stall or be lied to.
 *
 * Points are named (`before saga.write`, `commit saga.write`, `after saga.write`, `before call pay`, `after call pay`) and
 * numbered in the order in which they are passed, over all processes. What a dead process had handed over stays done, and
 * nothing of it ever settles; it boots again after some seconds by the same `main`. The database has a clock of its own.
 */
import { HoldfastError, type Env } from '../core/index.ts'
import { withHooks, type Store } from '../store/index.ts'
import type { Fault, Schedule } from './schedule.ts'
import { simulatedEnv, type SimulatedEnv } from './simulated-env.ts'

/** A store as one process sees it. */
export interface Connection<Tx> {
  readonly store: Store<Tx>
  /** The death of that process: what it has open rolls back, what it awaits never settles. */
  abandon(): void
}

export interface WorldOptions<Tx> {
  readonly schedule: Schedule
  /** The store for a process that boots. */
  readonly connect: (process: string) => Connection<Tx>
  /** A program's main(): declares, starts loops. */
  readonly main: (process: WorldProcess<Tx>) => void | Promise<void>
  /** How long an outside call is on its way. Default 0.2 to 4.5 s: heartbeats of a lease of ten seconds fall into some. */
  readonly latencyMs?: readonly [min: number, max: number]
  /** Asked after each outside call was carried out and each commit, before anything else happens. */
  readonly observe?: (() => Promise<void>) | undefined
  /** Default true. False, for a control: every process takes its own wall clock for the database's. */
  readonly databaseClock?: boolean | undefined
  /** Default true. False: no process stalls inside a transaction; for a database of one connection, where every other would wait for it. */
  readonly stallInside?: boolean | undefined
  /** Only points whose names match can fail; default all. */
  readonly points?: RegExp | undefined
  /** Keeps the names of all points that were passed. Default false: they cost time. */
  readonly record?: boolean
}

export interface WorldProcess<Tx> {
  readonly name: string
  readonly env: SimulatedEnv
  /** With crash points around each transaction. */
  readonly store: Store<Tx>
  /** An outside call, with a crash point on either side. It is carried out also when its caller dies meanwhile. */
  call<T>(what: string, carryOut: () => T): Promise<T>
  /** The process ends, as after an error that nobody caught, and boots again later. */
  exit(): void
}

interface Booted {
  readonly name: string
  readonly env: SimulatedEnv
  readonly connection: { abandon(): void }
  /** While it is stalled. */
  stalled: Promise<void> | undefined
}

const LATENCY_MS = [200, 4_500] as const
const REBOOT_MS = [1_000, 15_000] as const
/** Of a pause without `ms`: from a lease of ten seconds to more than twice that. */
const PAUSE_MS = [10_000, 22_000] as const

export class World<Tx> {
  readonly env: SimulatedEnv
  /** The database's clock. */
  readonly clock: SimulatedEnv
  /** In words, what went wrong and where. */
  readonly trace: string[] = []
  readonly passed: string[] = []
  readonly violations: string[] = []
  /** Points passed so far. */
  points = 0
  /** Commits so far. */
  changes = 0
  operations = 0
  /** Processes that are stalled now. */
  stalled = 0
  readonly faults: Map<Fault['kind'], number> = new Map()
  readonly #options: WorldOptions<Tx>
  readonly #byNumber = new Map<number, Fault>()
  readonly #byName = new Map<string, Fault>()
  readonly #counts = new Map<string, number>()
  readonly #latency: readonly [number, number]
  #hash = 0x811c9dc5
  #boots = 0

  constructor(options: WorldOptions<Tx>) {
    this.#options = options
    this.#latency = options.latencyMs ?? LATENCY_MS
    const { schedule } = options
    this.env = simulatedEnv({ seed: schedule.seed })
    this.clock = this.env.process('database')
    for (const fault of schedule.faults) {
      if (typeof fault.at === 'number') this.#byNumber.set(fault.at, fault)
      else this.#byName.set(fault.at.includes('#') ? fault.at : `${fault.at}#1`, fault)
    }
  }

  /** Of everything that was passed, by whom and when: equal for equal runs. */
  get hash(): number {
    return this.#hash >>> 0
  }

  /** Boots the first processes. */
  async start(): Promise<void> {
    const { processes = 2, jumps = [] } = this.#options.schedule
    for (const jump of jumps) this.env.timer(jump.atMs, () => { this.#jump(jump.process, jump.ms) })
    for (let i = 0; i < processes; i++) await this.boot()
  }

  /** Lets time pass until `over` holds, looked at after each commit; false when it does not within `withinMs`. Ends early on a violation. */
  async until(over: () => Promise<boolean>, withinMs: number): Promise<boolean> {
    const end = this.env.monotonic() + withinMs
    for (;;) {
      const seen = this.changes
      if (this.violations.length > 0 || await over()) return true
      const left = end - this.env.monotonic()
      if (left <= 0) return false
      await this.env.until(() => this.changes !== seen || this.violations.length > 0, left)
      if (this.changes === seen && this.violations.length === 0) return false
    }
  }

  async boot(): Promise<void> {
    const name = `p${String(++this.#boots)}`
    const env = this.env.process(name)
    const connection = this.#options.connect(name)
    const booted: Booted = { name, env, connection, stalled: undefined }
    this.#live.set(name, booted)
    const hooked = withHooks(connection.store, {
      before: transaction => this.#point(booted, 'before', transaction),
      beforeCommit: transaction => this.#point(booted, 'commit', transaction),
      after: transaction => {
        this.changes += 1
        return this.#options.observe === undefined ? this.#point(booted, 'after', transaction) : this.#observed(booted, 'after', transaction)
      },
    })
    const store: Store<Tx> = { ...hooked, open: options => hooked.open({ ...options, env: this.#options.databaseClock === false ? options.env : withClock(options.env, this.clock) }) }
    try {
      await this.#options.main({ name, env, store, call: (what, carryOut) => this.#call(booted, what, carryOut), exit: () => { if (env.alive) void this.#die(booted) } })
    } catch (error) {
      this.violations.push(`main of ${name} threw: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  readonly #live = new Map<string, Booted>()

  async #call<T>(booted: Booted, what: string, carryOut: () => T): Promise<T> {
    const { env } = booted
    if (!env.alive) return never()
    await this.#point(booted, 'before', what, true)
    await this.env.sleep(this.#between(this.#latency))
    const outcome = attempt(carryOut)
    await this.#options.observe?.()
    if (env.alive) await this.#point(booted, 'after', what, true)
    if (booted.stalled !== undefined) await booted.stalled
    if (!env.alive) return never()
    if ('error' in outcome) throw outcome.error
    return outcome.value
  }

  /** After a commit. */
  async #observed(booted: Booted, when: 'after', what: string): Promise<void> {
    await this.#options.observe?.()
    await this.#point(booted, when, what)
  }

  async #later(booted: Booted, when: 'before' | 'commit' | 'after', what: string, call: boolean): Promise<void> {
    await booted.stalled
    await this.#point(booted, when, what, call)
  }

  /** Synchronous where nothing happens, which is nearly always. */
  #point(booted: Booted, when: 'before' | 'commit' | 'after', what: string, call = false): Promise<void> | undefined {
    // A stalled process does nothing, also where it was not waiting for a timer.
    if (booted.stalled !== undefined && (when !== 'commit' || this.#options.stallInside !== false)) return this.#later(booted, when, what, call)
    if (!booted.env.alive) return never()
    const number = this.points++
    if (when === 'before') this.operations += 1
    const name = call ? `${when} call ${what}` : `${when} ${what}`
    this.#mix(name, booted.name)
    if (this.#options.record === true) this.passed.push(name)
    const fault = this.#faultAt(number, name)
    if (fault === undefined || this.#options.points?.test(name) === false) return undefined
    // Only a commit can meet a conflict.
    if (fault.kind === 'conflict' && when !== 'commit') return undefined
    if (fault.kind === 'pause' && when === 'commit' && this.#options.stallInside === false) return undefined
    this.trace.push(`${booted.name} ${fault.kind} ${name} (point ${String(number)}, ${String(Math.round(this.env.monotonic()))} ms)`)
    this.faults.set(fault.kind, (this.faults.get(fault.kind) ?? 0) + 1)
    if (fault.kind === 'die') return this.#die(booted)
    if (fault.kind === 'pause') return this.#pause(booted, fault.ms ?? this.#between(PAUSE_MS))
    throw call ? callError(when, fault.kind) : storeError(when, fault.kind, what)
  }

  #faultAt(number: number, name: string): Fault | undefined {
    const numbered = this.#byNumber.get(number)
    if (this.#byName.size === 0) return numbered
    const count = (this.#counts.get(name) ?? 0) + 1
    this.#counts.set(name, count)
    return numbered ?? this.#byName.get(`${name}#${String(count)}`)
  }

  #die(booted: Booted): Promise<never> {
    this.#live.delete(booted.name)
    booted.env.kill()
    booted.connection.abandon()
    this.env.timer(this.#between(REBOOT_MS), () => { void this.boot() })
    return never()
  }

  #pause(booted: Booted, ms: number): Promise<void> {
    booted.env.pause()
    this.stalled += 1
    booted.stalled = this.env.sleep(ms).then(() => {
      booted.stalled = undefined
      this.stalled -= 1
      booted.env.resume()
    })
    return booted.stalled
  }

  #jump(process: string, ms: number): void {
    if (process === 'database') this.clock.jump(ms)
    else this.#live.get(process)?.env.jump(ms)
  }

  #between([min, max]: readonly [number, number]): number {
    return min + this.env.random() * (max - min)
  }

  #mix(name: string, process: string): void {
    this.#hash = Math.imul(this.#hash ^ numberOf(name) ^ numberOf(process) ^ Math.floor(this.env.monotonic()), 0x01000193)
  }
}

const numbers = new Map<string, number>()

/** FNV-1a of a text; there are few different ones. */
function numberOf(text: string): number {
  const known = numbers.get(text)
  if (known !== undefined) return known
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  numbers.set(text, hash)
  return hash
}

/** The store reads its wall clock from the database's, whatever the process thinks the time is. */
function withClock(env: Env, clock: Env): Env {
  return {
    now: () => clock.now(), monotonic: () => env.monotonic(), timer: (ms, run, options) => env.timer(ms, run, options), sleep: (ms, signal) => env.sleep(ms, signal),
    random: () => env.random(), uuid: () => env.uuid(), bytes: length => env.bytes(length), fetch: env.fetch,
  }
}

function storeError(when: 'before' | 'commit' | 'after', kind: Fault['kind'], transaction: string): Error {
  const unknown = new HoldfastError('HF_STORE_UNKNOWN_COMMIT', { message: `transaction ${transaction}: connection reset`, context: { transaction } })
  if (when === 'after') return unknown
  if (when === 'commit') return new HoldfastError(kind === 'conflict' ? 'HF_STORE_CONFLICT' : 'HF_STORE_UNAVAILABLE', { message: `transaction ${transaction}: ${kind}`, context: { transaction } })
  return kind === 'unknown-commit' || kind === 'lose-answer' ? unknown : new HoldfastError('HF_STORE_UNAVAILABLE', { message: `transaction ${transaction}: connection refused`, context: { transaction } })
}

/** Before it was carried out: refused, or (nobody knows) torn off on its way. */
function callError(when: 'before' | 'commit' | 'after', kind: Fault['kind']): Error {
  if (when === 'before' && kind !== 'unknown-commit' && kind !== 'lose-answer') return new TypeError('fetch failed', { cause: Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }) })
  return Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' })
}

function attempt<T>(run: () => T): { readonly value: T } | { readonly error: Error } {
  try {
    return { value: run() }
  } catch (error) {
    return { error: error instanceof Error ? error : new Error(String(error)) }
  }
}

function never(): Promise<never> {
  return new Promise(() => undefined)
}
