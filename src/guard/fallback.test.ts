import fc from 'fast-check'
import { describe, expect, expectTypeOf, it } from 'vitest'
import { EventBus, HoldfastError, type ErrorCode, type HoldfastEvents } from '../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { breaker } from './breaker/breaker.ts'
import { BARE_CALL } from './explain.ts'
import { applyFallback, checkFallback, fallback, fallbackApplies, keepGood, type FallbackOptions, type FallbackReason } from './fallback.ts'
import { HttpStatusError } from './http-status-error.ts'
import type { GuardKit } from './policy.ts'
import { staleCache } from './stale-cache.ts'

const TRANSIENT = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
const status = (code: number): HttpStatusError => new HttpStatusError({ status: code, headers: new Headers() })

interface World {
  readonly env: SimulatedEnv
  readonly kit: GuardKit
  readonly fellBack: HoldfastEvents['call.fell-back'][]
  readonly failed: HoldfastEvents['call.fallback-failed'][]
}
function world(): World {
  const env = simulatedEnv({ seed: 9 })
  const events = new EventBus(env)
  const fellBack: World['fellBack'] = []
  const failed: World['failed'] = []
  events.on('call.fell-back', event => { fellBack.push(event.data) })
  events.on('call.fallback-failed', event => { failed.push(event.data) })
  return { env, kit: { env, events }, fellBack, failed }
}
function outcome<T>(promise: Promise<T>): Promise<{ readonly value?: T; readonly error?: unknown }> {
  return promise.then(value => ({ value }), (error: unknown) => ({ error }))
}
const coded = (code: ErrorCode): HoldfastError => new HoldfastError(code, { message: code })

describe('what falls back', () => {
  const does: [string, unknown][] = [
    ...(['HF_BREAKER_OPEN', 'HF_OVERLOADED', 'HF_TIMEOUT', 'HF_DEADLINE', 'HF_CALL_FAILED', 'HF_STORE_UNAVAILABLE'] as const).map((code): [string, unknown] => [code, coded(code)]),
    ['our outbound rate limit', new HoldfastError('HF_RATE_LIMITED', { message: 'm', failure: 'dependency_error' })],
    ['a connection error', TRANSIENT], ['a 503', status(503)], ['a 429', status(429)],
  ]
  const doesNot: [string, unknown][] = [
    ...(['HF_CALL_REJECTED', 'HF_CALL_IN_TX', 'HF_SWITCHED_OFF', 'HF_STOPPING', 'HF_INPUT_INVALID', 'HF_INVARIANT', 'HF_OPTION_INVALID'] as const).map((code): [string, unknown] => [code, coded(code)]),
    ['a limit that the caller exceeded', coded('HF_RATE_LIMITED')],
    ['a TypeError', new TypeError('x is not a function')], ['an assertion', Object.assign(new Error('a'), { code: 'ERR_ASSERTION' })],
    ['a 404', status(404)], ['a 401', status(401)], ['an error that nobody knows', new Error('what?')], ['no error at all', undefined],
  ]
  const never: [string, unknown][] = [['HF_CANCELLED', coded('HF_CANCELLED')], ['an AbortError', new DOMException('gone', 'AbortError')]]

  it.each(does)('%s does, unless `when` says no', (_name, error) => {
    expect([fallbackApplies(error), fallbackApplies(error, () => false)]).toEqual([true, false])
  })
  it.each(doesNot)('%s does not, unless `when` says so', (_name, error) => {
    expect([fallbackApplies(error), fallbackApplies(error, () => true)]).toEqual([false, true])
  })
  it.each(never)('%s never does, because nobody is there to get it', (_name, error) => {
    expect([fallbackApplies(error), fallbackApplies(error, () => true)]).toEqual([false, false])
  })
  it('is what the default rules say when `when` throws', () => {
    const broken = (): boolean => { throw new Error('broken') }
    expect([fallbackApplies(TRANSIENT, broken), fallbackApplies(new TypeError('t'), broken)]).toEqual([true, false])
  })
})

