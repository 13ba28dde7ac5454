/**
 * Carries out a fault script: for each call the first rule that matches decides what goes wrong with it.
 *
 * With no rules a call costs one ledger entry. In process a dropped connection rejects like undici's `fetch` does
 * (`TypeError: fetch failed`), and what hangs ends when the request's signal aborts; `listen()` turns both into what
 * happens on a socket. The caller never waits in here once it has aborted, but an effect under way is still done.
 */
import { type Env, HoldfastError } from 'holdfast/core'
import { type Fault, type FaultRule, parseFaultRule } from './fault-rule.ts'
import type { Ledger, LedgerEntry } from './ledger.ts'
import type { SeededRandom } from './random.ts'

/** One call through the script, inbound or outbound. */
export interface Call {
  readonly direction: 'in' | 'out'
  readonly operation: string
  readonly method: string
  readonly args: unknown
  readonly signal: AbortSignal | undefined
  /** The effect and its reply. May run twice (`duplicate`). */
  readonly apply: () => Response | Promise<Response>
  /** A refusal in the shape of the simulated system. */
  readonly refuse: (status: number, retryAfterS: number | undefined) => Response
}

export interface ActiveRule extends FaultRule {
  readonly id: string
  /** Calls that matched, and how many of them were hit. */
  readonly matched: number
  readonly hit: number
}

interface Armed {
  readonly id: string
  readonly rule: FaultRule
  readonly patterns: readonly ((operation: string) => boolean)[]
  readonly nth: readonly number[]
  readonly addedAt: number
  matched: number
  hit: number
}

const RULES_MAX = 1_000

export class FaultScript {
  readonly #env: Env
  readonly #random: SeededRandom
  readonly #ledger: Ledger
  #rules: Armed[] = []
  #nextId = 1
  #handled = 0
  /** Everybody who waits for time, for others or for ever; `release` ends them all. */
  readonly #waiting = new Set<() => void>()
  readonly #overtaken = new Set<{ readonly handled: number; readonly go: () => void }>()

  constructor(env: Env, random: SeededRandom, ledger: Ledger) {
    this.#env = env
    this.#random = random
    this.#ledger = ledger
  }

