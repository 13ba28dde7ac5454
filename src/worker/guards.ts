/**
 * What is asked before an iteration: switches, dependencies, the system's state, and leadership last, as it asks the store.
 *
 * The first "no" is the reason for skipping. Leadership, once had, is kept between iterations until the worker stops, so
 * that the leader stays the leader and others need not ask for long.
 */
import { messageOf } from '../core/index.ts'
import type { HeldLeadership, Need, ResolvedWorker, WorkerDeps } from './options.ts'

export class Guards {
  readonly #where: string
  readonly #needs: readonly Need[]
  readonly #deps: WorkerDeps
  #leadership: HeldLeadership | undefined

  constructor(name: string, options: Pick<ResolvedWorker, 'needs'>, deps: WorkerDeps) {
    this.#where = `worker ${name}`
    this.#needs = options.needs
    this.#deps = deps
  }

  /** Undefined where leadership isn't needed. */
  get leader(): boolean | undefined {
    return this.#needs.includes('leader') ? this.#leadership?.held === true : undefined
  }

  get leadership(): HeldLeadership | undefined {
    return this.#leadership
  }

  /** Does this fact change an answer? Then a skipped worker looks again at once. */
  concerns(kind: 'flag' | 'dependency', name: string): boolean {
    return this.#needs.some(need => typeof need === 'object' && need.kind === kind && need.name === name)
  }

  get needsSystem(): boolean {
    return this.#needs.some(need => need === 'healthy' || need === 'not-unavailable')
  }

  /** Why not, or undefined. Never throws. */
  async refusal(signal: AbortSignal): Promise<string | undefined> {
    for (const need of this.#needs) {
      if (need === 'leader') continue
      const reason = this.#refusalOf(need)
      if (reason !== undefined) return reason
    }
    return this.#needs.includes('leader') ? this.#lead(signal) : undefined
  }

  async release(): Promise<void> {
    const leadership = this.#leadership
    this.#leadership = undefined
    if (leadership?.held === true) await leadership.release()
  }

  #refusalOf(need: Exclude<Need, 'leader'>): string | undefined {
    if (typeof need === 'object') {
      if (need.kind === 'flag') {
        const checked = need.check(this.#where)
        return checked.ok ? undefined : checked.message
      }
      return need.allows() ? undefined : `dependency ${need.name} takes no calls now`
    }
    const state = this.#deps.systemState?.() ?? 'healthy'
    if (state === 'unavailable' || (need === 'healthy' && state !== 'healthy')) return `the system is ${state}`
    return undefined
  }

  async #lead(signal: AbortSignal): Promise<string | undefined> {
    if (this.#leadership?.held === true) return undefined
    this.#leadership = undefined
    try {
      this.#leadership = await this.#deps.lease?.acquire({ signal })
      return this.#leadership === undefined ? 'another instance leads' : undefined
    } catch (error) {
      return `who leads cannot be found out: ${messageOf(error)}`
    }
  }
}
