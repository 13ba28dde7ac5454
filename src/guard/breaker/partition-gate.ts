/**
 * One partition's breaker, which asks the breaker above it too: a call needs the permit of both, and one number carries
 * the two. Small when nothing happens: it shares the rules and the first state of its machine with all others.
 */
import type { GuardKit } from '../policy.ts'
import { breakerOpenMessage, rampMessage, type Breaker } from './breaker.ts'
import { Circuit, type CircuitChange } from './circuit.ts'
import { REFUSED } from './gate.ts'
import { closedBreaker, PERMIT_MAX, retryAfterMs, UNCOUNTED } from './machine.ts'
import type { BreakerResult } from './machine.ts'
import type { Voter } from './partition-votes.ts'
import type { BreakerPartitionsRules, PartitionSnapshot } from './partitions.ts'
import type { Recent } from './recency.ts'
import { humanDuration } from '../../core/index.ts'

/** Who keeps the partitions. */
export interface PartitionOwner {
  readonly name: string
  readonly rules: BreakerPartitionsRules
  readonly kit: GuardKit
  readonly parent: Breaker | undefined
  used(gate: PartitionGate): void
  shifted(gate: PartitionGate, closed: boolean): void
  voted(gate: PartitionGate, parentPermit: number, failed: boolean, now: number): void
}

const SPAN = PERMIT_MAX + 1

export class PartitionGate extends Circuit implements Recent, Voter {
  readonly partition: string
  readonly #owner: PartitionOwner
  older: Recent | undefined = undefined
  newer: Recent | undefined = undefined
  votedUnder = 0
  votedAt = 0
  votedFailing = false
  usedAt: number
  /** Whether the owner keeps it, and in which of its lists. */
  kept = false
  closed = true

  constructor(partition: string, owner: PartitionOwner, now: number) {
    super(owner.rules.each, owner.kit)
    this.partition = partition
    this.#owner = owner
    this.usedAt = now
  }

  override acquire(now: number): number {
    const { parent, rules } = this.#owner
    if (now - this.usedAt > rules.idleForMs) this.#renew(now)
    this.usedAt = now
    this.#owner.used(this)
    const own = super.acquire(now)
    if (own === REFUSED || parent === undefined) return own
    const above = parent.acquire(now)
    if (above !== REFUSED) return above * SPAN + own
    super.settle(own, 'neither', now, 0)
    return REFUSED
  }

  override settle(permit: number, result: BreakerResult, now: number, durationMs: number, error?: unknown): void {
    if (permit < 0) return
    const { parent } = this.#owner
    if (parent === undefined) {
      super.settle(permit, result, now, durationMs, error)
      return
    }
    const above = Math.floor(permit / SPAN)
    const own = permit - above * SPAN
    this.pass(now)
    // A result that the partition itself does not count any more says nothing above either.
    const counts = result !== 'neither' && own !== UNCOUNTED && super.holds(own)
    super.settle(own, result, now, durationMs, error)
    if (counts) this.#owner.voted(this, above, result === 'failure', now)
    parent.settle(above, counts ? result : 'neither', now, durationMs, error)
  }

  override holds(permit: number): boolean {
    const { parent } = this.#owner
    if (permit < 0 || parent === undefined) return super.holds(permit)
    const above = Math.floor(permit / SPAN)
    return super.holds(permit - above * SPAN) && parent.holds(above)
  }

  override allows(): boolean {
    return super.allows() && (this.#owner.parent?.allows() ?? true)
  }

  override get retryAfterMs(): number | undefined {
    const own = super.retryAfterMs
    const above = this.#owner.parent?.retryAfterMs
    return own === undefined ? above : above === undefined ? own : Math.max(own, above)
  }

  get refusal(): string {
    const { name, parent } = this.#owner
    if (parent !== undefined && super.allows()) return parent.refusal
    const who = `${name} (${this.partition})`
    return this.machine.phase === 'closed' ? rampMessage(who) : breakerOpenMessage(who, this.retryAfterMs)
  }

  snapshot(now: number): PartitionSnapshot {
    const machine = this.pass(now)
    return {
      partition: this.partition, state: machine.phase, failures: machine.phase === 'closed' || machine.phase === 'open' ? machine.failures : 0,
      retryAfterMs: retryAfterMs(machine, now),
    }
  }

  protected changed(change: CircuitChange): void {
    const { name, kit } = this.#owner
    this.#owner.shifted(this, change.to === 'closed')
    const { from, to, reason } = change
    const wait = change.retryAfterMs === undefined ? {} : { retryAfterMs: change.retryAfterMs }
    const what = { dependency: name, partition: this.partition, from, to, reason, ...wait }
    if (this.rules.shadow) kit.events.emit('breaker.shadowed', { ...what, wouldHaveRefused: this.spared })
    else kit.events.emit('breaker.partition.changed', what)
  }

  /** No timer: a partition learns of the time when it is asked. */
  protected moved(): void {}

  /** What it knew is too old to be true. */
  #renew(now: number): void {
    const machine = this.machine
    if (machine.phase === 'closed' && machine.failures === 0) return
    this.become(closedBreaker(machine.serial), now, `not used for ${humanDuration(this.#owner.rules.idleForMs)}`)
  }
}