  /** Adds a rule behind the others and answers its id. @throws HF_OPTION_INVALID */
  add(rule: FaultRule): string {
    parseFaultRule(rule)
    if (this.#rules.length >= RULES_MAX) throw new HoldfastError('HF_OPTION_INVALID', { message: `faults: expected at most ${String(RULES_MAX)} rules; remove some first` })
    const id = rule.id ?? `fault-${String(this.#nextId)}`
    this.#nextId += 1
    const { operation, nth } = rule.match ?? {}
    this.#rules = this.#rules.filter(armed => armed.id !== id)
    this.#rules.push({
      id, rule, addedAt: this.#env.monotonic(), matched: 0, hit: 0,
      patterns: operation === undefined ? [] : (typeof operation === 'string' ? [operation] : operation).map(pattern),
      nth: nth === undefined ? [] : typeof nth === 'number' ? [nth] : nth,
    })
    return id
  }

  /** These rules and no others. */
  set(rules: readonly FaultRule[]): void {
    for (const rule of rules) parseFaultRule(rule)
    this.clear()
    for (const rule of rules) this.add(rule)
  }

  /** Answers whether there was such a rule. Calls that it already holds stay held. */
  remove(id: string): boolean {
    const before = this.#rules.length
    this.#rules = this.#rules.filter(armed => armed.id !== id)
    return this.#rules.length < before
  }

  clear(): void {
    this.#rules = []
  }

  list(): readonly ActiveRule[] {
    return this.#rules.map(({ id, rule, matched, hit }) => ({ ...rule, id, matched, hit }))
  }

  /** Ends every wait: who hangs is dropped, what was to happen later does not. */
  release(): void {
    for (const end of [...this.#waiting]) end()
  }

  async run(call: Call): Promise<Response> {
    const entry = this.#ledger.open(call.direction, call.operation, call.method, call.args)
    const fault = this.#rules.length === 0 ? undefined : this.#choose(call)
    entry.fault = fault?.kind
    try {
      const response = fault === undefined ? await this.#apply(call, entry) : await this.#inject(fault, call, entry)
      this.#ledger.close(entry, 'answered', response.status)
      return response
    } catch (error) {
      this.#ledger.close(entry, call.signal?.aborted === true ? 'hung' : isFetchFailed(error) ? 'dropped' : 'failed', undefined)
      throw error
    }
  }

  #choose(call: Call): Fault | undefined {
    const now = this.#env.monotonic()
    let json: string | undefined
    for (const armed of this.#rules) {
      const { match } = armed.rule
      if (match !== undefined) {
        if (armed.patterns.length > 0 && !armed.patterns.some(fits => fits(call.operation))) continue
        if (match.method !== undefined && match.method.toUpperCase() !== call.method) continue
        if (match.forMs !== undefined && now - armed.addedAt >= match.forMs) continue
        if (match.contains !== undefined && !(json ??= JSON.stringify(call.args) ?? '').includes(match.contains)) continue
      }
      armed.matched += 1
      if (match?.times !== undefined && armed.hit >= match.times) continue
      if (armed.nth.length > 0 && !armed.nth.includes(armed.matched)) continue
      if (match?.probability !== undefined && this.#random.next() >= match.probability) continue
      const { fault } = armed.rule
      // While it is up, a flapping rule lets the call through to the rules behind it.
      if (fault.kind === 'flapping' && (now - armed.addedAt) % (fault.downMs + fault.upMs) >= fault.downMs) continue
      armed.hit += 1
      return fault
    }
    return undefined
  }

  async #inject(fault: Fault, call: Call, entry: LedgerEntry): Promise<Response> {
    switch (fault.kind) {
      case 'delay': {
        const ms = fault.ms + (fault.jitterMs === undefined ? 0 : this.#random.next() * fault.jitterMs)
        if (fault.when === 'after') {
          const response = await this.#apply(call, entry)
          await this.#unlessAborted(this.#wait(ms), call.signal)
          return response
        }
        return this.#unlessAborted(this.#wait(ms).then(() => this.#apply(call, entry)), call.signal)
      }
      case 'hang':
        return this.#never(call.signal)
      case 'drop-before':
      case 'flapping':
        throw fetchFailed(fault.kind === 'drop-before' ? fault.code ?? 'ECONNRESET' : 'ECONNRESET')
      case 'apply-then-drop':
        await this.#apply(call, entry)
        throw fetchFailed('UND_ERR_SOCKET')
      case 'apply-then-hang':
        await this.#apply(call, entry)
        return this.#never(call.signal)
      case 'status':
        if (fault.applied === true) await this.#apply(call, entry)
        return fault.body === undefined ? call.refuse(fault.status, fault.retryAfterS) : given(fault.status, fault.body, fault.retryAfterS)
      case 'rate-limit':
        return call.refuse(429, fault.retryAfterS)
      case 'malformed':
      case 'empty':
      case 'truncated':
        return spoil(await this.#apply(call, entry), fault.kind)
      case 'duplicate': {
        const first = await this.#apply(call, entry)
        await this.#apply(call, entry)
        return first
      }
      case 'reorder':
        await this.#unlessAborted(this.#overtake(fault.after ?? 1, fault.withinMs ?? 1_000), call.signal)
        return this.#apply(call, entry)
      case 'late': {
        // Nobody is left to hear how it ended: the entry's `applied` tells.
        this.#wait(fault.ms).then(() => this.#apply(call, entry)).catch(() => undefined)
        if (fault.caller === 'hang') return this.#never(call.signal)
        throw fetchFailed('UND_ERR_SOCKET')
      }
    }
  }

  async #apply(call: Call, entry: LedgerEntry): Promise<Response> {
    entry.applied += 1
    const response = await call.apply()
    this.#handled += 1
    if (this.#overtaken.size > 0) for (const waiter of [...this.#overtaken]) if (waiter.handled <= this.#handled) waiter.go()
    return response
  }

  /** Rejects when released before the time is over. Its timer does not keep the process alive. */
  #wait(ms: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (): void => {
        timer.cancel()
        this.#waiting.delete(end)
        reject(fetchFailed('UND_ERR_SOCKET'))
      }
      const timer = this.#env.timer(ms, () => {
        this.#waiting.delete(end)
        resolve()
      })
      this.#waiting.add(end)
    })
  }

  #overtake(after: number, withinMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter = { handled: this.#handled + after, go: () => { finish(); resolve() } }
      const end = (): void => { finish(); reject(fetchFailed('UND_ERR_SOCKET')) }
      const finish = (): void => {
        timer.cancel()
        this.#overtaken.delete(waiter)
        this.#waiting.delete(end)
      }
      const timer = this.#env.timer(withinMs, waiter.go)
      this.#overtaken.add(waiter)
      this.#waiting.add(end)
    })
  }

  #never(signal: AbortSignal | undefined): Promise<never> {
    return this.#unlessAborted(new Promise<never>((_resolve, reject) => {
      const end = (): void => {
        this.#waiting.delete(end)
        reject(fetchFailed('UND_ERR_SOCKET'))
      }
      this.#waiting.add(end)
      signal?.addEventListener('abort', () => { this.#waiting.delete(end) }, { once: true })
    }), signal)
  }

  #unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    if (signal === undefined) return work
    return new Promise((resolve, reject) => {
      const onAbort = (): void => { reject(abortReason(signal)) }
      if (signal.aborted) onAbort()
      else signal.addEventListener('abort', onAbort, { once: true })
      work.then(
        value => { signal.removeEventListener('abort', onAbort); resolve(value) },
        (error: unknown) => { signal.removeEventListener('abort', onAbort); reject(error instanceof Error ? error : new Error(String(error))) },
      )
    })
  }
}

