/**
 * A topic of the outbox: how one message is sent, and what the answer means for it.
 */
import { durationMs, HoldfastError, isHoldfastError, messageOf, type Env } from '../../core/index.ts'
import type { CallContext } from '../call-context.ts'
import { failureVerdict, retryAfterOf, statusOf } from '../failure.ts'
import type { Settlement } from './port.ts'
import { TOPIC_DEFAULTS, type OutboxMessage, type SendResult, type TopicOptions } from './types.ts'

/** What a send came to, or why there was none. */
export type Decision = SendResult | { readonly kind: 'expired'; readonly reason: string }

export interface Topic {
  readonly name: string
  readonly repeatable: boolean
  readonly attempts: number
  readonly backoffMs: number
  readonly backoffMaxMs: number
  readonly holdsLane: boolean
  readonly runbook: string | undefined
  /** Sends, bounded in time and by `signal`. Never rejects. */
  decide(message: OutboxMessage, signal: AbortSignal, context: (sending: AbortSignal) => CallContext): Promise<Decision>
}

/** Waits that a peer asks for beyond this are a mistake of the peer or a ban; we ask again after it. */
const PAUSE_MAX_MS = 3_600_000

/** @throws HF_OPTION_INVALID */
export function resolveTopic(name: string, options: TopicOptions, env: Env): Topic {
  const given = { ...TOPIC_DEFAULTS, ...options }
  if (!Number.isInteger(given.attempts) || given.attempts < 1 || given.attempts > 100) {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `outbox topic ${name}: attempts: expected a whole number from 1 to 100, got ${String(given.attempts)}`, context: { topic: name } })
  }
  const backoffMs = durationMs(given.backoff, `outbox topic ${name}: backoff`)
  const timeoutMs = durationMs(given.timeout, `outbox topic ${name}: timeout`)
  return {
    name, backoffMs,
    backoffMaxMs: durationMs(given.backoffMax, `outbox topic ${name}: backoffMax`, { min: backoffMs }),
    repeatable: given.repeatable, attempts: given.attempts, holdsLane: given.onDead === 'hold', runbook: options.runbook,
    decide: async (message, signal, context) => {
      try {
        return await within(env, timeoutMs, signal, sending => options.send(message, context(sending))) ?? { kind: 'sent' }
      } catch (error) {
        return decisionOf(error)
      }
    },
  }
}

/** What an error that a sender threw means for its message. */
function decisionOf(error: unknown): Decision {
  const reason = messageOf(error)
  const verdict = failureVerdict(error)
  if (verdict === 'refused') return { kind: 'dead', reason }
  if (verdict === 'ambiguous') return { kind: 'unknown', reason }
  const afterMs = retryAfterOf(error)
  const wait = { kind: 'retry' as const, reason, ...(afterMs === undefined ? {} : { afterMs }) }
  // Nothing was tried (our own guard refused), or the other side asked for a pause: no attempt of this message.
  return isHoldfastError(error) && statusOf(error) === undefined || statusOf(error) === 429 ? { ...wait, pause: 'lane' } : wait
}

/** What a decision means for the record of a message whose `attempts` include the send that was decided about. */
export function settlementOf(decision: Decision, attempts: number, topic: Topic, keepForMs: number): Settlement {
  const over = { attempts, retryInMs: 0, holdsLane: false, keepForMs }
  if (decision.kind === 'sent') return { ...over, state: 'sent', reason: null }
  if (decision.kind === 'expired') return { ...over, state: 'expired', reason: decision.reason }
  const { reason } = decision
  if (decision.kind === 'dead') return { ...over, state: 'dead', reason, holdsLane: topic.holdsLane }
  if (decision.kind === 'unknown' && !topic.repeatable) return { ...over, state: 'unknown', reason, holdsLane: topic.holdsLane }
  const asked = decision.kind === 'retry' ? decision.afterMs : undefined
  const backoffMs = Math.min(topic.backoffMaxMs, topic.backoffMs * 2 ** (attempts - 1))
  if (decision.kind === 'retry' && decision.pause !== undefined) return { ...over, state: 'queued', reason, attempts: attempts - 1, retryInMs: Math.min(PAUSE_MAX_MS, asked ?? backoffMs) }
  if (attempts >= topic.attempts) return { ...over, state: 'dead', reason, holdsLane: topic.holdsLane }
  return { ...over, state: 'queued', reason, retryInMs: Math.min(PAUSE_MAX_MS, Math.max(asked ?? 0, backoffMs)) }
}

/** A sender that ignores its signal is left behind: bytes may have left, so what became of it is unknown. */
async function within<T>(env: Env, ms: number, outer: AbortSignal, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const inner = new AbortController()
  let abort = (): void => undefined
  const cut = new Promise<never>((_resolve, reject) => {
    abort = () => {
      const error = new HoldfastError('HF_TIMEOUT', { message: outer.aborted ? 'the send was cut off' : `the send took longer than ${String(ms)} ms`, context: { applied: true } })
      inner.abort(error)
      reject(error)
    }
  })
  const timer = env.timer(ms, abort)
  outer.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([run(inner.signal), cut])
  } finally {
    timer.cancel()
    outer.removeEventListener('abort', abort)
  }
}
