/**
 * An outside effect, once: claim, call with a derived key, completion under the claim's fence.
 *
 * Between claim and completion the process may die, stall or lose the store. Whoever comes next finds a dead lease,
 * calls the outcome `unknown` and settles it by policy; the late holder's completion is refused by its fence.
 */
import { currentContext, decodeJson, durationMs, encodeJson, HoldfastError, isHoldfastError, messageOf, type Json } from '../../core/index.ts'
import { rerunUnknownCommit } from '../../store/index.ts'
import { callContext } from '../call-context.ts'
import { Crew } from '../crew.ts'
import { failureVerdict } from '../failure.ts'
import { sha256 } from '../fingerprint.ts'
import { KeepAlive } from '../keep-alive.ts'
import type { DurableKit } from '../kit.ts'
import { oncePort, outcomeOf, refuseOtherInput } from './outcome.ts'
import { ONCE_DEFAULTS, type OnceOutcome, type OutsideOnce, type Prepared, type Verified } from './types.ts'

/** A sweep leaves what has just failed alone for so long. */
const SETTLE_AFTER_MS = 30_000
const COMPLETE_ATTEMPTS = 3
const COMPLETE_PAUSE_MS = 200
const LEASE_MIN_MS = 1_000
/** Keys that sweeps settle at a time. */
const SETTLE_CONCURRENCY = 16

type Claimed<R> =
  | { readonly mine: true; readonly fence: number; /** An earlier holder may have done it. */ readonly maybe: boolean }
  | { readonly mine: false; readonly answer: OnceOutcome<R>; readonly expired: boolean }

export interface OutsideRunner<I, R> {
  call(prepared: Prepared<I>, signal: AbortSignal): Promise<OnceOutcome<R>>
  sweep(limit: number, enough: AbortSignal): Promise<number>
}

