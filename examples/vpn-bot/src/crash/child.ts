/**
 * The real program of a crash run: real sockets, real store, real time; it kills itself with SIGKILL at the point that it
 * was told. Everything outside of it (Telegram, Crypto Pay, the panel) is the rig's and survives.
 *
 * Different from the bot in production: leases of a second, so that what died is taken over soon, and background work
 * that can be hurried. Neither is what makes a purchase survive; they are how long it takes.
 */
import { type Env, HoldfastError, messageOf, realEnv } from 'holdfast/core'
import { type Database, embedded, type SqlTx, type Store } from 'holdfast/embedded'
import { serve } from 'holdfast/http/node'
import { postgres } from 'holdfast/postgres'
import { withHooks } from 'holdfast/testing'
import { createApp } from '../app.ts'
import { sqlRows } from '../shop/sql.ts'
import { createShop } from '../shop/shop.ts'
import { countingCalls, Counter, pointName } from './points.ts'
import type { ChildSettings, Control, FromChild, Look, ToChild } from './protocol.ts'

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
const store: Store = withHooks(forgetting(base, settings.without), {
  before: name => { counter.before(name) },
  after: (name, value) => { counter.after(name, value) },
})

const shop = createShop(sqlRows)
const log = (level: 'warn' | 'error') => (fields: object, message: string): void => { tell({ type: 'log', level, message: `${message} ${JSON.stringify(fields)}` }) }
const app = createApp({
  env, store, config, environment: {}, shop,
  // PGlite shares the event loop with everything else: under load a second is too short to be kept.
  leaseFor: settings.leaseFor ?? (chosen.kind === 'embedded' ? '3s' : '1s'),
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
      tell({ type: 'look', id: message.id, ...await app.hold.transaction('rig.look', look) })
      return
    }
    case 'stop':
      await app.stop('the rig has seen enough')
      await served.close()
      process.exit(0)
  }
}

async function look(tx: SqlTx): Promise<Look> {
  const snapshot = await shop.snapshot(tx)
  const [counted] = await tx.query<{ open: string | number }>(`
    SELECT (SELECT count(*) FROM holdfast.inbox_row WHERE state IN ('queued', 'working'))
      + (SELECT count(*) FROM holdfast.outbox_message WHERE state IN ('queued', 'sending'))
      + (SELECT count(*) FROM holdfast.saga_run WHERE state IN ('running', 'undoing')) AS open`)
  const stuck = await tx.query<{ what: string }>(`
    SELECT 'inbox ' || source || '/' || id || ' ' || state || ': ' || coalesce(reason, '') AS what FROM holdfast.inbox_row WHERE state = 'parked'
    UNION ALL SELECT 'saga ' || saga || '/' || id || ': ' || coalesce(reason, '') FROM holdfast.saga_run WHERE state = 'needs-human'
    UNION ALL SELECT 'outbox ' || once_key || ' ' || state FROM holdfast.outbox_message WHERE state = 'dead'`)
  return { snapshot, open: Number(counted?.open ?? 0), stuck: stuck.map(row => row.what) }
}

/** What the clock would bring about within minutes. Claims of the dead are moved back instead of waited for. */
async function hurry(): Promise<void> {
  await app.hold.transaction('rig.elapse', async tx => {
    await tx.query(`UPDATE shop.subscription SET claimed_until = claimed_until - interval '2 minutes' WHERE status = 'pending_activation'`)
  })
  for (const worker of ['recovery', 'activation', 'crypto-watcher']) {
    await app.hold.command('worker.run', { target: worker, actor: { id: 'rig', via: 'code' }, reason: 'a crash run does not wait for minutes' })
  }
}

/** The same store that, at each start, has lost what the control takes away. */
function forgetting(store: Store, without: Control | undefined): Store {
  const lost = without === 'sending-marks' ? `UPDATE holdfast.outbox_message SET state = 'queued', fence = 0 WHERE state = 'sending'`
    : without === 'once-keys' ? `DELETE FROM holdfast.once_record; ALTER TABLE shop.payment DROP CONSTRAINT IF EXISTS payment_pkey, DROP CONSTRAINT IF EXISTS payment_provider_charge_id_key; ALTER TABLE shop.ledger DROP CONSTRAINT IF EXISTS ledger_pkey; DROP INDEX IF EXISTS shop.payment_settles_one_order` : undefined
  if (lost === undefined) return store
  return {
    ...store,
    async open(options): Promise<Database<SqlTx>> {
      const database = await store.open(options)
      await database.transaction('rig.forget', tx => tx.query(`DO $$ BEGIN IF to_regclass('shop.payment') IS NOT NULL THEN ${lost}; END IF; END $$`))
      return database
    },
  }
}

/** The same panel, with names that no later start of this program would choose again. */
function renamingPanelUsers(env: Env): Env {
  const suffix = `_${env.uuid().slice(0, 4)}`
  const rename = (text: string): string => text.replace(/sub_[0-9a-f]{16}_g\d+/, name => `${name}${suffix}`)
  return {
    ...env,
    fetch: (input, init) => {
      if (typeof input !== 'string' || !input.startsWith(config.panelUrl)) return env.fetch(input, init)
      if (init?.body !== undefined && typeof init.body !== 'string') throw new HoldfastError('HF_INVARIANT', { message: 'the panel is sent JSON texts' })
      return env.fetch(rename(input), init?.body === undefined ? init : { ...init, body: rename(init.body) })
    },
  }
}
