/**
 * The switchboard of one service: declared flags, operators' overrides, and how a flip reaches every instance.
 *
 * Promises: reading is local and synchronous; a flip here acts at once; a flip anywhere else acts here within a second
 * (the store is read every 500 ms) or this instance says that it is stale; a kill is never lost because the store is
 * away: it acts here, is kept, and is written when the store is back. Restoring needs the store where there is one.
 *
 * Without an `OverridePort`, overrides are this process's own and end with it.
 */
import { actorName, durationMs, HoldfastError, messageOf, type Actor, type Duration, type HoldfastEvents, type Kit, type Timer } from '../../core/index.ts'
import { poll, type Poll } from '../poll.ts'
import { FlagFiles, type KeptOverride } from './files.ts'
import { checkFlag, pinOf, type FlagOptions, type Flags, type FlagStatus } from './flag.ts'
import type { OverrideChange, OverridePort, StoredOverride } from './override.ts'
import { Switch, type Decision, type Override } from './switch.ts'

export interface FlagBoardOptions {
  /** Where overrides are shared. Default: nowhere; they are local and end with the process. */
  readonly overrides?: OverridePort
  /** Read once, when a flag is declared. */
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Folder of the last known good overrides and of `flags.override.json`. Default: no files. */
  readonly dataDir?: string
  /** How often store and file are looked at. Default 500 ms: a flip reaches every instance within a second. */
  readonly every?: Duration
}

export const FLAG_DEFAULTS: { readonly every: Duration; readonly answerWithinMs: number; readonly staleAfterMs: number; readonly staleAgainMs: number } = Object.freeze({
  every: '500ms',
  /** A poll that has not answered by then has failed. */
  answerWithinMs: 2_000,
  /** Silence of the store that is worth saying: four polls. */
  staleAfterMs: 2_000,
  staleAgainMs: 60_000,
})

export interface FlagChangeOptions {
  readonly actor: Actor
  /** Kept in the audit. @throws HF_REASON_REQUIRED when empty */
  readonly reason: string
  /** The override ends by itself after this long, by the database's clock. Default: it stays until it is cleared. */
  readonly forMs?: number
}

export interface FlagChange {
  readonly flag: FlagStatus
  /** `this-instance`: the store is away (or there is none); a kill is passed on when it is back. */
  readonly reach: 'every-instance' | 'this-instance'
}

export interface FlagBoard {
  /** @throws HF_OPTION_INVALID, HF_NAME_TAKEN, HF_CONFIG_INVALID (a pin that is neither on nor off) */
  declare<const Names extends string>(declared: { readonly [N in Names]: FlagOptions }): Flags<Names>
  /** Off acts here before the store is asked. @throws HF_UNKNOWN_NAME, HF_REASON_REQUIRED, HF_OPTION_INVALID; for on also what the store throws */
  set(name: string, on: boolean, options: FlagChangeOptions): Promise<FlagChange>
  /** Back to pin or default. @throws as `set` */
  clear(name: string, options: Omit<FlagChangeOptions, 'forMs'>): Promise<FlagChange>
  status(): readonly FlagStatus[]
  /** Since the store was last heard; `undefined` without one. */
  readonly ageMs: number | undefined
  /** Reads what is kept on disk, the override file and the store (at most 2 s), then keeps looking. Never throws. */
  start(): Promise<void>
  stop(): Promise<void>
}

/** What changed a value, in the words of the event. */
type Cause = Pick<HoldfastEvents['flag.changed'], 'by' | 'reason' | 'expiresAt'>

export function flagBoard(kit: Kit, options: FlagBoardOptions): FlagBoard {
  return new Switchboard(kit, options)
}

/** A board with these flags: `flags({ payments: {...} }, kit, options).flags.payments.on`. */
export function flags<const Names extends string>(declared: { readonly [N in Names]: FlagOptions }, kit: Kit, options: FlagBoardOptions): FlagBoard & { readonly flags: Flags<Names> } {
  const board = new Switchboard(kit, options)
  return Object.assign(board, { flags: board.declare(declared) })
}

class Switchboard implements FlagBoard {
  readonly #kit: Kit
  readonly #options: FlagBoardOptions
  readonly #everyMs: number
  readonly #switches = new Map<string, Switch>()
  readonly #files: FlagFiles | undefined
  /** Rows of the store by flag, those of flags that this version does not know too. */
  readonly #rows = new Map<string, StoredOverride>()
  readonly #kept = new Map<string, KeptOverride>()
  /** Kills that the store has not taken yet. */
  readonly #pending = new Map<string, OverrideChange>()
  readonly #writing = new Set<OverrideChange>()
  #polls: Poll[] = []
  #expiry: Timer | undefined
  #heardAt: number
  #staleSaidAt: number | undefined
  #trouble = 'it has not been read yet'
  #fileTrouble: string | undefined
  #stopping = new AbortController()

