/**
 * Start and stop of one service, whatever hangs, fails or comes at the wrong moment.
 *
 * A start that fails, or that is stopped half-way, leaves nothing open. A stop always ends: it waits for work in flight at most
 * `drainFor`, then for closing at most 3 s per part, and says how many pieces of work were left to the next start.
 */
import { durationMs, HoldfastError } from '../core/index.ts'
import { endsWithin } from './bounded.ts'
import { type CoreParts, DRAIN_DEFAULT } from './core-parts.ts'
import type { DurableParts } from './durable-parts.ts'
import type { Status } from './status.ts'

/** Closing what hangs: longer would not help, and Kubernetes kills after 30 s. */
const CLOSE_MS = 3_000

export interface Identity {
  readonly version: string
  readonly store: string
}

export class Lifecycle<Tx> {
  readonly #parts: CoreParts<Tx>
  readonly #durable: DurableParts<Tx> | undefined
  readonly #identity: Identity
  readonly #drainMs: number
  #phase: Status['phase'] = 'starting'
  #starting: Promise<void> | undefined
  #stopping: Promise<void> | undefined

  constructor(parts: CoreParts<Tx>, durable: DurableParts<Tx> | undefined, identity: Identity) {
    this.#parts = parts
    this.#durable = durable
    this.#identity = identity
    this.#drainMs = durationMs(parts.options.drainFor ?? DRAIN_DEFAULT, `${parts.kit.service}: drainFor`)
  }

  get phase(): Status['phase'] {
    return this.#phase
  }

  start(): Promise<void> {
    const { service } = this.#parts.kit
    if (this.#starting !== undefined) return Promise.reject(new HoldfastError('HF_ALREADY_STARTED', { message: `${service} was started already; make a new one to start again` }))
    if (this.#stopping !== undefined) return Promise.reject(new HoldfastError('HF_STOPPING', { message: `${service} was stopped; make a new one to start again` }))
    this.#starting = this.#begin()
    return this.#starting
  }

  stop(reason: string): Promise<void> {
    this.#stopping ??= this.#drain(reason)
    return this.#stopping
  }

  async #begin(): Promise<void> {
    const { kit, board, breakerFile, health, workers, runbooks } = this.#parts
    const begunAt = kit.env.monotonic()
    try {
      runbooks.check()
      kit.events.emit('app.starting', { service: kit.service, instance: kit.instance, ...this.#identity })
      await this.#durable?.open()
      this.#goOn()
      await board.start()
      this.#goOn()
      // Before anything calls: recovery is the first that does.
      await breakerFile?.start()
      this.#goOn()
      await health.start()
      this.#goOn()
      await this.#durable?.begin(() => { this.#goOn() })
    } catch (error) {
      await this.#release()
      // While a stop is under way the last word is its own.
      if (this.#stopping === undefined) this.#phase = 'stopped'
      throw error
    }
    this.#phase = 'ready'
    for (const each of workers.all()) each.start()
    kit.events.emit('app.started', { service: kit.service, instance: kit.instance, durationMs: kit.env.monotonic() - begunAt })
  }

  /** Between two stages of the start. */
  #goOn(): void {
    if (this.#stopping !== undefined) throw new HoldfastError('HF_STOPPING', { message: `${this.#parts.kit.service} was stopped while it started`, stackless: true })
  }

  async #drain(reason: string): Promise<void> {
    if (this.#phase === 'stopped') return
    const { kit, workers, faultPlans } = this.#parts
    const begunAt = kit.env.monotonic()
    this.#phase = 'draining'
    kit.events.emit('app.draining', { reason })
    // What is in flight is to end well; and an armed plan ends with its instance.
    for (const plan of faultPlans.all()) if (plan.snapshot().state === 'armed') plan.disarm({ by: 'stop', reason })
    const parts: readonly (() => Promise<number>)[] = [
      // Its own end releases what it has opened; that it failed was told to whoever started.
      () => this.#starting?.then(() => 0, () => 0) ?? Promise.resolve(0),
      async () => this.#durable?.drain() ?? 0,
      ...workers.all().map(each => () => each.stop()),
    ]
    // Whatever has not ended counts as one piece of work.
    let left = parts.length
    await endsWithin(kit.env, this.#drainMs, () => Promise.allSettled(parts.map(async part => {
      const count = await part()
      left += count - 1
    })))
    await this.#release()
    this.#phase = 'stopped'
    kit.events.emit('app.stopped', { durationMs: kit.env.monotonic() - begunAt, left })
    this.#parts.silence()
  }

  /** In reverse order of starting; one that fails or hangs does not keep the others. */
  async #release(): Promise<void> {
    const { kit: { env }, board, breakerFile, health } = this.#parts
    await Promise.all([health, board, breakerFile].map(part => endsWithin(env, CLOSE_MS, async () => part?.stop())))
    await endsWithin(env, CLOSE_MS, async () => this.#durable?.close())
  }
}
