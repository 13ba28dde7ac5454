/**
 * How many partitions had a result within the last while, and of how many the latest was a failure: one partition, one vote.
 *
 * A partition of much traffic that fails is one vote among all, so it cannot open the breaker of the others. Ten slots and
 * two sums; a vote moves the partition's former one, in constant time. Partitions that say nothing any more drop out with
 * their slot.
 */
const SLOTS = 10

/** What a partition remembers of its vote. */
export interface Voter {
  votedUnder: number
  votedAt: number
  votedFailing: boolean
}

export class PartitionVotes {
  readonly #slotMs: number
  /** For each slot the votes, then for each the failing ones. */
  readonly #slots = new Int32Array(2 * SLOTS)
  #era = 0
  #head = 0
  #headEndsAt = 0
  #voters = 0
  #failing = 0

  constructor(withinMs: number) {
    this.#slotMs = withinMs / SLOTS
  }

  get voters(): number {
    return this.#voters
  }

  get failing(): number {
    return this.#failing
  }

  /** `era` is the permit of the closed period: votes of an earlier one are void. */
  cast(voter: Voter, era: number, failing: boolean, now: number): void {
    const tick = now < this.#headEndsAt ? this.#head : Math.max(this.#head, Math.floor(now / this.#slotMs))
    // The usual case: the same result as a moment ago.
    if (voter.votedAt === tick && voter.votedUnder === era && voter.votedFailing === failing && this.#era === era) return
    if (era !== this.#era) {
      this.#clear()
      this.#era = era
    }
    this.#roll(tick)
    if (voter.votedUnder === era && voter.votedAt > tick - SLOTS) this.#add(voter.votedAt, voter.votedFailing, -1)
    voter.votedUnder = era
    voter.votedAt = tick
    voter.votedFailing = failing
    this.#add(tick, failing, 1)
  }

  #add(tick: number, failing: boolean, by: 1 | -1): void {
    const slot = tick % SLOTS
    this.#slots[slot] = (this.#slots[slot] ?? 0) + by
    this.#voters += by
    if (!failing) return
    this.#slots[SLOTS + slot] = (this.#slots[SLOTS + slot] ?? 0) + by
    this.#failing += by
  }

  #roll(tick: number): void {
    if (tick === this.#head && this.#headEndsAt > 0) return
    if (tick - this.#head >= SLOTS) this.#clear()
    else {
      for (let over = this.#head + 1; over <= tick; over += 1) {
        const slot = over % SLOTS
        this.#voters -= this.#slots[slot] ?? 0
        this.#failing -= this.#slots[SLOTS + slot] ?? 0
        this.#slots[slot] = 0
        this.#slots[SLOTS + slot] = 0
      }
    }
    this.#head = tick
    this.#headEndsAt = (tick + 1) * this.#slotMs
  }

  #clear(): void {
    this.#slots.fill(0)
    this.#voters = 0
    this.#failing = 0
  }
}
