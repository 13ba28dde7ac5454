import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { describe, expect, it } from 'vitest'
import { EventBus, HoldfastError, withContext } from '../core/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { type Alert, alerts, countEvents, describeEvent, ESCALATION, logEvents, type Logger, metrics, pinoLogger, redacting, redactor, timeline } from './index.ts'

function recorder(): { logger: Logger; lines: { level: string; fields: Record<string, unknown>; message: string }[] } {
  const lines: { level: string; fields: Record<string, unknown>; message: string }[] = []
  const at = (level: string) => (fields: object, message: string): void => { lines.push({ level, fields: fields as Record<string, unknown>, message }) }
  return { logger: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }, lines }
}

function setUp(): { env: SimulatedEnv; events: EventBus; lines: ReturnType<typeof recorder>['lines'] } {
  const env = simulatedEnv()
  const events = new EventBus(env)
  const { logger, lines } = recorder()
  logEvents(events, logger, env)
  return { env, events, lines }
}

const failed = { dependency: 'vpn-panel', operation: 'add-user', attempt: 1, message: 'status 503' } as const

describe('the log', () => {
  it('says whose fault a failure is by its level, and shows a stack for our own only', () => {
    const { events, lines } = setUp()
    const error = new HoldfastError('HF_CALL_FAILED', { message: 'status 503', cause: new Error('socket') })
    events.emit('call.failed', { ...failed, failure: 'dependency_error', error })
    events.emit('call.failed', { ...failed, failure: 'defect', error: new TypeError('x is undefined') })
    events.emit('handler.failed', { handler: 'buy', failure: 'user_error', message: 'no such plan' })
    expect(lines.map(line => line.level)).toEqual(['warn', 'error', 'info'])
    expect(lines[0]?.fields['error']).toEqual({ type: 'HoldfastError', code: 'HF_CALL_FAILED', message: 'status 503', cause: { type: 'Error', message: 'socket' } })
    expect(lines[1]?.fields['error']).toBeInstanceOf(TypeError)
  })

  it('carries the correlation id and the component', () => {
    const { events, lines } = setUp()
    withContext({ correlationId: 'tg-7', component: 'handler buy' }, () => { events.emit('once.replayed', { once: 'settle-payment', key: 'x' }) })
    expect(lines[0]?.fields).toMatchObject({ event: 'once.replayed', correlationId: 'tg-7', component: 'handler buy' })
  })

  it('writes what repeats once a minute, with how often it was left out', async () => {
    const { env, events, lines } = setUp()
    const skip = (): void => { events.emit('worker.iteration', { worker: 'activation', outcome: 'skipped', reason: 'breaker open', durationMs: 0, lateMs: 0, done: 0, failed: 0, parked: 0 }) }
    for (let index = 0; index < 10; index += 1) skip()
    expect(lines).toHaveLength(1)
    await env.advance('61s')
    skip()
    expect(lines[1]?.fields['suppressedBefore']).toBe(9)
  })

  it('writes neither warning nor error in normal operation', () => {
    const { events, lines } = setUp()
    events.emit('inbox.received', { source: 'telegram', id: '1', lane: '7' })
    events.emit('once.done', { once: 'settle-payment', key: 'a' })
    events.emit('once.replayed', { once: 'settle-payment', key: 'a' })
    events.emit('limit.refused', { limit: 'payment_init', key: '7', retryAfterMs: 1_000 })
    events.emit('flag.skipped', { flag: 'payments', where: 'buy', message: 'off' })
    events.emit('worker.iteration', { worker: 'expiry', outcome: 'ok', durationMs: 5, lateMs: 0, done: 1, failed: 0, parked: 0 })
    events.emit('saga.finished', { saga: 'provision', id: '1', outcome: 'done', reason: '' })
    expect(lines.filter(line => line.level === 'warn' || line.level === 'error')).toEqual([])
  })

  it('says of rubbish from outside that it comes, once a minute, however many and under whatever names', async () => {
    const { env, events, lines } = setUp()
    for (let index = 0; index < 5_000; index += 1) events.emit('handler.refused', { handler: `http /hook/${String(index)}`, code: index % 2 === 0 ? 'HF_BODY_INVALID' : 'HF_SIGNATURE_INVALID', message: 'no' })
    expect(lines.map(line => line.level)).toEqual(['info', 'info'])
    await env.advance('61s')
    events.emit('handler.refused', { handler: 'http /hook', code: 'HF_BODY_INVALID', message: 'no' })
    expect(lines[2]?.fields['suppressedBefore']).toBe(2_499)
  })

  it('never throws into the program when the logger does', () => {
    const broken: Logger = { debug: () => { throw new Error('disk full') }, info: () => { throw new Error('disk full') }, warn: () => undefined, error: () => undefined }
    expect(() => { redacting(broken, redactor()).info({}, 'x') }).not.toThrow()
  })
})

