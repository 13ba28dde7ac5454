/**
 * Writes events to a logger by the escalation table, one line each, repeated ones once per minute with their count.
 */
import type { Env, EventBus, HoldfastEvent } from '../core/index.ts'
import { describeEvent } from './describe.ts'
import { type Escalation, ruleFor, THROTTLE_MS } from './escalation.ts'
import type { Logger } from './logger.ts'

/** Keys that are remembered for throttling; beyond it the oldest is forgotten and may be written again. */
const THROTTLE_KEYS_MAX = 1_000

/** Returns the function that stops writing. */
export function logEvents(events: EventBus, logger: Logger, env: Pick<Env, 'monotonic'>, escalation: Escalation = {}): () => void {
  const quiet = new Map<string, { at: number; suppressed: number }>()

  const suppressed = (name: string, throttle: string | undefined): number | undefined => {
    if (throttle === undefined) return 0
    const key = `${name} ${throttle}`
    const last = quiet.get(key)
    const now = env.monotonic()
    if (last !== undefined && now - last.at < THROTTLE_MS) {
      last.suppressed += 1
      return undefined
    }
    quiet.delete(key)
    quiet.set(key, { at: now, suppressed: 0 })
    const oldest = quiet.size > THROTTLE_KEYS_MAX ? quiet.keys().next().value : undefined
    if (oldest !== undefined) quiet.delete(oldest)
    return last?.suppressed ?? 0
  }

  return events.onAny(event => {
    const rule = ruleFor(event, escalation)
    if (rule.level === 'none') return
    const before = suppressed(event.name, rule.throttle)
    if (before === undefined) return
    logger[rule.level](fieldsOf(event, rule.stack === true, before), describeEvent(event))
  })
}

function fieldsOf(event: HoldfastEvent, stack: boolean, suppressed: number): object {
  const { error, ...data } = event.data as { error?: unknown }
  return {
    event: event.name,
    ...(event.correlationId === undefined ? {} : { correlationId: event.correlationId }),
    ...(event.component === undefined ? {} : { component: event.component }),
    ...data,
    ...(error === undefined ? {} : { error: stack ? error : withoutStack(error) }),
    ...(suppressed === 0 ? {} : { suppressedBefore: suppressed }),
  }
}

/** What failed as expected: its kind and message, and those of its causes. */
function withoutStack(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return String(error)
  return { type: error.name, message: error.message, ...('code' in error ? { code: error.code } : {}), ...(error.cause === undefined || depth > 3 ? {} : { cause: withoutStack(error.cause, depth + 1) }) }
}