const CAUSES = { ECONNRESET: 'read ECONNRESET', ECONNREFUSED: 'connect ECONNREFUSED', UND_ERR_SOCKET: 'other side closed' } as const

/** What undici's `fetch` rejects with when the connection breaks. */
export function fetchFailed(code: keyof typeof CAUSES): TypeError {
  return new TypeError('fetch failed', { cause: Object.assign(new Error(CAUSES[code]), { code }) })
}

export function isFetchFailed(error: unknown): boolean {
  return error instanceof TypeError && error.message === 'fetch failed'
}

function abortReason(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new DOMException('This operation was aborted', 'AbortError')
}

function pattern(name: string): (operation: string) => boolean {
  if (!name.includes('*')) return operation => operation === name
  const regexp = new RegExp(`^${name.split('*').map(part => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&')).join('.*')}$`)
  return operation => regexp.test(operation)
}

function given(status: number, body: unknown, retryAfterS: number | undefined): Response {
  const headers: Record<string, string> = { 'content-type': typeof body === 'string' ? 'text/plain' : 'application/json' }
  if (retryAfterS !== undefined) headers['retry-after'] = String(retryAfterS)
  return new Response(status === 204 || status === 304 ? null : typeof body === 'string' ? body : JSON.stringify(body), { status, headers })
}

async function spoil(response: Response, how: 'malformed' | 'empty' | 'truncated'): Promise<Response> {
  const { status } = response
  const headers = { 'content-type': response.headers.get('content-type') ?? 'application/json' }
  if (how === 'empty') return new Response('', { status, headers })
  const text = await response.text()
  const half = text.slice(0, Math.ceil(text.length / 2))
  if (how === 'malformed') return new Response(`${half}\n<html>502 Bad Gateway</html>`, { status, headers })
  let sent = false
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (sent) controller.error(new TypeError('terminated', { cause: Object.assign(new Error(CAUSES.UND_ERR_SOCKET), { code: 'UND_ERR_SOCKET' }) }))
      else controller.enqueue(new TextEncoder().encode(half))
      sent = true
    },
  })
  return new Response(body, { status, headers: { ...headers, 'content-length': String(Buffer.byteLength(text)) } })
}
