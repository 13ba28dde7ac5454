/**
 * What admins can do from Telegram: look, flip switches with a reason, try an activation again, revoke access.
 *
 * The same command bus as console and command line, under the actor `telegram:<id>`. Admins are who ADMIN_IDS names; for
 * everybody else these commands do not exist. Revoking cannot be taken back, so it takes a ticket and a second tap.
 */
import type { DurableHoldfast } from 'holdfast'
import { type Actor, HoldfastError, humanDuration, isHoldfastError } from 'holdfast/core'
import { confirmations } from 'holdfast/telegram'
import type { Limit } from 'holdfast/limits'
import type { Bot, Context } from 'grammy'
import { z } from 'zod'
import type { Switches } from './definitions.ts'
import type { Provisioning } from './provisioning.ts'
import { decimalOf } from './shop/money.ts'
import { subscriptionIdOf } from './shop/ids.ts'
import type { Shop } from './shop/shop.ts'

export interface AdminDeps<Tx> {
  readonly hold: DurableHoldfast<Tx>
  readonly shop: Shop<Tx>
  readonly switches: Switches
  readonly adminAction: Limit
  readonly adminIds: readonly string[]
  readonly provisioning: Provisioning
}

const HELP = [
  '/admin: how everything is',
  '/admin off <switch> [30m] <reason>: switch something off, for a time or until further notice',
  '/admin on <switch> <reason>: switch it on again',
  '/admin retry <customer id>: try to activate once more',
  '/revoke <customer id>: delete a key (asks again)',
].join('\n')

const Revocation = z.object({ customerId: z.string().regex(/^\d{1,16}$/) })

