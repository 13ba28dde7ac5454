/**
 * What a drill is made of: a world, one or more instances of the real bot in it, what was noticed, and what was expected.
 *
 * A scenario goes from a steady state through a fault to its end and says at each point what must be true. It runs on
 * simulated time, so it takes milliseconds and is replayed by its seed. At the end the books are compared with what panel
 * and providers really did; nothing is ever just logged and passed.
 */
import type { DurableHoldfast, HoldfastOptions, Store } from 'holdfast'
import { type Duration, type HoldfastEvents, messageOf } from 'holdfast/core'
import { memory, memoryDisk, type MemoryDisk, type MemoryTx } from 'holdfast/memory'
import { withHooks } from 'holdfast/testing'
import type { InboxMessage, Payment, UserActor } from 'holdfast-simulators/telegram'
import { type Running, run as runBot, world, type World, type WorldOptions } from '../bench.ts'
import { brokenInvariants } from '../shop/invariants.ts'
import { subscriptionIdOf } from '../shop/ids.ts'
import { memoryRows } from '../shop/memory.ts'
import { createShop } from '../shop/shop.ts'
import type { Snapshot, Subscription } from '../shop/types.ts'
import { type Control, plainPanelName, without } from './without.ts'

export interface Check {
  readonly what: string
  readonly ok: boolean
  /** What there was instead. */
  readonly detail?: string
}

export interface ScenarioResult {
  readonly name: string
  readonly ok: boolean
  readonly ms: number
  readonly checks: readonly Check[]
  /** Broken promises of books, panel and providers together. */
  readonly invariants: readonly string[]
}

export interface Scenario {
  readonly name: string
  /** One line for people. */
  readonly about: string
  readonly run: (drill: Drill) => Promise<void>
}

export interface DrillOptions {
  readonly seed: number
  /** A protection that is taken away: the scenario is expected to fail. */
  readonly without?: Control | undefined
}

export interface OpenOptions extends WorldOptions {
  /** Of telegram ids; without it the bench's one admin. */
  readonly admins?: readonly number[]
  /** While it answers true, the database cannot be reached. */
  readonly databaseAway?: () => boolean
}

/** One instance, and what it said. */
export interface Instance extends Running<MemoryTx> {
  readonly hold: DurableHoldfast<MemoryTx>
  readonly facts: readonly string[]
  readonly alerts: readonly HoldfastEvents['alert.raised'][]
  readonly recovered: readonly HoldfastEvents['alert.recovered'][]
  /** Lines of level error. */
  readonly errors: readonly string[]
}

const CUSTOMER = 42

/** Carries out one scenario. A scenario that throws has failed, and says why. */
export async function carryOut(scenario: Scenario, options: DrillOptions, monotonic: () => number): Promise<ScenarioResult> {
  const began = monotonic()
  const drill = new Drill(options)
  try {
    await scenario.run(drill)
    await drill.conclude()
  } catch (error) {
    drill.expect('the scenario runs to its end', false, error instanceof Error ? error.stack ?? error.message : messageOf(error))
  }
  drill.close()
  const { checks, invariants } = drill
  return { name: scenario.name, ok: checks.every(check => check.ok) && invariants.length === 0, ms: Math.round(monotonic() - began), checks, invariants }
}

export class Drill {
  readonly checks: Check[] = []
  readonly invariants: string[] = []
  readonly #options: DrillOptions
  readonly #benches: Bench[] = []

  constructor(options: DrillOptions) {
    this.#options = options
  }

  get seed(): number {
    return this.#options.seed
  }

  expect(what: string, ok: boolean, detail?: unknown): void {
    this.checks.push({ what, ok, ...(ok || detail === undefined ? {} : { detail: typeof detail === 'string' ? detail : JSON.stringify(detail) }) })
  }

  equal(what: string, got: unknown, wanted: unknown): void {
    const [is, should] = [JSON.stringify(got), JSON.stringify(wanted)]
    this.expect(what, is === should, `expected ${should}, got ${is}`)
  }

