/**
 * Lease: at most one holder at a time among all instances, with a fencing token for what the holder writes.
 *
 * Promise: fences rise and never repeat; what is written through `guard` or `transaction` is refused once another has
 * taken over; a holder stops itself by its own clock before that. Time is the database's.
 * Not here: fairness between waiters; who finds it held asks again later.
 */
import { checkName, durationMs, HoldfastError, type Duration } from '../../core/index.ts'
import { bodyFor, last, type Database } from '../../store/index.ts'
import { isLockTimeout } from '../failure.ts'
import { KeepAlive, leaseLost } from '../keep-alive.ts'
import type { DurableKit } from '../kit.ts'
import { leaseMemory } from './memory.ts'
import type { LeasePort } from './port.ts'
import { leaseSql } from './sql.ts'

export interface LeaseOptions {
  /** How long a holder that died blocks others. `'1s'` to `'10m'`; default `'15s'`: two heartbeats may be missed, and a restart is not waited for long. */
  readonly ttl?: Duration
}

export const LEASE_DEFAULTS: { readonly ttl: Duration } = Object.freeze({ ttl: '15s' })
const TTL_MIN_MS = 1_000
const TTL_MAX_MS = 600_000
/** A transaction's default on PostgreSQL. */
const STORE_BOUND_MS = 10_000

export interface Lease<Tx> {
  readonly kind: 'lease'
  readonly name: string
  /**
   * Undefined when another holds it. The holder's heartbeat runs until `release()`.
   * Emits `lease.acquired`, and `lease.lost` when it is lost while held.
   * @throws HF_NOT_STARTED, HF_STORE_UNAVAILABLE, HF_STORE_UNKNOWN_COMMIT (held by nobody until its ttl is over)
   */
  acquire(options?: { readonly signal?: AbortSignal }): Promise<HeldLease<Tx> | undefined>
}

export interface HeldLease<Tx> {
  readonly name: string
  /** Rises with every holder. Give it to outside systems that can refuse an older one. */
  readonly fence: number
  /** Aborts when the lease is lost, before another can have it. */
  readonly signal: AbortSignal
  readonly held: boolean
  /** First statement of a transaction that only the holder may commit. @throws HF_LEASE_LOST */
  guard(tx: Tx): Promise<void>
  /** A guarded transaction, open no longer than the lease lasts (nor than the store allows). @throws HF_LEASE_LOST and what the store throws */
  transaction<T>(name: string, work: (tx: Tx) => Promise<T>): Promise<T>
  /** Gives it back so that another needs not wait. Never throws: when the store is away it expires by itself. */
  release(): Promise<void>
}

/** Declares a lease. No I/O before `acquire()`. @throws HF_OPTION_INVALID */
export function lease<Tx>(name: string, options: LeaseOptions, kit: DurableKit<Tx>): Lease<Tx> {
  checkName('lease', name)
  const ttlMs = durationMs(options.ttl ?? LEASE_DEFAULTS.ttl, `lease ${name}: ttl`, { min: TTL_MIN_MS })
  if (ttlMs > TTL_MAX_MS) throw new HoldfastError('HF_OPTION_INVALID', { message: `lease ${name}: expected a ttl of at most 10m, got ${options.ttl ?? ''}`, context: { lease: name } })
  return {
    kind: 'lease',
    name,
    async acquire({ signal } = {}) {
      const database = kit.database()
      const port = leasePort<Tx>(database)
      const owner = `${kit.instance}:${kit.env.uuid()}`
      const askedAtMs = kit.env.monotonic()
      let granted: Awaited<ReturnType<typeof port.acquire>>
      try {
        granted = await database.transaction('lease.acquire', tx => port.acquire(tx, name, owner, ttlMs), { signal })
      } catch (error) {
        // A guarded transaction of the one before is still open: as good as held.
        if (isLockTimeout(error)) return undefined
        throw error
      }
      if (granted === undefined) return undefined
      const { fence, takenOver } = granted
      kit.events.emit('lease.acquired', { lease: name, fence, takenOver })
      const keepAlive = new KeepAlive({
        env: kit.env, what: `lease ${name}`, ttlMs, askedAtMs,
        renew: beat => kit.database().transaction('lease.renew', tx => port.renew(tx, name, fence, ttlMs), { signal: beat }),
        onLost: reason => { kit.events.emit('lease.lost', { lease: name, fence, reason }) },
      })
      return held(name, fence, ttlMs, keepAlive, port, kit)
    },
  }
}

function held<Tx>(name: string, fence: number, ttlMs: number, keepAlive: KeepAlive, port: LeasePort<Tx>, kit: DurableKit<Tx>): HeldLease<Tx> {
  const guard = async (tx: Tx): Promise<void> => {
    if (keepAlive.held && await port.guard(tx, name, fence)) return
    keepAlive.lose('a write of this fence was refused')
    throw leaseLost(`lease ${name}`, 'a write of this fence was refused')
  }
  return {
    name,
    fence,
    signal: keepAlive.signal,
    get held() {
      return keepAlive.held
    },
    guard,
    transaction: (transactionName, work) => kit.database().transaction(transactionName, async tx => {
      await guard(tx)
      return work(tx)
    }, { signal: keepAlive.signal, ...boundOf(kit.database(), ttlMs) }),
    async release() {
      keepAlive.stop()
      try {
        await kit.database().transaction('lease.release', tx => port.release(last(tx), name, fence))
      } catch {
        // Nothing is lost by silence: the store announces that it is away, and the lease expires by itself.
      }
    },
  }
}

/**
 * A holder that was stopped inside its transaction keeps others from taking over for as long as the server lets it idle: not
 * beyond its lease, where that is shorter than the store's own bound. Where there is one instance only nobody waits.
 */
function boundOf<Tx>({ durability }: Database<Tx>, ttlMs: number): { readonly timeout?: Duration } {
  return durability.severalInstances && ttlMs < STORE_BOUND_MS ? { timeout: `${ttlMs}ms` } : {}
}

export function leasePort<Tx>(database: { readonly dialect: 'sql' | 'memory' }): LeasePort<Tx> {
  return bodyFor<Tx, LeasePort<Tx>>(database, { sql: leaseSql, memory: leaseMemory })
}
