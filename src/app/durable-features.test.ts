/**
 * A whole service with a retry store, an idempotent operation, a worker with due times and queues: wired, kept over a restart, and seen in status and metrics.
 */
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { idempotent, type HttpHandler } from '../http/index.ts'
import type { MemoryTx } from '../store/index.ts'
import { memory, memoryDisk, type MemoryDisk } from '../store/memory/index.ts'
import { simulatedEnv, type SimulatedEnv } from '../testing/index.ts'
import { createHoldfast, type DurableHoldfast } from './index.ts'

const Prompt = z.object({ prompt: z.string() })

interface Service {
  readonly hold: DurableHoldfast<MemoryTx>
  readonly inputs: ReturnType<DurableHoldfast<MemoryTx>['retryStore']>
  readonly pay: HttpHandler
  readonly runs: string[]
  readonly payments: number[]
}

function service(env: SimulatedEnv, disk: MemoryDisk): Service {
  const hold = createHoldfast({ service: 'shop', store: memory(disk), env, environment: {}, log: 'silent', inbox: { payloadMax: '1kb' }, outbox: { payloadMax: '1kb' } })
  const runs: string[] = []
  const payments: number[] = []
  hold.worker('report', { cron: '*/10 * * * *', timeZone: 'Europe/Berlin', mode: 'leader', safeSleep: '10s', run: async () => { runs.push(new Date(env.now()).toISOString().slice(0, 16)) } })
  hold.outbox.topic('notice', { send: async () => ({ kind: 'retry', reason: 'busy' }) })
  const inputs = hold.retryStore('generation', { input: Prompt }) as unknown as Service['inputs']
  const pay = idempotent(hold, 'create-payment', { tenant: () => 'acme', write: async () => { payments.push(1); return new Response('paid') } })
  return { hold, inputs, pay, runs, payments }
}

async function soon<T>(env: SimulatedEnv, work: Promise<T>): Promise<T> {
  let over = false
  work.then(() => { over = true }, () => { over = true })
  expect(await env.until(() => over, '60s')).toBe(true)
  return work
}

const post = (): Request => new Request('http://shop.test/payments', { method: 'POST', body: '{}', headers: { 'idempotency-key': 'k1' } })

describe('a service', () => {
  it('keeps inputs, answers and due times over a restart, and shows what waits', async () => {
    const env = simulatedEnv()
    const disk = memoryDisk()
    const first = service(env, disk)
    await soon(env, first.hold.start())
    await soon(env, first.inputs.store('user 7', 'flux', { prompt: 'a cat' }))
    expect((await soon(env, first.pay(post()))).status).toBe(200)
    await env.advance('601s')
    expect(first.runs).toEqual(['2026-01-01T00:10'])
    await soon(env, first.hold.transaction('test', tx => first.hold.outbox.enqueue(tx, { lane: 'chat:7', topic: 'notice', onceKey: 'n1', payload: null })))
    await env.advance('20s')
    const status = await soon(env, first.hold.status())
    expect(status.queues).toMatchObject([{ kind: 'outbox', name: 'notice', waiting: 1 }])
    expect(status.queues[0]?.oldestMs).toBeGreaterThanOrEqual(20_000)
    expect(status.workers.find(({ name }) => name === 'report')).toMatchObject({ times: 'cron */10 * * * * Europe/Berlin', leader: true, lagMs: 0 })
    expect(first.hold.metrics()).toContain('holdfast_worker_lag_seconds{worker="report"} 0')
    expect(first.hold.metrics()).toMatch(/holdfast_queue_waiting\{kind="outbox",name="notice"\} 1\n/)
    expect(first.hold.metrics()).toMatch(/holdfast_queue_oldest_seconds\{kind="outbox",name="notice"\} 2\d\n/)
    await soon(env, first.hold.stop())

    const second = service(env, disk)
    await soon(env, second.hold.start())
    expect(await soon(env, second.inputs.get('user 7', 'flux'))).toMatchObject({ input: { prompt: 'a cat' } })
    const again = await soon(env, second.pay(post()))
    expect([again.headers.get('idempotency-replayed'), await again.text(), second.payments]).toEqual(['true', 'paid', []])
    await env.advance('5m')
    expect(second.runs).toEqual([])
    await env.advance('5m')
    expect(second.runs).toEqual(['2026-01-01T00:20'])
    await soon(env, second.hold.stop())
    expect(env.pendingTimers).toBe(0)
  })

  it('passes its limits on, and refuses a name twice', async () => {
    const env = simulatedEnv()
    const { hold } = service(env, memoryDisk())
    await soon(env, hold.start())
    const claim = hold.inbox.claim({ source: 'telegram', id: '1', lane: '7', payload: 'x'.repeat(2_000) })
    await expect(claim).rejects.toMatchObject({ code: 'HF_INPUT_INVALID' })
    await expect(soon(env, hold.transaction('test', tx => hold.outbox.enqueue(tx, { lane: 'l', topic: 'notice', onceKey: 'k', payload: 'x'.repeat(2_000) })))).rejects.toMatchObject({ code: 'HF_INPUT_INVALID' })
    expect(() => hold.retryStore('generation', { input: Prompt })).toThrow(expect.objectContaining({ code: 'HF_NAME_TAKEN' }) as Error)
    expect(() => idempotent(hold, 'create-payment', { tenant: () => 'a', write: async () => new Response() })).toThrow(expect.objectContaining({ code: 'HF_NAME_TAKEN' }) as Error)
    await soon(env, hold.stop())
  })
})