  constructor(kit: Kit, options: FlagBoardOptions) {
    this.#kit = kit
    this.#options = options
    this.#everyMs = durationMs(options.every ?? FLAG_DEFAULTS.every, 'flags: every', { min: 50 })
    this.#files = options.dataDir === undefined ? undefined : new FlagFiles(options.dataDir)
    this.#heardAt = kit.env.monotonic()
  }

  declare<const Names extends string>(declared: { readonly [N in Names]: FlagOptions }): Flags<Names> {
    const made: [string, Switch][] = Object.entries<FlagOptions>(declared).map(([name, options]) => {
      checkFlag(name, options)
      if (this.#switches.has(name)) throw new HoldfastError('HF_NAME_TAKEN', { message: `flag ${name} is already defined`, context: { kind: 'flag', name } })
      return [name, new Switch(name, options, pinOf(name, options, this.#options.environment), this.#kit.events)]
    })
    const all = new Map([...this.#switches, ...made])
    for (const [name] of made) checkParents(name, all)
    for (const [name, flag] of made) {
      this.#switches.set(name, flag)
      this.#adopt(name)
    }
    this.#refresh(undefined)
    return Object.freeze(Object.fromEntries(made)) as unknown as Flags<Names>
  }

  get ageMs(): number | undefined {
    return this.#options.overrides === undefined ? undefined : this.#kit.env.monotonic() - this.#heardAt
  }

  status(): readonly FlagStatus[] {
    const monotonic = this.#kit.env.monotonic()
    return [...this.#switches.values()].map(flag => flag.status(monotonic))
  }

  async set(name: string, on: boolean, options: FlagChangeOptions): Promise<FlagChange> {
    const { flag, change } = this.#changeOf(name, on, options)
    if (on) return this.#write(flag, change)
    // A kill acts first and is written afterwards.
    this.#pending.set(name, change)
    this.#override(flag, change)
    try {
      return await this.#write(flag, change)
    } catch (error) {
      this.#trouble = messageOf(error)
      return { flag: flag.status(this.#kit.env.monotonic()), reach: 'this-instance' }
    }
  }

  async clear(name: string, options: Omit<FlagChangeOptions, 'forMs'>): Promise<FlagChange> {
    const { flag, change } = this.#changeOf(name, null, options)
    return this.#write(flag, change)
  }

  async start(): Promise<void> {
    this.#stopping = new AbortController()
    await this.#readKept()
    await this.#lookAtFile(true)
    const { env } = this.#kit
    if (this.#options.overrides !== undefined) {
      await this.#lookAtStore(true)
      this.#polls.push(poll(env, this.#everyMs, () => this.#lookAtStore(false)))
    }
    // Apart from the store's poll, so that a store that hangs delays neither the file nor the word that we are stale.
    this.#polls.push(poll(env, this.#everyMs, async () => {
      this.#sayStale()
      await this.#lookAtFile(false)
    }))
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#expiry?.cancel()
    const polls = this.#polls
    this.#polls = []
    await Promise.all(polls.map(each => each.stop()))
    await this.#files?.settled()
  }

  #changeOf(name: string, on: boolean | null, options: FlagChangeOptions): { readonly flag: Switch; readonly change: OverrideChange } {
    const flag = this.#switches.get(name)
    if (flag === undefined) {
      throw new HoldfastError('HF_UNKNOWN_NAME', { message: `no flag is called ${JSON.stringify(name)}; there is ${[...this.#switches.keys()].join(', ') || 'none'}`, context: { kind: 'flag', name } })
    }
    if (options.reason.trim() === '') throw new HoldfastError('HF_REASON_REQUIRED', { message: `flag ${name}: say why it is changed`, context: { flag: name } })
    if (options.forMs !== undefined && !(Number.isFinite(options.forMs) && options.forMs >= 1_000)) {
      throw new HoldfastError('HF_OPTION_INVALID', { message: `flag ${name}: expected forMs of at least 1000, got ${String(options.forMs)}`, context: { flag: name } })
    }
    return { flag, change: { flag: name, on, actor: actorName(options.actor), reason: options.reason.trim(), forMs: options.forMs } }
  }

  async #write(flag: Switch, change: OverrideChange): Promise<FlagChange> {
    const port = this.#options.overrides
    if (port === undefined) {
      this.#pending.delete(flag.name)
      this.#override(flag, change)
      return { flag: flag.status(this.#kit.env.monotonic()), reach: 'this-instance' }
    }
    this.#writing.add(change)
    const row = await port.write(change).finally(() => { this.#writing.delete(change) })
    // A kill that came while this was under way stays pending: it is the later word.
    const pending = this.#pending.get(flag.name)
    if (pending === change || change.on !== false) this.#pending.delete(flag.name)
    this.#take([row], false)
    return { flag: flag.status(this.#kit.env.monotonic()), reach: 'every-instance' }
  }

  /** A change made here, before or without the store. */
  #override(flag: Switch, change: OverrideChange): void {
    const { env } = this.#kit
    flag.stored = change.on === null ? undefined : {
      on: change.on, actor: change.actor, reason: change.reason, at: env.now(),
      ...(change.forMs === undefined ? {} : { expiresAt: env.now() + change.forMs, endsAt: env.monotonic() + change.forMs }),
    }
    this.#refresh({ by: change.actor, reason: change.reason, ...(flag.stored?.expiresAt === undefined ? {} : { expiresAt: flag.stored.expiresAt }) })
  }

  async #lookAtStore(quiet: boolean): Promise<void> {
    const port = this.#options.overrides
    if (port === undefined) return
    const { env } = this.#kit
    const limit = new AbortController()
    const timer = env.timer(FLAG_DEFAULTS.answerWithinMs, () => { limit.abort() })
    try {
      const rows = await untilAborted(port.read(limit.signal), AbortSignal.any([limit.signal, this.#stopping.signal]))
      this.#heardAt = env.monotonic()
      this.#staleSaidAt = undefined
      this.#take(rows, quiet)
      for (const change of [...this.#pending.values()]) {
        const flag = this.#switches.get(change.flag)
        if (flag !== undefined && !this.#writing.has(change)) await untilAborted(this.#write(flag, change), limit.signal)
      }
    } catch (error) {
      this.#trouble = messageOf(error)
    } finally {
      timer.cancel()
    }
  }

  /** Rows newer than those known. A version may fall back where a store was restored: then the database's clock decides. */
  #take(rows: readonly StoredOverride[], quiet: boolean): void {
    let changed = false
    for (const row of rows) {
      const known = this.#rows.get(row.flag)
      if (known !== undefined && row.version <= known.version && row.changedAt <= known.changedAt) continue
      this.#rows.set(row.flag, row)
      const { env } = this.#kit
      const remaining = row.remainingMs
      if (row.on === null || (remaining !== undefined && remaining <= 0)) this.#kept.delete(row.flag)
      else {
        this.#kept.set(row.flag, {
          flag: row.flag, on: row.on, actor: row.actor, reason: row.reason, at: row.changedAt, version: row.version,
          ...(remaining === undefined ? {} : { expiresAt: env.now() + remaining }),
        })
      }
      changed = true
      this.#adopt(row.flag)
      this.#refresh(quiet ? undefined : { by: row.actor, reason: row.reason, ...(remaining === undefined ? {} : { expiresAt: env.now() + remaining }) })
    }
    if (changed) this.#keep()
  }

  /** Gives a switch the override that is known for it, unless a local kill is waiting for the store. */
  #adopt(name: string): void {
    const flag = this.#switches.get(name)
    if (flag === undefined || this.#pending.has(name)) return
    const kept = this.#kept.get(name)
    flag.stored = kept === undefined ? undefined : toOverride(kept, this.#kit.env)
  }

  #keep(): void {
    if (this.#files === undefined) return
    this.#files.writeLastKnown([...this.#kept.values()]).catch((error: unknown) => {
      this.#say(`the last known good switches cannot be kept on disk: ${messageOf(error)}`)
    })
  }

  async #readKept(): Promise<void> {
    if (this.#files === undefined) return
    try {
      for (const kept of await this.#files.readLastKnown()) {
        if (this.#kept.has(kept.flag)) continue
        this.#kept.set(kept.flag, kept)
        this.#adopt(kept.flag)
      }
      this.#refresh(undefined)
    } catch (error) {
      this.#say(`the last known good switches cannot be read: ${messageOf(error)}`)
    }
  }

  async #lookAtFile(quiet: boolean): Promise<void> {
    if (this.#files === undefined) return
    try {
      const overrides = await this.#files.readOverrides()
      this.#fileTrouble = undefined
      if (overrides === undefined) return
      for (const flag of this.#switches.values()) {
        const before = flag.file
        const after = overrides.get(flag.name)
        flag.file = after === undefined ? undefined : { ...after, at: this.#kit.env.now() }
        const cause = after ?? before
        if (cause !== undefined) this.#refresh(quiet ? undefined : { by: cause.actor, reason: after === undefined ? 'taken out of the local override file' : cause.reason })
      }
    } catch (error) {
      const message = messageOf(error)
      if (this.#fileTrouble !== message) this.#say(message)
      this.#fileTrouble = message
    }
  }

  /** Finds every value anew. With a cause, what changed is announced: the switch itself, and those below it. */
  #refresh(cause: Cause | undefined): void {
    const monotonic = this.#kit.env.monotonic()
    const decided = new Map<string, Decision>()
    const decide = (flag: Switch): Decision => {
      const known = decided.get(flag.name)
      if (known !== undefined) return known
      const parent = flag.options.parent === undefined ? undefined : this.#switches.get(flag.options.parent)
      const decision = flag.decide(monotonic, parent === undefined ? undefined : decide(parent))
      decided.set(flag.name, decision)
      return decision
    }
    const changed: [Switch, boolean][] = []
    for (const flag of this.#switches.values()) {
      const { on, because } = decide(flag)
      if (flag.on !== on) changed.push([flag, on])
      flag.on = on
      flag.because = because
    }
    // Announced after all are set: a listener that reads another switch sees one consistent board.
    if (cause !== undefined) for (const [flag, on] of changed) this.#kit.events.emit('flag.changed', { flag: flag.name, from: !on, to: on, ...cause })
    this.#armExpiry(monotonic)
  }

  #armExpiry(monotonic: number): void {
    this.#expiry?.cancel()
    this.#expiry = undefined
    const ending = [...this.#switches.values()].filter(flag => flag.stored?.endsAt !== undefined)
    const next = Math.min(...ending.map(flag => flag.stored?.endsAt ?? Infinity))
    if (next === Infinity || this.#stopping.signal.aborted) return
    this.#expiry = this.#kit.env.timer(Math.max(0, next - monotonic), () => {
      const now = this.#kit.env.monotonic()
      for (const flag of ending) {
        const override = flag.stored
        if (override?.endsAt === undefined || override.endsAt > now) continue
        flag.stored = undefined
        this.#pending.delete(flag.name)
        this.#kept.delete(flag.name)
        this.#refresh({ by: 'expiry', reason: `the override of ${override.actor} has ended (${override.reason})` })
      }
      this.#armExpiry(now)
      this.#keep()
    })
  }

  #sayStale(): void {
    const age = this.ageMs
    if (age === undefined || age < FLAG_DEFAULTS.staleAfterMs) return
    const now = this.#kit.env.monotonic()
    if (this.#staleSaidAt !== undefined && now - this.#staleSaidAt < FLAG_DEFAULTS.staleAgainMs) return
    this.#staleSaidAt = now
    this.#say(`the store has not answered; the last known switches stay in force: ${this.#trouble}`)
  }

  #say(message: string): void {
    this.#kit.events.emit('flags.stale', { ageMs: this.ageMs ?? 0, message })
  }
}

function toOverride(kept: KeptOverride, env: Kit['env']): Override {
  const { on, actor, reason, at, expiresAt } = kept
  return { on, actor, reason, at, ...(expiresAt === undefined ? {} : { expiresAt, endsAt: env.monotonic() + (expiresAt - env.now()) }) }
}

/** Each parent exists, and no flag is its own ancestor. @throws HF_OPTION_INVALID */
function checkParents(name: string, all: ReadonlyMap<string, Switch>): void {
  const seen = new Set([name])
  let parent = all.get(name)?.options.parent
  while (parent !== undefined) {
    if (!all.has(parent) || seen.has(parent)) {
      const what = all.has(parent) ? 'a flag cannot be its own ancestor' : `there is no flag called ${JSON.stringify(parent)}`
      throw new HoldfastError('HF_OPTION_INVALID', { message: `flag ${name}: parent: ${what}`, context: { flag: name } })
    }
    seen.add(parent)
    parent = all.get(parent)?.options.parent
  }
}

/** A store that ignores its signal must not hold up the poll. */
function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => { reject(new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'no answer in time' })) }
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    work.then(
      value => { signal.removeEventListener('abort', abort); resolve(value) },
      (error: unknown) => { signal.removeEventListener('abort', abort); reject(error instanceof Error ? error : new Error(String(error))) },
    )
  })
}