describe('pino', () => {
  it('is loaded when it is used, and not before', () => {
    const loaded = (): boolean => Object.keys(createRequire(import.meta.url).cache).some(path => path.includes('/node_modules/pino/'))
    expect(loaded()).toBe(false)
    const logger = pinoLogger({ service: 'shop', instance: 'i1', level: 'error' })
    expect(loaded()).toBe(true)
    expect(typeof logger.error).toBe('function')
  })
})

describe('redaction', () => {
  const redact = redactor()
  redact.register('123456:CANARY-TOKEN')

  it('takes a registered secret out of urls, messages, stacks and causes at any depth', () => {
    const error = new Error('GET https://api.telegram.org/bot123456:CANARY-TOKEN/getMe failed', { cause: { deep: [{ url: 'x123456:CANARY-TOKENx' }] } })
    expect(JSON.stringify(redact.value({ a: { b: { c: { error } } } }))).not.toContain('CANARY')
    expect(redact.text('token 123456:CANARY-TOKEN!')).toBe('token ***!')
  })

  it('masks what is called a secret, at any depth, and nothing that merely sounds so', () => {
    expect(redact.value({ a: { b: { c: { d: { botToken: 'x', api_key: 'y', Authorization: 'z' } } } }, password: 'p' })).toMatchObject({ password: '***', a: { b: { c: { d: { botToken: '***', api_key: '***' } } } } })
    const innocent = { tokensLeft: 3, secretary: 'Ann', onceKey: 'delivery:1' }
    expect(redact.value(innocent)).toEqual(innocent)
  })

  it('survives cycles and depth', () => {
    const loop: Record<string, unknown> = { name: 'x' }
    loop['self'] = loop
    expect(redact.value(loop)).toEqual({ name: 'x', self: '[cycle]' })
  })

  it('would leak without it', () => {
    expect(JSON.stringify({ message: 'bot123456:CANARY-TOKEN' })).toContain('CANARY')
  })
})

describe('the timeline', () => {
  it('counts runs of the same line, resumes after an id, and explains one piece of work', () => {
    const env = simulatedEnv()
    const events = new EventBus(env)
    const line = timeline(events, { instance: 'i1', redact: redactor() })
    const seen: number[] = []
    line.onEntry(entry => seen.push(entry.count))
    const skip = (): void => { events.emit('flag.skipped', { flag: 'payments', where: 'buy', message: 'off' }) }
    skip()
    skip()
    skip()
    withContext({ correlationId: 'tg-1' }, () => {
      events.emit('inbox.received', { source: 'telegram', id: '1', lane: '7' })
      events.emit('breaker.changed', { dependency: 'vpn-panel', from: 'closed', to: 'open', reason: '5 failures in a row' })
    })
    const [first, second] = line.list()
    expect([first?.count, second?.text, second?.tone]).toEqual([3, 'vpn-panel: breaker closed -> open: 5 failures in a row', 'bad'])
    expect(seen).toEqual([1, 2, 3, 1])
    expect(line.list({ after: first?.id ?? '' })).toEqual([second])
    expect(line.list({ after: 'other:9' })).toHaveLength(2)
    expect(line.explain('tg-1').map(entry => entry.name)).toEqual(['inbox.received', 'breaker.changed'])
  })

  it('tells every listener, whichever of them throws', () => {
    const events = new EventBus({ now: () => 0 })
    const line = timeline(events, { instance: 'i1', redact: redactor() })
    const seen: string[] = []
    line.onEntry(() => { throw new Error('the console went away') })
    line.onEntry(entry => seen.push(entry.text))
    events.emit('app.progress', { message: 'one' })
    events.emit('app.progress', { message: 'two' })
    expect(seen).toEqual(['one', 'an event listener threw: the console went away', 'two'])
  })

  it('is bounded', () => {
    const events = new EventBus({ now: () => 0 })
    const line = timeline(events, { instance: 'i1', redact: redactor() })
    for (let index = 0; index < 3_000; index += 1) events.emit('app.progress', { message: String(index) })
    expect(line.list()).toHaveLength(1_000)
  })
})

