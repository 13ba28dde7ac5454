import { describe, expect, it } from 'vitest'
import { simulatedEnv, type SimulatedEnv } from 'holdfast/testing'
import { control, type FaultRule, FaultScript, json, Ledger, listen, parseFaultRule, pathOf, seededRandom, type Simulator } from './index.ts'

/** A counter behind HTTP: every call that is applied adds one. */
class Counter implements Simulator<number> {
  readonly name = 'counter'
  readonly ledger: Ledger
  readonly faults: FaultScript
  readonly order: string[] = []
  readonly fetch = (request: Request): Promise<Response> => {
    const path = pathOf(request.url)
    if (path.startsWith('/__sim')) return control(this, request, { help: ['operations: add'] })
    return this.faults.run({
      direction: 'in', operation: path.slice(1), method: request.method, args: { path }, signal: request.signal,
      apply: () => { this.order.push(path); return json(200, { total: this.order.length }) },
      refuse: (status, retryAfterS) => json(status, { no: status }, retryAfterS === undefined ? undefined : { 'retry-after': String(retryAfterS) }),
    })
  }

  constructor(env: SimulatedEnv, seed = 1) {
    this.ledger = new Ledger(env)
    this.faults = new FaultScript(env, seededRandom(seed), this.ledger)
  }

  state(): number { return this.order.length }
  reset(): void { this.order.length = 0; this.faults.clear() }
  stop(): void { this.faults.release() }
}

interface Ended { status?: number; text?: string; error?: string; code?: string; at: number }

function setUp(...rules: readonly FaultRule[]): { env: SimulatedEnv; counter: Counter; call: (path?: string, timeoutMs?: number) => { ended: Ended | undefined } } {
  const env = simulatedEnv({ seed: 1 })
  const counter = new Counter(env)
  counter.faults.set(rules)
  env.serve('http://sim.test', counter.fetch)
  const call = (path = 'add', timeoutMs?: number): { ended: Ended | undefined } => {
    const seen: { ended: Ended | undefined } = { ended: undefined }
    const controller = new AbortController()
    if (timeoutMs !== undefined) env.timer(timeoutMs, () => { controller.abort() })
    env.fetch(`http://sim.test/${path}`, { method: 'POST', signal: controller.signal })
      .then(async response => { seen.ended = { status: response.status, text: await response.text(), at: env.monotonic() } })
      .catch((error: unknown) => {
        const { message, name, cause } = error as Error
        seen.ended = { error: name === 'AbortError' ? name : message, at: env.monotonic(), ...(cause === undefined ? {} : { code: (cause as { code: string }).code }) }
      })
    return seen
  }
  return { env, counter, call }
}

describe('a fault script without rules', () => {
  it('lets every call through and writes it down', async () => {
    const { env, counter, call } = setUp()
    const one = call()
    await env.settle()
    expect(one.ended).toMatchObject({ status: 200, text: '{"total":1}' })
    expect(counter.ledger.entries()).toMatchObject([{ n: 1, direction: 'in', operation: 'add', method: 'POST', outcome: 'answered', status: 200, applied: 1, fault: undefined }])
  })
})

