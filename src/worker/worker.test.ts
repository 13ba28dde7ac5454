import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { currentContext, EventBus, HoldfastError, type Duration, type HoldfastEvent, type Kit, type SystemState } from '../core/index.ts'
import { flags } from '../control/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/simulated-env.ts'
import { worker, type HeldLeadership, type Worker, type WorkerContext, type WorkerBase, type WorkerDeps } from './index.ts'

type Change = Partial<WorkerBase> & { readonly every?: Duration }

let env: SimulatedEnv
let kit: Kit
let seen: HoldfastEvent[]

beforeEach(() => { reset() })

function reset(seed = 1): void {
  env = simulatedEnv({ seed })
  const events = new EventBus(env)
  seen = []
  events.onAny(event => { seen.push(event) })
  kit = { env, events, service: 'test', instance: 'i' }
}

function make(run: (context: WorkerContext) => Promise<unknown>, change: Change = {}, deps: WorkerDeps = {}): Worker {
  return worker('activation', { every: '5m', safeSleep: '10s', run, ...change }, kit, deps)
}

const iterations = () => seen.filter(event => event.name === 'worker.iteration').map(event => event.data)
const at = (name: HoldfastEvent['name']): number[] => seen.filter(event => event.name === name).map(event => event.at - Date.UTC(2026, 0, 1))

describe('while all is well', () => {
  it('runs at once, then every so often, each time with a correlation id of its own', async () => {
    const ids: (string | undefined)[] = []
    const loop = make(async () => { ids.push(currentContext().correlationId) })
    loop.start()
    await env.advance('11m')
    expect(at('worker.iteration')).toEqual([0, 300_000, 600_000])
    expect(new Set(ids).size).toBe(3)
    expect(seen[0]).toMatchObject({ component: 'worker activation', correlationId: ids[0] })
    expect(loop.snapshot()).toMatchObject({ state: 'idle', lastOutcome: 'ok', consecutiveFailures: 0, parked: 0, nextRunAt: env.now() + 240_000 })
    await loop.stop()
    expect(loop.snapshot().state).toBe('stopped')
    expect(env.pendingTimers).toBe(0)
  })

  it('any number of kicks is one iteration, at once', async () => {
    let runs = 0
    const loop = make(async () => { runs += 1 })
    loop.start()
    await env.advance('1s')
    for (let kick = 0; kick < 100; kick++) loop.kick()
    await env.advance('1s')
    expect(runs).toBe(2)
    await loop.stop()
  })

  it('a run that kicks its own worker does not spin', async () => {
    let runs = 0
    const loop = make(async () => { runs += 1; loop.kick() })
    loop.start()
    await env.advance('10s')
    expect(runs).toBeLessThanOrEqual(101)
    expect(runs).toBeGreaterThan(90)
    await loop.stop()
  })

  it('a kick during an iteration is not lost', async () => {
    let runs = 0
    const loop = make(async () => { runs += 1; await env.sleep(5_000) })
    loop.start()
    await env.advance('2s')
    loop.kick()
    await env.advance('5s')
    expect(runs).toBe(2)
    await Promise.all([loop.stop(), env.advance('30s')])
  })
})

