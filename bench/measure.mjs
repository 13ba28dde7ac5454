/**
 * How figures come about: time a call, bytes a call, and what idle things keep and cost.
 *
 * Each function measures one subject in one case, in a process of its own, and answers with the median of many chunks
 * (`value`), the best chunk and the 99th percentile. Each chunk is checked: a call that did not end as the case says it
 * ends is an error, never a figure.
 * Not here: which cases there are (./NAME/index.mjs), runs and their medians (./run.mjs).
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { PerformanceObserver } from 'node:perf_hooks'

/**
 * How long is measured. A chunk must be long beside the clock's resolution and short beside the machine's disturbances.
 * @typedef {{ warmupMs: number, warmupCalls: number, chunks: number, chunkMs: number, windows: number, rounds: number, idleMs: number }} Pace
 */
export const PACES = Object.freeze({
  full: Object.freeze({ warmupMs: 400, warmupCalls: 20_000, chunks: 100, chunkMs: 5, windows: 21, rounds: 30, idleMs: 2_000 }),
  quick: Object.freeze({ warmupMs: 60, warmupCalls: 1_000, chunks: 12, chunkMs: 3, windows: 5, rounds: 8, idleMs: 1_000 }),
})

/**
 * What a case demands of its calls.
 * @typedef {{ ending: 'value' | 'error', expects: (result: unknown) => boolean, inAsyncLocalStorage?: boolean }} Conditions
 * @typedef {{ value: number, best: number, p99: number, samples: number }} Figure
 */

const NEW_SPACE_MB = 64
/** Times the least warm-up. */
const WARMUP_AT_MOST = 10
/** A window fills at most this share of the new space, so that no collection falls into it. */
const WINDOW_BYTES = (NEW_SPACE_MB * 1024 * 1024) / 3
/** Things that are made at once where a single one is too small to be seen. */
const THINGS = 1_000
const BATCHES_BEFORE = 3

/** Time per call, one after the other. */
export const timePerCall = Object.freeze({
  unit: 'ns/op',
  flags: Object.freeze([]),
  /** @param {() => (() => Promise<unknown>) | Promise<() => Promise<unknown>>} prepare @param {Conditions} conditions @param {Pace} pace */
  async measure(prepare, conditions, pace) {
    const call = await prepare()
    return within(conditions, async () => {
      const calls = callsFor(await warmedUp(call, conditions, pace), pace.chunkMs)
      const chunks = []
      for (let chunk = 0; chunk < pace.chunks; chunk += 1) {
        chunks.push((await timed(call, calls, conditions)) / calls)
        await breathe()
      }
      return figure(chunks)
    })
  },
})

/** Bytes allocated per call; windows into which a collection fell are left out. */
export const bytesPerCall = Object.freeze({
  unit: 'bytes/op',
  // A new space that is big from the beginning: else V8 would collect, and grow it, in the middle of a window.
  flags: Object.freeze(['--expose-gc', `--min-semi-space-size=${NEW_SPACE_MB}`, `--max-semi-space-size=${NEW_SPACE_MB}`]),
  async measure(prepare, conditions, pace) {
    const call = await prepare()
    const collections = watchCollections()
    return within(conditions, async () => {
      // Warm first: optimised code allocates less, and that is the state that lasts.
      await warmedUp(call, conditions, pace)
      let calls = 200
      const windows = []
      for (let tries = 0; windows.length < pace.windows; tries += 1) {
        if (tries > pace.windows * 4) throw new Error(`only ${windows.length} of ${tries} windows were free of collections`)
        globalThis.gc({ type: 'minor' })
        await breathe()
        const begun = performance.now()
        const before = process.memoryUsage().heapUsed
        await timed(call, calls, conditions)
        const bytes = process.memoryUsage().heapUsed - before
        const ended = performance.now()
        await breathe()
        const perCall = bytes / calls
        if (bytes <= 0 || collections.within(begun, ended)) {
          // A collection of the whole heap may be under way in steps, and would reach into every window until it ends.
          globalThis.gc()
          calls = Math.max(50, calls >> 1)
          continue
        }
        // The first window only says how many calls fill one.
        if (windows.length === 0 && tries === 0) calls = Math.max(50, Math.min(50_000, Math.floor(WINDOW_BYTES / perCall)))
        else windows.push(perCall)
      }
      return figure(windows)
    })
  },
})

/**
 * Time per call in a state that the calls themselves change: each chunk begins with a state prepared anew.
 * The subject gives `{ call, close? }`.
 */
export const timePerCallPrepared = Object.freeze({
  unit: 'ns/op',
  flags: Object.freeze([]),
  async measure(prepare, conditions, pace) {
    let calls = 20
    const chunks = []
    const warmRounds = Math.ceil(pace.rounds / 4)
    for (let round = 0; round < warmRounds + pace.rounds; round += 1) {
      const { call, close } = await prepare()
      const ns = await timed(call, calls, conditions)
      close?.()
      if (round >= warmRounds) chunks.push(ns / calls)
      // Few enough that they change little in the state that is measured.
      else calls = Math.min(500, callsFor(ns / calls, 2))
      await breathe()
    }
    return figure(chunks)
  },
})

