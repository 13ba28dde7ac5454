/**
 * Once: what must not happen twice, by a key of its input, whatever is retried, redelivered, run in parallel or killed.
 *
 * A local effect (`write`) commits with its record in one transaction, so there is no state in between. An outside
 * effect (`call`, ./outside.ts) is claimed, called with a derived key, completed under a fence; what nobody knows about
 * it stays `unknown` until it is settled, and is never forgotten.
 * Not here: several steps (../saga), messages (../outbox).
 */
import { checkInput, checkName, currentContext, decodeJson, durationMs, encodeJson, HoldfastError, type Json, type Schema, withContext } from '../../core/index.ts'
import { last, rerunUnknownCommit } from '../../store/index.ts'
import { isLockTimeout } from '../failure.ts'
import { checkKey, fingerprintOf, fingerprintOfJson } from '../fingerprint.ts'
import type { DurableKit } from '../kit.ts'
import { inSavepoint, withLockTimeout } from '../savepoint.ts'
import { DUPLICATE_WAIT_MS, inProgress, oncePort, outcomeOf } from './outcome.ts'
import { outsideOnce } from './outside.ts'
import type { OnceRecord } from './port.ts'
import { ONCE_DEFAULTS, type LocalOnce, type Once, type OnceOutcome, type OutsideOnce, type Prepared } from './types.ts'

const KEEP_MIN_MS = 60_000

