/**
 * Zombies: a holder that stands still for longer than its lease and then goes on as if nothing had happened.
 *
 * Real processes, a real PostgreSQL, SIGSTOP and SIGCONT, and a connection that swallows everything. Another takes over within
 * twice the lease, and of the zombie's late work nothing is committed. Each beside its control: without the guard the late
 * commit is there; without the server's bound on idle transactions nobody can take over.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { EventBus, realEnv } from '../../src/core/index.ts'
import { DURABLE_MIGRATIONS, lease } from '../../src/durable/index.ts'
import type { Database, SqlTx } from '../../src/index.ts'
import { migrate } from '../../src/store/index.ts'
import { postgres } from '../../src/store/postgres/index.ts'
import { faultProxy, type FaultProxy } from '../../src/testing/index.ts'
import { testPostgres } from '../postgres.ts'
import { bundle } from './fleet.ts'
import type { FromZombie, ZombieSettings } from './zombie.ts'

const LEASE_MS = 2_000
const BOUND = { idleInTransactionTimeout: '800ms', transactionTimeout: '10s' } as const
const UNBOUND = { idleInTransactionTimeout: '60s', transactionTimeout: '60s' } as const
const env = realEnv()

let built: Awaited<ReturnType<typeof bundle>>
let url: URL
let direct: Database<SqlTx>
beforeAll(async () => {
  built = await bundle('zombie')
  url = new URL(await (await testPostgres()).url())
  direct = await postgres(url.href, { connections: 3, lockTimeout: '200ms' }).open({ env, events: new EventBus(env), service: 'test' })
  await migrate(direct, 'durable', DURABLE_MIGRATIONS)
  await direct.transaction('table', tx => tx.query('CREATE TABLE entry (n bigserial PRIMARY KEY, fence bigint NOT NULL, text text NOT NULL)'))
}, 60_000)
afterAll(async () => {
  await direct.close()
  built.remove()
})

let proxy: FaultProxy
let zombie: Zombie | undefined
beforeEach(async () => {
  await direct.transaction('empty', tx => tx.query('DELETE FROM entry; DELETE FROM holdfast.lease'))
  proxy = await faultProxy({ to: { host: url.hostname, port: Number(url.port) } })
})
afterEach(async () => {
  await zombie?.end()
  zombie = undefined
  await proxy.close()
})

interface Zombie {
  readonly child: ChildProcess
  readonly heard: <Type extends FromZombie['type']>(type: Type) => Promise<Extract<FromZombie, { readonly type: Type }>>
  readonly end: () => Promise<void>
}

function start(settings: Omit<ZombieSettings, 'url' | 'leaseFor'>): Zombie {
  const through = new URL(url)
  through.host = `${proxy.host}:${String(proxy.port)}`
  const given: ZombieSettings = { ...settings, url: through.href, leaseFor: `${LEASE_MS}ms` }
  const child = fork(join(built.dir, 'zombie.mjs'), [JSON.stringify(given)], { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'], env: { ...process.env, NODE_OPTIONS: '' } })
  const gone = new Promise<void>(resolve => { child.once('exit', () => { resolve() }) })
  const messages: FromZombie[] = []
  let told: () => void = () => undefined
  child.on('message', (message: FromZombie) => { messages.push(message); told() })
  zombie = {
    child,
    heard: async type => {
      for (;;) {
        const found = messages.find(message => message.type === type)
        if (found !== undefined) return found as never
        await Promise.race([new Promise<void>(resolve => { told = resolve }), gone.then(() => { throw new Error('the zombie ended') })])
      }
    },
    end: async () => {
      child.kill('SIGKILL')
      await gone
    },
  }
  return zombie
}

/** Another instance asks again and again. Answers how long it took; undefined when it was not granted in time. */
async function takeOver(withinMs: number): Promise<{ readonly tookMs: number; readonly fence: number } | undefined> {
  const kit = { env, events: new EventBus(env), service: 'test', instance: 'other', database: () => direct }
  const startedMs = env.monotonic()
  while (env.monotonic() - startedMs < withinMs) {
    const held = await lease<SqlTx>('account', { ttl: `${LEASE_MS}ms` }, kit).acquire()
    if (held !== undefined) {
      const tookMs = env.monotonic() - startedMs
      await held.transaction('account.write', tx => tx.query(`INSERT INTO entry (fence, text) VALUES ($1, 'the next holder')`, [held.fence]))
      await held.release()
      return { tookMs, fence: held.fence }
    }
    await env.sleep(50)
  }
  return undefined
}

const entries = async (): Promise<readonly string[]> => (await direct.transaction('read', tx => tx.query<{ text: string }>('SELECT text FROM entry ORDER BY n'))).map(row => row.text)

