/**
 * The real program of a crash run: real sockets, real store, real time; it kills itself with SIGKILL at the point that it
 * was told. Everything outside of it (Telegram, Crypto Pay, the panel) is the rig's and survives.
 *
 * Different from the bot in production: leases of a second, so that what died is taken over soon, and background work
 * that can be hurried. Neither is what makes a purchase survive; they are how long it takes.
 */
import { HoldfastError, messageOf, realEnv, type Env } from 'holdfast/core'
import { embedded } from 'holdfast/embedded'
import { serve } from 'holdfast/http/node'
import { postgres } from 'holdfast/postgres'
import type { Database, SqlTx, Store } from 'holdfast/embedded'
import { withHooks } from 'holdfast/testing'
import { createApp } from '../app.ts'
import { sqlRows } from '../shop/sql.ts'
import { createShop } from '../shop/shop.ts'
import { countingCalls, Counter, pointName } from './points.ts'
import type { ChildSettings, Control, FromChild, ToChild } from './protocol.ts'

const settings = JSON.parse(process.argv[2] ?? '{}') as ChildSettings
const tell = (message: FromChild): void => { process.send?.(message) }

const counter = new Counter(point => {
  const name = pointName(point)
  // SIGKILL to oneself is carried out before the call returns: nothing of this process runs afterwards.
  if (name === settings.dieAt) process.kill(process.pid, 'SIGKILL')
  tell({ type: 'point', name })
})

const { config } = settings
const partners = { telegramUrl: config.telegramApiRoot, cryptoPayUrl: config.cryptoPayUrl, panelUrl: config.panelUrl }
const real = realEnv()
const beganAt = real.monotonic()
const env = countingCalls(settings.without === 'panel-names' ? renamingPanelUsers(real) : real, partners, counter)

const { store: chosen } = settings
const base = chosen.kind === 'embedded' ? embedded(chosen.dir, { singleInstance: true }) : postgres(chosen.url, { connections: 4 })
let database: Database<SqlTx> | undefined
const store: Store = withHooks(keeping(base), {
  before: name => { counter.before(name) },
  after: (name, value) => { counter.after(name, value) },
})

const log = (level: 'warn' | 'error') => (fields: object, message: string): void => { tell({ type: 'log', level, message: `${message} ${JSON.stringify(fields)}` }) }
const app = createApp({
  env, store, config, environment: {}, shop: createShop(sqlRows), leaseFor: '1s',
  log: { debug: () => undefined, info: () => undefined, warn: log('warn'), error: log('error') },
})

process.on('message', (message: ToChild) => {
  answer(message).catch((error: unknown) => { tell({ type: 'log', level: 'error', message: `the rig's ${message.type}: ${messageOf(error)}` }) })
})
// The rig has gone: nobody is left to run for.
process.once('disconnect', () => { process.exit(1) })

const served = await serve((request, info) => app.fetch(request, info), { port: settings.port })
await app.start()
tell({ type: 'ready', tookMs: Math.round(env.monotonic() - beganAt) })

async function answer(message: ToChild): Promise<void> {
  switch (message.type) {
    case 'arm':
      counter.armed = true
      return
    case 'hurry': return hurry()
    case 'look': {
      const { open, stuck } = await unfinished()
      const snapshot = await app.hold.transaction('rig.snapshot', tx => app_shop.snapshot(tx))
      tell({ type: 'look', id: message.id, snapshot, open, stuck })
      return
    }
    case 'stop':
      await app.stop('the rig has seen enough')
      await served.close()
      process.exit(0)
  }
}