describe('after a failure', () => {
  it('waits safeSleep, then twice that, up to every; and starts afresh after a success', async () => {
    let broken = true
    const loop = make(async () => { if (broken) throw new Error('panel') }, { every: '60s' })
    loop.start()
    await env.advance('200s')
    expect(at('worker.iteration')).toEqual([0, 10_000, 30_000, 70_000, 130_000, 190_000])
    expect(loop.snapshot()).toMatchObject({ lastOutcome: 'failed', lastReason: 'panel', consecutiveFailures: 6 })
    broken = false
    await env.advance('60s')
    expect(loop.snapshot()).toMatchObject({ lastOutcome: 'ok', consecutiveFailures: 0 })
    await loop.stop()
  })

  it.each<[string, () => Promise<unknown>]>([
    ['a synchronous throw', () => { throw new Error('sync') }],
    ['a rejection', () => Promise.reject(new Error('async'))],
    ['a bug in the program', () => { const user = JSON.parse('null') as { readonly tariff: string }; return Promise.resolve(user.tariff) }],
  ])('survives %s, and no kick wakes it before safeSleep', async (_what, run) => {
    const loop = make(run, { every: '1s' })
    loop.start()
    for (let second = 0; second < 60; second++) {
      loop.kick()
      await env.advance('1s')
    }
    expect(iterations().length).toBeLessThanOrEqual(Math.ceil(60 / 10) + 1)
    expect(iterations().length).toBeGreaterThanOrEqual(6)
    await loop.stop()
  })

  it('an operator\'s runNow does not wait', async () => {
    let broken = true
    const loop = make(async () => { if (broken) throw new Error('panel') })
    loop.start()
    await env.advance('1s')
    broken = false
    const outcome = loop.runNow()
    await env.advance('100ms')
    expect(await outcome).toBe('ok')
    await loop.stop()
  })

  it('however often an operator asks, two iterations are 100 ms apart', async () => {
    const loop = make(async () => undefined)
    loop.start()
    await env.settle()
    const outcome = loop.runNow()
    await env.advance('99ms')
    expect(at('worker.iteration')).toEqual([0])
    await env.advance('1ms')
    expect([await outcome, at('worker.iteration')]).toEqual(['ok', [0, 100]])
    await loop.stop()
  })
})

describe('a degraded iteration', () => {
  it('keeps the ordinary pace, and no kick wakes it before safeSleep', async () => {
    const loop = make(async ({ degraded }) => { degraded('panel is slow') })
    loop.start()
    await env.advance('10m')
    expect(at('worker.iteration')).toEqual([0, 300_000, 600_000])
    loop.kick()
    await env.advance('20s')
    expect(at('worker.iteration').slice(3)).toEqual([610_000])
    await loop.stop()
  })

  it('comes again when the first of its failed items is due', async () => {
    let tries = 0
    const loop = make(async ({ each }) => each(['good', 'bad'], String, async item => { if (item === 'bad' && ++tries < 3) throw new Error('not yet') }))
    loop.start()
    await env.advance('10m')
    expect(at('worker.iteration')).toEqual([0, 10_000, 30_000, 330_000])
    await loop.stop()
  })
})

describe('never', () => {
  it('overlaps, spins or dies, whatever its run does and whoever kicks (property)', async () => {
    const behaviour = fc.constantFrom('ok', 'slow', 'throw', 'reject', 'hang', 'ignore', 'items', 'kick')
    await fc.assert(fc.asyncProperty(fc.integer(), fc.array(behaviour, { minLength: 1, maxLength: 12 }), fc.array(fc.integer({ min: 0, max: 400_000 }), { maxLength: 20 }), async (seed, script, kicks) => {
      reset(seed)
      let inside = 0
      let overlaps = 0
      let begun = 0
      const starts: number[] = []
      const loop = make(async ({ signal, each }) => {
        starts.push(env.monotonic())
        inside += 1
        if (inside > 1) overlaps += 1
        const kind = script[begun++ % script.length] ?? 'ok'
        try {
          if (kind === 'slow') await env.sleep(20_000)
          if (kind === 'throw' || kind === 'reject') throw new Error(kind)
          if (kind === 'kick') loop.kick()
          if (kind === 'hang') await new Promise((_, reject) => { signal.addEventListener('abort', () => { reject(new Error('cancelled')) }) })
          if (kind === 'ignore') await env.sleep(90_000)
          if (kind === 'items') await each(['a', 'b'], String, async () => { throw new Error('item') })
        } finally {
          inside -= 1
        }
      }, { every: '30s', safeSleep: '10s', deadline: '60s' })
      for (const ms of kicks) env.timer(ms, () => { loop.kick() })
      loop.start()
      await env.advance('400s')
      const ended = seen.filter(event => event.name === 'worker.iteration')
      expect(overlaps).toBe(0)
      for (const [index, event] of ended.entries()) {
        const next = ended[index + 1]
        if (next === undefined) continue
        const began = next.at - next.data.durationMs
        if (event.data.outcome === 'failed' || event.data.outcome === 'degraded') expect(began - event.at).toBeGreaterThanOrEqual(9_999)
        else expect(began - event.at).toBeGreaterThanOrEqual(99)
      }
      // It lives: an iteration began or was skipped with a reason within any 130 seconds (deadline, grace, longest sleep).
      const moments = [0, ...ended.map(event => event.at - Date.UTC(2026, 0, 1)), env.monotonic()]
      for (const [index, moment] of moments.entries()) expect((moments[index + 1] ?? moment) - moment).toBeLessThanOrEqual(130_000)
      await Promise.all([loop.stop(), env.advance('100s')])
      expect(env.pendingTimers).toBeLessThanOrEqual(kicks.length)
    }), { numRuns: 60 })
  })

  it('takes a duration that would make it spin', () => {
    for (const bad of ['0s', '-3s', 'NaNs', 'Infinitys', '50ms', '', undefined] as unknown as Duration[]) {
      expect(() => make(async () => undefined, { every: bad })).toThrow()
      expect(() => make(async () => undefined, { safeSleep: bad })).toThrow()
    }
    for (const maxAttempts of [0, -1, Number.NaN, Infinity, 1.5]) expect(() => make(async () => undefined, { maxAttempts })).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
  })
})

