/**
 * A model of the other side: a payment provider, a panel, a messenger. It counts what really happened there.
 *
 * The store counts beliefs, the outside world counts effects, and a crash test compares the two. How much the other side
 * helps is set here: a provider that honours keys hides a missing fence of ours, so knock-outs take that help away.
 */
export interface OutsideOptions {
  /** A request whose key is known is answered as before and does nothing. Default true. */
  readonly honoursKeys?: boolean
  /** A request with an older fence than the newest that was seen for the resource is refused with 409. Default false. */
  readonly honoursFences?: boolean
  /** Numbers of requests, from 1, that are carried out and then answered by 500: their callers cannot know. Default none. */
  readonly failsAfterEffect?: readonly number[]
  /** Numbers of requests, from 1, that are refused with 429 and not carried out. Default none. */
  readonly refuses?: readonly number[]
  /** Numbers of requests, from 1, that arrive twice, as when a proxy in between repeats them. Default none. */
  readonly arrivesTwice?: readonly number[]
}

/** What a request may bring along. */
export interface OutsideRequest {
  readonly key?: string
  /** Of the lease under which it is sent, for a resource that only its newest holder may change. */
  readonly fence?: number
}

export interface Effect {
  readonly what: string
  readonly key: string | undefined
  readonly answer: string
}

/** An answer that is no success; `failureVerdict` reads its status. */
export class OutsideError extends Error {
  readonly status: number

  constructor(status: number, message: string) {
    super(`${String(status)} ${message}`)
    this.name = 'OutsideError'
    this.status = status
  }
}

export class OutsideWorld {
  readonly #options: OutsideOptions
  readonly #effects: Effect[] = []
  readonly #answers = new Map<string, string>()
  readonly #fences = new Map<string, number>()
  #requests = 0

  constructor(options: OutsideOptions = {}) {
    this.#options = options
  }

  /** What happened, in its order. */
  get effects(): readonly Effect[] {
    return this.#effects
  }

  /** Carries out `what` and answers, the same answer for a key that is known. @throws OutsideError */
  request(what: string, { key, fence }: OutsideRequest = {}): string {
    const nth = ++this.#requests
    const { refuses, failsAfterEffect, arrivesTwice } = this.#options
    if (refuses?.includes(nth) === true) throw new OutsideError(429, `${what}: not now`)
    this.#refuseOlder(what, fence)
    const answer = this.#carryOut(what, key)
    if (arrivesTwice?.includes(nth) === true) this.#carryOut(what, key)
    if (failsAfterEffect?.includes(nth) === true) throw new OutsideError(500, `${what}: carried out, and then something broke`)
    return answer
  }

  count(what: string): number {
    return this.#effects.filter(effect => effect.what === what).length
  }

  /** What was answered when it happened first; undefined when it has not. */
  find(what: string): string | undefined {
    return this.#effects.find(effect => effect.what === what)?.answer
  }

  #refuseOlder(what: string, fence: number | undefined): void {
    if (this.#options.honoursFences !== true || fence === undefined) return
    const newest = this.#fences.get(what) ?? 0
    if (fence < newest) throw new OutsideError(409, `${what}: fence ${String(fence)} is older than ${String(newest)}`)
    this.#fences.set(what, fence)
  }

  #carryOut(what: string, key: string | undefined): string {
    const scope = `${what} ${key ?? ''}`
    const known = this.#options.honoursKeys === false || key === undefined ? undefined : this.#answers.get(scope)
    if (known !== undefined) return known
    const answer = `${what} #${String(this.#effects.length + 1)}`
    this.#effects.push({ what, key, answer })
    this.#answers.set(scope, answer)
    return answer
  }
}