  /** A world with one bot in it, ready; its steady state is checked. */
  async open(options: OpenOptions = {}): Promise<Bench> {
    const bench = new Bench(options, this.#options)
    this.#benches.push(bench)
    await bench.start()
    this.expect('steady state: healthy, nothing is stuck', bench.bot.hold.health.state === 'healthy' && (await bench.bot.hold.status()).work.length === 0, (await bench.bot.hold.status()).verdict)
    return bench
  }

  /** The books against what really happened, in every world that was opened. */
  async conclude(): Promise<void> {
    for (const bench of this.#benches) this.invariants.push(...await bench.brokenAtRest())
  }

  close(): void {
    for (const bench of this.#benches) bench.close()
  }
}

export class Bench {
  readonly outside: World
  readonly disk: MemoryDisk = memoryDisk()
  readonly instances: Instance[] = []
  /** Charges that a scenario made up: the bot is told of them, and no provider made them. */
  readonly forged: string[] = []
  readonly #away: (() => boolean) | undefined
  readonly #without: Control | undefined

  constructor({ admins, databaseAway, ...options }: OpenOptions, drill: DrillOptions) {
    const made = world({ seed: drill.seed, ...options })
    this.outside = admins === undefined ? made : { ...made, config: { ...made.config, adminIds: admins.map(String) } }
    this.#away = databaseAway
    this.#without = drill.without
  }

  /** The instance that was started last. */
  get bot(): Instance {
    const bot = this.instances.at(-1)
    if (bot === undefined) throw new RangeError('no instance was started')
    return bot
  }

  /** Another instance on the same disk: a restart, or a second one beside the first. */
  async start({ origin }: { readonly origin?: string } = {}): Promise<Instance> {
    const errors: string[] = []
    const log: HoldfastOptions['log'] = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: (fields, message) => { errors.push(`${message} ${JSON.stringify(fields)}`) } }
    const base = memory(this.disk)
    const facts: string[] = []
    const alerts: HoldfastEvents['alert.raised'][] = []
    const recovered: HoldfastEvents['alert.recovered'][] = []
    const running = await runBot(this.outside, {
      store: this.#away === undefined ? base : reachable(base, this.#away), shop: createShop(memoryRows), log,
      given: options => without(this.#without, options), ...(origin === undefined ? {} : { origin }),
    })
    running.env.onKill(() => { base.abandon() })
    const { hold } = running.app
    hold.events.on('app.fact', ({ data }) => { facts.push(data.fact) })
    hold.events.on('alert.raised', ({ data }) => { alerts.push(data) })
    hold.events.on('alert.recovered', ({ data }) => { recovered.push(data) })
    const instance: Instance = { ...running, hold, facts, alerts, recovered, errors }
    this.instances.push(instance)
    return instance
  }

  /** SIGKILL, and started again on what it had committed. */
  async killAndRestart(): Promise<Instance> {
    this.bot.env.kill()
    return this.start()
  }

  advance(by: Duration | number): Promise<void> {
    return this.outside.env.advance(by)
  }

  until(done: () => boolean, within: Duration): Promise<boolean> {
    return this.outside.env.until(done, within)
  }

  /** Waits on simulated time for something that itself needs time to pass. */
  async waitFor<T>(work: Promise<T>, within: Duration): Promise<T> {
    let settled = false
    void work.then(() => { settled = true }, () => { settled = true })
    await this.until(() => settled, within)
    if (!settled) throw new RangeError(`it did not end within ${within}`)
    return work
  }

  customer(id = CUSTOMER, languageCode = 'en'): UserActor {
    return this.outside.telegram.user({ id, firstName: `Customer ${String(id)}`, languageCode })
  }

  /** From /start to the invoice. */
  async choose(how: 'card' | 'crypto', id = CUSTOMER): Promise<UserActor> {
    const customer = this.customer(id)
    customer.command('/start')
    await this.advance('1s')
    for (const press of [/See the plans/, /^1 month/, how === 'card' ? /By card/ : /By crypto/]) {
      customer.press(press)
      await this.advance('1s')
    }
    await this.advance('1s')
    return customer
  }

  /** Pays the invoice by card; time passes until it is known how that ended. */
  async pay(customer: UserActor, options?: Parameters<UserActor['pay']>[0]): Promise<Payment> {
    return this.waitFor(customer.pay(options), '15s')
  }

  /** Pays the crypto invoice that the customer sees. */
  payCrypto(customer: UserActor): void {
    this.outside.cryptoPay.pay(customer.button(/Pay/)?.url ?? '')
  }

  async buyByCard(id = CUSTOMER): Promise<UserActor> {
    const customer = await this.choose('card', id)
    const payment = await this.pay(customer)
    if (payment.outcome !== 'charged') throw new RangeError(`customer ${String(id)} was not charged: ${JSON.stringify(payment)}`)
    return customer
  }

  /** What the bot answers to a message. */
  async ask(customer: UserActor, command: string, argument?: string): Promise<InboxMessage | undefined> {
    customer.command(command, argument)
    await this.advance('3s')
    return customer.last
  }

  async flip(target: string, on: boolean): Promise<void> {
    await this.waitFor(this.bot.hold.command('flag.set', { target, args: { on }, actor: { id: 'drill', via: 'code' }, reason: 'a drill' }), '10s')
  }

  snapshot(): Promise<Snapshot> {
    return this.bot.snapshot()
  }

  async subscription(id = CUSTOMER): Promise<Subscription | undefined> {
    return (await this.snapshot()).subscriptions.find(item => item.id === subscriptionIdOf(String(id)))
  }

  get keys(): readonly string[] {
    return this.outside.panel.keys().map(user => user.username)
  }

  deliveries(id = CUSTOMER): number {
    return this.outside.deliveries(id)
  }

  /** Of a table on the disk, by whoever was committed. */
  rows(table: string): readonly Readonly<Record<string, unknown>>[] {
    return this.disk.rows<Readonly<Record<string, unknown>>>(table).map(([, row]) => row)
  }

  /** What must hold once everything has come to rest. */
  async brokenAtRest(): Promise<readonly string[]> {
    const snapshot = await this.snapshot()
    const { telegram, panel } = this.outside
    const broken = [...brokenInvariants(snapshot, {
      atRest: true, outside: { charges: [...this.outside.charges(), ...this.forged], panelUsers: panel.keys().map(user => plainPanelName(user.username)) },
    })]
    for (const user of telegram.users()) {
      const settled = snapshot.orders.filter(order => order.customerId === String(user.id) && order.settledBy !== null).length
      if (this.deliveries(user.id) > settled) broken.push(`customer ${String(user.id)} got ${String(this.deliveries(user.id))} delivery messages for ${String(settled)} paid orders`)
    }
    if (new Set(this.keys).size !== snapshot.subscriptions.filter(item => item.status === 'active').length) broken.push(`there are ${String(this.keys.length)} keys on the panel`)
    const open = this.rows('holdfast.inbox_row').filter(row => row['state'] === 'queued' || row['state'] === 'working')
    if (open.length > 0) broken.push(`${String(open.length)} updates were never finished`)
    const parked = this.rows('holdfast.inbox_row').filter(row => row['state'] === 'parked')
    if (parked.length > 0) broken.push(`${String(parked.length)} updates could not be handled: ${String(parked[0]?.['reason'])}`)
    return broken
  }

  close(): void {
    for (const { env } of this.instances) env.kill()
    for (const simulator of [this.outside.telegram, this.outside.cryptoPay, this.outside.panel]) simulator.stop()
  }
}

/** The same store, behind a network that may be away: no transaction begins, and the health check gets no answer either. */
function reachable(store: Store<MemoryTx>, away: () => boolean): Store<MemoryTx> {
  const look = (): void => { if (away()) throw new Error('connection refused') }
  const hooked = withHooks(store, { before: look })
  return {
    ...hooked,
    async open(options) {
      const database = await hooked.open(options)
      return {
        dialect: database.dialect, durability: database.durability, close: () => database.close(), transaction: (name, work, given) => database.transaction(name, work, given),
        async ping(signal) {
          look()
          await database.ping(signal)
        },
      }
    },
  }
}