describe('an iteration that takes too long', () => {
  it('is cancelled at its deadline and counts as failed', async () => {
    let aborted: unknown
    const loop = make(async ({ signal }) => {
      await new Promise((_, reject) => { signal.addEventListener('abort', () => { aborted = signal.reason; reject(new Error('gone')) }) })
    })
    loop.start()
    await env.advance('125s')
    expect(aborted).toMatchObject({ code: 'HF_WORKER_DEADLINE' })
    expect(iterations()).toMatchObject([{ outcome: 'failed', durationMs: 120_000 }])
    await env.advance('10s')
    expect(loop.snapshot().state).toBe('running')
    await Promise.all([loop.stop(), env.advance('30s')])
  })

  it('and ignores its cancellation is not run beside: the next ones are skipped and say so, until it ends', async () => {
    let runs = 0
    const loop = make(async () => { runs += 1; if (runs === 1) await env.sleep(400_000) }, { every: '30s' })
    loop.start()
    await env.advance('390s')
    expect(runs).toBe(1)
    expect(iterations().slice(0, 2)).toMatchObject([{ outcome: 'failed' }, { outcome: 'skipped', reason: 'the iteration before was cancelled and has not ended yet' }])
    await env.advance('60s')
    expect(runs).toBeGreaterThan(1)
    await loop.stop()
  })
})

