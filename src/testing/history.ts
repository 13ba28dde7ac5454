/**
 * A history: what several processes asked of a system and what they were told, in the order in which it happened.
 *
 * As Jepsen keeps it: each operation has an `invoke` and at most one end: `ok` (it happened), `fail` (it surely did not) or
 * `info` (nobody knows; it may have happened, may yet, or never). An operation without an end is `info`: its process died.
 * Recorded while faults are injected, judged afterwards (./linearizable.ts, ./history-checks.ts).
 */
import { HoldfastError, type Json } from '../core/index.ts'

export type OperationEnd = 'ok' | 'fail' | 'info'

/** One line of a recorded history. */
export interface HistoryEvent {
  /** Ties an end to its invocation; unique in the history. */
  readonly id: string
  readonly type: 'invoke' | OperationEnd
  /** A clock that all writers share and that never goes back, any unit. */
  readonly at: number
  /** With `invoke`: who asks what of which key. */
  readonly process?: string
  readonly key?: string
  readonly action?: string
  /** With `invoke` what was asked for, with `ok` what was answered. */
  readonly value?: Json
}

/** An invocation with its end. */
export interface Operation {
  readonly id: string
  readonly process: string
  readonly key: string
  readonly action: string
  readonly input: Json
  readonly end: OperationEnd
  /** Of `ok`. */
  readonly output: Json
  readonly invokedAt: number
  /** Infinity for `info`: it may take effect at any time. */
  readonly endedAt: number
}

/** Something that must not be. */
export interface Anomaly {
  /** `not linearizable`, `undecided`, `lost`, `from nowhere`, `doubled`, `fence not rising`, `out of order`. */
  readonly kind: string
  readonly key: string
  readonly message: string
}

/** Ends an operation that was invoked. Only the first word counts. */
export interface PendingOperation {
  readonly id: string
  ok(value?: Json): void
  fail(): void
  info(): void
}

export interface History {
  /** In the order of recording. */
  readonly events: readonly HistoryEvent[]
  invoke(operation: { readonly process: string; readonly key: string; readonly action: string; readonly value?: Json }): PendingOperation
  /** Pairs of the events so far. */
  operations(): readonly Operation[]
  /** One event a line, as `historyFrom` reads it. */
  toJsonl(): string
}

/** A history that is recorded in this process; `at` is the order of the calls. */
export function recordHistory(): History {
  const events: HistoryEvent[] = []
  let calls = 0
  return {
    events,
    invoke: ({ process, key, action, value }) => {
      const id = String(++calls)
      let ended = false
      events.push({ id, type: 'invoke', at: events.length, process, key, action, ...(value === undefined ? {} : { value }) })
      const end = (type: OperationEnd, output?: Json): void => {
        if (ended) return
        ended = true
        events.push({ id, type, at: events.length, ...(output === undefined ? {} : { value: output }) })
      }
      return { id, ok: output => { end('ok', output) }, fail: () => { end('fail') }, info: () => { end('info') } }
    },
    operations: () => operationsOf(events),
    toJsonl: () => events.map(event => `${JSON.stringify(event)}\n`).join(''),
  }
}

/** Events of one or several files of JSON lines, put in order. A last line that was cut off by the death of its writer is left out. @throws HF_INPUT_INVALID */
export function historyFrom(...files: readonly string[]): readonly HistoryEvent[] {
  const events = files.flatMap(text => text.split('\n').slice(0, -1).map((line, index) => {
    try {
      return JSON.parse(line) as HistoryEvent
    } catch (error) {
      throw new HoldfastError('HF_INPUT_INVALID', { message: `history: line ${String(index + 1)} is not JSON`, cause: error })
    }
  }))
  return events.sort((a, b) => a.at - b.at)
}

/** Pairs invocations with their ends. @throws HF_INPUT_INVALID for an end without an invocation, or two of either */
export function operationsOf(events: readonly HistoryEvent[]): readonly Operation[] {
  const found = new Map<string, { -readonly [Key in keyof Operation]: Operation[Key] }>()
  const over = new Set<string>()
  for (const { id, type, at, process = '', key = '', action = '', value = null } of events) {
    const operation = found.get(id)
    if (type === 'invoke') {
      if (operation !== undefined) throw malformed(`operation ${id} is invoked twice`)
      found.set(id, { id, process, key, action, input: value, end: 'info', output: null, invokedAt: at, endedAt: Infinity })
      continue
    }
    if (operation === undefined) throw malformed(`operation ${id} ends and was not invoked`)
    if (over.has(id)) throw malformed(`operation ${id} ends twice`)
    over.add(id)
    operation.end = type
    if (type !== 'info') operation.endedAt = at
    if (type === 'ok') operation.output = value
  }
  return [...found.values()]
}

function malformed(message: string): HoldfastError {
  return new HoldfastError('HF_INPUT_INVALID', { message: `history: ${message}` })
}
