/**
 * From a record to what the caller is told.
 */
import { decodeJson, durationMs, HoldfastError } from '../../core/index.ts'
import { bodyFor } from '../../store/index.ts'
import type { DurableKit } from '../kit.ts'
import { onceMemory } from './memory.ts'
import type { OncePort, OnceRecord } from './port.ts'
import { onceSql } from './sql.ts'
import { ONCE_DEFAULTS, type OnceOutcome, type Prepared } from './types.ts'

export const DUPLICATE_WAIT_MS: number = durationMs(ONCE_DEFAULTS.duplicateWait, 'once: duplicateWait')

export function inProgress(): { readonly outcome: 'in-progress'; readonly retryAfterMs: number } {
  return { outcome: 'in-progress', retryAfterMs: DUPLICATE_WAIT_MS }
}

/**
 * What a record that is not ours to work on means for the caller.
 * @throws HF_KEY_REUSED
 */
export function outcomeOf<R>(name: string, prepared: Pick<Prepared<unknown>, 'key' | 'fingerprint'>, record: OnceRecord, kit: Pick<DurableKit<unknown>, 'events'>): OnceOutcome<R> {
  refuseOtherInput(name, prepared, record)
  // Without a result it is being written in this very transaction: `write` asked for its own key.
  if (record.state === 'done' && record.result === null) return inProgress()
  if (record.state === 'done') {
    kit.events.emit('once.replayed', { once: name, key: prepared.key })
    return { outcome: 'replayed', value: decodeJson<R>(record.result ?? 'null') }
  }
  if (record.state === 'started' || record.state === 'released') return { outcome: 'in-progress', retryAfterMs: Math.ceil(Math.min(Math.max(record.leaseLeftMs, 100), DUPLICATE_WAIT_MS)) }
  return { outcome: 'unknown' }
}

export function refuseOtherInput(name: string, { key, fingerprint }: { readonly key: string; readonly fingerprint: string }, record: OnceRecord): void {
  if (record.fingerprint === fingerprint) return
  throw new HoldfastError('HF_KEY_REUSED', { message: `once ${name}: key ${key} was first used with another input`, context: { once: name, key } })
}

export function oncePort<Tx>(database: { readonly dialect: 'sql' | 'memory' }): OncePort<Tx> {
  return bodyFor<Tx, OncePort<Tx>>(database, { sql: onceSql, memory: onceMemory })
}
