/**
 * The circuit breaker as a pure machine: a discriminated union and functions from state to state. No clock, no events.
 *
 * While open, one call at a time is let through early (an *early trial*), so that an outage that ends soon is noticed soon.
 * Invariants, checked beside in every reachable state: in half-open at most `trialCalls` calls are in flight, in open at most
 * one; a result whose permit is not of the current state changes nothing; a trial that outlives its lease re-opens; what
 * counts as neither success nor failure only gives its trial back; no state without an operator in it refuses for ever.
 * Not here: when time passes (./circuit.ts), what is counted over a time window (./call-window.ts: it enters as
 * `tripped`), whom the ramp lets through (./ramp.ts), what is a failure (../classify.ts).
 */

/** The numbers the machine works with. */
export interface MachineRules {
  /** Consecutive failures that open it; `Infinity` never opens by them. */
  readonly failures: number
  readonly openForMs: number
  /** While open, an early trial is due this long after the one before was taken; `Infinity` for none. */
  readonly probeEveryMs: number
  /** Successful trial calls that close it. */
  readonly closeAfter: number
  /** Trial calls in flight at once, at most. */
  readonly trialCalls: number
  /** A trial call that takes longer is taken for hung. */
  readonly trialLeaseMs: number
  /** How long admission grows after closing; 0 admits everything at once. */
  readonly rampForMs: number
}

/** Opens when at least this share of the calls that ended within the window did so badly. */
export interface RateRule {
  /** Above 0, at most 1; reaching it is enough. */
  readonly ratio: number
  readonly withinMs: number
  /** With fewer calls in the window the ratio says nothing. */
  readonly minimumCalls: number
}

/** All the rules of one breaker. */
export interface BreakerRules extends MachineRules {
  readonly failureRate: RateRule | undefined
  readonly slowCallRate: (RateRule & { readonly slowerThanMs: number }) | undefined
  /** Refuses nothing by itself, and tells what it would have done. */
  readonly shadow: boolean
}

/** One trial call that is in flight in half-open, or early in open. */
export interface Trial {
  readonly permit: number
  readonly leaseUntil: number
}

/**
 * `serial` is the last permit that was given. All calls of one closed period share its `permit`; each trial call has its
 * own. Times are monotonic milliseconds; a closed period whose `rampUntil` is in the future admits only some.
 */
export type BreakerMachine =
  | { readonly phase: 'closed'; readonly serial: number; readonly permit: number; readonly failures: number; readonly rampUntil: number }
  | { readonly phase: 'open'; readonly serial: number; readonly until: number; readonly failures: number; readonly probeAt: number; readonly probe: Trial | undefined }
  | { readonly phase: 'half-open'; readonly serial: number; readonly trials: readonly Trial[]; readonly successes: number }
  | { readonly phase: 'forced-open' | 'forced-closed'; readonly serial: number; readonly until: number }

export type ClosedBreaker = Extract<BreakerMachine, { phase: 'closed' }>
type OpenBreaker = Extract<BreakerMachine, { phase: 'open' }>
export type BreakerResult = 'success' | 'failure' | 'neither'

/** The permit of calls that are let through without counting: while forced closed, and in shadow in place of a refusal. */
export const UNCOUNTED = 0
/** Permits are 1 to this, then begin anew: two fit into one number. Nothing is in flight for 67 million trials. */
export const PERMIT_MAX: number = 2 ** 26 - 1
/** When the closed state was not reached from half-open, there is no ramp. */
export const NO_RAMP = 0

const FIRST: ClosedBreaker = Object.freeze({ phase: 'closed', serial: 1, permit: 1, failures: 0, rampUntil: NO_RAMP })

/** Idle breakers share the first state: it is a value. */
export function closedBreaker(serial = 0, rampUntil: number = NO_RAMP): ClosedBreaker {
  if (serial === 0 && rampUntil === NO_RAMP) return FIRST
  const permit = nextPermit(serial)
  return { phase: 'closed', serial: permit, permit, failures: 0, rampUntil }
}

/** What the passing of time alone does. Returns the same object when it does nothing. */
export function advance(machine: BreakerMachine, now: number, rules: MachineRules): BreakerMachine {
  switch (machine.phase) {
    case 'closed':
      return machine
    case 'open': {
      // A hung early trial only loses its place; one that is on its way is a trial of the half-open state that follows.
      const probe = machine.probe !== undefined && machine.probe.leaseUntil <= now ? undefined : machine.probe
      if (now >= machine.until) return halfOpen(machine.serial, probe)
      return probe === machine.probe ? machine : { ...machine, probe }
    }
    case 'half-open':
      return machine.trials.some(trial => trial.leaseUntil <= now) ? openBreaker(machine.serial, 0, now, rules) : machine
    // An operator who kept calls away gets them back carefully; one who forced them through starts counting afresh.
    case 'forced-open':
      return now < machine.until ? machine : halfOpen(machine.serial)
    case 'forced-closed':
      return now < machine.until ? machine : closedBreaker(machine.serial)
  }
}