describe('each kind of fault', () => {
  it('delay: answers late, and does the work even for a caller who has gone', async () => {
    const { env, counter, call } = setUp({ match: { nth: [1, 2] }, fault: { kind: 'delay', ms: 500 } })
    const patient = call()
    const hasty = call('add', 100)
    await env.advance(499)
    expect(patient.ended).toBeUndefined()
    expect(hasty.ended).toMatchObject({ error: 'AbortError', at: 100 })
    await env.advance(1)
    expect(patient.ended?.status).toBe(200)
    expect(counter.order).toHaveLength(2)
  })

  it('delay after: the effect is there at once, the answer late', async () => {
    const { env, counter, call } = setUp({ fault: { kind: 'delay', ms: 500, when: 'after' } })
    const one = call()
    await env.settle()
    expect(counter.order).toHaveLength(1)
    expect(one.ended).toBeUndefined()
    await env.advance(500)
    expect(one.ended?.status).toBe(200)
  })

  it('hang: no effect and no answer until the caller aborts', async () => {
    const { env, counter, call } = setUp({ fault: { kind: 'hang' } })
    const one = call('add', 60_000)
    await env.advance(59_999)
    expect(one.ended).toBeUndefined()
    await env.advance(1)
    expect(one.ended?.error).toBe('AbortError')
    expect(counter.order).toHaveLength(0)
    expect(counter.ledger.entries()[0]?.outcome).toBe('hung')
  })

  it('drop-before: fetch fails and nothing happened; refused says so in its code', async () => {
    const { env, counter, call } = setUp({ match: { times: 1 }, fault: { kind: 'drop-before', code: 'ECONNREFUSED' } }, { fault: { kind: 'drop-before' } })
    const refused = call()
    const reset = call()
    await env.settle()
    expect(refused.ended).toMatchObject({ error: 'fetch failed', code: 'ECONNREFUSED' })
    expect(reset.ended).toMatchObject({ error: 'fetch failed', code: 'ECONNRESET' })
    expect(counter.order).toHaveLength(0)
  })

  it('apply-then-drop: fetch fails and it happened', async () => {
    const { env, counter, call } = setUp({ fault: { kind: 'apply-then-drop' } })
    const one = call()
    await env.settle()
    expect(one.ended).toMatchObject({ error: 'fetch failed', code: 'UND_ERR_SOCKET' })
    expect(counter.order).toHaveLength(1)
    expect(counter.ledger.entries()[0]).toMatchObject({ outcome: 'dropped', applied: 1, fault: 'apply-then-drop' })
  })

  it('apply-then-hang: it happened and nobody says so', async () => {
    const { env, counter, call } = setUp({ fault: { kind: 'apply-then-hang' } })
    const one = call('add', 1_000)
    await env.settle()
    expect(counter.order).toHaveLength(1)
    await env.advance(1_000)
    expect(one.ended?.error).toBe('AbortError')
  })

  it('status: that status in the shape of the system, or with a given body, and no effect unless applied', async () => {
    const { env, counter, call } = setUp(
      { match: { nth: 1 }, fault: { kind: 'status', status: 503, retryAfterS: 7 } },
      { match: { nth: 1 }, fault: { kind: 'status', status: 200, body: { success: false } } },
      { match: { nth: 1 }, fault: { kind: 'status', status: 500, body: 'boom', applied: true } },
    )
    const [shaped, given, applied] = [call(), call(), call()]
    await env.settle()
    expect(shaped.ended).toMatchObject({ status: 503, text: '{"no":503}' })
    expect(given.ended).toMatchObject({ status: 200, text: '{"success":false}' })
    expect(applied.ended).toMatchObject({ status: 500, text: 'boom' })
    expect(counter.order).toHaveLength(1)
  })

  it('malformed, empty, truncated: done, and the reply is spoilt', async () => {
    const { env, counter, call } = setUp({ match: { operation: 'a' }, fault: { kind: 'malformed' } }, { match: { operation: 'b' }, fault: { kind: 'empty' } }, { match: { operation: 'c' }, fault: { kind: 'truncated' } })
    const [malformed, empty, truncated] = [call('a'), call('b'), call('c')]
    await env.settle()
    expect(() => { JSON.parse(malformed.ended?.text ?? '{}') }).toThrow(SyntaxError)
    expect(empty.ended).toMatchObject({ status: 200, text: '' })
    expect(truncated.ended).toMatchObject({ error: 'terminated' })
    expect(counter.order).toHaveLength(3)
  })

  it('duplicate: happens twice, the caller sees the first reply', async () => {
    const { env, counter, call } = setUp({ fault: { kind: 'duplicate' } })
    const one = call()
    await env.settle()
    expect(one.ended?.text).toBe('{"total":1}')
    expect(counter.order).toHaveLength(2)
    expect(counter.ledger.entries()[0]?.applied).toBe(2)
  })

  it('reorder: is overtaken by the next call, and waits no longer than it says', async () => {
    const { env, counter, call } = setUp({ match: { operation: 'first' }, fault: { kind: 'reorder', withinMs: 300 } })
    call('first')
    await env.advance(100)
    call('second')
    await env.settle()
    expect(counter.order).toEqual(['/second', '/first'])
    const alone = call('first')
    await env.advance(299)
    expect(alone.ended).toBeUndefined()
    await env.advance(1)
    expect(alone.ended?.status).toBe(200)
  })

  it('late: the caller is dropped, and it happens afterwards all the same', async () => {
    const { env, counter, call } = setUp({ fault: { kind: 'late', ms: 5_000 } })
    const one = call()
    await env.advance(4_999)
    expect(one.ended?.error).toBe('fetch failed')
    expect(counter.order).toHaveLength(0)
    await env.advance(1)
    expect(counter.order).toHaveLength(1)
    expect(counter.ledger.entries()[0]).toMatchObject({ outcome: 'dropped', applied: 1 })
  })

  it('flapping: down, up, down again by the clock', async () => {
    const { env, call } = setUp({ fault: { kind: 'flapping', downMs: 1_000, upMs: 2_000 } })
    const results: (number | string | undefined)[] = []
    for (let second = 0; second < 6; second += 1) {
      const one = call()
      await env.settle()
      results.push(one.ended?.status ?? one.ended?.error)
      await env.advance(1_000)
    }
    expect(results).toEqual(['fetch failed', 200, 200, 'fetch failed', 200, 200])
  })

  it('rate-limit: 429 with Retry-After and no effect', async () => {
    const { env, counter } = setUp({ fault: { kind: 'rate-limit', retryAfterS: 117 } })
    const response = await env.fetch('http://sim.test/add', { method: 'POST' })
    expect([response.status, response.headers.get('retry-after'), counter.order.length]).toEqual([429, '117', 0])
  })
})

