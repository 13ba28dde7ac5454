/**
 * A holder that is about to become a zombie: takes a lease, says so, and writes under it when it is told, or when it wakes.
 *
 * A process of its own, as only a process can be stopped. What becomes of its write it tells whoever started it.
 */
import { EventBus, messageOf, realEnv, isHoldfastError } from '../../src/core/index.ts'
import { lease } from '../../src/durable/index.ts'
import type { Duration, SqlTx } from '../../src/index.ts'
import { postgres } from '../../src/store/postgres/index.ts'

export interface ZombieSettings {
  readonly url: string
  readonly leaseFor: Duration
  /** `between`: stopped while no transaction is open. `inside`: in the middle of one. */
  readonly where: 'between' | 'inside'
  /** Control: it writes without asking whether it still may. */
  readonly guarded: boolean
  readonly idleInTransactionTimeout: Duration
  readonly transactionTimeout: Duration
}

export type FromZombie =
  | { readonly type: 'holds'; readonly fence: number }
  /** Its transaction is open, with a write in it. */
  | { readonly type: 'inside' }
  | { readonly type: 'over'; readonly outcome: string; readonly aborted: boolean }

const settings = JSON.parse(process.argv[2] ?? '{}') as ZombieSettings
const tell = (message: FromZombie): void => { process.send?.(message) }
const env = realEnv()
const { leaseFor, where, guarded, idleInTransactionTimeout, transactionTimeout } = settings
const store = postgres(settings.url, { connections: 3, idleInTransactionTimeout, transactionTimeout, connectTimeout: '1s' })
const events = new EventBus(env)
const database = await store.open({ env, events, service: 'zombie' })
const held = await lease<SqlTx>('account', { ttl: leaseFor }, { env, events, service: 'zombie', instance: 'zombie', database: () => database }).acquire()
if (held === undefined) throw new Error('somebody else holds the lease')
const { fence } = held
process.once('disconnect', () => { process.exit(0) })
const told = new Promise<void>(resolve => { process.on('message', () => { resolve() }) })

const write = (tx: SqlTx, text: string): Promise<unknown> => tx.query('INSERT INTO entry (fence, text) VALUES ($1, $2)', [fence, text])
const work = async (tx: SqlTx): Promise<void> => {
  await write(tx, 'first half')
  if (where === 'inside') {
    tell({ type: 'inside' })
    await told
  }
  await write(tx, 'second half')
}

tell({ type: 'holds', fence })
if (where === 'between') await told
const outcome = await (guarded ? held.transaction('account.write', work) : database.transaction('account.write', work))
  .then(() => 'committed', (error: unknown) => (isHoldfastError(error) ? error.code : messageOf(error)))
// What a stopped process finds out by its own clock, it finds out within a turn of its event loop.
await env.sleep(50)
tell({ type: 'over', outcome, aborted: held.signal.aborted })
