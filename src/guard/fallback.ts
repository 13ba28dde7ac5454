/**
 * Fallback: what a caller gets in place of an answer while a dependency is in trouble: a value, the result of a function,
 * or the last good answer.
 *
 * It stands in for a dependency that is away, never for a mistake: not for defects, not for answers that stand (a 404), and
 * never for a caller that has gone. Each use is announced (`call.fell-back`). It has a short bound of its own, and when it
 * fails or hangs, the caller gets the original failure, unchanged, and `call.fallback-failed` tells the rest.
 * Not here: where in the pipeline it stands (outermost, outside the deadline), keeping answers across restarts.
 */
import { type AbortWatcher, type Duration, durationMs, type ErrorCode, HoldfastError, humanDuration, isHoldfastError, messageOf, type RefusalReason, unwatchAbort, watchAbort } from '../core/index.ts'
import { RunningAttempt, type AttemptHost } from './attempt.ts'
import { isTransient, judge } from './classify.ts'
import { around, type Explanation } from './explain.ts'
import { refused } from './numbers.ts'
import { defaultKit, policyRun, type GuardKit, type Policy, type RunOptions, type Scope, type Work } from './policy.ts'
import type { StaleCache } from './stale-cache.ts'
import { timerQueue } from './timer-queue.ts'

/** What a fallback function is told. */
export interface FallbackReason {
  /** What the caller would get without a fallback. */
  readonly error: unknown
  /** The same as one word. */
  readonly reason: RefusalReason
}

interface FallbackBase {
  /** In place of the default rules of what falls back (see `fallbackApplies`). One that throws is ignored. A caller that gave up gets no fallback either way. */
  readonly when?: (error: unknown) => boolean
}
export interface FallbackValue<F> extends FallbackBase {
  readonly value: F
}
export interface FallbackFunction<F> extends FallbackBase {
  readonly run: (reason: FallbackReason, attempt: { readonly signal: AbortSignal }) => F | Promise<F>
  /** How long `run` may take, 1 ms or more, beyond the call's deadline where that is what failed. Its `signal` aborts then. Default `'1s'`. */
  readonly within?: Duration
}
export interface FallbackStale<F> extends FallbackBase {
  readonly stale: {
    /** How old the last good answer may be. */
    readonly for: Duration
    /** Where good answers are kept; made once with `staleCache()`. */
    readonly cache: StaleCache<F>
    /** Whose or what's answer it is: a user's id, a query. Never leave out what the answer depends on, or one gets the other's. */
    readonly key: string
  }
}

/** A value, a function, or the last good answer (which is missing until there was one: then the original failure stands). */
export type FallbackOptions<F> = FallbackValue<F> | FallbackFunction<F> | FallbackStale<F>

/** One second: a fallback comes on top of everything its caller has waited already. */
export const FALLBACK_DEFAULTS: Readonly<{ readonly within: Duration }> = Object.freeze({ within: '1s' })

/** For whom a fallback is looked for. */
export interface FallbackPlace {
  readonly dependency: string
  readonly operation: string
  /** The caller's: when it aborts, the fallback ends too. */
  readonly signal?: AbortSignal | undefined
}

/** Where the failure is the dependency's, or our own guard's because of it: the call may succeed later, and did nothing wrong. */
const FALLS_BACK: Readonly<Partial<Record<ErrorCode, RefusalReason>>> = {
  HF_BREAKER_OPEN: 'breaker-open', HF_OVERLOADED: 'overloaded', HF_RATE_LIMITED: 'rate-limited', HF_DEADLINE: 'deadline', HF_TIMEOUT: 'failed', HF_CALL_FAILED: 'failed',
}

/**
 * Whether a failure falls back: refusals of our guard (breaker open, overloaded, outbound rate limit), timeout, deadline and
 * transient failures do. Defects, answers that stand, kill switches and refusals of the caller do not, unless `when` says so.
 * A cancellation never does: nobody is there to get it.
 */