describe('matching', () => {
  it('takes the first rule that fits by operation, method, contents, number, times and time', async () => {
    const { env, call } = setUp(
      { match: { operation: 'ad*', method: 'get' }, fault: { kind: 'status', status: 418 } },
      { match: { contains: '/nowhere' }, fault: { kind: 'status', status: 418 } },
      { match: { operation: ['x', 'add'], nth: 2 }, fault: { kind: 'status', status: 502 } },
      { match: { times: 1, forMs: 1_000 }, fault: { kind: 'status', status: 503 } },
    )
    const statuses: (number | undefined)[] = []
    for (let index = 0; index < 3; index += 1) {
      const one = call()
      await env.settle()
      statuses.push(one.ended?.status)
    }
    expect(statuses).toEqual([503, 502, 200])
    await env.advance(1_000)
  })

  it('ends a rule when its time is over', async () => {
    const { env, call } = setUp({ match: { forMs: 1_000 }, fault: { kind: 'status', status: 503 } })
    await env.advance(1_000)
    const one = call()
    await env.settle()
    expect(one.ended?.status).toBe(200)
  })

  it('draws probabilities from the seed: the same again, and about as often as asked', async () => {
    const run = async (): Promise<readonly number[]> => {
      const { env, call } = setUp({ match: { probability: 0.3 }, fault: { kind: 'status', status: 503 } })
      const calls = Array.from({ length: 200 }, () => call())
      await env.settle()
      return calls.map(one => one.ended?.status ?? 0)
    }
    const first = await run()
    expect(await run()).toEqual(first)
    const hit = first.filter(status => status === 503).length
    expect(hit).toBeGreaterThan(40)
    expect(hit).toBeLessThan(80)
  })
})

