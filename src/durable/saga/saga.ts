/**
 * Saga: several steps that are finished or undone, whatever crashes in between.
 *
 * Promise: each run ends as done, undone, or with a human who is told; a step never begins before the one before is
 * recorded; a step of unknown outcome is settled first (run again under its key, or verified), then kept or undone, so
 * that an undo always knows what it undoes. Recovery is every instance's, all the time, by lease and fence.
 * Not here: how a turn goes (./execution.ts) and what operators do (./by-hand.ts).
 */
import { canonicalJson, checkInput, checkName, currentContext, decodeJson, encodeJson, HoldfastError, withContext, type Json, type Schema } from '../../core/index.ts'
import { bodyFor, last, rerunUnknownCommit } from '../../store/index.ts'
import { Crew } from '../crew.ts'
import { isLockTimeout } from '../failure.ts'
import { checkKey, fingerprintOf } from '../fingerprint.ts'
import { KeepAlive } from '../keep-alive.ts'
import type { DurableKit } from '../kit.ts'
import { byHand } from './by-hand.ts'
import { Execution } from './execution.ts'
import { sagaMemory } from './memory.ts'
import { resolve } from './options.ts'
import type { RunKey, RunRow, SagaPort, StepRow, TrackRow } from './port.ts'
import { Recording } from './recording.ts'
import { sagaSql } from './sql.ts'
import type { Saga, SagaOptions, SagaOutcome, SagaPorts } from './types.ts'

/** Runs that sweeps go on with at a time. */
const SWEEP_CONCURRENCY = 16
/** Who finds another call at work asks again so soon. */
const BUSY_MS = 1_000

type Taken =
  | { readonly mine: true; readonly fence: number; readonly run: RunRow; readonly steps: readonly StepRow[]; readonly tracks: readonly TrackRow[]; readonly fresh: boolean }
  | { readonly mine: false; readonly run: RunRow | undefined }

