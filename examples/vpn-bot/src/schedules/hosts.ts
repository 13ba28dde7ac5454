/**
 * The processes of a schedule: where the bot runs, dies, stands still, is started again, and which of them is asked.
 *
 * Every operation of every process passes one gate, which counts it and lets the plan's troubles happen to it. Death is
 * SIGKILL: nothing of the process runs any more, what it had handed over stays done, requests to it are reset.
 */
import { HoldfastError, type HoldfastEvents } from 'holdfast/core'
import { memory, type MemoryDisk, type MemoryStore, type MemoryTx } from 'holdfast/memory'
import { type SimulatedEnv, withHooks } from 'holdfast/testing'
import { createApp, type VpnBot } from '../app.ts'
import { BOT, type World } from '../bench.ts'
import { callName, isPoint, tookSomething } from '../crash/points.ts'
import { type Control, without } from '../drill/without.ts'
import { memoryRows } from '../shop/memory.ts'
import { createShop } from '../shop/shop.ts'
import { LEASE_MS, type Plan, type Trouble, type When } from './plan.ts'

type Timed = Exclude<Trouble, { kind: 'partner' }>

export interface HostsOptions {
  readonly outside: World
  readonly disk: MemoryDisk
  readonly plan: Plan
  readonly without: Control | undefined
  /** Something that a good run of many reaches sometimes. */
  readonly reached: (state: string) => void
  readonly onKill: () => void
}

interface Process {
  readonly env: SimulatedEnv
  readonly store: MemoryStore
  readonly app: VpnBot<MemoryTx>
  /** Rejects when it dies: whoever asked it something gets a reset connection. */
  readonly died: Promise<never>
  readonly die: () => void
  /** Pending while it stands still. */
  standing: Promise<void> | undefined
  /** It stood still and came back after another was started in its place. */
  zombie: boolean
}

const PARTNERS = { telegramUrl: 'http://telegram.test', cryptoPayUrl: 'http://crypto-pay.test', panelUrl: 'http://panel.test' }
/** A slot whose program did not come up is tried again. */
const START_AGAIN_MS = 500

export class Hosts {
  readonly #options: HostsOptions
  readonly #slots: (Process | undefined)[]
  readonly #processes = new Set<Process>()
  readonly #due = new Map<string, Timed[]>()
  #operations = 0
  #hash = 0
  #calm = false

