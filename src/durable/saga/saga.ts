/**
 * Saga: several steps that are finished or undone, whatever crashes in between.
 *
 * Promise: each run ends as done, undone, or with a human who is told; a step never begins before the one before is
 * recorded; a step of unknown outcome is settled first (run again under its key, or verified), then kept or undone, so
 * that an undo always knows what it undoes. Recovery is every instance's, all the time, by lease and fence.
 * Not here: how a turn goes (./execution.ts).
 */
import { canonicalJson, checkInput, checkName, currentContext, decodeJson, durationMs, encodeJson, HoldfastError, withContext, type Json, type Schema } from '../../core/index.ts'
import { bodyFor } from '../../store/index.ts'
import { isLockTimeout } from '../failure.ts'
import { checkKey, fingerprintOf } from '../fingerprint.ts'
import { KeepAlive } from '../keep-alive.ts'
import type { DurableKit } from '../kit.ts'
import { rerunUnknownCommit } from '../unknown-commit.ts'
import { Execution, type Resolved } from './execution.ts'
import { sagaMemory } from './memory.ts'
import type { RunKey, RunRow, SagaPort, StepRow } from './port.ts'
import { sagaSql } from './sql.ts'
import { SAGA_DEFAULTS, type Saga, type SagaOptions, type SagaOutcome } from './types.ts'

/** Runs that one sweep goes on with at a time. */
const SWEEP_CONCURRENCY = 4
/** Who finds another call at work asks again so soon. */
const BUSY_MS = 1_000

type Taken =
  | { readonly mine: true; readonly fence: number; readonly run: RunRow; readonly steps: readonly StepRow[]; readonly fresh: boolean }
  | { readonly mine: false; readonly run: RunRow | undefined }