export function fallbackApplies(error: unknown, when?: (error: unknown) => boolean): boolean {
  if (isHoldfastError(error) ? error.code === 'HF_CANCELLED' : judge(error) === 'neither') return false
  if (when !== undefined) {
    try {
      return when(error)
    } catch {
      // A broken predicate must not replace the error that it was asked about; the default rules decide.
    }
  }
  if (!isHoldfastError(error)) return isTransient(error)
  // `user_error`: the caller itself asked too often. It is told so.
  return FALLS_BACK[error.code] === undefined ? isTransient(error) : error.failure !== 'user_error'
}

/**
 * What the caller gets in place of `error`: the fallback's value, or `error` itself, thrown unchanged, when nothing applies or
 * the fallback fails. Emits `call.fell-back` or `call.fallback-failed`.
 * @throws `error`; HF_CANCELLED when the caller gives up meanwhile; HF_OPTION_INVALID for durations that no compiler checked
 */
export async function applyFallback<F>(options: FallbackOptions<F>, error: unknown, place: FallbackPlace, kit: GuardKit): Promise<F> {
  if (place.signal?.aborted === true || !fallbackApplies(error, options.when)) throw error
  const { dependency, operation } = place
  const reason = reasonOf(error)
  const fellBack = (source: 'value' | 'function' | 'stale', ageMs?: number): void => {
    kit.events.emit('call.fell-back', { dependency, operation, reason, source, message: messageOf(error), ...(ageMs === undefined ? {} : { ageMs }) })
  }
  if ('value' in options) {
    fellBack('value')
    return options.value
  }
  if ('stale' in options) {
    const { cache, key } = options.stale
    const kept = cache.get(dependency, operation, key, kit.env.monotonic())
    const forMs = durationMs(options.stale.for, `${dependency} ${operation}: fallback: stale: for`)
    if (kept !== undefined && kept.ageMs <= forMs) {
      fellBack('stale', Math.round(kept.ageMs))
      return kept.value
    }
    const message = kept === undefined ? 'no good answer is kept' : `the last good answer is ${humanDuration(kept.ageMs)} old, older than ${humanDuration(forMs)}`
    kit.events.emit('call.fallback-failed', { dependency, operation, reason, source: 'stale', message })
    throw error
  }
  const ended = await runWithin(options, { error, reason }, place, kit)
  if (ended.ending === 'value') {
    fellBack('function')
    return ended.value as F
  }
  if (ended.ending === 'cancelled') throw new HoldfastError('HF_CANCELLED', { message: 'the caller gave up', cause: error, context: { dependency, operation, policy: 'fallback' }, stackless: true })
  const failed = ended.ending === 'threw'
  kit.events.emit('call.fallback-failed', {
    dependency, operation, reason, source: 'function',
    message: failed ? messageOf(ended.error) : `no result within ${options.within ?? FALLBACK_DEFAULTS.within}`, ...(failed ? { error: ended.error } : {}),
  })
  throw error
}

/** Keeps a good answer for a fallback of kind `stale`; does nothing for others. Call it with each value that a call returns. */
export function keepGood(options: FallbackOptions<unknown>, value: unknown, dependency: string, operation: string, now: number): void {
  if ('stale' in options) options.stale.cache.set(dependency, operation, options.stale.key, value, now)
}

/** Refuses options that types cannot. @throws HF_OPTION_INVALID */
export function checkFallback(options: FallbackOptions<unknown>, where: string): void {
  const kinds = ['value', 'run', 'stale'].filter(kind => kind in options)
  if (kinds.length !== 1) throw refused(where, 'one of value, run and stale', kinds.length === 0 ? 'none' : kinds.join(' and '))
  if ('run' in options && options.within !== undefined) durationMs(options.within, `${where}: within`)
  if (!('stale' in options)) return
  durationMs(options.stale.for, `${where}: stale: for`)
  if (typeof options.stale.key !== 'string') throw refused(`${where}: stale: key`, 'a string that says whose answer it is', options.stale.key)
}

