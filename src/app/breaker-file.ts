/**
 * Breakers over a restart: a service that crash-loops must not forget at each start that a dependency is down.
 *
 * `breakers.last-known.json` in the data directory holds the records that guard makes. It is written as soon as a breaker
 * changes, then at most four times a second, and at the stop; atomically, so that a crash leaves the old file or the new one.
 * What it says is a hint: a file that is damaged, missing or not writable keeps nothing from starting or calling, and is
 * announced as `breaker.state.lost`. Not here: partitions (a record is of the breaker above them).
 */
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { messageOf, type Kit, type Registry } from '../core/index.ts'
import type { BreakerRecord, Dependency } from '../guard/index.ts'
import { endsWithin } from './bounded.ts'

/** Larger than the records of a thousand dependencies. */
const FILE_BYTES_MAX = 512 * 1_024
/** A disk that hangs must not hang the start; what it says later is still used by breakers that have not counted anything. */
const READ_MS = 1_000
const WRITE_EVERY_MS = 250
/** What nobody has declared for so long since it was written is forgotten. */
const UNCLAIMED_MS = 24 * 60 * 60_000

export class BreakerFile {
  readonly #path: string
  readonly #dir: string
  readonly #kit: Kit
  readonly #dependencies: Registry<Dependency>
  /** Records of dependencies that were not declared yet. */
  readonly #unclaimed = new Map<string, unknown>()
  readonly #stopping = new AbortController()
  #unlisten: (() => void)[] = []
  #started = false
  #exists = false
  #dirty = false
  #writing: Promise<void> | undefined
  #trouble: string | undefined

  constructor(dir: string, kit: Kit, dependencies: Registry<Dependency>) {
    this.#dir = dir
    this.#path = join(dir, 'breakers.last-known.json')
    this.#kit = kit
    this.#dependencies = dependencies
  }

  /** Gives every breaker its record back, and keeps what becomes of them from now on. Never throws. */
  async start(): Promise<void> {
    this.#started = true
    const { events, env } = this.#kit
    await endsWithin(env, READ_MS, () => this.#read())
    const changed = (): void => { this.#changed() }
    this.#unlisten = [events.on('breaker.changed', changed), events.on('breaker.shadowed', changed)]
    if (this.#dependencies.all().some(each => each.saveBreaker().phase !== 'closed')) changed()
  }

  /** A dependency that is declared after the start finds its record too. */
  declared(dependency: Dependency): void {
    if (this.#started) this.#restore(dependency)
  }

  /** Writes the last state. Never throws. */
  async stop(): Promise<void> {
    if (!this.#started) return
    this.#started = false
    for (const stop of this.#unlisten.splice(0)) stop()
    this.#stopping.abort()
    await this.#writing
    await this.#write()
  }

  async #read(): Promise<void> {
    try {
      const info = await stat(this.#path).catch(unlessMissing)
      if (info === undefined) return
      this.#exists = true
      if (info.size > FILE_BYTES_MAX) throw new Error(`it has ${String(info.size)} bytes; expected ${String(FILE_BYTES_MAX)} at most`)
      const parsed: unknown = JSON.parse(await readFile(this.#path, 'utf8'))
      if (!isObject(parsed) || !isObject(parsed['breakers'])) throw new Error('it holds no breakers')
      for (const [name, record] of Object.entries(parsed['breakers'])) this.#unclaimed.set(name, record)
      for (const dependency of this.#dependencies.all()) this.#restore(dependency)
    } catch (error) {
      this.#say(`the last known state of the breakers cannot be read, so they begin closed: ${messageOf(error)}`)
    }
  }

  #restore(dependency: Dependency): void {
    const { name } = dependency
    if (!this.#unclaimed.has(name)) return
    const result = dependency.restoreBreaker(this.#unclaimed.get(name))
    this.#unclaimed.delete(name)
    if (!result.restored) this.#say(`the last known state of the breaker of ${name} is not used: ${result.reason}`)
  }

  #changed(): void {
    this.#dirty = true
    this.#writing ??= this.#keepWriting().finally(() => { this.#writing = undefined })
  }

  async #keepWriting(): Promise<void> {
    while (this.#dirty && !this.#stopping.signal.aborted) {
      this.#dirty = false
      await this.#write()
      await this.#kit.env.sleep(WRITE_EVERY_MS, this.#stopping.signal)
    }
  }

  async #write(): Promise<void> {
    const breakers = this.#records()
    // Nothing to say, and nothing there that says otherwise: no file.
    if (!this.#exists && Object.keys(breakers).length === 0) return
    try {
      await mkdir(this.#dir, { recursive: true })
      await writeFile(`${this.#path}.new`, `${JSON.stringify({ breakers }, undefined, 2)}\n`, { mode: 0o600 })
      await rename(`${this.#path}.new`, this.#path)
      this.#exists = true
      this.#trouble = undefined
    } catch (error) {
      const message = `the state of the breakers cannot be kept for a restart: ${messageOf(error)}`
      // Once per trouble, not per write.
      if (this.#trouble !== message) this.#say(message)
      this.#trouble = message
    }
  }

  /** What is worth a line: a breaker that is closed and has counted nothing is as one that begins. */
  #records(): Readonly<Record<string, unknown>> {
    const now = this.#kit.env.now()
    const unclaimed = [...this.#unclaimed].filter(([, record]) => isObject(record) && typeof record['savedAt'] === 'number' && now - record['savedAt'] < UNCLAIMED_MS)
    const known = this.#dependencies.all().map((each): [string, BreakerRecord] => [each.name, each.saveBreaker()]).filter(([, { phase, failures, remainingMs }]) => phase !== 'closed' || failures > 0 || remainingMs !== null)
    return Object.fromEntries<unknown>([...unclaimed, ...known])
  }

  #say(message: string): void {
    this.#kit.events.emit('breaker.state.lost', { message })
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function unlessMissing(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
  throw error
}