describe('needs', () => {
  it('a switch that is off skips with its sentence, and on again it runs at once', async () => {
    const board = flags({ vpnProvisioning: { default: true, whenOff: 'Paid subscriptions wait' } }, kit, { environment: {} })
    let runs = 0
    const loop = make(async () => { runs += 1 }, { needs: [board.flags.vpnProvisioning] })
    await board.set('vpnProvisioning', false, { actor: { id: 'alice', via: 'cli' }, reason: 'panel' })
    loop.start()
    await env.advance('15s')
    expect(iterations()).toMatchObject([{ outcome: 'skipped', reason: 'vpnProvisioning is switched off (cli:alice: panel): Paid subscriptions wait' }, { outcome: 'skipped' }])
    expect([runs, loop.snapshot().state]).toEqual([0, 'skipping'])
    await board.clear('vpnProvisioning', { actor: { id: 'alice', via: 'cli' }, reason: 'back' })
    await env.advance('200ms')
    expect(runs).toBe(1)
    await loop.stop()
  })

  it('a dependency that takes no calls, and the system\'s state', async () => {
    let allowed = false
    let state: SystemState = 'degraded'
    const panel = { kind: 'dependency', name: 'vpn-panel', allows: () => allowed } as const
    const strict = make(async () => undefined, { needs: [panel, 'healthy'] }, { systemState: () => state })
    strict.start()
    await env.settle()
    expect(iterations().at(-1)).toMatchObject({ outcome: 'skipped', reason: 'dependency vpn-panel takes no calls now' })
    allowed = true
    await env.advance('10s')
    expect(iterations().at(-1)).toMatchObject({ outcome: 'skipped', reason: 'the system is degraded' })
    state = 'healthy'
    kit.events.emit('system.changed', { from: 'degraded', to: 'healthy', reason: 'x' })
    await env.advance('100ms')
    expect(iterations().at(-1)).toMatchObject({ outcome: 'ok' })
    await strict.stop()
    const lenient = make(async () => undefined, { needs: ['not-unavailable'] }, { systemState: () => 'degraded' })
    lenient.start()
    await env.settle()
    expect(iterations().at(-1)).toMatchObject({ outcome: 'ok' })
    await lenient.stop()
  })

  it('wakes for what concerns it and lets it run, and for nothing else', async () => {
    let allowed = false
    const panel = { kind: 'dependency', name: 'panel', allows: () => allowed } as const
    const loop = make(async () => undefined, { needs: [panel, 'healthy'], safeSleep: '60s' }, { systemState: () => 'healthy' })
    loop.start()
    await env.advance('1s')
    const breaker = (dependency: string, to: 'open' | 'half-open'): void => { kit.events.emit('breaker.changed', { dependency, from: 'closed', to, reason: 'x' } as never) }
    const looks = async (): Promise<number> => { await env.advance('1s'); return iterations().length }
    expect(iterations()).toHaveLength(1)
    breaker('panel', 'open')
    breaker('mail', 'half-open')
    kit.events.emit('system.changed', { from: 'healthy', to: 'unavailable', reason: 'x' })
    kit.events.emit('flag.changed', { flag: 'panel', from: false, to: true } as never)
    expect(await looks()).toBe(1)
    breaker('panel', 'half-open')
    expect(await looks()).toBe(2)
    kit.events.emit('system.changed', { from: 'degraded', to: 'healthy', reason: 'x' })
    expect(await looks()).toBe(3)
    allowed = true
    breaker('panel', 'half-open')
    expect(await looks()).toBe(4)
    expect(iterations().at(-1)).toMatchObject({ outcome: 'ok' })
    // It was not kept from running, so nothing that changes is a reason to run again.
    breaker('panel', 'half-open')
    kit.events.emit('system.changed', { from: 'degraded', to: 'healthy', reason: 'x' })
    expect(await looks()).toBe(4)
    allowed = false
    await loop.stop()
    breaker('panel', 'half-open')
    expect(await looks()).toBe(4)
    expect(env.pendingTimers).toBe(0)
  })

  it('a worker that needs no switch is not woken by any', async () => {
    const loop = make(async () => undefined, { needs: [{ kind: 'dependency', name: 'panel', allows: () => false }], safeSleep: '60s' })
    loop.start()
    await env.advance('1s')
    kit.events.emit('flag.changed', { flag: 'sales', from: false, to: true } as never)
    kit.events.emit('system.changed', { from: 'degraded', to: 'healthy', reason: 'x' })
    await env.advance('1s')
    expect(iterations()).toHaveLength(1)
    await loop.stop()
  })

  it('what cannot be known is refused when it is declared', () => {
    for (const need of ['leader', 'healthy', 'not-unavailable'] as const) expect(() => make(async () => undefined, { needs: [need] })).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
  })
})

describe('leadership', () => {
  function office() {
    let holder: AbortController | undefined
    const lease = {
      acquire: async (): Promise<HeldLeadership | undefined> => {
        if (holder !== undefined) return undefined
        const mine = new AbortController()
        holder = mine
        return { get held() { return holder === mine && !mine.signal.aborted }, signal: mine.signal, release: async () => { if (holder === mine) holder = undefined } }
      },
    }
    return { lease, lose: () => { const lost = holder; holder = undefined; lost?.abort() } }
  }

  it('only one of two runs; when it stops the other takes over', async () => {
    const { lease } = office()
    const ran: string[] = []
    const [a, b] = ['a', 'b'].map(name => make(async () => { ran.push(name) }, { needs: ['leader'], every: '10s' }, { lease }))
    a?.start()
    b?.start()
    await env.advance('35s')
    expect(new Set(ran).size).toBe(1)
    expect([a?.snapshot().leader, b?.snapshot().leader].sort()).toEqual([false, true])
    const [leader, other] = a?.snapshot().leader === true ? [a, b] : [b, a]
    await leader?.stop()
    await env.advance('11s')
    expect(other?.snapshot().leader).toBe(true)
    await other?.stop()
  })

  it('lost in the middle cancels the iteration', async () => {
    const { lease, lose } = office()
    let aborted: unknown
    const loop = make(async ({ signal }) => { await env.sleep(60_000, signal); aborted = signal.reason }, { needs: ['leader'] }, { lease })
    loop.start()
    await env.advance('5s')
    lose()
    await env.settle()
    expect(aborted).toMatchObject({ code: 'HF_LEASE_LOST' })
    expect(iterations()).toMatchObject([{ outcome: 'degraded', reason: 'worker activation: leadership was lost' }])
    await loop.stop()
  })

  it('that cannot be found out is a skip and no failure', async () => {
    const loop = make(async () => undefined, { needs: ['leader'] }, { lease: { acquire: () => Promise.reject(new HoldfastError('HF_STORE_UNAVAILABLE', { message: 'away' })) } })
    loop.start()
    await env.settle()
    expect(iterations()).toMatchObject([{ outcome: 'skipped', reason: 'who leads cannot be found out: away' }])
    await loop.stop()
  })
})

