import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Json } from '../core/index.ts'
import { checkEffects, checkFences, checkLaneOrder, checkSet } from './history-checks.ts'
import { historyFrom, operationsOf, recordHistory, type Operation, type OperationEnd } from './history.ts'
import { checkLinearizable, leaseModel, registerModel, type Model } from './linearizable.ts'
import { seededRandom } from './simulated-env.ts'

/** `[who, action, input, output, from, to]`; without `to` the outcome is unknown. */
type Told = readonly [process: string, action: string, input: Json, output: Json, from: number, to?: number]

function history(...told: readonly Told[]): readonly Operation[] {
  return told.map(([process, action, input, output, invokedAt, endedAt], index) => ({
    id: String(index), process, key: 'k', action, input, output, invokedAt,
    end: endedAt === undefined ? 'info' : 'ok', endedAt: endedAt ?? Infinity,
  }))
}

const kinds = (anomalies: readonly { readonly kind: string }[]): readonly string[] => anomalies.map(anomaly => anomaly.kind)

describe('a recorded history', () => {
  it('pairs invocations with their ends; what has none is unknown; the first end counts', () => {
    const recorded = recordHistory()
    const write = recorded.invoke({ process: 'a', key: 'k', action: 'write', value: 1 })
    const read = recorded.invoke({ process: 'b', key: 'k', action: 'read' })
    const dead = recorded.invoke({ process: 'c', key: 'k', action: 'write', value: 2 })
    write.fail()
    write.ok()
    read.ok(null)
    expect(recorded.operations()).toEqual([
      { id: write.id, process: 'a', key: 'k', action: 'write', input: 1, output: null, end: 'fail', invokedAt: 0, endedAt: 3 },
      { id: read.id, process: 'b', key: 'k', action: 'read', input: null, output: null, end: 'ok', invokedAt: 1, endedAt: 4 },
      { id: dead.id, process: 'c', key: 'k', action: 'write', input: 2, output: null, end: 'info', invokedAt: 2, endedAt: Infinity },
    ])
    dead.info()
    expect(operationsOf(historyFrom(recorded.toJsonl()))).toEqual(recorded.operations())
  })

  it('is put together from several files, without a line that was cut off', () => {
    const events = historyFrom('{"id":"1","type":"invoke","at":1}\n{"id":"1","type":"ok","at":3}\n{"id":"2","ty', '{"id":"x","type":"invoke","at":2}\n')
    expect(events.map(event => event.at)).toEqual([1, 2, 3])
    expect(() => historyFrom('{"id"\n')).toThrow(/line 1 is not JSON/)
    expect(() => operationsOf([{ id: '1', type: 'ok', at: 1 }])).toThrow(/was not invoked/)
    expect(() => operationsOf([...events, { id: '1', type: 'ok', at: 9 }])).toThrow(/ends twice/)
    expect(() => operationsOf([...events, { id: '1', type: 'invoke', at: 9 }])).toThrow(/invoked twice/)
  })
})

/** Ten histories that must be found, each beside the nearest one that is right. */
const PLANTED: readonly (readonly [name: string, model: Model<Json>, bad: readonly Operation[], good: readonly Operation[]])[] = [
  ['a stale read', registerModel() , history(['a', 'write', 1, null, 1, 2], ['b', 'read', null, null, 3, 4]), history(['a', 'write', 1, null, 1, 4], ['b', 'read', null, null, 2, 3])],
  ['a read of what nobody wrote', registerModel(), history(['a', 'write', 1, null, 1, 2], ['b', 'read', null, 2, 3, 4]), history(['a', 'write', 1, null, 1, 2], ['b', 'read', null, 1, 3, 4])],
  ['a value that comes back', registerModel(), history(['a', 'write', 1, null, 1, 9], ['b', 'read', null, 1, 2, 3], ['b', 'read', null, null, 4, 5]), history(['a', 'write', 1, null, 1, 9], ['b', 'read', null, null, 2, 3], ['b', 'read', null, 1, 4, 5])],
  ['a lost update', registerModel(0), history(['a', 'cas', [0, 1], true, 1, 4], ['b', 'cas', [0, 2], true, 2, 3]), history(['a', 'cas', [0, 1], false, 1, 4], ['b', 'cas', [0, 2], true, 2, 3])],
  ['an unknown write that happens before it was asked for', registerModel(), history(['b', 'read', null, 7, 1, 2], ['a', 'write', 7, null, 3]), history(['a', 'write', 7, null, 1], ['b', 'read', null, 7, 2, 3])],
  ['an unknown write that happens twice', registerModel(), history(['a', 'write', 1, null, 1], ['b', 'read', null, 1, 2, 3], ['b', 'write', 2, null, 4, 5], ['b', 'read', null, 1, 6, 7]), history(['a', 'write', 1, null, 1], ['b', 'read', null, null, 2, 3], ['b', 'write', 2, null, 4, 5], ['b', 'read', null, 1, 6, 7])],
  ['a fence given out twice', leaseModel() as unknown as Model<Json>, history(['a', 'acquire', null, 1, 1, 2], ['b', 'acquire', null, 1, 3, 4]), history(['a', 'acquire', null, 1, 1, 2], ['b', 'acquire', null, 2, 3, 4])],
  ['two holders where nothing expires', leaseModel({ expires: false }) as unknown as Model<Json>, history(['a', 'acquire', null, 1, 1, 2], ['b', 'acquire', null, 2, 3, 4], ['a', 'release', 1, null, 5, 6]), history(['a', 'acquire', null, 1, 1, 2], ['b', 'acquire', null, 2, 3, 6], ['a', 'release', 1, null, 4, 5])],
  ['a zombie\'s write that was accepted', leaseModel() as unknown as Model<Json>, history(['a', 'acquire', null, 1, 1, 2], ['b', 'acquire', null, 2, 3, 4], ['a', 'write', 1, true, 5, 6]), history(['a', 'acquire', null, 1, 1, 2], ['b', 'acquire', null, 2, 3, 4], ['a', 'write', 1, false, 5, 6])],
  ['a write after the release', leaseModel() as unknown as Model<Json>, history(['a', 'acquire', null, 1, 1, 2], ['a', 'release', 1, null, 3, 4], ['a', 'write', 1, true, 5, 6]), history(['a', 'acquire', null, 1, 1, 2], ['a', 'release', 1, null, 3, 6], ['a', 'write', 1, true, 4, 5])],
]

