/**
 * When a worker runs next. The one place where a sleep is computed, so that "it never spins" is a property of three lines.
 */
import type { IterationOutcome } from '../core/index.ts'
import type { ResolvedWorker } from './options.ts'

/** Between any two iterations, whoever asks for the next: an app that kicks from within its own run must not spin. */
export const GAP_MS = 100

export interface Pace {
  /** Until the next iteration, when nobody wakes the worker. */
  readonly sleepMs: number
  /** Until the earliest one, when somebody does. */
  readonly earliestMs: number
}

/** `failures` in a row including this one; `soonestMs` until the first failed item is due. */
export function paceAfter(outcome: IterationOutcome, options: Pick<ResolvedWorker, 'everyMs' | 'safeSleepMs'>, failures: number, soonestMs: number): Pace {
  const { everyMs, safeSleepMs } = options
  switch (outcome) {
    case 'ok': return { sleepMs: Math.max(GAP_MS, Math.min(everyMs, Math.max(soonestMs, safeSleepMs))), earliestMs: GAP_MS }
    case 'skipped': return { sleepMs: Math.max(GAP_MS, safeSleepMs), earliestMs: GAP_MS }
    case 'degraded': return { sleepMs: Math.max(safeSleepMs, Math.min(everyMs, soonestMs)), earliestMs: Math.max(GAP_MS, safeSleepMs) }
    case 'failed': return { sleepMs: backoffMs(options, failures), earliestMs: Math.max(GAP_MS, safeSleepMs) }
  }
}

/** Doubles from `safeSleep`; a worker is never slower than its ordinary pace because it failed. */
export function backoffMs({ everyMs, safeSleepMs }: Pick<ResolvedWorker, 'everyMs' | 'safeSleepMs'>, failures: number): number {
  return Math.max(GAP_MS, Math.min(safeSleepMs * 2 ** Math.min(Math.max(0, failures - 1), 30), Math.max(everyMs, safeSleepMs)))
}
