/**
 * Whose turn it is: a fair, bounded queue for `slots` holders at a time.
 *
 * First come, first served; who has waited `waitMs` or is aborted leaves and is told so. Handing over is direct: a
 * newcomer never overtakes somebody who waits.
 */
import { HoldfastError, type Env, type Timer } from '../core/index.ts'

interface Waiter {
  admit(): void
  refuse(error: HoldfastError): void
}

export interface TurnsOptions {
  readonly slots: number
  readonly waitersMax: number
  /** Undefined: waits for its turn without bound (memory, where a turn costs no time). */
  readonly waitMs?: number | undefined
  /** What is waited for, in words. */
  readonly what: string
}

export class Turns {
  readonly #env: Pick<Env, 'timer'>
  readonly #options: TurnsOptions
  readonly #waiters = new Set<Waiter>()
  #free: number

  constructor(env: Pick<Env, 'timer'>, options: TurnsOptions) {
    this.#env = env
    this.#options = options
    this.#free = options.slots
  }

  get waiting(): number {
    return this.#waiters.size
  }

  /**
   * Resolves when it is the caller's turn; `leave()` must follow exactly once.
   * @throws HF_STORE_UNAVAILABLE when too many wait or it took too long, HF_CANCELLED when aborted meanwhile
   */
  enter(name: string, signal?: AbortSignal): Promise<void> {
    if (this.#free > 0) {
      this.#free--
      return Promise.resolve()
    }
    const { waitersMax, waitMs, what } = this.#options
    if (this.#waiters.size >= waitersMax) return Promise.reject(unavailable(name, `${String(waitersMax)} transactions already wait for ${what}`))
    return new Promise((resolve, reject) => {
      let timer: Timer | undefined
      const settle = (): void => {
        this.#waiters.delete(waiter)
        timer?.cancel()
        signal?.removeEventListener('abort', abort)
      }
      const waiter: Waiter = {
        admit: () => { settle(); resolve() },
        refuse: error => { settle(); reject(error) },
      }
      const abort = (): void => {
        waiter.refuse(new HoldfastError('HF_CANCELLED', { message: `transaction ${name} was cancelled while it waited for ${what}`, context: { transaction: name } }))
      }
      if (waitMs !== undefined) timer = this.#env.timer(waitMs, () => { waiter.refuse(unavailable(name, `waited ${String(waitMs)} ms for ${what}`)) }, { keepAlive: true })
      signal?.addEventListener('abort', abort, { once: true })
      this.#waiters.add(waiter)
    })
  }

  leave(): void {
    for (const next of this.#waiters) {
      next.admit()
      return
    }
    this.#free++
  }

  /** Everybody who waits is refused. */
  refuseAll(message: string): void {
    for (const waiter of [...this.#waiters]) waiter.refuse(unavailable('waiting', message))
  }
}

/** `local`: refused here, which says nothing about the database (./availability.ts). */
function unavailable(name: string, message: string): HoldfastError {
  return new HoldfastError('HF_STORE_UNAVAILABLE', { message: `transaction ${name}: ${message}`, context: { transaction: name, local: true } })
}
