/**
 * When a worker is due by the clock on the wall: a cron pattern in a time zone, or an interval aligned to the epoch.
 *
 * Pure: from one instant to the next. What has been run already, and by whose clock, is ./schedule.ts.
 */
import { createRequire } from 'node:module'
import { durationMs, HoldfastError, type Duration } from '../../core/index.ts'
import type { Cron } from 'croner'

export interface Timetable {
  /** `cron 0 3 * * * Europe/Berlin`: for people, and to notice that it was changed. */
  readonly text: string
  /** The first due time after `afterMs` (epoch, milliseconds). */
  next(afterMs: number): number
}

export const TIME_ZONE_DEFAULT = 'UTC' as const

/** A reference far from any clock: a pattern that is never due after it is never due. */
const REFERENCE_MS = Date.UTC(2026, 0, 1)

/**
 * Due times of a cron pattern (5 fields; 6 with seconds first). Days on which clocks change: a time that does not exist is run when the
 * clock jumps, a fixed time that comes twice is run the first time, every-so-often patterns go on by real time.
 * @throws HF_OPTION_INVALID for a pattern or time zone that is none, and for one that is never due
 */
export function cronTimetable(where: string, pattern: string, timeZone: string = TIME_ZONE_DEFAULT): Timetable {
  const refuse = (what: string, cause?: unknown): never => {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `${where}: ${what}`, ...(cause === undefined ? {} : { cause }), context: { option: where } })
  }
  let cron: Cron | undefined
  let first: Date | null = null
  try {
    // Loaded here and not above, so that services without a cron pattern don't pay for it.
    const { Cron: Parsed } = createRequire(import.meta.url)('croner') as { readonly Cron: typeof Cron }
    cron = new Parsed(pattern, { timezone: timeZone })
    first = cron.nextRun(new Date(REFERENCE_MS))
  } catch (cause) {
    refuse(`expected cron to be a pattern such as '0 3 * * *' and timeZone a name such as 'Europe/Berlin', got ${JSON.stringify(pattern)} and ${JSON.stringify(timeZone)}`, cause)
  }
  if (cron === undefined || first === null) return refuse(`cron ${JSON.stringify(pattern)} is never due`)
  const parsed = cron
  return {
    text: `cron ${pattern} ${timeZone}`,
    // A pattern with a last year comes to an end: then it is due in a time that no process sees.
    next: afterMs => parsed.nextRun(new Date(afterMs))?.getTime() ?? Number.MAX_SAFE_INTEGER,
  }
}

/** Due at multiples of the interval since 1970 in UTC: `'15m'` at :00, :15, :30, :45 on every instance. @throws HF_OPTION_INVALID */
export function alignedTimetable(where: string, every: Duration): Timetable {
  // Whole milliseconds, as due times are kept.
  const everyMs = Math.round(durationMs(every, where, { min: 1_000 }))
  return { text: `every ${every}, aligned`, next: afterMs => (Math.floor(afterMs / everyMs) + 1) * everyMs }
}