describe('a fallback to a value', () => {
  it('stands in and says so, and a call that succeeds is left alone', async () => {
    const { kit, fellBack } = world()
    const prices = fallback('prices', { value: null }, kit)
    expect(await prices.run(() => 'EUR 9')).toBe('EUR 9')
    expect(fellBack).toEqual([])
    expect(await prices.run(() => { throw TRANSIENT }, { operation: 'get' })).toBeNull()
    expect(fellBack).toEqual([{ dependency: 'prices', operation: 'get', reason: 'failed', source: 'value', message: 'connect ECONNREFUSED' }])
  })

  it('may be undefined', async () => {
    const { kit } = world()
    expect(await fallback('prices', { value: undefined }, kit).run((): string => { throw TRANSIENT })).toBeUndefined()
  })

  it('leaves what does not fall back as it is, and silent', async () => {
    const { kit, fellBack, failed } = world()
    const mistake = new TypeError('x is not a function')
    await expect(fallback('prices', { value: 0 }, kit).run(() => { throw mistake })).rejects.toBe(mistake)
    expect([fellBack, failed]).toEqual([[], []])
  })

  it('is nothing for a caller that gave up, whatever failed', async () => {
    const { kit, fellBack } = world()
    const caller = new AbortController()
    const result = outcome(fallback('prices', { value: 0, when: () => true }, kit).run(() => {
      caller.abort()
      throw TRANSIENT
    }, { signal: caller.signal }))
    expect(await result).toMatchObject({ error: { code: 'HF_CANCELLED' } })
    expect(fellBack).toEqual([])
  })

  it('stands in for an open breaker, whose state it does not hide from the breaker', async () => {
    const { kit, fellBack } = world()
    const guard = breaker('prices', { failures: 2 }, kit)
    const prices = fallback('prices', { value: 0 }, kit)
    const fetched = (): Promise<number> => prices.run(scope => guard.within(scope, (): number => { throw TRANSIENT }))
    for (let call = 0; call < 3; call += 1) expect(await fetched()).toBe(0)
    expect(fellBack.map(one => one.reason)).toEqual(['failed', 'failed', 'breaker-open'])
    // The control: the other way round the breaker is told that all is well, and never opens.
    const inside = breaker('prices', { failures: 2 }, kit)
    for (let call = 0; call < 5; call += 1) await inside.run(scope => prices.within(scope, (): number => { throw TRANSIENT }))
    expect([guard.snapshot().state, inside.snapshot().state]).toEqual(['open', 'closed'])
  })
})

describe('a fallback to a function', () => {
  it('is told why, and answers', async () => {
    const { kit, fellBack } = world()
    const reasons: FallbackReason[] = []
    const prices = fallback('prices', { run: async why => { reasons.push(why); return 'from a file' } }, kit)
    expect(await prices.run(() => { throw coded('HF_TIMEOUT') })).toBe('from a file')
    expect(reasons).toMatchObject([{ reason: 'failed', error: { code: 'HF_TIMEOUT' } }])
    expect(fellBack).toMatchObject([{ source: 'function', reason: 'failed' }])
  })

  it.each([
    ['throws', () => { throw new Error('no file') }], ['rejects', () => Promise.reject(new Error('no file'))],
  ] as const)('hands out the original failure when it %s, and tells of its own', async (_how, run) => {
    const { kit, fellBack, failed } = world()
    await expect(fallback('prices', { run }, kit).run(() => { throw TRANSIENT })).rejects.toBe(TRANSIENT)
    expect(failed).toMatchObject([{ dependency: 'prices', reason: 'failed', source: 'function', message: 'no file', error: { message: 'no file' } }])
    expect(fellBack).toEqual([])
  })

  it('is given up when it hangs, with its signal aborted, and the original failure is handed out', async () => {
    const { env, kit, failed } = world()
    let signal: AbortSignal | undefined
    const result = outcome(fallback('prices', { run: (_why, attempt) => { signal = attempt.signal; return new Promise<string>(() => undefined) } }, kit).run(() => { throw TRANSIENT }))
    await env.advance(999)
    expect(failed).toEqual([])
    await env.advance(1)
    expect(await result).toEqual({ error: TRANSIENT })
    expect(signal?.aborted).toBe(true)
    expect(failed).toMatchObject([{ source: 'function', message: 'no result within 1s' }])
    await env.advance('1m')
    expect(env.pendingTimers).toBe(0)
  })

  it('is not asked for a caller that had gone before', async () => {
    const { kit, fellBack } = world()
    let asked = 0
    const place = (signal: AbortSignal): Parameters<typeof applyFallback>[2] => ({ dependency: 'prices', operation: 'get', signal })
    const options = { run: () => { asked += 1; return 'from a file' } }
    expect(await outcome(applyFallback(options, TRANSIENT, place(AbortSignal.abort()), kit))).toEqual({ error: TRANSIENT })
    expect([asked, fellBack]).toEqual([0, []])
    expect(await applyFallback(options, TRANSIENT, place(new AbortController().signal), kit)).toBe('from a file')
  })

  it('ends at once when it makes its caller give up itself', async () => {
    const { env, kit } = world()
    const caller = new AbortController()
    const run = (): Promise<string> => {
      caller.abort()
      return new Promise(() => undefined)
    }
    const place = { dependency: 'prices', operation: 'get', signal: caller.signal }
    expect(await outcome(applyFallback({ run, within: '1m' }, TRANSIENT, place, kit))).toMatchObject({ error: { code: 'HF_CANCELLED' } })
    expect(env.monotonic()).toBe(0)
  })

  it('ends at once when its caller gives up', async () => {
    const { env, kit, failed, fellBack } = world()
    const caller = new AbortController()
    const result = outcome(fallback('prices', { run: () => new Promise<string>(() => undefined), within: '1m' }, kit).run(() => { throw TRANSIENT }, { signal: caller.signal }))
    await env.advance(10)
    caller.abort()
    expect(await result).toMatchObject({ error: { code: 'HF_CANCELLED' } })
    expect([failed, fellBack]).toEqual([[], []])
  })
})

