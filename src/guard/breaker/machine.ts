/**
 * The circuit breaker as a pure machine: a discriminated union and functions from state to state. No clock, no events.
 *
 * Invariants, checked by the model test beside: in half-open at most `trialCalls` calls are in flight; a result whose
 * permit is not of the current state changes nothing; a trial that outlives its lease re-opens; what counts as neither
 * success nor failure only gives its trial back.
 * Not here: when time passes (./breaker.ts), what is a failure (./classify.ts), ratio windows and ramp-up.
 */

/** The numbers a breaker works with. */
export interface BreakerRules {
  /** Consecutive failures that open it; `Infinity` never opens by itself. */
  readonly failures: number
  readonly openForMs: number
  /** Successful trial calls that close it. */
  readonly closeAfter: number
  /** Trial calls in flight at once, at most. */
  readonly trialCalls: number
  /** A trial call that takes longer is taken for hung. */
  readonly trialLeaseMs: number
}

/** One trial call that is in flight in half-open. */
export interface Trial {
  readonly permit: number
  readonly leaseUntil: number
}

/**
 * `serial` numbers permits, so that none is ever given twice. All calls of one closed period share its `permit`; each
 * trial call has its own. Times are monotonic milliseconds.
 */
export type BreakerMachine =
  | { readonly phase: 'closed'; readonly serial: number; readonly permit: number; readonly failures: number }
  | { readonly phase: 'open'; readonly serial: number; readonly until: number; readonly failures: number }
  | { readonly phase: 'half-open'; readonly serial: number; readonly trials: readonly Trial[]; readonly successes: number }
  | { readonly phase: 'forced-open' | 'forced-closed'; readonly serial: number; readonly until: number }

export type BreakerResult = 'success' | 'failure' | 'neither'

/** The permit of calls that are let through without counting, while the breaker is forced closed. */
export const UNCOUNTED = 0

export function closedBreaker(serial = 0): BreakerMachine {
  return { phase: 'closed', serial: serial + 1, permit: serial + 1, failures: 0 }
}

/** What the passing of time alone does. Returns the same object when it does nothing. */
export function advance(machine: BreakerMachine, now: number, rules: BreakerRules): BreakerMachine {
  switch (machine.phase) {
    case 'closed':
      return machine
    case 'open':
      return now < machine.until ? machine : halfOpen(machine.serial)
    case 'half-open':
      return machine.trials.some(trial => trial.leaseUntil <= now) ? open(machine.serial, 0, now, rules) : machine
    // An operator who kept calls away gets them back carefully; one who forced them through starts counting afresh.
    case 'forced-open':
      return now < machine.until ? machine : halfOpen(machine.serial)
    case 'forced-closed':
      return now < machine.until ? machine : closedBreaker(machine.serial)
  }
}

/** Whether a call may go through now. Only looks. */
export function admits(machine: BreakerMachine, rules: BreakerRules): boolean {
  switch (machine.phase) {
    case 'closed':
    case 'forced-closed':
      return true
    case 'open':
    case 'forced-open':
      return false
    case 'half-open':
      return machine.trials.length < rules.trialCalls
  }
}

/** Takes a trial in half-open; its permit is the `serial` of what is returned. Call only where `admits`. */
export function takeTrial(machine: BreakerMachine, now: number, rules: BreakerRules): BreakerMachine {
  if (machine.phase !== 'half-open' || machine.trials.length >= rules.trialCalls) return machine
  const permit = machine.serial + 1
  return { ...machine, serial: permit, trials: [...machine.trials, { permit, leaseUntil: now + rules.trialLeaseMs }] }
}

/** Whether a result under this permit would still count. */
export function holds(machine: BreakerMachine, permit: number): boolean {
  if (machine.phase === 'closed') return machine.permit === permit
  if (machine.phase === 'half-open') return machine.trials.some(trial => trial.permit === permit)
  return machine.phase === 'forced-closed' && permit === UNCOUNTED
}

/** What the result of a call does. Returns the same object when it does nothing. */
export function settle(machine: BreakerMachine, permit: number, result: BreakerResult, now: number, rules: BreakerRules): BreakerMachine {
  if (!holds(machine, permit)) return machine
  if (machine.phase === 'closed') {
    if (result === 'failure') {
      const failures = machine.failures + 1
      return failures >= rules.failures ? open(machine.serial, failures, now, rules) : { ...machine, failures }
    }
    return result === 'success' && machine.failures > 0 ? { ...machine, failures: 0 } : machine
  }
  if (machine.phase !== 'half-open') return machine
  if (result === 'failure') return open(machine.serial, 1, now, rules)
  const successes = machine.successes + (result === 'success' ? 1 : 0)
  if (successes >= rules.closeAfter) return closedBreaker(machine.serial)
  return { ...machine, successes, trials: machine.trials.filter(trial => trial.permit !== permit) }
}

/** An operator's decision. `until` may be `Infinity`. */
export function force(machine: BreakerMachine, to: 'open' | 'closed', until: number): BreakerMachine {
  return { phase: to === 'open' ? 'forced-open' : 'forced-closed', serial: machine.serial, until }
}

/** Ends a forced state before its time. */
export function release(machine: BreakerMachine, rules: BreakerRules): BreakerMachine {
  return machine.phase === 'forced-open' || machine.phase === 'forced-closed' ? advance(machine, Number.POSITIVE_INFINITY, rules) : machine
}

/** When time alone changes the state next; `Infinity` when it never does. */
export function nextChangeAt(machine: BreakerMachine): number {
  switch (machine.phase) {
    case 'closed':
      return Number.POSITIVE_INFINITY
    case 'half-open':
      return machine.trials.reduce((earliest, trial) => Math.min(earliest, trial.leaseUntil), Number.POSITIVE_INFINITY)
    default:
      return machine.until
  }
}

/** How long to wait until `admits` may say yes; undefined when it says so now, or when nobody can know. */
export function retryAfterMs(machine: BreakerMachine, now: number): number | undefined {
  if ((machine.phase !== 'open' && machine.phase !== 'forced-open') || machine.until === Number.POSITIVE_INFINITY) return undefined
  return Math.max(0, Math.ceil(machine.until - now))
}

function open(serial: number, failures: number, now: number, rules: BreakerRules): BreakerMachine {
  return { phase: 'open', serial, until: now + rules.openForMs, failures }
}

function halfOpen(serial: number): BreakerMachine {
  return { phase: 'half-open', serial, trials: [], successes: 0 }
}
