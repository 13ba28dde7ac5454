import { describe, expect, it } from 'vitest'
import * as machineOf from './machine.ts'
import type { BreakerMachine, BreakerResult, MachineRules } from './machine.ts'
import { fromRecord, toRecord } from './record.ts'

/**
 * Every reachable state of the machine, not a sample: breadth first from the first state, until nothing new is found.
 * Times are small whole numbers, at most `CALLS_MAX` calls are in flight; states that differ only by a shift in time or in the
 * numbering of permits are one. A violation is shown with the shortest way to it.
 */
/** The counts are the defaults. */
const RULES: MachineRules = { failures: 5, openForMs: 20, probeEveryMs: 4, closeAfter: 2, trialCalls: 3, trialLeaseMs: 14, rampForMs: 5 }
const CALLS_MAX = 8
const RESULTS: readonly BreakerResult[] = ['success', 'failure', 'neither']

type Machine = Pick<typeof machineOf, 'advance' | 'admits' | 'takeTrial' | 'holds' | 'settle' | 'force' | 'release' | 'nextChangeAt'> & { readonly fromRecord: typeof fromRecord }
const REAL: Machine = { ...machineOf, fromRecord }

/** A call in flight, and which period of the breaker it belongs to: what the machine does not know. */
interface Call {
  readonly permit: number
  readonly kind: 'closed' | 'trial' | 'uncounted'
  readonly period: number
  readonly since: number
}

interface State {
  readonly machine: BreakerMachine
  readonly now: number
  readonly calls: readonly Call[]
  /** Counts up with every change of phase: our own idea of an epoch. */
  readonly period: number
  /** Consecutive failures and successful trials of this period, counted by us. */
  readonly failures: number
  readonly successes: number
  readonly way: { readonly step: string; readonly before: State } | undefined
}

class Violation extends Error {}

function explore(machine: Machine, rules: MachineRules = RULES, statesMax = 2_000_000): { states: number; transitions: number; depth: number; reached: Set<string> } {
  const first: State = { machine: machineOf.closedBreaker(), now: 0, calls: [], period: 0, failures: 0, successes: 0, way: undefined }
  const seen = new Set<string>([keyOf(first)])
  const reached = new Set<string>()
  let level: State[] = [first]
  let transitions = 0
  let depth = 0
  while (level.length > 0) {
    const next: State[] = []
    for (const state of level) {
      for (const after of successors(state, machine, rules, reached)) {
        transitions += 1
        const key = keyOf(after)
        if (seen.has(key)) continue
        seen.add(key)
        if (seen.size > statesMax) throw new Error(`more than ${String(statesMax)} states`)
        stands(after, machine, rules)
        next.push(after)
      }
    }
    if (next.length > 0) depth += 1
    level = next
  }
  return { states: seen.size, transitions, depth, reached }
}

function* successors(state: State, machine: Machine, rules: MachineRules, reached: Set<string>): Generator<State> {
  // As the breaker does: whatever is asked, time acts first.
  const from = become(state, machine.advance(state.machine, state.now, rules), 'time acts')
  reached.add(from.machine.phase)
  yield { ...from, now: from.now + 1, way: { step: 'a tick', before: state } }
  if (from.calls.length < CALLS_MAX) yield acquire(from, machine, rules, reached)
  const classes = new Set<string>()
  for (const call of from.calls) {
    const like = callKey(call, from)
    if (classes.has(like)) continue
    classes.add(like)
    for (const result of RESULTS) {
      for (const tripped of result === 'neither' ? [false] : [false, true]) yield settle(from, call, result, tripped, machine, rules, reached)
    }
  }
  for (const to of ['open', 'closed'] as const) {
    for (const forMs of [2, Number.POSITIVE_INFINITY]) yield become(from, machine.force(from.machine, to, from.now + forMs), `forced ${to} for ${String(forMs)}`)
  }
  yield become(from, machine.release(from.machine, rules), 'released')
  for (const ageMs of [0, 1, 100]) for (const jumpMs of [-1_000, 0, 1_000]) yield restart(from, ageMs, jumpMs, machine, rules, reached)
}