export function outsideOnce<In, I, R extends Json | void, Tx>(
  name: string, options: OutsideOnce<In, I, R, Tx>, keepForMs: number, prepare: (given: unknown) => Promise<Prepared<I>>, kit: DurableKit<Tx>,
): OutsideRunner<I, R> {
  const leaseMs = durationMs(options.lease ?? ONCE_DEFAULTS.lease, `once ${name}: lease`, { min: LEASE_MIN_MS })
  const crew = new Crew(SETTLE_CONCURRENCY)
  const policy = typeof options.onUnknown === 'object' ? 'verify' : options.onUnknown

  async function call(prepared: Prepared<I>, signal: AbortSignal): Promise<OnceOutcome<R>> {
    const { transaction } = currentContext()
    if (transaction !== undefined) {
      throw new HoldfastError('HF_CALL_IN_TX', { message: `once ${name}: an outside effect was asked for inside transaction ${transaction}`, context: { once: name, transaction } })
    }
    const owner = `${kit.instance}:${kit.env.uuid()}`
    const askedAtMs = kit.env.monotonic()
    const claimed = await claim(prepared, owner, signal)
    if (!claimed.mine) {
      if (claimed.expired) kit.events.emit('once.unknown', { once: name, key: prepared.key, policy })
      return claimed.answer
    }
    const { fence, maybe } = claimed
    const keepAlive = new KeepAlive({
      env: kit.env, what: `once ${name} ${prepared.key}`, ttlMs: leaseMs, askedAtMs,
      renew: beat => kit.database().transaction('once.renew', tx => port().renew(tx, name, prepared.key, fence, leaseMs), { signal: beat }),
      onLost: reason => { kit.events.emit('lease.lost', { lease: `once:${name}`, fence, reason }) },
    })
    try {
      // Stalled for longer than the lease while it asked: another may be at it, and a call that leaves now could not be seen by its look.
      if (!keepAlive.held) return { outcome: 'in-progress', retryAfterMs: COMPLETE_PAUSE_MS }
      return await work(prepared, fence, maybe, keepAlive, keepAlive.until(signal))
    } finally {
      keepAlive.stop()
    }
  }

  async function claim(prepared: Prepared<I>, owner: string, signal: AbortSignal): Promise<Claimed<R>> {
    const { key, fingerprint, text } = prepared
    let maybe = false
    return rerunUnknownCommit(() => kit.database().transaction('once.claim', async (tx): Promise<Claimed<R>> => {
      const fence = await port().claim(tx, { name, key, fingerprint, input: text, owner, leaseMs })
      if (fence !== undefined) return { mine: true, fence, maybe }
      const expired = await port().expire(tx, name, key)
      const record = await port().read(tx, name, key)
      if (record === undefined) return { mine: false, answer: { outcome: 'in-progress', retryAfterMs: COMPLETE_PAUSE_MS }, expired }
      if (record.state !== 'unknown' || policy === 'hold') return { mine: false, answer: outcomeOf<R>(name, prepared, record, kit), expired }
      refuseOtherInput(name, prepared, record)
      // Set before and not after: when the answer of this commit is lost, the claim above finds our own fence again.
      maybe = true
      const taken = await port().takeOver(tx, name, key, record.fence, owner, leaseMs)
      if (taken === undefined) return { mine: false, answer: { outcome: 'in-progress', retryAfterMs: COMPLETE_PAUSE_MS }, expired }
      return { mine: true, fence: taken, maybe }
    }, { signal }))
  }

  async function work(prepared: Prepared<I>, fence: number, maybe: boolean, keepAlive: KeepAlive, signal: AbortSignal): Promise<OnceOutcome<R>> {
    const context = callContext(sha256(`once:${name}:${prepared.key}`), signal, keepAlive)
    /** False while an earlier holder's attempt may still turn out to have happened. */
    let clean = !maybe
    let found: Verified<R> | undefined
    if (maybe && typeof options.onUnknown === 'object') {
      try {
        found = await options.onUnknown.verify(prepared.decoded, context)
      } catch (error) {
        // A look-up that was refused says nothing about what it looked for.
        return unsettled(prepared, fence, keepAlive, error)
      }
      if (!keepAlive.held) return { outcome: 'in-progress', retryAfterMs: COMPLETE_PAUSE_MS }
      if (!found.happened) clean = true
    }
    let value: R
    try {
      value = found?.happened === true ? found.value : await options.call(prepared.decoded, context)
    } catch (error) {
      return failed(prepared, fence, clean, keepAlive, error)
    }
    let text: string
    try {
      text = encodeJson(value, `once ${name}: result`)
    } catch (error) {
      await markUnknown(prepared, fence, error)
      throw error
    }
    if (!await complete(prepared, fence, text, keepAlive)) return { outcome: 'in-progress', retryAfterMs: COMPLETE_PAUSE_MS }
    if (maybe) kit.events.emit('once.settled', { once: name, key: prepared.key, as: 'done' })
    else kit.events.emit('once.done', { once: name, key: prepared.key })
    return { outcome: 'done', value: decodeJson<R>(text) }
  }

  async function failed(prepared: Prepared<I>, fence: number, clean: boolean, keepAlive: KeepAlive, error: unknown): Promise<OnceOutcome<R>> {
    if (keepAlive.signal.aborted) return { outcome: 'in-progress', retryAfterMs: COMPLETE_PAUSE_MS }
    const verdict = failureVerdict(error)
    // "Not this time" says nothing about an earlier attempt; "refused", under the same key, does.
    if (verdict === 'refused' || (verdict === 'not-applied' && clean)) {
      await kit.database().transaction('once.release', tx => port().release(tx, name, prepared.key, fence, messageOf(error), keepForMs))
      if (!clean) kit.events.emit('once.settled', { once: name, key: prepared.key, as: 'released' })
      throw error
    }
    return unsettled(prepared, fence, keepAlive, error)
  }

  async function unsettled(prepared: Prepared<I>, fence: number, keepAlive: KeepAlive, error: unknown): Promise<OnceOutcome<R>> {
    if (keepAlive.signal.aborted) return { outcome: 'in-progress', retryAfterMs: COMPLETE_PAUSE_MS }
    await markUnknown(prepared, fence, error)
    return { outcome: 'unknown' }
  }

  async function markUnknown(prepared: Prepared<I>, fence: number, error: unknown): Promise<void> {
    await kit.database().transaction('once.unknown', tx => port().markUnknown(tx, name, prepared.key, fence, messageOf(error), SETTLE_AFTER_MS))
    kit.events.emit('once.unknown', { once: name, key: prepared.key, policy })
  }

  /** False when the fence was refused. The effect has happened, so a store that is briefly away is asked again. */
  async function complete(prepared: Prepared<I>, fence: number, text: string, keepAlive: KeepAlive): Promise<boolean> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await kit.database().transaction('once.complete', async tx => {
          if (await port().complete(tx, name, prepared.key, fence, text, keepForMs)) {
            await options.complete?.(decodeJson<R>(text), { tx })
            return true
          }
          // Ours already, when the answer of the commit before was lost.
          const record = await port().read(tx, name, prepared.key)
          if (record?.state === 'done' && record.fence === fence) return true
          keepAlive.lose('its completion was refused')
          return false
        })
      } catch (error) {
        const again = isHoldfastError(error) && (error.code === 'HF_STORE_UNAVAILABLE' || error.code === 'HF_STORE_UNKNOWN_COMMIT')
        if (!again || attempt >= COMPLETE_ATTEMPTS) {
          await markUnknown(prepared, fence, error).catch(() => {
            // The store is away: the lease ends by itself, and whoever comes next calls it unknown.
          })
          throw error
        }
        await kit.env.sleep(COMPLETE_PAUSE_MS * attempt)
      }
    }
  }

  async function sweep(limit: number, enough: AbortSignal): Promise<number> {
    const keys = await kit.database().transaction('once.stuck', tx => port().stuck(tx, name, policy !== 'hold', limit))
    return crew.run(keys, settleOne, enough)
  }

  /** One key's failure is its own: its record says so, and the next key is looked at. */
  async function settleOne(key: string): Promise<void> {
    try {
      const record = await kit.database().transaction('once.read', tx => port().read(tx, name, key))
      if (record === undefined) return
      await call({ ...await prepare(decodeJson(record.input)), fingerprint: record.fingerprint }, new AbortController().signal)
    } catch {
      // Thrown on by `call` for its caller, who is gone; what it means was recorded, or the record stays unknown and is shown.
    }
  }

  function port(): ReturnType<typeof oncePort<Tx>> {
    return oncePort<Tx>(kit.database())
  }

  return { call, sweep }
}
