/**
 * Protections that can be taken away, to see that drills and schedules then find harm: a test that stays green without
 * what it tests is no test.
 *
 * Each control changes what the app is given (store, outside calls, shop) and nothing of the app itself, so production
 * code has no knob for it. For the memory store.
 */
import type { Store } from 'holdfast'
import type { Env } from 'holdfast/core'
import type { MemoryTable, MemoryTx } from 'holdfast/memory'
import type { AppOptions } from '../app.ts'
import { memoryRows } from '../shop/memory.ts'
import { createShop, type Shop } from '../shop/shop.ts'

export const CONTROLS = ['once-keys', 'fences', 'panel-names', 'adoption', 'inbox', 'charge-first'] as const
/**
 * `once-keys`: what was settled is forgotten, in the once record and in the unique keys of payment and ledger.
 * `fences`: each holder of a lease is given the same number as the one before.
 * `panel-names`: each process has panel names of its own.
 * `adoption`: a panel user who exists already is a refusal.
 * `inbox`: an update that was claimed is claimed again each time it comes.
 * `charge-first`: the switch `payments` is asked after the charge, too.
 */
export type Control = typeof CONTROLS[number]

/** What the app is given without this protection. */
export function without(control: Control | undefined, given: AppOptions<MemoryTx>): AppOptions<MemoryTx> {
  switch (control) {
    case undefined: return given
    case 'once-keys': return { ...given, store: withTables(given.store, forgetOnce), shop: createShop(bookingAgain()) }
    case 'fences': return { ...given, store: withTables(given.store, oneFence) }
    case 'panel-names': return { ...given, env: renamingPanelUsers(given.env, given.config.panelUrl) }
    case 'adoption': return { ...given, env: refusingConflicts(given.env, given.config.panelUrl) }
    case 'inbox': return { ...given, store: withTables(given.store, forgetUpdates) }
    case 'charge-first': return { ...given, shop: askingTooLate(given.shop) }
  }
}

/** The panel's name of a user as the bot derives it, whatever `panel-names` has made of it. */
export function plainPanelName(username: string): string {
  return username.replace(/^(sub_[0-9a-f]{16}_g\d+)_[0-9a-f]{4}$/, '$1')
}

type View = (transaction: string, table: string, rows: MemoryTable<Row>, tx: MemoryTx) => MemoryTable<Row>
type Row = Readonly<Record<string, unknown>>

/** The same store, with another view of its tables. */
function withTables(store: Store<MemoryTx>, view: View): Store<MemoryTx> {
  return {
    ...store,
    async open(options) {
      const database = await store.open(options)
      return {
        dialect: database.dialect, durability: database.durability,
        ping: signal => database.ping(signal), close: () => database.close(),
        transaction: (name, work, transactionOptions) => database.transaction(name, tx => work({
          // The table's name stands for its row type, as in the store itself.
          table: <R>(table: string) => view(name, table, tx.table<Row>(table), tx) as MemoryTable<unknown> as MemoryTable<R>,
          sequence: sequence => tx.sequence(sequence), now: () => tx.now(),
        }), transactionOptions),
      }
    },
  }
}

/** Rows as `see` shows them; undefined: as if they were not there. */
function seen(rows: MemoryTable<Row>, see: (row: Row) => Row | undefined): MemoryTable<Row> {
  return {
    get: key => {
      const row = rows.get(key)
      return row === undefined ? undefined : see(row)
    },
    set: (key, row) => { rows.set(key, row) },
    delete: key => rows.delete(key),
    *entries() {
      for (const [key, row] of rows.entries()) {
        const shown = see(row)
        if (shown !== undefined) yield [key, shown]
      }
    },
    get size() { return rows.size },
  }
}

const forgetOnce: View = (_transaction, table, rows) => (table === 'holdfast.once_record' ? seen(rows, () => undefined) : rows)

const forgetUpdates: View = (transaction, table, rows) => (transaction === 'inbox.claim' && table === 'holdfast.inbox_row' ? seen(rows, () => undefined) : rows)

/** A row that nobody holds any more shows no number, so whoever takes it draws the first one again. */
const oneFence: View = (_transaction, _table, rows, tx) => seen(rows, row => {
  const until = row['leaseUntil'] ?? (row['owner'] === undefined ? undefined : row['expiresAt'])
  return typeof row['fence'] === 'number' && typeof until === 'number' && until <= tx.now() ? { ...row, fence: 0 } : row
})

/** Rows whose unique keys are gone: a second booking of a charge is written beside the first. */
function bookingAgain(): typeof memoryRows {
  let bookings = 0
  /** Of the settlement that is being written: transactions are serial, and the payment's row comes before its ledger. */
  let suffix = ''
  return {
    ...memoryRows,
    insertPayment: async (tx, payment) => {
      const known = await memoryRows.payment(tx, payment.key)
      suffix = known === undefined ? '' : ` again ${String(bookings += 1)}`
      await memoryRows.insertPayment(tx, { ...payment, key: `${payment.key}${suffix}` })
    },
    insertLedger: async (tx, row) => memoryRows.insertLedger(tx, { ...row, entry: `${row.entry}${suffix}` }),
  }
}

function withFetch(env: Env, fetch: Env['fetch']): Env {
  return {
    now: () => env.now(), monotonic: () => env.monotonic(), timer: (ms, run, options) => env.timer(ms, run, options), sleep: (ms, signal) => env.sleep(ms, signal),
    random: () => env.random(), uuid: () => env.uuid(), bytes: length => env.bytes(length), fetch,
  }
}

function renamingPanelUsers(env: Env, panelUrl: string): Env {
  const suffix = `_${env.uuid().slice(0, 4)}`
  const rename = (text: string): string => text.replace(/sub_[0-9a-f]{16}_g\d+/, name => `${name}${suffix}`)
  return withFetch(env, (input, init) => {
    if (typeof input !== 'string' || !input.startsWith(panelUrl)) return env.fetch(input, init)
    return env.fetch(rename(input), typeof init?.body === 'string' ? { ...init, body: rename(init.body) } : init)
  })
}

function refusingConflicts(env: Env, panelUrl: string): Env {
  return withFetch(env, async (input, init) => {
    const response = await env.fetch(input, init)
    const isPanel = typeof input === 'string' && input.startsWith(panelUrl)
    return isPanel && response.status === 409 ? Response.json({ detail: 'User already exists' }, { status: 400 }) : response
  })
}

/** Reads the switch where the money is booked, from what operators have stored. */
function askingTooLate(shop: Shop<MemoryTx>): Shop<MemoryTx> {
  return {
    ...shop,
    settle: async (tx, payment) => {
      const off = [...tx.table<Row>('flag_override').entries()].some(([, row]) => row['flag'] === 'payments' && row['on'] === false)
      if (off) throw new Error('payments are switched off')
      return shop.settle(tx, payment)
    },
  }
}