/** Runs the fallback for as long as it may take. Never rejects. */
async function runWithin<F>(options: FallbackFunction<F>, reason: FallbackReason, place: FallbackPlace, kit: GuardKit): Promise<RunningAttempt<F>> {
  const { env } = kit
  const within = options.within ?? FALLBACK_DEFAULTS.within
  // Work of a fallback that runs on holds nothing of the dependency.
  const host: AttemptHost = { timers: timerQueue(env), operation: place.operation, get key() { return env.uuid() }, left: () => undefined, over: () => undefined }
  const attempt = new RunningAttempt<F>(host, 1, 'timeout')
  const pending = attempt.start(() => options.run(reason, attempt), durationMs(within, `${place.dependency} ${place.operation}: fallback: within`), env.monotonic())
  if (pending === undefined) return attempt
  const { signal } = place
  if (signal === undefined) await pending
  else await watched(signal, attempt, pending)
  return attempt
}

async function watched(signal: AbortSignal, watcher: AbortWatcher, pending: Promise<void>): Promise<void> {
  // The function may have aborted its own caller before it yielded: an abort event that is past is not heard again.
  if (signal.aborted) watcher.aborted()
  else watchAbort(signal, watcher)
  await pending
  unwatchAbort(signal, watcher)
}

function reasonOf(error: unknown): RefusalReason {
  return (isHoldfastError(error) ? FALLS_BACK[error.code] : undefined) ?? 'failed'
}

/** A policy whose run may answer with something else than its work does. */
export class Fallback<F> implements Policy<F> {
  readonly kind = 'fallback'
  readonly name: string
  readonly #options: FallbackOptions<F>
  readonly #kit: GuardKit

  constructor(name: string, options: FallbackOptions<F>, kit: GuardKit) {
    checkFallback(options, `fallback ${name}`)
    this.name = name
    this.#options = options
    this.#kit = kit
  }

  /** The value of `work`, or the fallback's. What does not fall back passes unchanged. */
  run<T>(work: Work<T>, options?: RunOptions): Promise<T | F> {
    return policyRun(this, this.#kit.env, work, options)
  }

  async within<T>(scope: Scope, work: Work<T>): Promise<T | F> {
    const operation = scope.operation ?? ''
    try {
      const value = await work(scope)
      keepGood(this.#options, value, this.name, operation, this.#kit.env.monotonic())
      return value
    } catch (error) {
      return await applyFallback(this.#options, error, { dependency: this.name, operation, signal: scope.signal }, this.#kit)
    }
  }

  explain(inside: Explanation): Explanation {
    return stoodInFor(inside, this.#options)
  }
}

/** What it makes of the worst case. */
function stoodInFor(inside: Explanation, options: FallbackOptions<unknown>): Explanation {
  if ('value' in options) return around(inside, 'fallback to a value', {})
  if ('stale' in options) return around(inside, `fallback to the last good answer of ${options.stale.for}`, {})
  const withinMs = durationMs(options.within ?? FALLBACK_DEFAULTS.within, 'fallback: within')
  return around(inside, `fallback to a function within ${humanDuration(withinMs)}`, { worstCaseMs: inside.worstCaseMs === undefined ? undefined : inside.worstCaseMs + withinMs })
}

/**
 * A fallback on its own: `await fallback('prices', { value: [] }).run(() => fetchPrices())`.
 * `name` stands as `dependency` in its events. Put it outermost: inside a retry or a breaker it would hide failures from them.
 * @throws HF_OPTION_INVALID
 */
export function fallback<F>(name: string, options: FallbackOptions<F>, kit: GuardKit = defaultKit()): Fallback<F> {
  return new Fallback(name, options, kit)
}
