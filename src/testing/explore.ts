/**
 * Explores schedules: every single fault at every point that a run without faults passes, then a swarm of several faults by
 * seed; stops at the first violation and makes its schedule as small as it gets.
 *
 * What a run is stays with the caller. The same schedule must come to the same hash: every hundredth is run twice.
 */
import type { FaultKind, Schedule } from './schedule.ts'
import { FAULTS_AT, kindOfPoint, smallerSchedules, swarmSchedule } from './schedule.ts'
import { seededRandom } from './simulated-env.ts'

/** What a run came to. */
export interface Explored {
  readonly violations: readonly string[]
  /** Of everything that was passed; equal for equal runs. */
  readonly hash: number
  /** Points that were passed. */
  readonly points: number
  /** Their names, where `record` asked for them. */
  readonly passed: readonly string[]
  /** In words, what went wrong and where. */
  readonly trace: readonly string[]
}

export interface ExploreOptions {
  readonly run: (schedule: Schedule, options: { readonly record: boolean }) => Promise<Explored>
  /** Schedules in all. */
  readonly count: number
  /** Of the first schedule. Default 1. */
  readonly seed?: number
  /** Default all. */
  readonly kinds?: readonly FaultKind[]
  /** Only points whose names match fail. Default all. */
  readonly points?: RegExp | undefined
  /** Processes (`p1`, `p2`, `database`) whose clocks may jump. Default none. */
  readonly clocks?: readonly string[]
  /** Of the swarm's schedules that have a jump, 0 to 1. Default 0.2. */
  readonly jumpShare?: number | undefined
  /** Single faults at most; where there are more, every name keeps its first occurrences and the rest is drawn by the seed. Default all. */
  readonly singlesMax?: number
  /** At least so many faults in each schedule of the swarm. Default 2. */
  readonly faultsMin?: number | undefined
  /** Runs that may be spent on making a failing schedule smaller. Default 300. */
  readonly shrinkRunsMax?: number
  /** The part of the exhaustive singles that this exploration takes, as one of several that share the work. Default all. */
  readonly share?: { readonly index: number; readonly of: number }
}

export interface Violation {
  /** As small as it got. */
  readonly schedule: Schedule
  /** As it was found. */
  readonly found: Schedule
  readonly violations: readonly string[]
  readonly trace: readonly string[]
}

export interface Exploration {
  readonly schedules: number
  /** Schedules that were run a second time and came to the same hash. */
  readonly replayed: number
  readonly violation: Violation | undefined
}

const ALL_KINDS: readonly FaultKind[] = ['die', 'pause', 'error', 'lose-answer', 'unknown-commit', 'conflict']
const REPLAY_EVERY = 100
const SHRINK_RUNS_MAX = 300

export async function explore(options: ExploreOptions): Promise<Exploration> {
  const { run, count, seed = 1, kinds = ALL_KINDS, points, clocks = [], share = { index: 0, of: 1 } } = options
  let schedules = 0
  let replayed = 0
  const tryOne = async (schedule: Schedule): Promise<Violation | undefined> => {
    schedules += 1
    const first = await run(schedule, { record: false })
    if (first.violations.length > 0) return shrink(schedule, first, run, options.shrinkRunsMax ?? SHRINK_RUNS_MAX)
    if (schedules % REPLAY_EVERY !== 0) return undefined
    const second = await run(schedule, { record: false })
    if (second.hash !== first.hash || second.points !== first.points) return { schedule, found: schedule, violations: ['the same schedule did not come to the same run'], trace: [...first.trace, ...second.trace] }
    replayed += 1
    return undefined
  }
  const base = await run({ seed, faults: [] }, { record: true })
  schedules += 1
  if (base.violations.length > 0) return { schedules, replayed, violation: { schedule: { seed, faults: [] }, found: { seed, faults: [] }, violations: base.violations, trace: base.trace } }
  const open = base.passed.flatMap((name, at) => points?.test(name) === false ? [] : [at])
  const singles = open.flatMap(at => FAULTS_AT[kindOfPoint(base.passed[at] ?? '')].filter(kind => kinds.includes(kind)).map(kind => ({ at, kind })))
  for (const [index, fault] of chosen(singles, base.passed, Math.min(options.singlesMax ?? singles.length, count - 1), seed).entries()) {
    if (index % share.of !== share.index) continue
    const violation = await tryOne({ seed, faults: [fault] })
    if (violation !== undefined) return { schedules, replayed, violation }
  }
  // Shares explore seeds of their own.
  for (let next = seed + 1 + share.index; schedules < count; next += share.of) {
    const swarm = swarmSchedule(next, { points: base.points, kinds, clocks, jumpShare: options.jumpShare, faultsMin: options.faultsMin })
    const within = points === undefined ? swarm : { ...swarm, faults: swarm.faults.map(fault => ({ ...fault, at: open[Number(fault.at) % open.length] ?? fault.at })) }
    const violation = await tryOne(within)
    if (violation !== undefined) return { schedules, replayed, violation }
  }
  return { schedules, replayed, violation: undefined }
}

interface Single {
  readonly at: number
  readonly kind: FaultKind
}

function chosen(singles: readonly Single[], passed: readonly string[], max: number, seed: number): readonly Single[] {
  if (singles.length <= max) return singles
  const occurrence = new Map<string, number>()
  const random = seededRandom(seed)
  const ranked = singles.map(single => {
    const what = `${passed[single.at] ?? ''} ${single.kind}`
    const nth = (occurrence.get(what) ?? 0) + 1
    occurrence.set(what, nth)
    return { single, rank: nth <= 2 ? nth : 3 + random() }
  })
  return ranked.sort((a, b) => a.rank - b.rank).slice(0, max).map(({ single }) => single)
}

/** The smallest schedule that still fails, by giving up one thing after another. */
async function shrink(found: Schedule, first: Explored, run: ExploreOptions['run'], runsMax: number): Promise<Violation> {
  let schedule = found
  let last = first
  let left = runsMax
  for (let smaller = true; smaller && left > 0;) {
    smaller = false
    for (const candidate of smallerSchedules(schedule)) {
      if (left-- <= 0) break
      const again = await run(candidate, { record: false })
      if (again.violations.length === 0) continue
      schedule = candidate
      last = again
      smaller = true
      break
    }
  }
  return { schedule, found, violations: last.violations, trace: last.trace }
}