export function adminCommands<Tx>(bot: Bot, { hold, shop, switches, adminAction, adminIds, provisioning }: AdminDeps<Tx>): void {
  const revoke = hold.irreversible('revoke-access', {
    input: Revocation,
    summary: ({ customerId }) => `Delete the VPN key of customer ${customerId} now. It cannot be given back, and nothing is refunded by itself.`,
    ticketFor: '2m',
    roles: ['admin'],
    runbook: 'revoke-access',
    state: async ({ customerId }, { tx }) => {
      const subscription = await shop.subscriptionOf(tx, customerId)
      return subscription === undefined ? 'none' : `${subscription.status} g${String(subscription.generation)}`
    },
    run: async ({ customerId }, { tx }) => ({ customerId, outcome: await shop.revoke(tx, customerId) }),
  })
  const buttons = confirmations([revoke])

  const isAdmin = (ctx: Context): boolean => adminIds.includes(String(ctx.from?.id))
  const actorOf = (ctx: Context): Actor => ({ id: String(ctx.from?.id), via: 'telegram', roles: isAdmin(ctx) ? ['admin'] : [] })

  /** Why an admin may not act right now; undefined when he may. */
  const refusal = async (ctx: Context): Promise<string | undefined> => {
    const off = switches.adminActions.check('handler admin')
    if (!off.ok) return `Admin actions are switched off: ${off.message}`
    const taken = await adminAction.take(String(ctx.from?.id))
    return taken.ok ? undefined : `Too many admin actions at once; try again in ${humanDuration(taken.retryAfterMs)}.`
  }
  /** Runs an admin's request; an expected refusal is answered in its own words. */
  const guarded = async (ctx: Context, work: () => Promise<string>): Promise<void> => {
    const refused = await refusal(ctx)
    if (refused !== undefined) return void await ctx.reply(refused)
    try {
      await ctx.reply(await work())
    } catch (error) {
      if (!isHoldfastError(error) || error.failure !== 'user_error') throw error
      await ctx.reply(error.message)
    }
  }

  const admins = bot.chatType('private').filter(isAdmin)
  admins.command('admin', ctx => guarded(ctx, async () => {
    const [action = '', target = '', ...rest] = ctx.match.trim().split(/\s+/)
    switch (action) {
      case '': case 'status': return statusText()
      case 'help': return HELP
      case 'on': case 'off': {
        const forTime = /^\d+(?:s|m|h|d)$/.test(rest[0] ?? '') ? rest.shift() : undefined
        const result = await hold.command('flag.set', { target, args: { on: action === 'on', ...(forTime === undefined ? {} : { for: forTime }) }, actor: actorOf(ctx), reason: rest.join(' ') })
        return result.message
      }
      case 'retry': {
        const id = subscriptionIdOf(target)
        const waits = await hold.transaction('shop.retry-activation', tx => shop.retryActivation(tx, id))
        if (waits) provisioning.activateSoon(id)
        return waits ? `The activation of customer ${target} is tried again.` : `Customer ${target} does not wait for a person; nothing changed.`
      }
      default: return `There is no such admin command.\n${HELP}`
    }
  }))

  admins.command('revoke', async ctx => {
    const refused = await refusal(ctx)
    if (refused !== undefined) return void await ctx.reply(refused)
    const customerId = ctx.match.trim()
    if (!Revocation.safeParse({ customerId }).success) return void await ctx.reply('Whose key? /revoke <customer id>, a number.')
    const subscription = await hold.transaction('shop.revoke-asked', tx => shop.subscriptionOf(tx, customerId))
    if (subscription === undefined || subscription.status === 'expired' || subscription.status === 'revoked') return void await ctx.reply(`Customer ${customerId} has no key.`)
    const ticket = await revoke.request({ customerId }, actorOf(ctx))
    await ctx.reply(ticket.summary, { reply_markup: buttons.keyboard(revoke, ticket, { yes: 'Delete the key', no: 'Cancel' }) })
  })

  bot.callbackQuery(/^hf[+-]/, async (ctx, next) => {
    // Whoever is no admin has no roles, and is refused where the ticket is checked.
    const off = switches.adminActions.check('handler confirm')
    if (!off.ok) return void await ctx.answerCallbackQuery({ text: 'Admin actions are switched off.', show_alert: true })
    const pressed = await buttons.press(ctx.callbackQuery.data, actorOf(ctx))
    if (pressed === undefined) return next()
    if (pressed.outcome === 'refused') return void await ctx.answerCallbackQuery({ text: refusedText(pressed.why), show_alert: true })
    await ctx.answerCallbackQuery()
    if (pressed.outcome === 'cancelled') return void await ctx.editMessageText('Cancelled; nothing was changed.')
    const { customerId, outcome } = pressed.value
    if (outcome === 'revoking') provisioning.removeSoon(subscriptionIdOf(customerId))
    await ctx.editMessageText(outcome === 'nothing' ? `Customer ${customerId} had no key any more.` : `The key of customer ${customerId} is being deleted.`)
  })

  async function statusText(): Promise<string> {
    const status = await hold.status()
    const counts = await hold.transaction('shop.counts', tx => shop.counts(tx))
    const byStatus = (counted: Readonly<Record<string, number>>): string => Object.entries(counted).map(([name, count]) => `${name} ${String(count)}`).join(', ') || 'none'
    return [
      status.verdict.sentence,
      '',
      ...status.dependencies.map(item => `${item.name}: ${item.breaker}${item.lastError === undefined ? '' : ` (${item.lastError.message.slice(0, 80)})`}`),
      ...status.workers.map(item => `${item.name}: ${item.lastOutcome ?? item.state}${item.lastReason === undefined ? '' : ` (${item.lastReason.slice(0, 80)})`}`),
      '',
      ...status.flags.map(flag => `${flag.name}: ${flag.on ? 'on' : 'OFF'} (${flag.because})`),
      '',
      `subscriptions: ${byStatus(counts.subscriptions)}`,
      `orders: ${byStatus(counts.orders)}`,
      `owed to customers: ${decimalOf(counts.owedMinor, 'RUB')} RUB`,
      `stuck work: ${String(status.work.length)}`,
      '',
      'More: /admin help',
    ].join('\n').slice(0, 4_000)
  }
}

function refusedText(why: string): string {
  const texts: Readonly<Record<string, string>> = {
    'unknown': 'This confirmation is not known any more.',
    'expired': 'This confirmation has expired; ask again with /revoke.',
    'used': 'This was confirmed already.',
    'other-actor': 'Only who asked for it can confirm it.',
    'state-changed': 'Something has changed since you asked; ask again with /revoke.',
    'too-many': 'Too many wrong confirmations; wait a few minutes.',
    'forbidden': 'This is for admins.',
  }
  const text = texts[why]
  if (text === undefined) throw new HoldfastError('HF_INVARIANT', { message: `a refusal ${why} has no text` })
  return text
}
