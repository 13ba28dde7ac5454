import { describe, expect, it } from 'vitest'
import { simulatedEnv } from 'holdfast/testing'
import { seededRandom } from '../kit/index.ts'
import { telegramSimulator } from './index.ts'
import { sampleRef } from './sample.ts'
import { botApi, checkRef, type MethodSchema } from './schema.ts'

/** What a method is called with: its required arguments, made from the schema, for a customer who is there. */
function argumentsFor(method: MethodSchema, random: ReturnType<typeof seededRandom>): Record<string, unknown> {
  const args: Record<string, unknown> = {}
  for (const field of method.fields.values()) {
    const [ref] = field.types
    if (field.required && ref !== undefined) args[field.name] = /^(?:from_)?chat_id$|^user_id$/.test(field.name) ? 42 : sampleRef(ref, { random, date: 1_767_225_600 }, 0, field)
  }
  // Stars take exactly one price.
  if (args['prices'] !== undefined) args['prices'] = [{ label: 'Plan', amount: 250 }]
  return args
}

/** These name something that is not there: the refusal is the right answer. */
const REFUSED: readonly string[] = [
  'forwardMessage', 'forwardMessages', 'copyMessage', 'copyMessages', 'sendMediaGroup', 'sendChatAction', 'getFile', 'answerCallbackQuery', 'setMyCommands', 'editMessageText',
  'editMessageCaption', 'editMessageMedia', 'editMessageReplyMarkup', 'deleteMessage', 'answerPreCheckoutQuery', 'refundStarPayment',
]

describe('every method of the Bot API', () => {
  it('answers what the schema says that it returns, or refuses what is not there', async () => {
    const telegram = telegramSimulator({ env: simulatedEnv({ seed: 1 }), flood: 'off' })
    telegram.user({ id: 42, firstName: 'Anna' })
    const random = seededRandom(1)
    const methods = [...botApi().methods.values()]
    expect(methods.length).toBe(180)
    for (const method of methods) {
      const reply = await telegram.call(method.name, argumentsFor(method, random))
      if (REFUSED.includes(method.name)) expect(reply, method.name).toMatchObject({ ok: false, error_code: 400 })
      else expect(reply.ok && method.returns.some(ref => checkRef(ref, reply.result, method.name, [])), `${method.name}: ${JSON.stringify(reply).slice(0, 300)}`).toBe(true)
    }
  })

  it('refuses a call without its required arguments', async () => {
    const telegram = telegramSimulator({ env: simulatedEnv({ seed: 1 }), flood: 'off' })
    for (const method of botApi().methods.values()) {
      if ([...method.fields.values()].some(field => field.required)) expect(await telegram.call(method.name), method.name).toMatchObject({ ok: false, error_code: 400 })
    }
  })
})