function acquire(state: State, machine: Machine, rules: MachineRules, reached: Set<string>): State {
  const { phase } = state.machine
  if (!machine.admits(state.machine, state.now, rules)) {
    reached.add(`refused in ${phase}`)
    must(phase !== 'closed' && phase !== 'forced-closed', state, `a call is refused in ${phase}`)
    return state
  }
  must(phase !== 'forced-open', state, `a call is let through in ${phase}`)
  if (phase !== 'half-open' && phase !== 'open') {
    const kind = phase === 'closed' ? 'closed' : 'uncounted'
    const permit = state.machine.phase === 'closed' ? state.machine.permit : machineOf.UNCOUNTED
    return { ...state, calls: [...state.calls, { permit, kind, period: state.period, since: state.now }], way: { step: `a call is let through (${kind})`, before: state } }
  }
  const taken = machine.takeTrial(state.machine, state.now, rules)
  must(!state.calls.some(call => call.permit === taken.serial), state, 'a permit is given twice')
  const after: State = {
    ...state, machine: taken, calls: [...state.calls, { permit: taken.serial, kind: 'trial', period: state.period, since: state.now }], way: { step: 'a trial is taken', before: state },
  }
  reached.add(`trial in ${phase}`)
  if (phase === 'half-open') must(inFlight(after).length <= rules.trialCalls, after, `${String(inFlight(after).length)} trials are in flight`)
  else must(inFlight(after).filter(call => state.now - call.since < rules.trialLeaseMs).length === 1, after, 'two early trials are in flight')
  return after
}

function settle(state: State, call: Call, result: BreakerResult, tripped: boolean, machine: Machine, rules: MachineRules, reached: Set<string>): State {
  const rest = state.calls.filter(other => other !== call)
  const step = `a ${call.kind} call of ${call.period === state.period ? 'this' : 'an earlier'} period ends: ${result}${tripped ? ' (a window is over its limit)' : ''}`
  const settled = machine.settle(state.machine, call.permit, result, state.now, rules, tripped)
  const before: State = { ...state, calls: rest, way: { step, before: state } }
  if (call.period !== state.period || call.kind === 'uncounted') {
    if (call.period !== state.period) reached.add(`stale ${result} in ${state.machine.phase}`)
    must(settled === state.machine, before, `a result of ${call.kind === 'uncounted' ? 'an uncounted call' : 'an earlier period'} changes the breaker`)
    return before
  }
  if (call.kind === 'trial' && state.machine.phase === 'open') return settleEarly(before, call, result, settled, rules, reached, step)
  const failures = result === 'failure' ? state.failures + 1 : result === 'success' ? 0 : state.failures
  const successes = state.successes + (call.kind === 'trial' && result === 'success' ? 1 : 0)
  if (result === 'neither') must(settled.phase === state.machine.phase, before, 'a result that is neither changes the phase')
  if (settled.phase === 'open') {
    const may = call.kind === 'trial' ? result === 'failure' : failures >= rules.failures || tripped
    must(may, before, 'it opens without a reason')
  } else {
    must(result !== 'failure' || call.kind !== 'trial', before, 'a failed trial does not open it')
    must(call.kind !== 'closed' || (failures < rules.failures && !(tripped && result !== 'neither')), before, 'it stays closed although it must open')
  }
  if (settled.phase === 'closed' && state.machine.phase !== 'closed') must(successes >= rules.closeAfter, before, `it closes after ${String(successes)} successes`)
  return become({ ...before, failures, successes }, settled, step)
}

/** The early trial of an open breaker: only its success does anything, and only while it has its lease. */
function settleEarly(before: State, call: Call, result: BreakerResult, settled: BreakerMachine, rules: MachineRules, reached: Set<string>, step: string): State {
  reached.add(`early ${result}`)
  if (before.now - call.since >= rules.trialLeaseMs) {
    must(settled === before.machine, before, 'an early trial without its lease changes the breaker')
    return before
  }
  must(settled.phase === (result === 'success' ? 'half-open' : 'open'), before, `an early ${result} leads to ${settled.phase}`)
  if (settled.phase === 'open' && before.machine.phase === 'open') must(settled.until === before.machine.until, before, 'an early trial prolongs the open time')
  const after = become(before, settled, step)
  return result === 'success' ? { ...after, successes: 1 } : after
}

function restart(state: State, ageMs: number, jumpMs: number, machine: Machine, rules: MachineRules, reached: Set<string>): State {
  const forced = state.machine.phase.startsWith('forced') ? { by: 'a', reason: 'b' } : null
  const wall = 50_000
  const record = toRecord(state.machine, forced, state.now, wall)
  const now = 7
  const after = machine.fromRecord(record, 1, now, wall + ageMs + jumpMs, rules)
  const step = `a restart after ${String(ageMs)} with the wall clock ${String(jumpMs)} off`
  const restored: State = { machine: after, now, calls: [], period: state.period + 1, failures: after.phase === 'closed' ? after.failures : 0, successes: 0, way: { step, before: state } }
  reached.add(`restarted in ${state.machine.phase}`)
  if (state.machine.phase === 'open' || state.machine.phase === 'half-open') must(after.phase === 'open' || after.phase === 'half-open', restored, `a restart turns ${state.machine.phase} into ${after.phase}`)
  if (state.machine.phase === 'open' && after.phase === 'open') {
    const passed = Math.max(0, ageMs + jumpMs)
    must(after.until - now === state.machine.until - state.now - passed, restored, 'a restart changes the time that remains')
  }
  if (state.machine.phase === 'closed') must(after.phase === 'closed', restored, `a restart turns closed into ${after.phase}`)
  return restored
}