/** Brings a holder to where it is to stand still. */
async function hold(settings: Omit<ZombieSettings, 'url' | 'leaseFor'>): Promise<Zombie> {
  const holder = start(settings)
  await holder.heard(settings.where === 'inside' ? 'inside' : 'holds')
  return holder
}

async function goOn(holder: Zombie): Promise<{ readonly outcome: string; readonly aborted: boolean }> {
  holder.child.send('go on')
  holder.child.kill('SIGCONT')
  const { outcome, aborted } = await holder.heard('over')
  return { outcome, aborted }
}

describe('a process that is stopped past its lease, outside of a transaction', () => {
  it('is taken over from within twice the lease, commits nothing late, and its signal aborts', async () => {
    const holder = await hold({ where: 'between', guarded: true, ...BOUND })
    holder.child.kill('SIGSTOP')
    const taken = await takeOver(2 * LEASE_MS)
    expect(taken).toMatchObject({ fence: 2 })
    expect(await goOn(holder)).toEqual({ outcome: expect.stringMatching(/HF_LEASE_LOST|HF_CANCELLED/) as string, aborted: true })
    expect(await entries()).toEqual(['the next holder'])
  })

  it('control: without the guard its late write is committed', async () => {
    const holder = await hold({ where: 'between', guarded: false, ...BOUND })
    holder.child.kill('SIGSTOP')
    expect(await takeOver(2 * LEASE_MS)).toBeDefined()
    expect((await goOn(holder)).outcome).toBe('committed')
    expect(await entries()).toEqual(['the next holder', 'first half', 'second half'])
  })
})

describe('a process that is stopped inside a guarded transaction', () => {
  it('is taken over from within twice the lease, commits nothing late, and its signal aborts', async () => {
    const holder = await hold({ where: 'inside', guarded: true, ...BOUND })
    holder.child.kill('SIGSTOP')
    expect(await takeOver(2 * LEASE_MS)).toMatchObject({ fence: 2 })
    const { outcome, aborted } = await goOn(holder)
    expect([outcome === 'committed', aborted]).toEqual([false, true])
    expect(await entries()).toEqual(['the next holder'])
  })

  it('is taken over in time also where only the lease bounds its transaction', async () => {
    const holder = await hold({ where: 'inside', guarded: true, ...UNBOUND })
    holder.child.kill('SIGSTOP')
    expect(await takeOver(2 * LEASE_MS)).toMatchObject({ fence: 2 })
    expect((await goOn(holder)).outcome).not.toBe('committed')
    expect(await entries()).toEqual(['the next holder'])
  })

  it('control: without the guard it is overtaken and its late commit stands', async () => {
    const holder = await hold({ where: 'inside', guarded: false, ...UNBOUND })
    holder.child.kill('SIGSTOP')
    expect(await takeOver(2 * LEASE_MS)).toBeDefined()
    expect((await goOn(holder)).outcome).toBe('committed')
    expect([...await entries()].sort()).toEqual(['first half', 'second half', 'the next holder'])
  })
})

describe('a connection that swallows everything, inside a guarded transaction', () => {
  it('keeps nobody from taking over within twice the lease, and commits nothing when it is back', async () => {
    const holder = await hold({ where: 'inside', guarded: true, ...BOUND })
    proxy.set({ blackHole: true })
    expect(await takeOver(2 * LEASE_MS)).toMatchObject({ fence: 2 })
    const over = goOn(holder)
    await env.sleep(100)
    proxy.set({})
    const { outcome, aborted } = await over
    expect([outcome === 'committed', aborted]).toEqual([false, true])
    expect(await entries()).toEqual(['the next holder'])
  })

  it('control: where the server does not bound it, the lock stays and nobody takes over', async () => {
    const through = await lostHolder()
    proxy.set({ blackHole: true })
    expect(await takeOver(2 * LEASE_MS)).toBeUndefined()
    await through()
  })
})

/** A guarded transaction in this process that nothing bounds, through the proxy: as a client would hold it that sets no bounds. */
async function lostHolder(): Promise<() => Promise<void>> {
  const through = new URL(url)
  through.host = `${proxy.host}:${String(proxy.port)}`
  const database = await postgres(through.href, { connections: 2, ...UNBOUND }).open({ env, events: new EventBus(env), service: 'test' })
  const held = await lease<SqlTx>('account', { ttl: `${LEASE_MS}ms` }, { env, events: new EventBus(env), service: 'test', instance: 'lost', database: () => database }).acquire()
  let inside: () => void = () => undefined
  const entered = new Promise<void>(resolve => { inside = resolve })
  const done = database.transaction('account.write', async tx => {
    await held?.guard(tx)
    inside()
    await new Promise(() => undefined)
  }).catch(() => undefined)
  await entered
  return async () => {
    proxy.set({})
    proxy.reset()
    await done
    await database.close()
  }
}
