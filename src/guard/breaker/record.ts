/**
 * What a breaker writes down to go on where it was after a restart: plain JSON, with the time that remains and no
 * monotonic moment, which means nothing in another process.
 *
 * A record is a hint, so one that is broken, foreign or older than the breaker's own knowledge is ignored with the reason:
 * a service must start all the same, and a closed breaker learns in seconds. What is restored is never worse than what a
 * running breaker would do: open for `openFor` at most, whatever the record or a jumping clock says; when the time is over,
 * half-open and not closed. Windows are not kept: they are seconds old and after a restart wrong.
 */
import { closedBreaker, force, halfOpen, openBreaker, NO_RAMP } from './machine.ts'
import type { BreakerMachine, MachineRules } from './machine.ts'

export interface BreakerRecord {
  readonly version: 1
  /** Wall clock, milliseconds. */
  readonly savedAt: number
  readonly phase: BreakerMachine['phase']
  /** Consecutive failures. */
  readonly failures: number
  /** Of the open or forced state, or of the ramp after closing; null where nothing ends by time. */
  readonly remainingMs: number | null
  /** Whose decision a forced state is. */
  readonly forced: { readonly by: string; readonly reason: string } | null
}

const PHASES: readonly unknown[] = ['closed', 'open', 'half-open', 'forced-open', 'forced-closed'] satisfies readonly BreakerMachine['phase'][]

export function toRecord(machine: BreakerMachine, forced: BreakerRecord['forced'], now: number, wallNow: number): BreakerRecord {
  const until = machine.phase === 'closed' ? machine.rampUntil : machine.phase === 'half-open' ? NO_RAMP : machine.until
  return {
    version: 1, savedAt: wallNow, phase: machine.phase,
    failures: machine.phase === 'closed' || machine.phase === 'open' ? machine.failures : 0,
    remainingMs: until === Number.POSITIVE_INFINITY || until <= now ? null : until - now,
    forced: forced === null ? null : { by: forced.by, reason: forced.reason },
  }
}

/**
 * The state that the record describes, as of now. The record's age is wall clock: a clock that went back makes it new,
 * never the rest longer; one that went forward ends the rest.
 */
export function fromRecord(record: BreakerRecord, serial: number, now: number, wallNow: number, rules: MachineRules): BreakerMachine {
  const ageMs = Math.max(0, wallNow - record.savedAt)
  const rest = (bound: number): number => now + Math.max(0, Math.min(record.remainingMs ?? 0, bound) - ageMs)
  switch (record.phase) {
    case 'closed': {
      const rampUntil = rest(rules.rampForMs)
      const closed = closedBreaker(serial, rampUntil > now ? rampUntil : NO_RAMP)
      // One failure short of opening at most: a record alone opens nothing.
      return { ...closed, failures: Math.min(record.failures, rules.failures - 1) }
    }
    case 'open':
      return rest(rules.openForMs) > now ? openBreaker(serial, record.failures, now, rules, rest(rules.openForMs)) : halfOpen(serial)
    // Trials that were in flight died with the process.
    case 'half-open':
      return halfOpen(serial)
    case 'forced-open':
    case 'forced-closed': {
      const until = record.remainingMs === null ? Number.POSITIVE_INFINITY : rest(Number.POSITIVE_INFINITY)
      if (until > now) return force(halfOpen(serial), record.phase === 'forced-open' ? 'open' : 'closed', until)
      return record.phase === 'forced-open' ? halfOpen(serial) : closedBreaker(serial)
    }
  }
}

/** The record, or in words why it is none. */
export function readRecord(value: unknown): BreakerRecord | string {
  if (typeof value !== 'object' || value === null) return 'the record is no object'
  const { version, savedAt, phase, failures, remainingMs, forced } = value as Partial<Record<keyof BreakerRecord, unknown>>
  if (version !== 1) return `the record's version is ${String(version)}, expected 1`
  if (!PHASES.includes(phase)) return `the record's phase is ${String(phase)}`
  if (typeof savedAt !== 'number' || !Number.isFinite(savedAt)) return 'the record does not say when it was saved'
  if (typeof failures !== 'number' || !Number.isSafeInteger(failures) || failures < 0) return `the record's failures are ${String(failures)}`
  if (remainingMs !== null && (typeof remainingMs !== 'number' || !Number.isFinite(remainingMs) || remainingMs < 0)) return 'the record does not say how much time remains'
  const isForced = phase === 'forced-open' || phase === 'forced-closed'
  if (isForced && !isDecision(forced)) return 'the record is of a forced state and does not say by whom and why'
  return { version, savedAt, phase: phase as BreakerRecord['phase'], failures, remainingMs, forced: isForced && isDecision(forced) ? { by: forced.by, reason: forced.reason } : null }
}

function isDecision(value: unknown): value is { readonly by: string; readonly reason: string } {
  if (typeof value !== 'object' || value === null) return false
  const { by, reason } = value as { readonly by?: unknown; readonly reason?: unknown }
  return typeof by === 'string' && by !== '' && typeof reason === 'string' && reason.trim() !== ''
}
