/**
 * Handling of claimed updates: one boundary around the bot's handlers, so that no update can hurt another.
 *
 * Each runs under the correlation id `tg-<update_id>` and is given up on after 25 s (platforms kill at 30). A failure is
 * classified: what the store's absence caused, and any failure of an update that must not be lost (a payment), is thrown
 * back to the inbox, which tries again and parks it for a person in the end; everything else is told to the customer with
 * a code, and is done.
 */
import type { Update } from 'grammy/types'
import { type Duration, durationMs, type Env, type EventBus, type FailureClass, HoldfastError, isHoldfastError, messageOf, withContext } from '../core/index.ts'
import { errorClass } from '../guard/index.ts'
import { correlationOf, updateFacts, type UpdateFacts } from './update.ts'

export interface ProcessingOptions {
  /** A grammY bot with its handlers, or anything else that handles an update. */
  readonly bot: { handleUpdate(update: Update): Promise<void> }
  readonly env: Env
  readonly events: EventBus
  /** Tells the customer that something went wrong; `code` is the correlation id. What it throws is announced and changes nothing. */
  readonly apologise: (facts: UpdateFacts, code: string) => Promise<void>
  /** An update whose failure is never the end of it. Default: payments, refunds included. */
  readonly mustNotBeLost?: (update: Update) => boolean
  /** Longest time for one update. Default `'25s'`. */
  readonly timeout?: Duration
}

/**
 * The handler for the inbox's `telegram` items.
 * Emits `handler.failed` for each failure. @throws what is to be tried again by the inbox
 */
export function telegramProcessing(options: ProcessingOptions): (update: Update) => Promise<void> {
  const { bot, env, events, apologise } = options
  const mustNotBeLost = options.mustNotBeLost ?? carriesPayment
  const timeoutMs = durationMs(options.timeout ?? '25s', 'telegram processing: timeout')

  return update => {
    const facts = updateFacts(update)
    const code = correlationOf(update)
    return withContext({ correlationId: code, component: `handler ${facts.kind}` }, async () => {
      try {
        await withinTime(env, timeoutMs, facts.kind, () => bot.handleUpdate(update))
      } catch (caught) {
        const error = unwrap(caught)
        const failure = classOf(error)
        if (unreachable(error)) {
          // The customer blocked the bot while it answered: nothing to tell, and nobody to tell it to.
          events.emit('handler.refused', { handler: `telegram ${facts.kind}`, code: 'HF_MESSAGE_UNREACHABLE', message: messageOf(error) })
          if (!mustNotBeLost(update)) return
        }
        if (failure === 'infra_error' || mustNotBeLost(update)) throw error
        events.emit('handler.failed', { handler: `telegram ${facts.kind}`, failure, message: messageOf(error), error })
        await tell(facts, code)
      }
    })
  }

  async function tell(facts: UpdateFacts, code: string): Promise<void> {
    try {
      await apologise(facts, code)
    } catch (error) {
      // The apology is a courtesy; that it failed must not make the update be handled again.
      events.emit('handler.failed', { handler: 'telegram apology', failure: classOf(error), message: messageOf(error), error })
    }
  }
}

/** A payment was made or taken back: whatever goes wrong with it goes on until it is settled. */
export function carriesPayment(update: Update): boolean {
  return update.message?.successful_payment !== undefined || update.message?.refunded_payment !== undefined
}

/** grammY wraps what a handler throws. */
function unwrap(error: unknown): unknown {
  return error instanceof Error && error.name === 'BotError' && 'error' in error ? error.error : error
}

function classOf(error: unknown): FailureClass {
  const inner = unwrap(error)
  return isHoldfastError(inner) ? inner.failure : errorClass(inner)
}

function unreachable(error: unknown): boolean {
  return isHoldfastError(error) && error.code === 'HF_MESSAGE_UNREACHABLE'
}

/** A handler that hangs is left to itself; its late result, error or not, is nobody's any more. */
async function withinTime(env: Env, ms: number, kind: string, work: () => Promise<void>): Promise<void> {
  let timer: { cancel(): void } | undefined
  const tooLong = new Promise<never>((_, reject) => {
    timer = env.timer(ms, () => {
      reject(new HoldfastError('HF_TIMEOUT', { message: `the handler of ${kind} was given up after ${String(ms)} ms`, failure: 'defect' }))
    })
  })
  try {
    const done = work()
    done.catch(() => undefined)
    await Promise.race([done, tooLong])
  } finally {
    timer?.cancel()
  }
}