describe('a fallback to the last good answer', () => {
  const options = (cache = staleCache<string>()): FallbackOptions<string> & { readonly stale: object } => ({ stale: { for: '5m', cache, key: 'EUR' } })

  it('has none before there was one, and hands out the original failure', async () => {
    const { kit, failed } = world()
    await expect(fallback('prices', options(), kit).run((): string => { throw TRANSIENT })).rejects.toBe(TRANSIENT)
    expect(failed).toMatchObject([{ source: 'stale', message: 'no good answer is kept' }])
  })

  it('answers with it until it is too old, and says how old', async () => {
    const { env, kit, fellBack, failed } = world()
    const prices = fallback('prices', options(), kit)
    const away = (): Promise<string> => prices.run((): string => { throw TRANSIENT }, { operation: 'get' })
    await prices.run(() => 'EUR 9', { operation: 'get' })
    await env.advance('5m')
    expect(await away()).toBe('EUR 9')
    expect(fellBack).toMatchObject([{ source: 'stale', ageMs: 300_000 }])
    await env.advance(1)
    await expect(away()).rejects.toBe(TRANSIENT)
    expect(failed).toMatchObject([{ message: 'the last good answer is 5 min old, older than 5 min' }])
  })

  it('is not made younger by being used, nor fooled by the wall clock', async () => {
    const { env, kit } = world()
    const prices = fallback('prices', options(), kit)
    await prices.run(() => 'EUR 9')
    env.jump(86_400_000)
    for (let use = 0; use < 5; use += 1) {
      await env.advance('1m')
      expect(await prices.run((): string => { throw TRANSIENT })).toBe('EUR 9')
    }
    await env.advance('1m')
    await expect(prices.run((): string => { throw TRANSIENT })).rejects.toBe(TRANSIENT)
  })

  it('never gives the answer of another dependency, operation or key', async () => {
    const { kit } = world()
    const cache = staleCache<string>()
    const at = (key: string): FallbackOptions<string> => ({ stale: { for: '5m', cache, key } })
    keepGood(at('alice'), 'for alice', 'crm', 'get-user', 0)
    const ask = (dependency: string, operation: string, key: string): Promise<{ readonly value?: string }> => outcome(applyFallback(at(key), TRANSIENT, { dependency, operation }, kit))
    expect(await ask('crm', 'get-user', 'alice')).toEqual({ value: 'for alice' })
    for (const [dependency, operation, key] of [['crm', 'get-user', 'bob'], ['crm', 'get', '-useralice'], ['billing', 'get-user', 'alice']] as const) {
      expect(await ask(dependency, operation, key)).toEqual({ error: TRANSIENT })
    }
  })

  it('keeps only what succeeded', async () => {
    const { kit } = world()
    const cache = staleCache<string>()
    const prices = fallback('prices', { stale: { for: '5m', cache, key: 'EUR' }, when: () => true }, kit)
    await outcome(prices.run((): string => { throw status(404) }))
    expect(cache.size).toBe(0)
    await prices.run(() => 'EUR 9')
    expect(cache.size).toBe(1)
  })
})

