import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { admits, advance, closedBreaker, force, holds, nextChangeAt, openBreaker, release, retryAfterMs, settle, takeTrial, UNCOUNTED } from './machine.ts'
import type { BreakerMachine, BreakerResult, MachineRules } from './machine.ts'

const RULES: MachineRules = { failures: 3, openForMs: 100, probeEveryMs: 49, closeAfter: 2, trialCalls: 2, trialLeaseMs: 50, rampForMs: 20 }

type Action =
  | { readonly do: 'admit' }
  | { readonly do: 'settle'; readonly pick: number; readonly result: BreakerResult }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'force'; readonly to: 'open' | 'closed'; readonly forMs: number }
  | { readonly do: 'release' }

const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 5, arbitrary: fc.constant<Action>({ do: 'admit' }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('settle' as const), pick: fc.nat(100), result: fc.constantFrom<BreakerResult>('success', 'failure', 'failure', 'neither') }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1, 49, 50, 99, 100, 101) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('force' as const), to: fc.constantFrom('open' as const, 'closed' as const), forMs: fc.constantFrom(10, 200, Number.POSITIVE_INFINITY) }) },
  { weight: 1, arbitrary: fc.constant<Action>({ do: 'release' }) },
)

/** Runs actions against the machine and checks, from the outside, what must always hold. Answers which states were reached. */
function check(actions: readonly Action[], machineSettle: typeof settle = settle): Set<string> {
  let machine: BreakerMachine = closedBreaker()
  let now = 0
  let epoch = 0
  const given: { permit: number; epoch: number; trial: boolean; settled: boolean; at: number }[] = []
  const reached = new Set<string>(['closed'])
  const become = (next: BreakerMachine): void => {
    if (next.phase !== machine.phase) {
      epoch += 1
      // An early trial that is on its way when half-open comes by time is one of its trials.
      if (machine.phase === 'open' && next.phase === 'half-open') for (const one of given) if (next.trials.some(trial => trial.permit === one.permit)) one.epoch = epoch
    }
    machine = next
    reached.add(machine.phase)
  }
  for (const step of actions) {
    become(advance(machine, now, RULES))
    if (machine.phase === 'open') expect(machine.until).toBeGreaterThan(now)
    if (machine.phase === 'half-open') for (const trial of machine.trials) expect(trial.leaseUntil).toBeGreaterThan(now)
    if (step.do === 'wait') now += step.ms
    if (step.do === 'force') become(force(machine, step.to, now + step.forMs))
    if (step.do === 'release') become(release(machine, RULES))
    if (step.do === 'admit') {
      if (!admits(machine, now, RULES)) {
        expect(machine.phase).not.toBe('closed')
        reached.add(`refused in ${machine.phase}`)
        continue
      }
      expect(machine.phase).not.toBe('forced-open')
      if (machine.phase === 'half-open' || machine.phase === 'open') {
        reached.add(`trial in ${machine.phase}`)
        machine = takeTrial(machine, now, RULES)
        expect(given.map(one => one.permit)).not.toContain(machine.serial)
        given.push({ permit: machine.serial, epoch, trial: true, settled: false, at: now })
        const inFlight = given.filter(one => one.trial && !one.settled && one.epoch === epoch)
        expect(inFlight.filter(one => now - one.at < RULES.trialLeaseMs).length).toBeLessThanOrEqual(machine.phase === 'open' ? 1 : RULES.trialCalls)
      } else given.push({ permit: machine.phase === 'closed' ? machine.permit : UNCOUNTED, epoch, trial: false, settled: false, at: now })
    }
    if (step.do === 'settle') {
      const open = given.filter(one => !one.settled)
      const one = open[step.pick % Math.max(1, open.length)]
      if (one === undefined) continue
      one.settled = true
      const next = machineSettle(machine, one.permit, step.result, now, RULES)
      if (one.epoch !== epoch) {
        reached.add(`stale ${step.result}`)
        expect(next).toBe(machine)
      }
      if (step.result === 'neither') expect(next.phase).toBe(machine.phase)
      if (next.phase === 'closed' && machine.phase !== 'closed') expect(machine.phase).toBe('half-open')
      if (machine.phase === 'open' && next.phase !== 'open') expect([one.trial, step.result]).toEqual([true, 'success'])
      if (machine.phase === 'half-open' && step.result === 'failure' && one.epoch === epoch) expect(next.phase).toBe('open')
      become(next)
    }
    if (machine.phase === 'half-open') for (const trial of machine.trials) expect(holds(machine, trial.permit)).toBe(true)
  }
  return reached
}