describe('stopping and pausing', () => {
  it('finishes the item in progress, begins no other, and is bounded', async () => {
    const done: string[] = []
    const loop = make(async ({ each }) => each(['a', 'b', 'c'], String, async item => { await env.sleep(5_000); done.push(item) }))
    loop.start()
    await env.advance('7s')
    let stopped = false
    void loop.stop().then(() => { stopped = true })
    await env.advance('3s')
    expect([done, stopped]).toEqual([['a', 'b'], true])
    expect(env.pendingTimers).toBe(0)
  })

  it('an item that does not end is cancelled after drainFor, uncounted; stop ends though it ignores that', async () => {
    const loop = make(async ({ each }) => each(['a'], String, () => new Promise(() => undefined)), { drainFor: '3s' })
    loop.start()
    await env.settle()
    let stopped = false
    void loop.stop().then(() => { stopped = true })
    await env.advance('2900ms')
    expect(stopped).toBe(false)
    await env.advance('1200ms')
    expect(stopped).toBe(true)
    expect(seen.filter(event => event.name === 'worker.item.failed')).toEqual([])
  })

  it('paused begins nothing but what an operator asks for; resumed it runs at once', async () => {
    let runs = 0
    const loop = make(async () => { runs += 1 }, { every: '1m' })
    loop.start()
    await env.settle()
    loop.pause('maintenance')
    loop.kick()
    await env.advance('10m')
    expect([runs, loop.snapshot().state, loop.snapshot().pausedBecause]).toEqual([1, 'paused', 'maintenance'])
    const outcome = loop.runNow()
    await env.advance('100ms')
    expect([await outcome, runs]).toEqual(['ok', 2])
    loop.resume()
    await env.advance('100ms')
    expect(runs).toBe(3)
    loop.pause('again')
    await loop.stop()
    expect(await loop.runNow()).toBe('skipped')
  })
})

describe('what ended an iteration', () => {
  it('is told with the worker: its deadline, its leadership, a stop between two items', async () => {
    const reasons: unknown[] = []
    const late = make(async ({ signal }) => { await env.sleep(60_000, signal); reasons.push(signal.reason) }, { deadline: '20s' })
    late.start()
    await env.advance('20s')
    expect(reasons).toMatchObject([{ code: 'HF_WORKER_DEADLINE', context: { worker: 'activation' } }])
    expect(iterations()).toMatchObject([{ outcome: 'failed', error: { code: 'HF_WORKER_DEADLINE' } }])
    const stopped = late.stop()
    await env.settle()
    expect(await stopped).toBe(0)
    seen.length = 0
    const between = make(async ({ each, degraded }) => {
      degraded('panel is slow')
      degraded('and slower')
      await each(['a', 'b', 'c'], String, async () => env.sleep(1_000))
    })
    between.start()
    await env.advance('500ms')
    const ended = between.stop()
    await env.advance('1s')
    expect(await ended).toBe(0)
    expect(iterations()).toMatchObject([{ outcome: 'degraded', reason: 'panel is slow', done: 1 }])
    expect(iterations()[0]).not.toHaveProperty('error')
    seen.length = 0
    const quiet = make(async ({ each }) => { await each(['a', 'b', 'c'], String, async () => env.sleep(1_000), { concurrency: 2 }) })
    quiet.start()
    await env.advance('500ms')
    const quietly = quiet.stop()
    await env.advance('1s')
    await quietly
    expect(iterations()).toMatchObject([{ outcome: 'ok', done: 2 }])
    expect(env.pendingTimers).toBe(0)
  })

  it('one item is said to be one', async () => {
    const loop = make(async ({ each }) => { await each(['a'], String, async () => { throw new Error('no') }) })
    loop.start()
    await env.settle()
    expect(iterations()).toMatchObject([{ outcome: 'failed', reason: '1 item failed' }])
    await loop.stop()
  })
})