describe('the cache of good answers', () => {
  it('keeps at most `max`, whatever is asked, and throws away what was used least recently', () => {
    const uses = fc.array(fc.record({ key: fc.integer({ min: 0, max: 12 }), write: fc.boolean() }), { maxLength: 120, size: 'max' })
    fc.assert(fc.property(uses, fc.integer({ min: 1, max: 8 }), (script, max) => {
      const cache = staleCache<number>({ max })
      let recent: { readonly key: string; readonly value: number; readonly at: number }[] = []
      for (const [now, { key: number, write }] of script.entries()) {
        const key = String(number)
        const known = recent.find(one => one.key === key)
        if (write) {
          cache.set('d', 'op', key, now, now)
          recent = [...recent.filter(one => one.key !== key), { key, value: now, at: now }].slice(-max)
        } else {
          expect(cache.get('d', 'op', key, now)).toEqual(known === undefined ? undefined : { value: known.value, ageMs: now - known.at })
          if (known !== undefined) recent = [...recent.filter(one => one !== known), known]
        }
        expect(cache.size).toBe(recent.length)
      }
    }), { seed: 3 })
  })

  it('forgets on demand, and refuses sizes that cannot be meant', () => {
    const cache = staleCache<number>()
    cache.set('d', 'op', 'k', 1, 0)
    cache.clear()
    expect(cache.get('d', 'op', 'k', 0)).toBeUndefined()
    for (const max of [0, 1.5, 2_000_000]) expect(() => staleCache({ max })).toThrow('stale cache: max: expected a whole number of 1 to 1000000')
  })
})

describe('the options', () => {
  it('are refused where no compiler looked', () => {
    const wrong: readonly [unknown, RegExp][] = [
      [{}, /one of value, run and stale, got none/], [{ value: 1, run: () => 1 }, /got value and run/],
      [{ run: () => 1, within: '0s' }, /within: expected/], [{ stale: { for: 'long', cache: staleCache(), key: '' } }, /stale: for/],
      [{ stale: { for: '1s', cache: staleCache() } }, /stale: key: expected a string/],
    ]
    for (const [options, message] of wrong) expect(() => { checkFallback(options as FallbackOptions<unknown>, 'prices get: fallback') }).toThrow(message)
    expect(() => fallback('prices', {} as FallbackOptions<unknown>)).toThrow('fallback prices: expected one of')
  })

  it('say in the explanation what they add to the worst case', () => {
    const { kit } = world()
    const inside = { ...BARE_CALL, worstCaseMs: 10_000 }
    expect(fallback('a', { run: () => 1 }, kit).explain(inside)).toMatchObject({ worstCaseMs: 11_000, order: ['fallback to a function within 1 s', 'call'] })
    expect(fallback('a', { value: 1 }, kit).explain(inside).worstCaseMs).toBe(10_000)
    expect(fallback('a', { stale: { for: '5m', cache: staleCache(), key: '' } }, kit).explain(inside).order[0]).toBe('fallback to the last good answer of 5m')
  })

  it('give the caller a type that knows of both', () => {
    const { kit } = world()
    expectTypeOf(fallback('a', { value: null }, kit).run(() => 42)).resolves.toEqualTypeOf<number | null>()
    expectTypeOf(fallback('a', { run: async () => 'text' }, kit).run(async () => 42)).resolves.toEqualTypeOf<number | string>()
    expectTypeOf(fallback('a', { stale: { for: '5m', cache: staleCache<number>(), key: '' } }, kit).run(() => 42)).resolves.toEqualTypeOf<number>()
    expectTypeOf(applyFallback({ value: [] as string[] }, TRANSIENT, { dependency: 'd', operation: 'o' }, kit).catch(() => undefined)).resolves.toEqualTypeOf<string[] | undefined>()
    // @ts-expect-error two kinds at once
    const both: FallbackOptions<number> = { value: 1, stale: 2 }
    // @ts-expect-error no unit
    const unitless: FallbackOptions<number> = { run: () => 1, within: 100 }
    // @ts-expect-error whose answer it is must be said
    const nobodys: FallbackOptions<number> = { stale: { for: '1m', cache: staleCache<number>() } }
    expect([both, unitless, nobodys]).toHaveLength(3)
  })
})