describe('the breaker machine, under any order of calls, results, time and operators', () => {
  it('keeps its invariants, and the runs reach every state, refusal and stale result', () => {
    const reached = new Set<string>()
    fc.assert(fc.property(fc.array(action, { minLength: 1, maxLength: 80, size: 'max' }), actions => {
      for (const state of check(actions)) reached.add(state)
    }), { numRuns: 3_000, seed: 7 })
    for (const state of ['closed', 'open', 'half-open', 'forced-open', 'forced-closed', 'refused in half-open', 'refused in open', 'refused in forced-open', 'stale success', 'stale failure', 'trial in open', 'trial in half-open']) {
      expect(reached, state).toContain(state)
    }
  })

  it('control: without the fence of permits the same check finds a stale result that counts', () => {
    const unfenced: typeof settle = (machine, permit, result, now, rules) => {
      const current = machine.phase === 'closed' ? machine.permit : machine.phase === 'half-open' ? (machine.trials[0]?.permit ?? permit) : permit
      return settle(machine, current, result, now, rules)
    }
    expect(() => {
      fc.assert(fc.property(fc.array(action, { minLength: 1, maxLength: 80, size: 'max' }), actions => { check(actions, unfenced) }), { numRuns: 3_000, seed: 7 })
    }).toThrow(/stale|Property failed/)
  })
})

describe('an early trial', () => {
  const opened = openBreaker(1, 3, 0, RULES)
  const taken = takeTrial(opened, 49, RULES)

  it('is due probeEvery after opening, and again so long after the one before was taken; never two at once', () => {
    expect([admits(opened, 48, RULES), admits(opened, 49, RULES)]).toEqual([false, true])
    expect(admits(taken, 98, RULES)).toBe(false)
    const failed = settle(taken, taken.serial, 'failure', 60, RULES)
    expect(failed).toMatchObject({ phase: 'open', until: 100 })
    expect([admits(failed, 97, RULES), admits(failed, 98, RULES)]).toEqual([false, true])
  })

  it('that succeeds is the first of closeAfter; the last, where one is enough', () => {
    expect(settle(taken, taken.serial, 'success', 60, RULES)).toMatchObject({ phase: 'half-open', successes: 1, trials: [] })
    expect(settle(taken, taken.serial, 'success', 60, { ...RULES, closeAfter: 1 })).toMatchObject({ phase: 'closed', rampUntil: 80 })
  })

  it('that proves nothing is given back at once', () => {
    expect(admits(settle(taken, taken.serial, 'neither', 60, RULES), 60, RULES)).toBe(true)
  })

  it('that hangs loses its place with its lease, and is not heard afterwards', () => {
    const later = advance(taken, 99, RULES)
    expect([holds(later, taken.serial), admits(later, 99, RULES)]).toEqual([false, true])
    expect(settle(later, taken.serial, 'success', 99, RULES)).toBe(later)
  })

  it('that is on its way when half-open comes by time is one of its trials', () => {
    const late = takeTrial(opened, 80, RULES)
    const half = advance(late, 100, RULES)
    expect(half).toMatchObject({ phase: 'half-open', trials: [{ permit: late.serial }], successes: 0 })
    expect(settle(half, late.serial, 'failure', 101, RULES).phase).toBe('open')
  })

  it('there is none without probeEvery: control', () => {
    expect(admits(openBreaker(1, 3, 0, { ...RULES, probeEveryMs: Number.POSITIVE_INFINITY }), 99, RULES)).toBe(false)
  })
})

describe('what the machine tells', () => {
  it('says when time changes it next, and how long to wait, rounded up', () => {
    expect(nextChangeAt(closedBreaker())).toBe(Number.POSITIVE_INFINITY)
    const open: BreakerMachine = openBreaker(1, 3, 0, RULES)
    expect(nextChangeAt(open)).toBe(100)
    expect(retryAfterMs(open, 0.5)).toBe(100)
    expect(retryAfterMs(force(open, 'open', Number.POSITIVE_INFINITY), 0)).toBeUndefined()
  })

  it('goes half-open after a forced opening and counts afresh after a forced closing', () => {
    expect(release(force(closedBreaker(), 'open', 10), RULES).phase).toBe('half-open')
    expect(release(force(openBreaker(5, 3, 0, RULES), 'closed', 10), RULES)).toMatchObject({ phase: 'closed', failures: 0, permit: 6 })
  })
})