/** Whether a call may go through now; the ramp of a closed one may still say no. Only looks. */
export function admits(machine: BreakerMachine, now: number, rules: MachineRules): boolean {
  switch (machine.phase) {
    case 'closed':
    case 'forced-closed':
      return true
    case 'forced-open':
      return false
    case 'open':
      return machine.probe === undefined && now >= machine.probeAt
    case 'half-open':
      return machine.trials.length < rules.trialCalls
  }
}

/** Takes a trial in half-open, or an early one; its permit is the `serial` of what is returned. Call only where `admits`. */
export function takeTrial(machine: BreakerMachine, now: number, rules: MachineRules): BreakerMachine {
  if ((machine.phase !== 'half-open' && machine.phase !== 'open') || !admits(machine, now, rules)) return machine
  const permit = nextPermit(machine.serial)
  const trial = { permit, leaseUntil: now + rules.trialLeaseMs }
  if (machine.phase === 'open') return { ...machine, serial: permit, probe: trial, probeAt: now + rules.probeEveryMs }
  return { ...machine, serial: permit, trials: [...machine.trials, trial] }
}

/** Whether a result under this permit would still count. */
export function holds(machine: BreakerMachine, permit: number): boolean {
  if (machine.phase === 'closed') return machine.permit === permit
  if (machine.phase === 'half-open') return machine.trials.some(trial => trial.permit === permit)
  if (machine.phase === 'open') return machine.probe?.permit === permit
  return machine.phase === 'forced-closed' && permit === UNCOUNTED
}

/**
 * What the result of a call does. Returns the same object when it does nothing. `tripped` says that with this call a
 * window of the closed state has gone over its limit. In half-open a call that ends as neither (the answer stands, the
 * caller left) only gives its trial back: it proves nothing in either direction (so does resilience4j).
 */
export function settle(machine: BreakerMachine, permit: number, result: BreakerResult, now: number, rules: MachineRules, tripped = false): BreakerMachine {
  if (!holds(machine, permit)) return machine
  if (machine.phase === 'closed') {
    if (result === 'neither') return machine
    const failures = result === 'failure' ? machine.failures + 1 : 0
    if (tripped || failures >= rules.failures) return openBreaker(machine.serial, failures, now, rules)
    return failures === machine.failures ? machine : { ...machine, failures }
  }
  if (machine.phase === 'open') return settleProbe(machine, result, now, rules)
  if (machine.phase !== 'half-open') return machine
  if (result === 'failure') return openBreaker(machine.serial, 1, now, rules)
  const successes = machine.successes + (result === 'success' ? 1 : 0)
  if (successes >= rules.closeAfter) return closing(machine.serial, now, rules)
  return { ...machine, successes, trials: machine.trials.filter(trial => trial.permit !== permit) }
}

/** An early trial that failed changes nothing: it neither closes nor prolongs. One that ended as neither may be repeated at once. */
function settleProbe(machine: OpenBreaker, result: BreakerResult, now: number, rules: MachineRules): BreakerMachine {
  if (result === 'failure') return { ...machine, probe: undefined }
  if (result === 'neither') return { ...machine, probe: undefined, probeAt: now }
  return rules.closeAfter <= 1 ? closing(machine.serial, now, rules) : { phase: 'half-open', serial: machine.serial, trials: [], successes: 1 }
}

function closing(serial: number, now: number, rules: MachineRules): ClosedBreaker {
  return closedBreaker(serial, rules.rampForMs > 0 ? now + rules.rampForMs : NO_RAMP)
}

/** An operator's decision. `until` may be `Infinity`. */
export function force(machine: BreakerMachine, to: 'open' | 'closed', until: number): BreakerMachine {
  return { phase: to === 'open' ? 'forced-open' : 'forced-closed', serial: machine.serial, until }
}

/** Ends a forced state before its time. */
export function release(machine: BreakerMachine, rules: MachineRules): BreakerMachine {
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

/** How long to wait until half-open comes by time, early trials aside; undefined when nothing is waited for, or when nobody can know. */
export function retryAfterMs(machine: BreakerMachine, now: number): number | undefined {
  if ((machine.phase !== 'open' && machine.phase !== 'forced-open') || machine.until === Number.POSITIVE_INFINITY) return undefined
  return Math.max(0, Math.ceil(machine.until - now))
}

/** Opens now. The first early trial is due `probeEveryMs` later. */
export function openBreaker(serial: number, failures: number, now: number, rules: MachineRules, until: number = now + rules.openForMs): BreakerMachine {
  return { phase: 'open', serial, until, failures, probeAt: now + rules.probeEveryMs, probe: undefined }
}

export function halfOpen(serial: number, probe?: Trial): BreakerMachine {
  return { phase: 'half-open', serial, trials: probe === undefined ? [] : [probe], successes: 0 }
}

function nextPermit(serial: number): number {
  return serial < PERMIT_MAX ? serial + 1 : 1
}
