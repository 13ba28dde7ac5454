/**
 * One schedule: a customer buys while the plan's troubles happen; then nothing goes wrong any more, and within bounded
 * time everything has to come to rest: one charge, one subscription, one key, at most one delivery, and /key answers.
 *
 * The customer behaves as people do: presses again when nothing comes, pays again when nothing was charged, and stops once
 * money was taken. What is counted twice is counted where it happens, at the panel, the providers and in the customer's chat.
 */
import { memoryDisk, type MemoryDisk } from 'holdfast/memory'
import type { UserActor } from 'holdfast-simulators/telegram'
import { world, type World } from '../bench.ts'
import { type Control, plainPanelName } from '../drill/without.ts'
import { brokenInvariants } from '../shop/invariants.ts'
import type { Customer, LedgerRow, Order, PaymentRow, Snapshot, Subscription } from '../shop/types.ts'
import { Hosts } from './hosts.ts'
import type { Plan } from './plan.ts'

export interface RunResult {
  /** Broken promises; empty when all is well. */
  readonly broken: readonly string[]
  /** What this run reached of what runs reach sometimes. */
  readonly reached: ReadonlySet<string>
  readonly operations: number
  /** Simulated. */
  readonly tookMs: number
  /** The same plan gives the same number. */
  readonly hash: number
}

const CUSTOMER = 42
/** Troubles end here; a purchase without any takes two seconds. */
const TROUBLES_FOR_MS = 45_000
const REST_WITHIN_MS = 15 * 60_000
const LOOK_EVERY_MS = 1_000
const PRESS_AGAIN_MS = 12_500
const PRESSES_MAX = 40
const KEY_WITHIN_MS = 5_000
const KEY_ASKED_MAX = 40

/** Carries out a plan. Never throws: what goes wrong with the run itself is a broken promise, too. */
export async function runSchedule(plan: Plan, options: { readonly without?: Control | undefined } = {}): Promise<RunResult> {
  const reached = new Set<string>()
  const outside = world({ seed: plan.seed, latencyMs: plan.latencyMs })
  const disk = memoryDisk()
  const hosts = new Hosts({ outside, disk, plan, without: options.without, reached: state => { reached.add(state) }, onKill: () => { for (const state of killedWhere(outside, disk)) reached.add(state) } })
  for (const trouble of plan.troubles) if (trouble.kind === 'partner') outside[trouble.partner].faults.add(trouble.rule)
  const broken: string[] = []
  try {
    hosts.start()
    await outside.env.settle()
    const buying = buy(outside, plan)
    const { env } = outside
    while (env.monotonic() < TROUBLES_FOR_MS && !(buying.paid && atRest(outside, disk))) await env.advance(LOOK_EVERY_MS)
    for (const simulator of [outside.telegram, outside.cryptoPay, outside.panel]) simulator.faults.clear()
    hosts.calm()
    const until = env.monotonic() + REST_WITHIN_MS
    while (env.monotonic() < until && !(buying.paid && atRest(outside, disk))) await env.advance(LOOK_EVERY_MS)
    // Whoever stood still and comes back late must not break what has come to rest.
    await env.advance(stillStanding(plan))
    broken.push(...await broke(outside, disk, buying.paid))
    if (outside.panel.state().conflicts > 0 && broken.length === 0) reached.add('a key that existed already was adopted')
    if (outside.deliveries(CUSTOMER) === 0) reached.add('the key was delivered by /key alone')
    if (plan.instances === 2) reached.add('two instances at once')
  } catch (error) {
    broken.push(`the run ended with ${error instanceof Error ? error.stack ?? error.message : String(error)}`)
  }
  const result = { broken, reached, operations: hosts.operations, tookMs: outside.env.monotonic(), hash: hosts.hash }
  hosts.end()
  for (const simulator of [outside.telegram, outside.cryptoPay, outside.panel]) {
    simulator.stop()
    // What is kept of a world that is over should be little.
    simulator.ledger.clear()
  }
  return result
}

/** Beyond the look at rest, so that a zombie has had its say. */
function stillStanding(plan: Plan): number {
  const zombie = plan.troubles.find(trouble => trouble.kind === 'pause')
  return zombie === undefined ? 0 : zombie.forMs
}

function buy(outside: World, plan: Plan): { readonly paid: boolean } {
  const state = { paid: false }
  const customer = outside.telegram.user({ id: CUSTOMER, firstName: 'Anna', languageCode: 'en' })
  const pays = plan.purchase === 'card' ? payByCard : payByCrypto
  void (async () => {
    for (let pressed = 0; pressed < PRESSES_MAX && !state.paid; pressed++) {
      customer.pressOn(1, `pay:${plan.purchase}:m1`)
      const before = invoices(customer)
      const again = outside.env.monotonic() + PRESS_AGAIN_MS
      while (invoices(customer) === before && outside.env.monotonic() < again) await outside.env.sleep(250)
      if (invoices(customer) === 0) continue
      state.paid = await pays(outside, customer)
      if (!state.paid) await outside.env.sleep(Math.max(2_000, again - outside.env.monotonic()))
    }
  })()
  return state
}

function invoices(customer: UserActor): number {
  return customer.inbox.filter(message => message.invoice !== undefined || message.buttons.flat().some(button => button.url !== undefined)).length
}

async function payByCard(_outside: World, customer: UserActor): Promise<boolean> {
  return (await customer.pay()).outcome === 'charged'
}

async function payByCrypto(outside: World, customer: UserActor): Promise<boolean> {
  outside.cryptoPay.pay(customer.button(/Pay/)?.url ?? '')
  return true
}

