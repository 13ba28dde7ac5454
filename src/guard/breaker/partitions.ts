/**
 * A breaker per key (tenant, host, region), in bounded memory, and one above them for the dependency as a whole.
 *
 * A call needs both. A partition that fails is left alone and its neighbours are not; when half of the partitions that are
 * active fail, the breaker above opens, for all. It counts partitions, one vote each, and not calls: a single partition,
 * however busy, never opens it (the smallest settings that would let it are refused).
 * At most `max` partitions are kept. A new one takes the place of the one that was used least recently among the closed; an
 * open one is never forgotten for it, and while all are open, new partitions share one breaker, `*`. What was not used for
 * `idleFor` begins anew. Nothing here has a timer: partitions learn of the time when they are asked.
 * Not here: forcing a single partition, keeping partitions over a restart.
 */
import { checkName, durationMs, HoldfastError, type BreakerState, type Duration } from '../../core/index.ts'
import { refused, wholeNumber } from '../numbers.ts'
import { defaultKit, type GuardKit } from '../policy.ts'
import { Breaker, type BreakerSnapshot } from './breaker.ts'
import { PartitionGate, type PartitionOwner } from './partition-gate.ts'
import { shareInWords } from './circuit.ts'
import type { Gate } from './gate.ts'
import { PartitionVotes } from './partition-votes.ts'
import { Recency } from './recency.ts'
import { resolveBreaker, resolveRatio, type BreakerOptions } from './rules.ts'
import { UNCOUNTED, type BreakerRules } from './machine.ts'

/** A share of the partitions that had a result within a time window. */
export interface PartitionRateOptions {
  /** Above 0, at most 1; reaching it is enough. Default 0.5. */
  readonly ratio?: number
  /** The window, in ten slots. Default `'10s'`. */
  readonly within?: Duration
  /** With fewer active partitions it never opens. Default 5 (Envoy's `success_rate_minimum_hosts`). */
  readonly minimumPartitions?: number
}

/** Beside the votes of the partitions, the rules of any breaker over all calls together; by those one busy partition may open it. */
export interface ParentBreakerOptions extends BreakerOptions {
  readonly partitionRate?: PartitionRateOptions | false
}

export interface BreakerPartitionsOptions {
  /** Of each partition. Default: those of any breaker. */
  readonly each?: BreakerOptions
  /** Of the breaker above them; `failures` is off unless given. `false` for none. */
  readonly parent?: ParentBreakerOptions | false
  /** Partitions kept at once, 1 to 100,000. Default 1000 (Kevlar). */
  readonly max?: number
  /** A partition that was not used for so long begins anew. At least `openFor`, lease and window. Default `'10m'`. */
  readonly idleFor?: Duration
}

export const BREAKER_PARTITIONS_DEFAULTS: Readonly<{ readonly max: number; readonly idleFor: Duration; readonly partitionRate: Readonly<Required<PartitionRateOptions>> }> = Object.freeze({
  max: 1_000, idleFor: '10m', partitionRate: Object.freeze({ ratio: 0.5, within: '10s', minimumPartitions: 5 }),
})

export interface BreakerPartitionsRules {
  readonly each: BreakerRules
  readonly parent: BreakerRules | undefined
  readonly partitionRate: { readonly ratio: number; readonly withinMs: number; readonly minimumPartitions: number } | undefined
  readonly max: number
  readonly idleForMs: number
}

export interface PartitionSnapshot {
  readonly partition: string
  readonly state: BreakerState
  readonly failures: number
  readonly retryAfterMs: number | undefined
}

export interface BreakerPartitionsSnapshot {
  readonly parent: BreakerSnapshot | undefined
  /** Partitions that are kept now. */
  readonly size: number
  /** Those that are not closed. */
  readonly notClosed: number
  /** The first hundred of those, the least recently used first. */
  readonly partitions: readonly PartitionSnapshot[]
  /** The breaker that partitions beyond `max` share; undefined while none had to. */
  readonly overflow: PartitionSnapshot | undefined
}

const PARTITION_NAME_MAX = 256
const SHOWN = 100
/** Partitions looked at for idleness per new one. */
const SWEPT = 2

/** @throws HF_OPTION_INVALID */
export function resolvePartitions(options: BreakerPartitionsOptions, where: string): BreakerPartitionsRules {
  const given = { ...BREAKER_PARTITIONS_DEFAULTS, ...options }
  const each = resolveBreaker(options.each ?? {}, `${where}: each`)
  const { partitionRate: rate, ...parent }: ParentBreakerOptions = options.parent === false ? {} : { failures: false, partitionRate: {}, ...options.parent }
  const partitionRate = options.parent === false || rate === false ? undefined : resolvePartitionRate(rate ?? {}, `${where}: parent.partitionRate`)
  const idleForMs = durationMs(given.idleFor, `${where}: idleFor`)
  const least = Math.max(each.openForMs, each.trialLeaseMs, partitionRate?.withinMs ?? 0)
  if (idleForMs < least) throw refused(`${where}: idleFor`, `at least as long as openFor, trialLease and the window (${String(least)} ms), or an open partition would be forgotten`, given.idleFor)
  return {
    each, partitionRate, idleForMs,
    parent: options.parent === false ? undefined : resolveBreaker(parent, `${where}: parent`, partitionRate !== undefined),
    max: wholeNumber(given.max, 1, `${where}: max`, 100_000),
  }
}