describe('what a worker says of itself', () => {
  it('says nothing of what has not been yet', async () => {
    const loop = make(async () => undefined)
    expect(loop.snapshot()).toEqual({ name: 'activation', state: 'stopped', times: 'every 5m', consecutiveFailures: 0, parked: 0 })
    expect(await loop.stop()).toBe(0)
    expect(await loop.runNow()).toBe('skipped')
  })

  it('tells how the last iteration went, when the next one is, and since when nothing moved', async () => {
    const outcomes = ['ok', 'failed', 'ok'] as const
    let runs = 0
    const loop = make(async () => { if (outcomes[runs++] === 'failed') throw new Error('panel says no') }, { runbook: 'RUNBOOK#activation' })
    const start = env.now()
    loop.start()
    loop.start()
    await env.advance('1m')
    expect(loop.snapshot()).toEqual({
      name: 'activation', state: 'idle', times: 'every 5m', consecutiveFailures: 0, parked: 0, runbook: 'RUNBOOK#activation',
      lastOutcome: 'ok', lastRunAt: start, lastSuccessAt: start, heartbeatAt: start, lagMs: 0, nextRunAt: start + 300_000,
    })
    await env.advance('4m')
    await env.advance('1s')
    expect(loop.snapshot()).toMatchObject({ lastOutcome: 'failed', lastReason: 'panel says no', lastRunAt: start + 300_000, lastSuccessAt: start, heartbeatAt: start + 300_000, consecutiveFailures: 1, nextRunAt: start + 310_000 })
    await env.advance('10s')
    expect(loop.snapshot()).toMatchObject({ lastOutcome: 'ok', lastSuccessAt: start + 310_000, consecutiveFailures: 0 })
    expect(loop.snapshot()).not.toHaveProperty('lastReason')
    loop.pause('migration')
    expect(loop.snapshot()).toMatchObject({ state: 'paused', pausedBecause: 'migration' })
    expect(loop.snapshot()).not.toHaveProperty('nextRunAt')
    expect(runs).toBe(3)
    const stopped = loop.stop()
    await env.settle()
    expect([await stopped, loop.snapshot().state]).toEqual([0, 'stopped'])
  })

  it('says when a worker that may not run is asked again, and counts a skip neither as a failure nor as movement', async () => {
    let allowed = true
    const panel = { kind: 'dependency', name: 'panel', allows: () => allowed } as const
    const loop = make(async () => { throw new Error('panel') }, { needs: [panel] })
    // What it was not there for is no delay.
    await env.advance('1h')
    const start = env.now()
    loop.start()
    await env.advance('1s')
    expect(loop.snapshot()).toMatchObject({ lastOutcome: 'failed', lagMs: 0, heartbeatAt: start })
    allowed = false
    await env.advance('20s')
    expect(loop.snapshot()).toMatchObject({ state: 'skipping', lastOutcome: 'skipped', nextRunAt: start + 30_000, consecutiveFailures: 1, heartbeatAt: start })
    await loop.stop()
    await env.advance('1h')
    expect(loop.snapshot()).toMatchObject({ state: 'stopped', lagMs: 0 })
  })

  it('is running while it runs, which is no delay of the next one', async () => {
    const loop = make(async () => { await env.sleep(60_000) })
    loop.start()
    await env.advance('30s')
    expect(loop.snapshot()).toMatchObject({ state: 'running', lagMs: 0 })
    const stopped = loop.stop()
    expect(await loop.runNow()).toBe('skipped')
    await env.advance('10s')
    await env.advance('30s')
    expect(await stopped).toBe(1)
  })
})