function become(state: State, machine: BreakerMachine, step: string): State {
  if (machine === state.machine) return state
  const samePeriod = machine.phase === state.machine.phase && !machine.phase.startsWith('forced')
  const way = { step, before: state }
  if (samePeriod) return { ...state, machine, way }
  // An early trial that is on its way when half-open comes by time is one of its trials.
  const period = state.period + 1
  const carried = state.machine.phase === 'open' && machine.phase === 'half-open' ? machine.trials.map(trial => trial.permit) : []
  return { ...state, machine, calls: state.calls.map(call => (carried.includes(call.permit) && call.period === state.period ? { ...call, period } : call)), period, failures: 0, successes: 0, way }
}

/** What must hold of every state by itself. */
function stands(state: State, machine: Machine, rules: MachineRules): void {
  const current = machine.advance(state.machine, state.now, rules)
  if (current.phase === 'open') {
    must(current.until > state.now, state, 'it is open although its time is over')
    must(current.until - state.now <= rules.openForMs, state, 'it stays open for longer than openFor')
  }
  must(state.calls.every(call => call.permit <= state.machine.serial), state, 'a call in flight has a permit that is still to be given')
  if (current.phase === 'closed') must(current.failures === state.failures || current !== state.machine, state, 'it counts failures that were none')
  if (current.phase === 'half-open' && current === state.machine) {
    must(current.successes < rules.closeAfter && current.successes === state.successes, state, 'it counts successes that were none')
    for (const call of inFlight(state)) must(state.now - call.since < rules.trialLeaseMs, state, 'a trial holds its place for longer than its lease')
  }
  const changesAt = machine.nextChangeAt(current)
  if (changesAt !== Number.POSITIVE_INFINITY) {
    const before = machine.advance(current, changesAt - 0.5, rules)
    // An early trial that hangs loses its place meanwhile; nobody waits for that.
    must(current.phase === 'open' ? before.phase === 'open' : before === current, state, 'it changes before it says')
    must(machine.advance(current, changesAt, rules) !== current, state, 'it does not change when it says')
  }
  // Whatever hangs: by time alone it comes to let calls through again, unless an operator said "until released".
  if (current.phase === 'forced-open' && current.until === Number.POSITIVE_INFINITY) return
  let later = current
  const horizon = state.now + rules.openForMs + RULES.trialLeaseMs + 2
  let now = state.now
  for (; now <= horizon && !machine.admits(later, now, rules); now += 1) later = machine.advance(later, now, rules)
  must(machine.admits(later, now, rules), state, 'it refuses for ever')
}

function inFlight(state: State): readonly Call[] {
  return state.calls.filter(call => call.kind === 'trial' && call.period === state.period)
}

function callKey(call: Call, state: State): string {
  const { machine } = state
  const trial = machine.phase === 'half-open' ? machine.trials.findIndex(each => each.permit === call.permit) : machine.phase === 'open' ? (machine.probe?.permit === call.permit ? 0 : -1) : machine.phase === 'closed' && machine.permit === call.permit ? 9 : -1
  if (call.period !== state.period) return `stale${String(trial)}`
  return `${call.kind}${String(trial)}${call.kind === 'trial' ? `:${String(state.now - call.since)}` : ''}`
}

function keyOf(state: State): string {
  const { machine, now } = state
  const calls = state.calls.map(call => callKey(call, state)).sort().join(',')
  const left = (until: number): string => String(Math.max(-1, until - now))
  const own = machine.phase === 'closed' ? `${String(machine.failures)} ${left(machine.rampUntil)}`
    : machine.phase === 'half-open' ? `${String(machine.successes)} ${machine.trials.map(trial => left(trial.leaseUntil)).join(',')}`
      : machine.phase === 'open' ? `${left(machine.until)} ${left(machine.probeAt)} ${machine.probe === undefined ? '' : left(machine.probe.leaseUntil)}` : left(machine.until)
  return `${machine.phase} ${own} | ${calls} | ${String(state.failures)} ${String(state.successes)}`
}