describe('ending', () => {
  it('release drops who hangs and forgets what was to happen later', async () => {
    const { env, counter, call } = setUp({ match: { nth: 1 }, fault: { kind: 'hang' } }, { fault: { kind: 'late', ms: 1_000, caller: 'hang' } })
    const [hanging, late] = [call(), call()]
    await env.settle()
    counter.faults.release()
    await env.advance(5_000)
    expect([hanging.ended?.error, late.ended?.error]).toEqual(['fetch failed', 'fetch failed'])
    expect(counter.order).toHaveLength(0)
    expect(env.pendingTimers).toBe(0)
  })
})

describe('a rule that is not one', () => {
  it.each([
    [{ fault: { kind: 'explode' } }, 'fault.kind: expected one of delay'],
    [{ fault: { kind: 'delay' } }, 'fault delay: ms: expected a whole number from 0'],
    [{ fault: { kind: 'hang', ms: 3 } }, 'expected only kind'],
    [{ fault: { kind: 'hang' }, matches: {} }, 'expected only id, match, fault'],
    [{ fault: { kind: 'hang' }, match: { probability: 2 } }, 'match.probability: expected a number from 0 to 1'],
    [{ fault: { kind: 'hang' }, match: { nth: [] } }, 'match.nth: expected a list with at least one entry'],
    [7, 'expected an object'],
  ])('is refused, saying what was expected: %j', (rule, message) => {
    expect(() => parseFaultRule(rule)).toThrow(message)
  })
})

describe('served over HTTP', () => {
  it('breaks on the socket what it breaks in process, and closes at once with calls that hang', async () => {
    const counter = new Counter(simulatedEnv({ seed: 1 }))
    const server = await listen(counter)
    const post = (path: string, init: RequestInit = {}): Promise<Response> => fetch(`${server.url}${path}`, { method: 'POST', ...init })
    try {
      expect(await (await post('/add')).json()).toEqual({ total: 1 })
      const added = await post('/__sim/faults', { body: JSON.stringify([{ match: { operation: 'drop' }, fault: { kind: 'apply-then-drop' } }, { match: { operation: 'cut' }, fault: { kind: 'truncated' } }, { match: { operation: 'hang' }, fault: { kind: 'hang' } }]) })
      expect(added.status).toBe(201)
      await expect(post('/drop')).rejects.toThrow('fetch failed')
      expect(counter.order).toHaveLength(2)
      await expect(post('/cut').then(response => response.text())).rejects.toThrow('terminated')
      const refused = await post('/__sim/faults', { body: '{"fault":{"kind":"explode"}}' })
      expect([refused.status, ((await refused.json()) as { error: string }).error]).toEqual([400, expect.stringContaining('explode')])
      const ledger = (await (await fetch(`${server.url}/__sim/ledger?operation=drop`)).json()) as { entries: unknown[] }
      expect(ledger.entries).toHaveLength(1)
      expect(await (await fetch(`${server.url}/__sim/help`)).text()).toContain('operations: add')
      expect(((await (await fetch(`${server.url}/__sim/faults`)).json()) as { faults: unknown[] }).faults).toHaveLength(3)
      expect((await fetch(`${server.url}/__sim/faults/nothing`, { method: 'DELETE' })).status).toBe(404)
      const hanging = post('/hang').catch((error: unknown) => (error as Error).message)
      await until(() => counter.ledger.count('hang') === 1)
      await server.close()
      expect(await hanging).toBe('fetch failed')
      await until(() => counter.ledger.entries('hang')[0]?.outcome === 'hung')
    } finally {
      await server.close()
    }
  })

  it('says in one sentence that a port is taken', async () => {
    const counter = new Counter(simulatedEnv({ seed: 1 }))
    const server = await listen(counter)
    await expect(listen(counter, { port: server.port })).rejects.toMatchObject({ code: 'HF_PORT_IN_USE', message: expect.stringContaining(`port ${String(server.port)}`) as string })
    await server.close()
  })
})

/** Real sockets settle when they settle. */
async function until(reached: () => boolean): Promise<void> {
  for (let turn = 0; turn < 1_000 && !reached(); turn += 1) await new Promise(resolve => { setTimeout(resolve, 5) })
  expect(reached()).toBe(true)
}