/** Declares a local effect. @throws HF_OPTION_INVALID */
export function once<In, I, R extends Json | void, Tx>(name: string, options: LocalOnce<In, I, R, Tx>, kit: DurableKit<Tx>): Once<In, R, Tx>
/** Declares an outside effect. @throws HF_OPTION_INVALID */
export function once<In, I, R extends Json | void, Tx>(name: string, options: OutsideOnce<In, I, R, Tx>, kit: DurableKit<Tx>): Once<In, R, Tx>
/** Either; for whoever passes options on. */
export function once<In, I, R extends Json | void, Tx>(name: string, options: LocalOnce<In, I, R, Tx> | OutsideOnce<In, I, R, Tx>, kit: DurableKit<Tx>): Once<In, R, Tx>
export function once<In, I, R extends Json | void, Tx>(name: string, options: LocalOnce<In, I, R, Tx> | OutsideOnce<In, I, R, Tx>, kit: DurableKit<Tx>): Once<In, R, Tx> {
  checkName('once', name)
  const keepForMs = durationMs(options.keepFor ?? ONCE_DEFAULTS.keepFor, `once ${name}: keepFor`, { min: KEEP_MIN_MS })
  const prepare = async (given: unknown): Promise<Prepared<I>> => {
    const text = encodeJson(given, `once ${name}: input`)
    const plain = decodeJson<unknown>(text)
    const decoded = await checkInput(options.input as Schema<unknown, I>, plain, `once ${name}`)
    return { decoded, text, key: checkKey(`once ${name}`, options.key(decoded)), fingerprint: options.fingerprint === undefined ? fingerprintOf(decoded, plain) : fingerprintOfJson(options.fingerprint(decoded), `once ${name}: fingerprint`) }
  }
  const outside = 'call' in options ? outsideOnce(name, options, keepForMs, prepare, kit) : undefined
  const run = async (input: In, { tx, signal }: { readonly tx?: Tx; readonly signal?: AbortSignal } = {}): Promise<OnceOutcome<R>> => {
    const prepared = await prepare(input)
    if ('write' in options) return tx === undefined ? alone(prepared, options, signal) : joined(prepared, options, tx, signal)
    if (tx !== undefined) throw new HoldfastError('HF_CALL_IN_TX', { message: `once ${name}: an outside effect cannot join a transaction; call it after the commit`, context: { once: name } })
    return outside?.call(prepared, signal ?? new AbortController().signal) ?? { outcome: 'unknown' }
  }

  async function alone(prepared: Prepared<I>, local: LocalOnce<In, I, R, Tx>, signal: AbortSignal | undefined): Promise<OnceOutcome<R>> {
    const database = kit.database()
    let written: Written
    try {
      written = await rerunUnknownCommit(() => database.transaction('once.write', tx => claimAndWrite(prepared, local, tx, signal, begin => begin(), last), { signal }))
    } catch (error) {
      if (error instanceof Busy) return inProgress()
      throw error
    }
    return answer(prepared, written, true)
  }

  async function joined(prepared: Prepared<I>, local: LocalOnce<In, I, R, Tx>, tx: Tx, signal: AbortSignal | undefined): Promise<OnceOutcome<R>> {
    const database = kit.database()
    let written: Written
    try {
      // A transaction that the user's own client has opened is one as well: no outside calls in it.
      const { transaction = 'once.joined' } = currentContext()
      written = await withContext({ transaction }, () => inSavepoint(database, tx, inner => claimAndWrite(prepared, local, inner, signal, begin => withLockTimeout(database, inner, DUPLICATE_WAIT_MS, begin), same => same)))
    } catch (error) {
      if (error instanceof Busy) return inProgress()
      throw error
    }
    return answer(prepared, written, false)
  }

  /**
   * `bound` bounds how long `begin` waits for a duplicate: the store does so for its own transactions, a user's may be unbounded.
   * `ending` is `last` where the transaction is ours to end.
   */
  async function claimAndWrite(
    prepared: Prepared<I>, local: LocalOnce<In, I, R, Tx>, tx: Tx, signal: AbortSignal | undefined, bound: (begin: () => Promise<boolean>) => Promise<boolean>, ending: (tx: Tx) => Tx,
  ): Promise<Written> {
    const port = oncePort<Tx>(kit.database())
    const { key, fingerprint } = prepared
    let mine: boolean
    try {
      mine = await bound(() => port.begin(tx, { name, key, fingerprint, keepForMs }))
    } catch (error) {
      throw isLockTimeout(error) ? new Busy() : error
    }
    if (!mine) return { record: await port.read(tx, name, key) }
    const result = encodeJson(await local.write(prepared.decoded, writeContext(tx, signal)), `once ${name}: result`)
    await port.finish(ending(tx), name, key, result)
    return { result }
  }

  function answer(prepared: Prepared<I>, written: Written, announce: boolean): OnceOutcome<R> {
    if ('record' in written) return written.record === undefined ? inProgress() : outcomeOf<R>(name, prepared, written.record, kit)
    if (announce) kit.events.emit('once.done', { once: name, key: prepared.key })
    return { outcome: 'done', value: decodeJson<R>(written.result) }
  }

  const about = {
    kind: 'once' as const,
    runbook: options.runbook,
    sweep: async (limit: number, enough: AbortSignal = new AbortController().signal): Promise<number> => await outside?.sweep(limit, enough) ?? 0,
    settleByHand: async (key: string, as: 'retry' | 'discard', reason: string): Promise<boolean> => {
      const database = kit.database()
      const state = as === 'retry' ? 'released' : 'discarded'
      const settled = await database.transaction('once.settle', tx => oncePort<Tx>(database).settleByHand(tx, name, key, state, reason, keepForMs))
      if (settled) kit.events.emit('once.settled', { once: name, key, as: `${state} by hand` })
      return settled
    },
  }
  // A function's own `name` is not writable, only configurable.
  return Object.assign(Object.defineProperty(run, 'name', { value: name }), about)
}

/** A signal costs more than what is written, and few ask for it. */
function writeContext<Tx>(tx: Tx, given: AbortSignal | undefined): { readonly tx: Tx; readonly signal: AbortSignal } {
  if (given !== undefined) return { tx, signal: given }
  let made: AbortSignal | undefined
  return { tx, get signal() { return made ??= new AbortController().signal } }
}

type Written = { readonly result: string } | { readonly record: OnceRecord | undefined }

/** The key is being written in another transaction that takes longer than a duplicate waits. */
class Busy extends Error {}