describe('planted histories', () => {
  it.each(PLANTED)('%s is found, and its neighbour is not', (_name, model, bad, good) => {
    expect(kinds(checkLinearizable(bad, model))).toEqual(['not linearizable'])
    expect(checkLinearizable(good, model)).toEqual([])
  })

  it('are ten', () => { expect(PLANTED).toHaveLength(10) })

  it('a lease that is said to be held although it is free', () => {
    const free = history(['a', 'acquire', null, 1, 1, 2], ['a', 'release', 1, null, 3, 4], ['b', 'acquire', null, null, 5, 6])
    expect(kinds(checkLinearizable(free, leaseModel({ expires: false })))).toEqual(['not linearizable'])
  })

  it('say which answers could not be explained, by key', () => {
    const [anomaly] = checkLinearizable(history(['a', 'write', 1, null, 1, 2], ['b', 'read', null, 2, 3, 4]), registerModel())
    expect(anomaly).toEqual({ kind: 'not linearizable', key: 'k', message: 'register: no order explains b read() = 2 [1]' })
  })
})

interface Drawn {
  readonly process: number
  readonly action: 'write' | 'read' | 'cas'
  readonly values: readonly [number, number]
  readonly end: OperationEnd
  /** Before and after the moment it takes effect. */
  readonly reach: readonly [number, number]
}

const drawn: fc.Arbitrary<Drawn> = fc.record({
  process: fc.integer({ min: 0, max: 4 }), action: fc.constantFrom('write', 'read', 'cas'), values: fc.tuple(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 0, max: 2 })),
  end: fc.constantFrom<OperationEnd>('ok', 'ok', 'ok', 'ok', 'fail', 'info'), reach: fc.tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 0, max: 40 })),
})

/** What a register that does one thing at a time would have answered: linearizable by how it was made. */
function truth(operations: readonly Drawn[]): readonly Operation[] {
  let value: Json = 0
  return operations.map(({ process, action, values, end, reach }, index) => {
    const at = index * 10
    let output: Json = null
    let input: Json = null
    const before = value
    if (action === 'write') input = value = values[0]
    else if (action === 'read') output = value
    else {
      input = [...values]
      output = value === values[0]
      if (output) value = values[1]
    }
    if (end === 'fail') value = before
    return { id: String(index), process: String(process), key: 'k', action, input, output, end, invokedAt: at - reach[0] - index / 1_000, endedAt: end === 'info' ? Infinity : at + reach[1] + index / 1_000 }
  })
}

/** All orders, tried one by one. */
function explained(operations: readonly Operation[], model: Model<Json>, state: Json): boolean {
  const must = operations.filter(operation => operation.end === 'ok')
  if (must.length === 0) return true
  const bound = Math.min(...must.map(operation => operation.endedAt))
  return operations.some((operation, index) => {
    if (operation.invokedAt > bound) return false
    const after = model.step(state, operation, operation.end === 'ok')
    return after !== undefined && explained(operations.toSpliced(index, 1), model, after)
  })
}