function resolvePartitionRate(options: PartitionRateOptions, where: string): NonNullable<BreakerPartitionsRules['partitionRate']> {
  const given = { ...BREAKER_PARTITIONS_DEFAULTS.partitionRate, ...options }
  const ratio = resolveRatio(given.ratio, `${where}.ratio`)
  const minimumPartitions = wholeNumber(given.minimumPartitions, 2, `${where}.minimumPartitions`)
  if (1 / minimumPartitions >= ratio) {
    throw refused(`${where}.minimumPartitions`, `more than ${String(Math.floor(1 / ratio))} for the ratio ${String(ratio)}, or one partition alone would open the breaker of all`, minimumPartitions)
  }
  return { ratio, minimumPartitions, withinMs: durationMs(given.within, `${where}.within`, { min: 10 }) }
}

export class BreakerPartitions implements PartitionOwner {
  readonly name: string
  readonly rules: BreakerPartitionsRules
  readonly kit: GuardKit
  /** The breaker above them all: an operator forces this one. */
  readonly parent: Breaker | undefined
  readonly #votes: PartitionVotes | undefined
  readonly #gates = new Map<string, PartitionGate>()
  readonly #closed = new Recency<PartitionGate>()
  readonly #notClosed = new Recency<PartitionGate>()
  #notClosedCount = 0
  #overflow: PartitionGate | undefined

  constructor(name: string, rules: BreakerPartitionsRules, kit: GuardKit) {
    checkName('breaker', name)
    this.name = name
    this.rules = rules
    this.kit = kit
    this.parent = rules.parent === undefined ? undefined : new Breaker(name, rules.parent, kit)
    this.#votes = rules.partitionRate === undefined ? undefined : new PartitionVotes(rules.partitionRate.withinMs)
  }

  /**
   * The gate of one partition. Ask for it at every call: one that was kept may have been forgotten here meanwhile, and then
   * guards alone. The name appears in events: an id, no secret.
   * @throws HF_OPTION_INVALID for an empty name, or one above 256 characters.
   */
  of(partition: string): Gate {
    return this.#gates.get(partition) ?? this.#admit(partition)
  }

  get size(): number {
    return this.#gates.size
  }

  snapshot(): BreakerPartitionsSnapshot {
    const now = this.kit.env.monotonic()
    this.#sweep(now, this.#gates.size)
    const partitions: PartitionSnapshot[] = []
    for (const gate of this.#notClosed) {
      if (partitions.length >= SHOWN) break
      partitions.push(gate.snapshot(now))
    }
    return { parent: this.parent?.snapshot(), size: this.#gates.size, notClosed: this.#notClosedCount, partitions, overflow: this.#overflow?.snapshot(now) }
  }

  /** It was asked for a call. */
  used(gate: PartitionGate): void {
    if (gate.kept) (gate.closed ? this.#closed : this.#notClosed).use(gate)
  }

  /** It opened, or closed again. */
  shifted(gate: PartitionGate, closed: boolean): void {
    if (!gate.kept || gate.closed === closed) return
    const [from, to] = closed ? [this.#notClosed, this.#closed] : [this.#closed, this.#notClosed]
    from.remove(gate)
    to.add(gate)
    gate.closed = closed
    this.#notClosedCount += closed ? -1 : 1
  }

  /** One of its calls ended. */
  voted(gate: PartitionGate, parentPermit: number, failed: boolean, now: number): void {
    const { partitionRate } = this.rules
    // Under force, and in shadow, calls pass that would not count.
    if (this.#votes === undefined || partitionRate === undefined || parentPermit === UNCOUNTED || this.parent?.holds(parentPermit) !== true) return
    this.#votes.cast(gate, parentPermit, failed, now)
    if (!failed) return
    const { voters, failing } = this.#votes
    if (voters < partitionRate.minimumPartitions || failing / voters < partitionRate.ratio) return
    this.parent.trip(parentPermit, shareInWords(failing, voters, 'partitions', 'failed', partitionRate.withinMs, partitionRate.ratio), now)
  }

  #admit(partition: string): PartitionGate {
    if (typeof partition !== 'string' || partition === '' || partition.length > PARTITION_NAME_MAX) {
      throw new HoldfastError('HF_OPTION_INVALID', {
        message: `breaker ${this.name}: expected a partition name of 1 to ${String(PARTITION_NAME_MAX)} characters, got ${typeof partition === 'string' ? `one of ${String(partition.length)}` : typeof partition}`,
        context: { dependency: this.name, policy: 'breaker' },
      })
    }
    const now = this.kit.env.monotonic()
    this.#sweep(now, SWEPT)
    if (this.#gates.size >= this.rules.max) {
      const victim = this.#closed.oldest
      if (victim === undefined) {
        this.#overflow ??= new PartitionGate('*', this, now)
        return this.#overflow
      }
      this.#forget(victim)
    }
    const gate = new PartitionGate(partition, this, now)
    gate.kept = true
    this.#gates.set(partition, gate)
    this.#closed.add(gate)
    return gate
  }

  /** Drops what was not used for too long, the oldest first, so it costs nothing while there is none. */
  #sweep(now: number, atMost: number): void {
    for (const list of [this.#closed, this.#notClosed]) {
      for (let swept = 0; swept < atMost; swept += 1) {
        const gate = list.oldest
        if (gate === undefined || now - gate.usedAt <= this.rules.idleForMs) break
        this.#forget(gate)
      }
    }
  }

  #forget(gate: PartitionGate): void {
    const list = gate.closed ? this.#closed : this.#notClosed
    list.remove(gate)
    if (!gate.closed) this.#notClosedCount -= 1
    gate.kept = false
    this.#gates.delete(gate.partition)
  }
}

/**
 * Breakers per key: `const gate = partitions.of(tenant)`.
 * Emits `breaker.changed` for the one above, `breaker.partition.changed` for each.
 * @throws HF_OPTION_INVALID
 */
export function breakerPartitions(name: string, options: BreakerPartitionsOptions = {}, kit: GuardKit = defaultKit()): BreakerPartitions {
  return new BreakerPartitions(name, resolvePartitions(options, `breaker ${name}`), kit)
}