function must(holds: boolean, state: State, otherwise: string): void {
  if (holds) return
  const way: string[] = []
  for (let at: State | undefined = state; at?.way !== undefined; at = at.way.before) way.unshift(at.way.step)
  throw new Violation(`${otherwise}: ${way.join(' > ')}`)
}

describe('the breaker machine, in every state that it can reach', () => {
  it(`keeps its invariants with up to ${String(CALLS_MAX)} calls in flight, stale results, hung trials, operators, restarts and clock jumps`, () => {
    const { states, transitions, depth, reached } = explore(REAL)
    console.log(`breaker machine: ${String(states)} states, ${String(transitions)} transitions, nothing new after ${String(depth)} steps`)
    expect(states).toBeGreaterThan(10_000)
    expect(depth).toBeGreaterThan(20)
    for (const state of [
      'refused in open', 'refused in half-open', 'refused in forced-open', 'stale failure in closed', 'stale success in open', 'stale success in half-open', 'stale failure in half-open',
      'stale failure in forced-closed', 'restarted in closed', 'restarted in open', 'restarted in half-open', 'restarted in forced-open', 'restarted in forced-closed', 'forced-closed',
      'trial in open', 'trial in half-open', 'early success', 'early failure', 'early neither',
    ]) expect(reached, state).toContain(state)
  }, 60_000)

  it('control: without the fence of permits it is found out', () => {
    const settleAny: Machine['settle'] = (machine, permit, result, now, rules, tripped) => {
      const current = machine.phase === 'closed' ? machine.permit : machine.phase === 'half-open' ? (machine.trials[0]?.permit ?? permit) : permit
      return machineOf.settle(machine, current, result, now, rules, tripped)
    }
    expect(() => explore({ ...REAL, settle: settleAny })).toThrow(/changes the breaker/)
  })

  it('control: without the lease of trials it is found out', () => {
    expect(() => explore(REAL, { ...RULES, trialLeaseMs: Number.POSITIVE_INFINITY })).toThrow('it refuses for ever: ')
  })

  it('control: without the limit of trials it is found out', () => {
    const takeAny: Machine['takeTrial'] = (machine, now, rules) => machineOf.takeTrial(machine, now, { ...rules, trialCalls: 99 })
    expect(() => explore({ ...REAL, takeTrial: takeAny, admits: (machine, now) => machineOf.admits(machine, now, { ...RULES, trialCalls: 99 }) })).toThrow('4 trials are in flight')
  })

  it('control: without the limit of one early trial it is found out', () => {
    const herd = (machine: BreakerMachine): BreakerMachine => (machine.phase === 'open' ? { ...machine, probe: undefined, probeAt: 0 } : machine)
    expect(() => explore({ ...REAL, admits: (machine, now, rules) => machineOf.admits(herd(machine), now, rules), takeTrial: (machine, now, rules) => machineOf.takeTrial(herd(machine), now, rules) })).toThrow('two early trials are in flight')
  })

  it('control: when a failed early trial begins the open time anew it is found out', () => {
    const prolonging: Machine['settle'] = (machine, permit, result, now, rules, tripped) => {
      const after = machineOf.settle(machine, permit, result, now, rules, tripped)
      return machine.phase === 'open' && after !== machine && after.phase === 'open' && result === 'failure' ? { ...after, until: now + rules.openForMs } : after
    }
    expect(() => explore({ ...REAL, settle: prolonging })).toThrow('an early trial prolongs the open time')
  })

  it('control: when a 4xx in half-open counts as a success it is found out', () => {
    const generous: Machine['settle'] = (machine, permit, result, now, rules, tripped) =>
      machineOf.settle(machine, permit, result === 'neither' && machine.phase === 'half-open' ? 'success' : result, now, rules, tripped)
    expect(() => explore({ ...REAL, settle: generous })).toThrow(/successes that were none|neither changes the phase|it closes after/)
  })

  it('control: when a restored record is trusted about its time it is found out', () => {
    const trusting: Machine['fromRecord'] = (record, serial, now, wallNow) =>
      record.phase === 'open' ? machineOf.openBreaker(serial, record.failures, now, RULES, now + (record.remainingMs ?? 0) - (wallNow - record.savedAt)) : fromRecord(record, serial, now, wallNow, RULES)
    expect(() => explore({ ...REAL, fromRecord: trusting })).toThrow(/longer than openFor|the time that remains/)
  })

  it('control: when a restart forgets that it was open it is found out', () => {
    expect(() => explore({ ...REAL, fromRecord: (_record, serial) => machineOf.closedBreaker(serial) })).toThrow('a restart turns open into closed')
  })
})
