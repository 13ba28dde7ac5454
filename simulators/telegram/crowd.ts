/**
 * A handful of customers who come, look around, buy by card or by crypto, and ask for their key: for demos and soaks.
 *
 * What they press is given as patterns, so the crowd fits any bot. They give up quietly where a person would (no such
 * button, no answer), count it, and come back later; nothing they meet is thrown.
 */
import { type Duration, type Env, HoldfastError } from 'holdfast/core'
import { type SeededRandom, seededRandom } from '../kit/index.ts'
import type { ButtonPattern, UserActor } from './actor.ts'
import type { TelegramSimulator } from './telegram-simulator.ts'

/** What to press and what to look for. */
export interface CrowdScript {
  /** Default `/start`. */
  readonly start?: string
  /** What opens the list of plans, when /start does not show it: pressed one after the other. */
  readonly browse?: readonly ButtonPattern[]
  /** A plan. */
  readonly plan: ButtonPattern
  /** Pay by invoice in the chat. */
  readonly card?: ButtonPattern
  /** Pay by Crypto Pay: the answer holds the link, as a button or in its text. */
  readonly crypto?: ButtonPattern
  /** Default `/key`. */
  readonly key?: string
  /** How a delivered key looks. Default `vless://`. */
  readonly delivered?: RegExp
}

export interface CrowdOptions {
  readonly telegram: TelegramSimulator
  /** Without it nobody buys by crypto. */
  readonly cryptoPay?: { pay(invoiceUrl: string): unknown }
  readonly env: Env
  /** 1 to 1000. */
  readonly count: number
  /** Between two steps of one customer, on average; between two visits ten times that. */
  readonly paceMs: number
  /** Default 1. */
  readonly seed?: number
  readonly script: CrowdScript
  /** Ids count up from here. Default 7000001. */
  readonly firstId?: number
  /** How long one waits for an answer. Default 30000. */
  readonly patienceMs?: number
}

export interface CrowdStats {
  readonly visits: number
  readonly paidByCard: number
  readonly paidByCrypto: number
  /** The bot said no before the charge. */
  readonly refused: number
  /** No such button, or no answer in time. */
  readonly gaveUp: number
  /** Answers to the request for the key that hold one. */
  readonly keysSeen: number
  /** Why somebody gave up, last. */
  readonly lastTrouble: string | undefined
}

export interface Crowd {
  start(): void
  /** Resolves when everybody has put the phone away. */
  stop(): Promise<void>
  stats(): CrowdStats
  readonly users: readonly UserActor[]
}

const NAMES = ['Anna', 'Boris', 'Chen', 'Daria', 'Emil', 'Fatima', 'Georg', 'Hana', 'Ivan', 'Jana', 'Kofi', 'Lena'] as const
const CRYPTO_LINK = /https:\/\/\S*IV[A-Za-z0-9]{10}/
const VISIT_PAUSE_STEPS = 10

export function crowd(options: CrowdOptions): Crowd {
  const { telegram, env, count, paceMs, script, seed = 1, firstId = 7_000_001 } = options
  if (!Number.isInteger(count) || count < 1 || count > 1_000) throw new HoldfastError('HF_OPTION_INVALID', { message: `crowd: count: expected 1 to 1000, got ${String(count)}` })
  if (script.card === undefined && script.crypto === undefined) throw new HoldfastError('HF_OPTION_INVALID', { message: 'crowd: script: expected card or crypto' })
  const random = seededRandom(seed)
  const users = Array.from({ length: count }, (_, index) => telegram.user({
    id: firstId + index, firstName: NAMES[index % NAMES.length] ?? 'Anna', languageCode: index % 2 === 0 ? 'en' : 'ru',
  }))
  const stats = { visits: 0, paidByCard: 0, paidByCrypto: 0, refused: 0, gaveUp: 0, keysSeen: 0, lastTrouble: undefined as string | undefined }
  let leaving: AbortController | undefined
  let everybody: Promise<unknown> = Promise.resolve()

  const customer = async (user: UserActor, chance: SeededRandom, signal: AbortSignal): Promise<void> => {
    const pause = (steps = 1): Promise<void> => env.sleep(paceMs * steps * (0.5 + chance.next()), signal)
    await pause(chance.next() * 3)
    while (!signal.aborted) {
      try {
        stats.visits += 1
        await visit(user, chance, pause, signal)
      } catch (error) {
        stats.gaveUp += 1
        stats.lastTrouble = error instanceof Error ? error.message : String(error)
      }
      await pause(VISIT_PAUSE_STEPS)
    }
  }

  const visit = async (user: UserActor, chance: SeededRandom, pause: () => Promise<void>, signal: AbortSignal): Promise<void> => {
    const patience: Duration = `${options.patienceMs ?? 30_000}ms`
    const step = async (press: ButtonPattern): Promise<void> => {
      await pause()
      if (signal.aborted) return
      const pressed = user.press(press)
      if (pressed.kind === 'callback') await pressed.answered
    }
    user.command(script.start ?? '/start')
    await user.waitFor(/./s, patience)
    for (const press of [...(script.browse ?? []), script.plan]) await step(press)
    await pause()
    if (signal.aborted) return
    const byCard = script.card !== undefined && (script.crypto === undefined || options.cryptoPay === undefined || chance.next() < 0.6)
    if (byCard) await payByCard(user, script.card, step)
    else await payByCrypto(user, step, patience)
    await pause()
    if (signal.aborted) return
    user.command(script.key ?? '/key')
    const answer = await user.waitFor(/./s, patience)
    if ((script.delivered ?? /vless:\/\//).test(answer.text)) stats.keysSeen += 1
  }

  const payByCard = async (user: UserActor, press: ButtonPattern, step: (press: ButtonPattern) => Promise<void>): Promise<void> => {
    const before = user.inbox.length
    await step(press)
    if (user.inbox.slice(before).every(message => message.invoice === undefined)) await env.sleep(Math.min(2_000, paceMs))
    const payment = await user.pay()
    if (payment.outcome === 'charged') stats.paidByCard += 1
    else stats.refused += 1
  }

  const payByCrypto = async (user: UserActor, step: (press: ButtonPattern) => Promise<void>, patience: Duration): Promise<void> => {
    if (script.crypto === undefined) return
    await step(script.crypto)
    await user.waitFor(/./s, patience)
    const message = user.inbox.findLast(item => !item.deleted && (CRYPTO_LINK.test(item.text) || item.buttons.flat().some(button => CRYPTO_LINK.test(button.url ?? ''))))
    const link = message === undefined ? undefined : CRYPTO_LINK.exec(message.text)?.[0] ?? message.buttons.flat().find(button => CRYPTO_LINK.test(button.url ?? ''))?.url
    if (link === undefined) throw new RangeError(`${user.user.first_name} sees no link to Crypto Pay`)
    options.cryptoPay?.pay(link)
    stats.paidByCrypto += 1
  }

  return {
    users,
    start() {
      if (leaving !== undefined) return
      leaving = new AbortController()
      const { signal } = leaving
      everybody = Promise.all(users.map(user => customer(user, seededRandom(random.int(0, 0xffffffff)), signal)))
    },
    async stop() {
      leaving?.abort()
      leaving = undefined
      await everybody
    },
    stats: () => ({ ...stats }),
  }
}
