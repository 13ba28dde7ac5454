/**
 * Many schedules: all single kills first, then seeded mixtures; what was reached, and the first failure made small.
 */
import type { Control } from '../drill/without.ts'
import { type Plan, planOf, quiet, singleKill } from './plan.ts'
import { runSchedule, type RunResult } from './run.ts'

/** What a search of `REACHES_AFTER` schedules or more has to have reached: else it shows less than it seems to. */
export const SOMETIMES = [
  'killed before the charge', 'killed between the charge and its record', 'killed between the record and the key', 'killed between the key and its record',
  'killed while a message was being sent', 'killed after the key was recorded', 'a process stood still for longer than its lease', 'a zombie\'s write was refused',
  'a process gave up its lease by its own clock', 'a dead process\'s lease was taken over', 'a saga of a dead process was taken over', 'the store was away',
  'the answer of a commit was lost', 'nobody knows whether a message was sent', 'a charge was reported again after it was booked',
  'a duplicate came while the update was in flight', 'a duplicate came after the update was done', 'a key that existed already was adopted',
  'the key was delivered by /key alone', 'a breaker opened', 'a superseded order was paid', 'two instances at once',
] as const
export const REACHES_AFTER = 1_000

/** Worlds that share a turn of the event loop: each waits for it after every event. */
const AT_ONCE = 8

export interface Failure {
  readonly plan: Plan
  readonly broken: readonly string[]
}

export interface Found {
  readonly schedules: number
  readonly operations: number
  readonly failures: readonly Failure[]
  /** How many schedules reached each state. */
  readonly reached: ReadonlyMap<string, number>
  /** Of `SOMETIMES`. */
  readonly missed: readonly string[]
}

export interface SearchOptions {
  readonly without?: Control | undefined
  /** Ends after so many failures. Default 1. */
  readonly failuresMax?: number
}

/** Every operation of a purchase without troubles, before and after it. */
export async function singleKills(purchase: Plan['purchase']): Promise<readonly Plan[]> {
  const { operations, broken } = await runSchedule(quiet(purchase))
  if (broken.length > 0) throw new RangeError(`a purchase by ${purchase} without any trouble: ${broken.join('; ')}`)
  return Array.from({ length: operations }, (_, index) => [singleKill(purchase, index + 1, 'before'), singleKill(purchase, index + 1, 'after')]).flat()
}

export function* mixtures(firstSeed: number, count: number): Generator<Plan> {
  for (let seed = firstSeed; seed < firstSeed + count; seed++) yield planOf(seed)
}

/** Carries out plans, several at a time, until they are over or enough has failed. Failures come in the order of the plans. */
export async function search(plans: Iterable<Plan>, { without, failuresMax = 1 }: SearchOptions = {}): Promise<Found> {
  const iterator = plans[Symbol.iterator]()
  const failures: { readonly index: number; readonly failure: Failure }[] = []
  const reached = new Map<string, number>()
  let schedules = 0
  let operations = 0
  let begun = 0
  const lane = async (): Promise<void> => {
    while (failures.length < failuresMax) {
      const next = iterator.next()
      if (next.done === true) return
      const index = begun++
      const result: RunResult = await runSchedule(next.value, { without })
      schedules += 1
      operations += result.operations
      for (const state of result.reached) reached.set(state, (reached.get(state) ?? 0) + 1)
      if (result.broken.length > 0) failures.push({ index, failure: { plan: next.value, broken: result.broken } })
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane))
  return {
    schedules, operations, reached, missed: SOMETIMES.filter(state => !reached.has(state)),
    failures: failures.sort((a, b) => a.index - b.index).map(({ failure }) => failure),
  }
}

/** What several searches found, as one. */
export function together(parts: readonly Found[]): Found {
  const reached = new Map<string, number>()
  for (const part of parts) for (const [state, times] of part.reached) reached.set(state, (reached.get(state) ?? 0) + times)
  const sum = (of: (part: Found) => number): number => parts.reduce((total, part) => total + of(part), 0)
  return { schedules: sum(part => part.schedules), operations: sum(part => part.operations), failures: parts.flatMap(part => part.failures), reached, missed: SOMETIMES.filter(state => !reached.has(state)) }
}

/** The same failure with fewer troubles: each is left out as long as something still breaks. */
export async function shrink(plan: Plan, options: { readonly without?: Control | undefined } = {}): Promise<Plan> {
  let smallest = plan
  const stillBreaks = async (candidate: Plan): Promise<boolean> => (await runSchedule(candidate, options)).broken.length > 0
  for (let index = 0; index < smallest.troubles.length;) {
    const candidate = { ...smallest, troubles: smallest.troubles.filter((_, at) => at !== index) }
    if (await stillBreaks(candidate)) smallest = candidate
    else index += 1
  }
  for (const simpler of [{ instances: 1 as const }, { storeLatencyMs: 0 }, { latencyMs: [0, 0] as const }]) {
    const candidate = { ...smallest, ...simpler }
    if (await stillBreaks(candidate)) smallest = candidate
  }
  return smallest
}
