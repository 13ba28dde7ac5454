/**
 * Every durable operation is a named point that some flow passes and is killed at, before and after; and a schedule is
 * replayed from its line to the same run.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { isHoldfastError } from '../../src/core/index.ts'
import { explore, parseSchedule, printSchedule, type Schedule } from '../../src/testing/index.ts'
import { FLOWS } from './flows/index.ts'
import { memoryTier, play } from './play.ts'
import { onceOutside } from './flows/once.ts'
import { sagaFlow } from './flows/saga.ts'

Error.stackTraceLimit = 0

const src = resolve(import.meta.dirname, '../../src')
/** Rooms whose transactions are durable operations. */
const ROOMS = ['durable', 'worker']
/** Transactions that change nothing and that no outcome depends on: what operators read. */
const ONLY_READ = ['recovery.backlog', 'saga.history', 'worker.schedule.now']
function named(): ReadonlySet<string> {
  const names = new Set<string>()
  for (const room of ROOMS) {
    for (const file of readdirSync(join(src, room), { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts') || /(?:\.test|testing)\.ts$/.test(file)) continue
      const text = readFileSync(join(src, room, file), 'utf8')
      for (const match of text.matchAll(/(?:transaction|#?record|#?persist|#?change|run|within)(?:<[^>(]*>)?\('([a-z-]+\.[a-z.-]+)'/g)) names.add(match[1] ?? '')
    }
  }
  return names
}

describe('every named transaction', () => {
  const passed = new Map<string, (typeof FLOWS)[number]>()
  beforeAll(async () => {
    for (const flow of FLOWS) {
      // Schedules differ in what recovery they need: a few faults pass what a good run does not.
      const schedules: readonly Schedule[] = [{ seed: 1, faults: [] }, ...[2, 3, 4, 5, 6, 7].map(seed => ({ seed, faults: [{ at: seed * 3, kind: 'die' as const }, { at: seed * 7 + 5, kind: 'pause' as const }] }))]
      for (const schedule of schedules) {
        for (const name of (await play(memoryTier, { flow }, schedule, { record: true })).passed) if (!passed.has(name)) passed.set(name, flow)
      }
    }
  }, 60_000)

  const names = [...named()].filter(name => !ONLY_READ.includes(name)).sort()

  it('is found in the source', () => {
    expect(names.length).toBeGreaterThan(40)
    expect(names).toEqual(expect.arrayContaining(['once.complete', 'saga.intent', 'saga.undone', 'saga.finish', 'lease.acquire', 'outbox.sending', 'inbox.done', 'worker.item.fail']))
  })

  it.each(names)('is passed by a flow and killed before and after: %s', async name => {
    for (const when of ['before', 'after']) {
      const point = `${when} ${name}`
      const flow = passed.get(point)
      if (flow === undefined) throw new Error(`no flow passes ${point}`)
      let killed = 0
      for (let seed = 1; seed <= 7 && killed === 0; seed++) {
        const played = await play(memoryTier, { flow }, { seed, faults: [...(seed === 1 ? [] : [{ at: seed * 3, kind: 'die' as const }, { at: seed * 7 + 5, kind: 'pause' as const }]), { at: `${point}#1`, kind: 'die' }] })
        expect(played.violations).toEqual([])
        killed = played.trace.filter(line => line.includes(` die ${point} `)).length
      }
      expect(killed, point).toBe(1)
    }
  })
})

describe('a schedule', () => {
  const scenario = { flow: sagaFlow({ last: 'verify', ends: 'done' }) }
  const schedule: Schedule = { seed: 42, faults: [{ at: 7, kind: 'pause', ms: 14_000 }, { at: 'after saga.write#1', kind: 'die' }], jumps: [{ atMs: 3_000, process: 'p2', ms: -90_000 }] }

  it('is replayed from its line to the same run, and another seed is another run', async () => {
    const [one, two] = [await play(memoryTier, scenario, schedule), await play(memoryTier, scenario, parseSchedule(printSchedule(schedule)))]
    expect(one.trace).toHaveLength(2)
    expect([two.hash, two.trace, two.points]).toEqual([one.hash, one.trace, one.points])
    expect((await play(memoryTier, scenario, { ...schedule, seed: 43 })).hash).not.toBe(one.hash)
  })

  it.each(['', '{}', '{"seed":1}', '{"seed":1,"faults":[{"at":1,"kind":"explode"}]}'])('that is none is refused: %s', line => {
    let code: unknown
    try {
      parseSchedule(line)
    } catch (error) {
      code = isHoldfastError(error) ? error.code : error
    }
    expect(code).toBe('HF_OPTION_INVALID')
  })

  it('that fails is made as small as it gets', async () => {
    const broken = { flow: onceOutside('verify'), outside: { refuses: [], failsAfterEffect: [], honoursKeys: false }, without: ['verify'] as const }
    const bloated: Schedule = { seed: 3, faults: [{ at: 2, kind: 'conflict' }, { at: 'after call pay#1', kind: 'die' }, { at: 31, kind: 'pause', ms: 16_000 }, { at: 40, kind: 'error' }], jumps: [{ atMs: 9_000, process: 'p1', ms: 5_000 }] }
    const first = await play(memoryTier, broken, bloated)
    expect(first.violations).not.toEqual([])
    const { violation } = await explore({ count: 1, run: (given, options) => play(memoryTier, broken, given.faults.length === 0 && given.jumps === undefined ? bloated : given, options) })
    expect(violation?.schedule.faults.length ?? 9).toBeLessThanOrEqual(1)
  })
})