/** Committed rows, as the books are kept on disk: nobody has to be alive to read them. */
function books(disk: MemoryDisk): Snapshot {
  const rows = <Row>(table: string): readonly Row[] => disk.rows<Row>(`shop.${table}`).map(([, row]) => row)
  return { customers: rows<Customer>('customer'), orders: rows<Order>('orders'), payments: rows<PaymentRow>('payment'), subscriptions: rows<Subscription>('subscription'), ledger: rows<LedgerRow>('ledger') }
}

function states(disk: MemoryDisk, table: string): readonly string[] {
  return disk.rows<{ readonly state: string }>(`holdfast.${table}`).map(([, row]) => row.state)
}

function atRest(outside: World, disk: MemoryDisk): boolean {
  if (outside.telegram.pendingUpdates > 0) return false
  if (states(disk, 'inbox_row').some(state => state === 'queued' || state === 'working')) return false
  if (states(disk, 'outbox_message').some(state => state === 'queued' || state === 'sending')) return false
  if (states(disk, 'saga_run').some(state => state === 'running' || state === 'undoing')) return false
  const { subscriptions, orders } = books(disk)
  return subscriptions.length > 0 && subscriptions.every(item => item.status === 'active') && orders.every(order => order.status !== 'paid')
}

async function broke(outside: World, disk: MemoryDisk, paid: boolean): Promise<readonly string[]> {
  const { telegram, cryptoPay, panel } = outside
  const broken: string[] = []
  const expect = (condition: boolean, sentence: string): void => { if (!condition) broken.push(sentence) }
  const snapshot = books(disk)
  broken.push(...brokenInvariants(snapshot, { atRest: true, outside: { charges: outside.charges(), panelUsers: panel.keys().map(user => plainPanelName(user.username)) } }))
  expect(paid, 'the customer could not pay')
  expect(outside.charges().length === 1, `there are ${String(outside.charges().length)} charges`)
  expect(snapshot.payments.length === 1, `there are ${String(snapshot.payments.length)} payments on record`)
  expect(snapshot.subscriptions.length === 1 && snapshot.subscriptions[0]?.revision === 1, `subscriptions: ${snapshot.subscriptions.map(item => `${item.status} revision ${String(item.revision)}`).join(', ')}`)
  expect(panel.keys().length === 1, `there are ${String(panel.keys().length)} keys on the panel`)
  expect(panel.state().created === 1, `${String(panel.state().created)} keys were made`)
  expect(outside.deliveries(CUSTOMER) <= 1, `the key was delivered ${String(outside.deliveries(CUSTOMER))} times`)
  const thanks = telegram.inboxOf(CUSTOMER).filter(message => /the payment has arrived/.test(message.text)).length
  expect(thanks <= 1, `the customer was thanked ${String(thanks)} times`)
  const deliveries = disk.rows<{ readonly onceKey: string; readonly state: string }>('holdfast.outbox_message').filter(([key]) => key.startsWith('delivery:')).map(([, row]) => row.state)
  expect(deliveries.length === 1, `${String(deliveries.length)} delivery messages were kept`)
  expect(outside.deliveries(CUSTOMER) === 1 || deliveries.includes('unknown') || deliveries.includes('dead'), `the key was not delivered, and the message is ${deliveries.join(', ')}`)
  expect(states(disk, 'inbox_row').every(state => state === 'done'), `updates rest as ${[...new Set(states(disk, 'inbox_row'))].join(', ')}`)
  expect(states(disk, 'saga_run').every(state => state === 'done' || state === 'undone'), `sagas rest as ${[...new Set(states(disk, 'saga_run'))].join(', ')}`)
  const overpaid = cryptoPay.invoices().filter(invoice => invoice.status === 'paid').length + telegram.charges.length
  expect(overpaid === 1, `the customer paid ${String(overpaid)} times`)
  expect(await answersKey(outside), '/key does not answer with the key')
  return broken
}

/** A customer whose question was not answered asks again: a breaker may be open for a minute after the troubles have ended. */
async function answersKey(outside: World): Promise<boolean> {
  const customer = outside.telegram.user({ id: CUSTOMER, firstName: 'Anna', languageCode: 'en' })
  const link = outside.panel.keys()[0]?.uuid ?? 'no key'
  const answered = (from: number): boolean => customer.inbox.slice(from).some(message => message.text.includes(link))
  for (let asked = 0; asked < KEY_ASKED_MAX; asked++) {
    const from = customer.inbox.length
    customer.command('/key')
    if (await outside.env.until(() => answered(from), KEY_WITHIN_MS)) return true
    await outside.env.advance(KEY_WITHIN_MS)
  }
  return false
}

/** At the moment of a death: between which two effects of the purchase was it? */
function killedWhere(outside: World, disk: MemoryDisk): readonly string[] {
  const { payments, subscriptions } = books(disk)
  const charges = outside.charges().length
  const subscription = subscriptions[0]
  return [
    ...(charges === 0 ? ['killed before the charge'] : []),
    ...(charges > payments.length ? ['killed between the charge and its record'] : []),
    ...(payments.length > 0 && outside.panel.keys().length === 0 ? ['killed between the record and the key'] : []),
    ...(outside.panel.keys().length > 0 && subscription?.key === null ? ['killed between the key and its record'] : []),
    ...(states(disk, 'outbox_message').includes('sending') ? ['killed while a message was being sent'] : []),
    ...(subscription?.status === 'active' ? ['killed after the key was recorded'] : []),
  ]
}