describe('alerts', () => {
  async function withAlerts(): Promise<{ env: SimulatedEnv; events: EventBus; told: Alert[]; board: ReturnType<typeof alerts> }> {
    const env = simulatedEnv()
    const events = new EventBus(env)
    const told: Alert[] = []
    const board = alerts(events, env, { sinks: [async alert => { told.push(alert) }, async () => { throw new Error('sink is down') }, () => new Promise(() => undefined), () => { throw new Error('at once') }] })
    return { env, events, told, board }
  }
  const opened = { dependency: 'vpn-panel', from: 'closed', to: 'open', reason: '5 failures in a row' } as const

  it('are told once, not again before the floor, and taken back when it is over', async () => {
    const { env, events, told, board } = await withAlerts()
    events.emit('breaker.changed', opened)
    events.emit('breaker.changed', { ...opened, from: 'half-open' })
    await env.settle()
    expect(told.map(alert => alert.state)).toEqual(['raised'])
    await env.advance('15m')
    events.emit('breaker.changed', { ...opened, from: 'half-open' })
    events.emit('breaker.changed', { ...opened, to: 'closed' })
    await env.settle()
    expect(told.map(alert => alert.state)).toEqual(['raised', 'raised', 'recovered'])
    expect(board.active()).toEqual([])
    board.stop()
  })

  it('stay for what does not recover by itself, until somebody takes them off', async () => {
    const { events, board } = await withAlerts()
    events.emit('app.fact', { fact: 'payment.mismatch', severity: 'attention', message: 'order 7 was paid with another amount', key: '7', runbook: 'payment-mismatch' })
    expect(board.active()).toMatchObject([{ key: 'fact:payment.mismatch 7', severity: 'page', runbook: 'payment-mismatch' }])
    expect(board.acknowledge('fact:payment.mismatch 7')).toBe(true)
    expect(board.active()).toEqual([])
    board.stop()
  })

  it('are not raised by what is normal', async () => {
    const { events, board } = await withAlerts()
    events.emit('app.fact', { fact: 'payment.settled', severity: 'info', message: 'paid' })
    events.emit('outbox.parked', { lane: '7', onceKey: 'delivery:1', topic: 'delivery', state: 'dead', message: 'blocked' })
    events.emit('inbox.failed', { source: 'telegram', id: '1', attempt: 1, message: 'x', parked: false })
    expect(board.active()).toEqual([])
    board.stop()
  })

  it('are not held up by a sink that throws or hangs', async () => {
    const { env, events, told, board } = await withAlerts()
    events.emit('breaker.changed', opened)
    await env.advance('30s')
    expect(told).toHaveLength(1)
    expect(board.dropped).toBe(3)
    events.emit('breaker.changed', { ...opened, dependency: 'crypto-pay' })
    await env.advance('30s')
    expect([told.length, board.dropped]).toEqual([2, 6])
    board.stop()
  })
})

describe('metrics', () => {
  it('count events, keep their label sets bounded, and read as Prometheus text', () => {
    const registry = metrics()
    const events = new EventBus({ now: () => 0 })
    countEvents(events, registry)
    registry.gauge('holdfast_flag_on', 'Switches: 1 on, 0 off.', () => [[{ flag: 'pay"ments\n' }, 1]])
    for (let index = 0; index < 500; index += 1) events.emit('call.failed', { ...failed, operation: `op-${String(index)}`, failure: 'dependency_error' })
    events.emit('worker.iteration', { worker: 'expiry', outcome: 'ok', durationMs: 20, lateMs: 0, done: 1, failed: 0, parked: 0 })
    const text = registry.render()
    expect(text).toContain('holdfast_worker_iteration_seconds_bucket{worker="expiry",le="0.025"} 1')
    expect(text).toContain('holdfast_flag_on{flag="pay\\"ments\\n"} 1')
    expect(text.match(/^holdfast_call_failures_total\{/gm)?.length).toBeLessThanOrEqual(201)
    expect(text).toMatch(/holdfast_call_failures_total\{.*operation="other".*\} 300/)
    const promtool = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' })
    // Checked by Prometheus' own tool where it is installed.
    if (promtool.error === undefined) expect(`${promtool.stdout}${promtool.stderr}`).toBe('')
  })

  it('refuse a name that Prometheus would', () => {
    expect(() => metrics().counter('holdfast_calls', 'x')).toThrow(/_total/)
  })
})

describe('every event', () => {
  it('has a level, and a sentence', () => {
    const event = { seq: 1, at: 0, name: 'lease.lost', correlationId: undefined, component: undefined, data: { lease: 'worker:expiry', fence: 3, reason: 'expired' } } as const
    expect(describeEvent(event)).toBe('lease worker:expiry lost (fence 3): expired')
    expect(Object.keys(ESCALATION).length).toBeGreaterThan(40)
  })
})
