/**
 * How figures of things come about that wait for a disk or another process: operations a second, and what is measured once.
 *
 * A subject is asked by as many callers as the case says, each beginning its next operation when its last one has ended, so
 * that a slow subject is asked less and never piles up work. Every answer is checked. The subjects of a case take turns chunk
 * by chunk (`takesTurns`, ./run.mjs): what disturbs the machine for a second disturbs all of them.
 */
import { median } from './measure.mjs'

const PACES = Object.freeze({
  full: Object.freeze({ warmupMs: 1_000, warmupCalls: 5_000, warmupTurns: 12, chunks: 10, chunkMs: 300 }),
  quick: Object.freeze({ warmupMs: 200, warmupCalls: 0, warmupTurns: 1, chunks: 3, chunkMs: 100 }),
})

/** The subject gives `{ call(n), close? }`; the case says how many callers there are (`parallel`) and what an answer must be (`expects`). */
export const operationsPerSecond = Object.freeze({
  unit: 'ops/s',
  better: 'higher',
  takesTurns: true,
  flags: Object.freeze([]),
  async measure(prepare, { parallel, expects }, { quick, turn }) {
    const pace = quick ? PACES.quick : PACES.full
    const { call, close } = await prepare()
    let calls = 0
    const during = async ms => {
      const begun = performance.now()
      let ended = 0
      await Promise.all(Array.from({ length: parallel }, async () => {
        while (performance.now() - begun < ms) {
          const answer = await call(calls++)
          if (!expects(answer)) throw new Error(`an operation did not end as the case says: ${JSON.stringify(answer)}`)
          ended += 1
        }
      }))
      return (ended * 1_000) / (performance.now() - begun)
    }
    // Code becomes fast by being called and not by waiting: on a slow machine it is given more time, though not for ever.
    for (let turns = 0; turns < pace.warmupTurns && (turns === 0 || calls < pace.warmupCalls); turns += 1) await turn(() => during(pace.warmupMs))
    const rates = []
    for (let chunk = 0; chunk < pace.chunks; chunk += 1) rates.push(await turn(() => during(pace.chunkMs)))
    await close?.()
    const sorted = rates.toSorted((a, b) => a - b)
    return { value: median(sorted), best: sorted.at(-1), p99: sorted[0], samples: sorted.length }
  },
})

/** Items a second of a queue that was filled beforehand. The subject gives `{ drain(), close? }`; `drain` resolves with how many were worked on. */
export const drainedPerSecond = Object.freeze({
  unit: 'items/s',
  better: 'higher',
  flags: Object.freeze([]),
  async measure(prepare, { items }, { quick }) {
    const count = quick ? Math.ceil(items / 20) : items
    const { drain, close } = await prepare(count)
    const begun = performance.now()
    const worked = await drain()
    const rate = (worked * 1_000) / (performance.now() - begun)
    if (worked !== count) throw new Error(`${worked} of ${count} items were worked on`)
    await close?.()
    return once(rate)
  },
})

/** A figure that a process gives once. The subject answers with the number and, where something is left, `close`. */
export const measuredOnce = unit => Object.freeze({
  unit,
  flags: Object.freeze(['--expose-gc']),
  async measure(prepare) {
    const { figure, close } = await prepare()
    await close?.()
    return once(figure)
  },
})

function once(value) {
  return { value, best: value, p99: value, samples: 1 }
}