describe('the search', () => {
  it('accepts every history of a register that did one thing at a time', () => {
    fc.assert(fc.property(fc.array(drawn, { maxLength: 40 }), operations => {
      expect(checkLinearizable(truth(operations), registerModel(0))).toEqual([])
    }), { seed: 4, numRuns: 2_000 })
  })

  it('agrees with trying all orders, on answers right and wrong', () => {
    let bad = 0
    fc.assert(fc.property(fc.array(drawn, { minLength: 2, maxLength: 7 }), fc.array(fc.tuple(fc.nat(6), fc.integer({ min: 0, max: 2 })), { maxLength: 2 }), (operations, changes) => {
      const told = truth(operations).map(operation => ({ ...operation }))
      for (const [index, value] of changes) {
        const operation = told[index]
        if (operation?.action === 'read') operation.output = value
        if (operation?.action === 'cas') operation.output = !(operation.output === true)
      }
      const right = explained(told.filter(operation => operation.end !== 'fail'), registerModel(0), 0)
      if (!right) bad++
      expect(checkLinearizable(told, registerModel(0)).length === 0).toBe(right)
    }), { seed: 4, numRuns: 3_000 })
    expect(bad).toBeGreaterThan(300)
  })

  it('judges 1,000 keys with 100 operations each within seconds, and finds the one that is wrong', () => {
    const random = seededRandom(4)
    const told: Operation[] = []
    for (let key = 0; key < 1_000; key++) {
      let fence = 0
      for (let n = 0; n < 100; n++) {
        const at = n * 10
        const acquire = n % 4 === 0
        if (acquire) fence++
        told.push({
          id: `${String(key)}-${String(n)}`, process: String(n % 5), key: String(key), action: acquire ? 'acquire' : 'write', input: acquire ? null : fence, output: acquire ? fence : true,
          end: n % 10 === 9 ? 'info' : 'ok', invokedAt: at - Math.floor(random() * 30), endedAt: n % 10 === 9 ? Infinity : at + Math.floor(random() * 30),
        })
      }
    }
    const startedMs = performance.now()
    expect(checkLinearizable(told, leaseModel())).toEqual([])
    expect(performance.now() - startedMs).toBeLessThan(10_000)
    const wrong = told.map(operation => (operation.key === '500' && operation.id === '500-80' ? { ...operation, output: 3 } : operation))
    expect(checkLinearizable(wrong, leaseModel())).toMatchObject([{ kind: 'not linearizable', key: '500' }])
  })

  it('says so when it gives up', () => {
    const told = history(['a', 'write', 1, null, 1, 2], ['b', 'read', null, 1, 3, 4])
    expect(kinds(checkLinearizable(told, registerModel(), { stepsMax: 1 }))).toEqual(['undecided'])
  })
})

describe('a set that only grows', () => {
  const adds = history(['a', 'add', 1, null, 1, 2], ['b', 'add', 2, null, 3], ['c', 'add', 3, null, 4, 5])
  const read = (elements: readonly Json[], from = 10): readonly Operation[] => [...adds, ...history(['d', 'read', null, [...elements], from, from + 1]).map(operation => ({ ...operation, id: 'read' }))]

  it('may or may not hold what is unknown', () => {
    expect([checkSet(read([1, 3])), checkSet(read([1, 2, 3])), checkSet(read([1], 3))]).toEqual([[], [], []])
  })

  it('has lost what was confirmed, has what nobody added, or has it twice', () => {
    expect(kinds(checkSet(read([1])))).toEqual(['lost'])
    expect(kinds(checkSet(read([1, 3, 4])))).toEqual(['from nowhere'])
    expect(kinds(checkSet(read([1, 3, 3])))).toEqual(['doubled'])
    expect(kinds(checkSet(read([1, 2, 3], 1.5)))).toEqual(['from nowhere', 'from nowhere'])
    expect(kinds(checkSet(read([1, 3]).map(operation => (operation.input === 3 ? { ...operation, end: 'fail' } : operation))))).toEqual(['from nowhere'])
  })
})

describe('effects, fences and lanes', () => {
  it('each effect once, each confirmed one, none unasked', () => {
    expect(checkEffects({ key: 'charge', effects: ['a', 'b'], confirmed: ['a'], requested: ['a', 'b', 'c'] })).toEqual([])
    expect(kinds(checkEffects({ key: 'charge', effects: ['a', 'a', 'x'], confirmed: ['a', 'b'] }))).toEqual(['doubled', 'from nowhere', 'lost'])
  })

  it('fences rise with each grant, and no write comes under one that was overtaken', () => {
    const of = (...fences: readonly number[]) => fences.map(fence => ({ key: 'k', fence }))
    expect([checkFences(of(1, 2, 5)), checkFences(of(1, 1, 2, 2), 'writes'), checkFences([...of(2), { key: 'other', fence: 1 }])]).toEqual([[], [], []])
    expect([kinds(checkFences(of(1, 1))), kinds(checkFences(of(2, 1, 3))), kinds(checkFences(of(1, 2, 1), 'writes'))]).toEqual([['fence not rising'], ['fence not rising'], ['fence not rising']])
  })

  it('a lane is handled in its order, the last perhaps again', () => {
    const of = (...positions: readonly number[]) => positions.map(position => ({ key: 'lane', position }))
    expect([checkLaneOrder(of(1, 2, 4)), checkLaneOrder(of(1, 2, 2, 3), { repeats: true })]).toEqual([[], []])
    expect([kinds(checkLaneOrder(of(1, 2, 2))), kinds(checkLaneOrder(of(1, 3, 2))), kinds(checkLaneOrder(of(1, 2, 1), { repeats: true }))]).toEqual([['out of order'], ['out of order'], ['out of order']])
  })
})