/** Declares a saga. @throws HF_OPTION_INVALID */
export function saga<In, I, R extends Json | void, Tx>(name: string, options: SagaOptions<In, I, R, Tx>, kit: DurableKit<Tx>): Saga<In, R> {
  checkName('saga', name)
  const resolved = resolve(name, options)
  const leaseMs = durationMs(options.lease ?? SAGA_DEFAULTS.lease, `saga ${name}: lease`, { min: 1_000 })
  const { version } = options

  async function start(id: string, given: In): Promise<SagaOutcome<R>> {
    const { transaction } = currentContext()
    if (transaction !== undefined) throw new HoldfastError('HF_CALL_IN_TX', { message: `saga ${name} was started inside transaction ${transaction}; start it after the commit`, context: { saga: name, transaction } })
    const key = { saga: name, id: checkKey(`saga ${name}: id`, id) }
    const input = encodeJson(given, `saga ${name}: input`)
    const plain = decodeJson<unknown>(input)
    const fingerprint = fingerprintOf(await checkInput(options.input as Schema<unknown, I>, plain, `saga ${name}`), plain)
    const owner = ownerToken()
    const askedAtMs = kit.env.monotonic()
    let taken: Taken
    try {
      taken = await rerunUnknownCommit(() => kit.database().transaction('saga.start', async (tx): Promise<Taken> => {
        const began = await port().begin(tx, { ...key, version, input, fingerprint, owner, leaseMs })
        if (began === undefined) return take(tx, key, owner)
        const run = await port().read(tx, key)
        return run === undefined ? { mine: false, run } : { mine: true, fence: began, run, steps: [], fresh: true }
      }))
    } catch (error) {
      // A write of the holder's is open: as good as held.
      if (isLockTimeout(error)) return { outcome: 'running', reason: 'another call is at it', retryAfterMs: BUSY_MS }
      throw error
    }
    // The same text is the same input also where another version's schema decodes it otherwise.
    if (taken.run !== undefined && taken.run.fingerprint !== fingerprint && canonicalJson(decodeJson(taken.run.input)) !== canonicalJson(plain)) {
      throw new HoldfastError('HF_KEY_REUSED', { message: `saga ${name}: ${id} was begun with another input`, context: { saga: name, id } })
    }
    if (!taken.mine) return answerOf(taken.run)
    return execute(taken, askedAtMs)
  }

  async function take(tx: Tx, key: RunKey, owner: string): Promise<Taken> {
    const fence = await port().take(tx, key, version, owner, leaseMs)
    const run = await port().read(tx, key)
    if (fence === undefined || run === undefined) return { mine: false, run }
    return { mine: true, fence, run, steps: await port().steps(tx, key), fresh: false }
  }

  async function execute({ fence, run, steps, fresh }: Extract<Taken, { mine: true }>, askedAtMs: number): Promise<SagaOutcome<R>> {
    const { id } = run
    const key = { saga: name, id }
    const keepAlive = new KeepAlive({
      env: kit.env, what: `saga ${name} ${id}`, ttlMs: leaseMs, askedAtMs,
      renew: signal => kit.database().transaction('saga.renew', tx => port().renew(tx, key, fence, leaseMs), { signal }),
      onLost: reason => { kit.events.emit('lease.lost', { lease: `saga:${name}`, fence, reason }) },
    })
    const correlationId = currentContext().correlationId ?? `saga:${name}:${id}`
    try {
      return await withContext({ component: `saga ${name}`, correlationId }, () => {
        if (fresh) kit.events.emit('saga.started', { saga: name, id })
        else kit.events.emit('saga.resumed', { saga: name, id, direction: run.direction })
        return new Execution(name, options, resolved, kit, port(), run, fence, steps, keepAlive).run()
      })
    } catch (error) {
      // Overtaken between the last step and its record: what the record says now is somebody else's to say.
      if (keepAlive.signal.aborted) return { outcome: 'running', reason: 'another instance took over' }
      throw error
    } finally {
      keepAlive.stop()
    }
  }

  function answerOf(run: RunRow | undefined): SagaOutcome<R> {
    if (run === undefined) return { outcome: 'running', reason: 'it is being begun' }
    const reason = run.reason ?? 'it is being worked on'
    if (run.state === 'done') return { outcome: 'done', value: decodeJson<R>(run.result ?? 'null') }
    if (run.state === 'undone' || run.state === 'needs-human') return { outcome: run.state, reason }
    if (run.version !== version) return { outcome: 'running', reason: `version ${String(run.version)} is not known to this instance (${String(version)})` }
    if (run.live) return { outcome: 'running', reason: 'another call is at it', retryAfterMs: Math.min(BUSY_MS, Math.ceil(run.waitMs)) }
    return { outcome: 'running', reason, retryAfterMs: Math.ceil(run.waitMs) }
  }

  async function sweep(limit: number): Promise<number> {
    const ids = await kit.database().transaction('saga.due', tx => port().due(tx, name, version, limit))
    for (let from = 0; from < ids.length; from += SWEEP_CONCURRENCY) await Promise.all(ids.slice(from, from + SWEEP_CONCURRENCY).map(resume))
    return ids.length
  }

  /** One run's failure to be recorded is its own; the others go on, and it is found again. */
  async function resume(id: string): Promise<void> {
    try {
      const owner = ownerToken()
      const askedAtMs = kit.env.monotonic()
      const taken = await rerunUnknownCommit(() => kit.database().transaction('saga.resume', tx => take(tx, { saga: name, id }, owner)))
      if (taken.mine) await execute(taken, askedAtMs)
    } catch {
      // The store is away and says so itself.
    }
  }

  function ownerToken(): string {
    return `${kit.instance}:${kit.env.uuid()}`
  }

  function port(): SagaPort<Tx> {
    return sagaPort<Tx>(kit.database())
  }

  return {
    kind: 'saga', name, version, runbook: options.runbook, start, sweep,
    retry: (id, reason) => kit.database().transaction('saga.retry', tx => port().retryByHand(tx, { saga: name, id }, reason)),
    markDone: async (id, as, reason) => {
      const marked = await kit.database().transaction('saga.mark-done', tx => port().closeByHand(tx, { saga: name, id }, as, reason, resolved.keepForMs))
      if (marked) kit.events.emit('saga.finished', { saga: name, id, outcome: as, reason })
      return marked
    },
    resolveStep: (id, verified, reason) => kit.database().transaction('saga.resolve-step', tx =>
      port().resolveStep(tx, { saga: name, id }, verified.happened ? encodeJson(verified.value, `saga ${name}: resolved step`) : undefined, reason)),
  }
}

export function sagaPort<Tx>(database: { readonly dialect: 'sql' | 'memory' }): SagaPort<Tx> {
  return bodyFor<Tx, SagaPort<Tx>>(database, { sql: sagaSql, memory: sagaMemory })
}

function resolve<In, I, R extends Json | void, Tx>(name: string, options: SagaOptions<In, I, R, Tx>): Resolved {
  const backoffMs = durationMs(options.backoff ?? SAGA_DEFAULTS.backoff, `saga ${name}: backoff`)
  whole(`saga ${name}: version`, options.version, 1_000_000)
  return {
    attempts: whole(`saga ${name}: attempts`, options.attempts ?? SAGA_DEFAULTS.attempts, 1_000),
    undoAttempts: whole(`saga ${name}: undoAttempts`, options.undoAttempts ?? SAGA_DEFAULTS.undoAttempts, 1_000),
    giveUpAfterMs: durationMs(options.giveUpAfter ?? SAGA_DEFAULTS.giveUpAfter, `saga ${name}: giveUpAfter`, { min: 0 }),
    keepForMs: durationMs(options.keepFor ?? SAGA_DEFAULTS.keepFor, `saga ${name}: keepFor`, { min: 3_600_000 }),
    backoffMs,
    backoffMaxMs: durationMs(options.backoffMax ?? SAGA_DEFAULTS.backoffMax, `saga ${name}: backoffMax`, { min: backoffMs }),
  }
}

function whole(where: string, value: number, max: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= max) return value
  throw new HoldfastError('HF_OPTION_INVALID', { message: `${where}: expected a whole number from 1 to ${String(max)}, got ${String(value)}`, context: { option: where } })
}
