/**
 * Button presses that wait for an answer: once each, within 15 s (observed, telegraf#1839).
 */
import type { Env, Timer } from 'holdfast/core'
import { badRequest } from './types.ts'

export interface CallbackAnswer {
  readonly text?: string
  readonly showAlert?: boolean
  readonly url?: string
}

const ANSWER_WITHIN_MS = 15_000
const TOO_OLD = 'query is too old and response timeout expired or query ID is invalid'

export class Callbacks {
  readonly #env: Env
  readonly #waiting = new Map<string, { readonly timer: Timer; readonly settle: (answer: CallbackAnswer | undefined) => void }>()
  readonly counts = { pressed: 0, answered: 0, unanswered: 0 }

  constructor(env: Env) {
    this.#env = env
  }

  /** Resolves with the answer, or with undefined when there was none in time: the customer's button spins until then. */
  wait(id: string): Promise<CallbackAnswer | undefined> {
    this.counts.pressed += 1
    return new Promise(resolve => {
      const timer = this.#env.timer(ANSWER_WITHIN_MS, () => {
        this.#waiting.delete(id)
        this.counts.unanswered += 1
        resolve(undefined)
      })
      this.#waiting.set(id, { timer, settle: resolve })
    })
  }

  /** @throws ApiError 400 */
  answer(id: string, answer: CallbackAnswer): void {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) throw badRequest(TOO_OLD)
    waiting.timer.cancel()
    this.#waiting.delete(id)
    this.counts.answered += 1
    waiting.settle(answer)
  }

  clear(): void {
    for (const { timer, settle } of this.#waiting.values()) {
      timer.cancel()
      settle(undefined)
    }
    this.#waiting.clear()
    Object.assign(this.counts, { pressed: 0, answered: 0, unanswered: 0 })
  }
}