/** Declares a saga. @throws HF_OPTION_INVALID */
export function saga<In, I, R extends Json | void, Tx, Kinds extends string = never>(name: string, given: SagaOptions<In, I, R, Tx, Kinds>, kit: DurableKit<Tx>, ports: SagaPorts<Tx> = {}): Saga<In, R> {
  checkName('saga', name)
  const resolved = resolve(name, given, ports.tickets !== undefined)
  // Inside, kinds are texts: the types of the steps have seen to it that each has a handler.
  const options = given as unknown as SagaOptions<In, I, R, Tx, string>
  const { leaseMs, deadlineMs, versions } = resolved
  const crew = new Crew(SWEEP_CONCURRENCY)
  const { version } = options
  /** Runs that this process holds. */
  const held = new Map<string, Execution<In, I, R, Tx>>()

  async function start(id: string, asked: In): Promise<SagaOutcome<R>> {
    const { transaction } = currentContext()
    if (transaction !== undefined) throw new HoldfastError('HF_CALL_IN_TX', { message: `saga ${name} was started inside transaction ${transaction}; start it after the commit`, context: { saga: name, transaction } })
    const key = { saga: name, id: checkKey(`saga ${name}: id`, id) }
    const input = encodeJson(asked, `saga ${name}: input`)
    const plain = decodeJson<unknown>(input)
    const fingerprint = fingerprintOf(await checkInput(options.input as Schema<unknown, I>, plain, `saga ${name}`), plain)
    const owner = ownerToken()
    const askedAtMs = kit.env.monotonic()
    let taken: Taken
    try {
      const run = await rerunUnknownCommit(() => kit.database().transaction('saga.start', tx => port().begin(last(tx), { ...key, version, input, fingerprint, owner, leaseMs, deadlineMs }), { lone: true }))
      taken = run === undefined
        ? await rerunUnknownCommit(() => kit.database().transaction('saga.resume', tx => take(tx, key, owner)))
        : { mine: true, fence: run.fence, run, steps: [], tracks: [], fresh: true }
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
    const taken = await port().take(tx, key, versions, owner, leaseMs)
    const run = await port().read(tx, key)
    if (taken === undefined || run === undefined) return { mine: false, run }
    if (taken.tookOver) await port().note(tx, key, { what: 'resumed', detail: run.direction === 'undo' ? 'its holder died while it was being undone' : 'its holder died', by: kit.instance })
    const tracks = options.undo === undefined ? [] : await port().tracks(tx, key)
    return { mine: true, fence: taken.fence, run, steps: await port().steps(tx, key), tracks, fresh: false }
  }

  async function execute({ fence, run, steps, tracks, fresh }: Extract<Taken, { mine: true }>, askedAtMs: number): Promise<SagaOutcome<R>> {
    const { id } = run
    const key = { saga: name, id }
    const keepAlive = new KeepAlive({
      env: kit.env, what: `saga ${name} ${id}`, ttlMs: leaseMs, askedAtMs,
      renew: async signal => {
        const renewed = await kit.database().transaction('saga.renew', tx => port().renew(last(tx), key, fence, leaseMs), { signal })
        if (typeof renewed?.cancelled === 'string') execution.stop(renewed.cancelled)
        return renewed !== undefined
      },
      onLost: reason => { kit.events.emit('lease.lost', { lease: `saga:${name}`, fence, reason }) },
    })
    const execution = new Execution<In, I, R, Tx>({ name, options, resolved, recording: new Recording(kit, port(), key, fence, keepAlive), run, steps, tracks, readAtMs: askedAtMs })
    const correlationId = currentContext().correlationId ?? `saga:${name}:${id}`
    held.set(id, execution)
    try {
      return await withContext({ component: `saga ${name}`, correlationId }, () => {
        if (fresh) kit.events.emit('saga.started', { saga: name, id })
        else kit.events.emit('saga.resumed', { saga: name, id, direction: run.direction })
        return execution.run()
      })
    } catch (error) {
      // Overtaken between the last step and its record: what the record says now is somebody else's to say.
      if (keepAlive.signal.aborted) return { outcome: 'running', reason: 'another instance took over' }
      throw error
    } finally {
      if (held.get(id) === execution) held.delete(id)
      keepAlive.stop()
    }
  }

  function answerOf(run: RunRow | undefined): SagaOutcome<R> {
    if (run === undefined) return { outcome: 'running', reason: 'it is being begun' }
    const reason = run.reason ?? 'it is being worked on'
    if (run.state === 'done') return { outcome: 'done', value: decodeJson<R>(run.result ?? 'null') }
    if (run.state === 'undone' || run.state === 'needs-human') return { outcome: run.state, reason }
    if (!versions.includes(run.version)) return { outcome: 'running', reason: `version ${String(run.version)} is not known to this instance (${versions.join(', ')})` }
    if (run.live) return { outcome: 'running', reason: 'another call is at it', retryAfterMs: Math.min(BUSY_MS, Math.ceil(run.waitMs)) }
    return { outcome: 'running', reason, retryAfterMs: Math.ceil(run.waitMs) }
  }

  async function sweep(limit: number, enough: AbortSignal = new AbortController().signal): Promise<number> {
    const ids = await kit.database().transaction('saga.due', tx => port().due(tx, name, versions, limit))
    return crew.run(ids, resume, enough)
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

  function stopHere(id: string, reason: string): boolean {
    const execution = held.get(id)
    execution?.stop(reason)
    return execution !== undefined
  }

  return { kind: 'saga', name, version, versions, runbook: options.runbook, start, sweep, ...byHand(name, options, resolved, { kit, port, tickets: ports.tickets, stopHere, resume }) }
}

export function sagaPort<Tx>(database: { readonly dialect: 'sql' | 'memory' }): SagaPort<Tx> {
  return bodyFor<Tx, SagaPort<Tx>>(database, { sql: sagaSql, memory: sagaMemory })
}