/** Bytes that each of THINGS idle things keeps. The subject gives `make(index)` and, where something is left running, `close(thing)`. */
export const bytesKept = Object.freeze({
  unit: 'bytes/op',
  flags: Object.freeze(['--expose-gc']),
  async measure(prepare, _conditions, pace) {
    const { make, close } = await prepare()
    const batches = []
    const counted = Math.min(10, pace.windows)
    // The first batches also load and compile, so they do not count.
    const kept = Array.from({ length: BATCHES_BEFORE + counted }, () => new Array(THINGS).fill(undefined))
    for (const [batch, things] of kept.entries()) {
      const before = await settledHeap()
      for (let index = 0; index < THINGS; index += 1) things[index] = await make(batch * THINGS + index)
      const bytes = (await settledHeap()) - before
      if (batch >= BATCHES_BEFORE) batches.push(bytes / THINGS)
    }
    if (close !== undefined) for (const thing of kept.flat()) close(thing)
    return figure(batches)
  },
})

/** Processor time in a second, in ns, that each of THINGS idle things costs: the whole process, with nothing else in it. */
export const idleTime = Object.freeze({
  unit: 'ns/op',
  flags: Object.freeze(['--expose-gc']),
  async measure(prepare, _conditions, pace) {
    const { make, close } = await prepare()
    const things = []
    for (let index = 0; index < THINGS; index += 1) things.push(await make(index))
    await settledHeap()
    // Half a second on, so that timers of a second are counted whole.
    await sleep(500)
    const before = process.cpuUsage()
    const begun = nowNs()
    await sleep(pace.idleMs)
    const { user, system } = process.cpuUsage(before)
    const seconds = (nowNs() - begun) / 1e9
    if (close !== undefined) for (const thing of things) close(thing)
    return figure([((user + system) * 1e3) / seconds / THINGS])
  },
})

/** Nanoseconds for `calls` calls, one after the other. */
async function timed(call, calls, { ending, expects }) {
  let last
  let ended = 0
  const begun = process.hrtime.bigint()
  if (ending === 'value') {
    for (ended = 0; ended < calls; ended += 1) last = await call()
  } else {
    for (let made = 0; made < calls; made += 1) {
      try {
        await call()
      } catch (error) {
        last = error
        ended += 1
      }
    }
  }
  const ns = Number(process.hrtime.bigint() - begun)
  if (ended !== calls || !expects(last)) {
    throw new Error(`a call did not end as the case says: ${ended} of ${calls} ended with ${ending === 'value' ? 'a value' : 'an error'}, the last: ${String(last)}`, { cause: last })
  }
  return ns
}

/** Calls until the code is optimised; answers with how many nanoseconds one takes then. */
async function warmedUp(call, conditions, pace) {
  const begun = nowNs()
  let made = 0
  let nsPerCall = Number.POSITIVE_INFINITY
  // Slow subjects need many calls before they are warm, fast ones some time for the compiler; none gets for ever.
  while ((nowNs() - begun < pace.warmupMs * 1e6 || made < pace.warmupCalls) && nowNs() - begun < pace.warmupMs * WARMUP_AT_MOST * 1e6) {
    nsPerCall = (await timed(call, 100, conditions)) / 100
    made += 100
    if (made % 1_000 === 0) await breathe()
  }
  return nsPerCall
}

/** With the condition of the case around it. */
function within({ inAsyncLocalStorage }, work) {
  return inAsyncLocalStorage === true ? new AsyncLocalStorage().run({ request: 'r-1' }, work) : work()
}

function callsFor(nsPerCall, ms) {
  return Math.max(10, Math.round((ms * 1e6) / Math.max(nsPerCall, 1)))
}

/** Timers, collections and finalizers get their turn between chunks, as in a service. */
function breathe() {
  return new Promise(resolve => { setImmediate(() => setImmediate(resolve)) })
}

function sleep(ms) {
  return new Promise(resolve => { setTimeout(resolve, ms) })
}

async function settledHeap() {
  for (let round = 0; round < 3; round += 1) {
    globalThis.gc()
    await breathe()
  }
  return process.memoryUsage().heapUsed
}

/** Remembers when V8 collected. Observers are told after the fact, so ask after `breathe()`. */
function watchCollections() {
  const seen = []
  const observer = new PerformanceObserver(list => {
    for (const { startTime } of list.getEntries()) seen.push(startTime)
  })
  observer.observe({ entryTypes: ['gc'] })
  return {
    within(begun, ended) {
      for (const { startTime } of observer.takeRecords()) seen.push(startTime)
      return seen.some(at => at >= begun && at <= ended)
    },
  }
}

function nowNs() {
  return Number(process.hrtime.bigint())
}

/** @param {number[]} samples @returns {Figure} */
function figure(samples) {
  const sorted = samples.toSorted((a, b) => a - b)
  const at = share => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
  return { value: median(sorted), best: sorted[0], p99: at(0.99), samples: sorted.length }
}

/** @param {readonly number[]} numbers */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