  constructor(options: HostsOptions) {
    this.#options = options
    const { outside, plan } = options
    this.#slots = Array.from({ length: plan.instances }, () => undefined)
    for (const trouble of plan.troubles) {
      if (trouble.kind === 'partner') continue
      const key = `${String(trouble.at)} ${trouble.when}`
      this.#due.set(key, [...this.#due.get(key) ?? [], trouble])
    }
    outside.env.serve(BOT, request => this.#route(request))
  }

  /** Operations so far. */
  get operations(): number {
    return this.#operations
  }

  /** Of what was done in which order: the same plan gives the same number. */
  get hash(): number {
    return this.#hash
  }

  start(): void {
    for (const slot of this.#slots.keys()) this.#boot(slot)
  }

  /** From now on nothing goes wrong any more; what is dead comes back, what stands still goes on. */
  calm(): void {
    this.#calm = true
  }

  end(): void {
    for (const process of this.#processes) this.#end(process)
  }

  #end(process: Process): void {
    this.#processes.delete(process)
    process.env.kill()
    process.store.abandon()
    process.die()
  }

  #boot(slot: number): void {
    const { outside, disk, plan, without: control } = this.#options
    const env = outside.env.process()
    const store = memory(disk)
    const gate = { process: undefined as Process | undefined }
    env.hooks = {
      before: url => this.#gate(gate.process, callName(PARTNERS, url, 'ANY'), 'before', undefined),
      after: url => this.#gate(gate.process, callName(PARTNERS, url, 'ANY'), 'after', undefined),
    }
    const hooked = withHooks(store, {
      before: async name => {
        if (plan.storeLatencyMs > 0) await env.sleep(env.random() * plan.storeLatencyMs)
        await this.#gate(gate.process, name, 'before', undefined)
      },
      after: (name, value) => this.#gate(gate.process, name, 'after', value),
    })
    const app = createApp(without(control, { env, store: hooked, shop: createShop(memoryRows), config: outside.config, log: 'silent', environment: {}, leaseFor: `${String(LEASE_MS / 1_000)}s` as '5s' }))
    let die = (): void => undefined
    const died = new Promise<never>((_, reject) => {
      die = () => { reject(new TypeError('fetch failed', { cause: Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }) })) }
    })
    died.catch(() => undefined)
    const process: Process = { env, store, app, died, die, standing: undefined, zombie: false }
    gate.process = process
    this.#processes.add(process)
    this.#slots[slot] = process
    this.#listen(app)
    // A start that fails (the store was away) is what a supervisor repeats.
    app.start().catch(() => {
      if (!process.env.alive) return
      this.#end(process)
      this.#startAgain(slot, process, START_AGAIN_MS)
    })
  }

  #startAgain(slot: number, instead: Process, afterMs: number): void {
    this.#options.outside.env.timer(afterMs, () => { if (this.#slots[slot] === instead || this.#slots[slot] === undefined) this.#boot(slot) })
  }

  /** A load balancer that notices a dead process at once, and one that stands still only when it was replaced. */
  async #route(request: Request): Promise<Response> {
    const ready = this.#slots.filter((process): process is Process => process !== undefined && process.env.alive && process.app.hold.phase === 'ready')
    const process = ready[Math.floor(this.#options.outside.env.random() * ready.length)]
    if (process === undefined) throw new TypeError('fetch failed', { cause: Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }) })
    return Promise.race([process.app.fetch(request, { remoteAddress: '127.0.0.1' }), process.died])
  }

  /** One side of one operation. Never settles for the dead; waits for what stands still. */
  async #gate(process: Process | undefined, operation: string, when: When, value: unknown): Promise<void> {
    if (process === undefined) return
    if (!process.env.alive) return never()
    await process.standing
    if (!process.env.alive) return never()
    if (process.zombie && wasRefused(value)) this.#options.reached('a zombie\'s write was refused')
    const takes = operation === 'inbox.next' || operation === 'outbox.take'
    if (!isPoint(operation, when) || (takes && !tookSomething(value))) return
    if (when === 'before' || takes) this.#operations += 1
    this.#hash = (Math.imul(this.#hash, 31) + hashOf(operation) + (when === 'after' ? 1 : 0)) | 0
    if (this.#calm) return
    const due = this.#due.get(`${String(this.#operations)} ${when}`)
    const trouble = due?.shift()
    if (trouble !== undefined) return this.#happen(process, trouble)
  }

  async #happen(process: Process, trouble: Timed): Promise<void> {
    const { outside, onKill, reached } = this.#options
    const slot = this.#slots.indexOf(process)
    switch (trouble.kind) {
      case 'kill':
        onKill()
        this.#end(process)
        if (slot >= 0) this.#startAgain(slot, process, trouble.restartAfterMs)
        return never()
      case 'pause':
        reached('a process stood still for longer than its lease')
        process.env.pause()
        process.standing = new Promise(resolve => {
          outside.env.timer(trouble.forMs, () => {
            process.standing = undefined
            process.zombie = true
            process.env.resume()
            resolve()
          })
        })
        if (slot >= 0) this.#startAgain(slot, process, trouble.replaceAfterMs)
        return process.standing
      case 'store':
        reached(trouble.when === 'before' ? 'the store was away' : 'the answer of a commit was lost')
        throw new HoldfastError(trouble.when === 'before' ? 'HF_STORE_UNAVAILABLE' : 'HF_STORE_UNKNOWN_COMMIT', { message: `a schedule: ${trouble.when}` })
    }
  }

  #listen({ hold }: VpnBot<MemoryTx>): void {
    const { reached, disk } = this.#options
    const on = <Name extends keyof HoldfastEvents>(name: Name, state: (data: HoldfastEvents[Name]) => string | undefined): void => {
      hold.events.on(name, ({ data }) => {
        const found = state(data)
        if (found !== undefined) reached(found)
      })
    }
    on('lease.lost', ({ reason }) => (/refused|another instance/.test(reason) ? 'a zombie\'s write was refused' : 'a process gave up its lease by its own clock'))
    on('lease.acquired', ({ takenOver }) => (takenOver ? 'a dead process\'s lease was taken over' : undefined))
    on('saga.resumed', () => 'a saga of a dead process was taken over')
    on('outbox.parked', ({ state }) => (state === 'unknown' ? 'nobody knows whether a message was sent' : undefined))
    on('once.replayed', () => 'a charge was reported again after it was booked')
    on('breaker.changed', ({ to }) => (to === 'open' ? 'a breaker opened' : to === 'closed' ? 'a breaker closed again' : undefined))
    on('app.fact', ({ fact }) => (fact === 'payment.late' ? 'a superseded order was paid' : undefined))
    on('inbox.duplicate', ({ source, id }) => {
      const row = disk.rows<{ readonly source: string; readonly id: string; readonly state: string }>('holdfast.inbox_row').find(([, each]) => each.source === source && each.id === id)?.[1]
      return row?.state === 'done' ? 'a duplicate came after the update was done' : 'a duplicate came while the update was in flight'
    })
  }
}

/** What a transaction answers when its fence is not the live one. A saga's throws instead, and gives up its lease. */
function wasRefused(value: unknown): boolean {
  return value === false || (typeof value === 'object' && value !== null && 'lost' in value && value.lost === true)
}

function never(): Promise<never> {
  return new Promise(() => undefined)
}

function hashOf(text: string): number {
  let hash = 7
  for (let index = 0; index < text.length; index++) hash = (Math.imul(hash, 31) + text.charCodeAt(index)) | 0
  return hash
}
