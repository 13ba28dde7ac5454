/**
 * Updates of every kind, made by a seed and valid by the schema: what a webhook must survive.
 *
 * First every recipe of ./message-kinds.ts and of this file, then every field that `Message` and `Update` have in the
 * schema, then a random mix. So 300 updates contain each kind of message and of update that Bot API 10.1 knows.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { type SeededRandom, seededRandom } from '../kit/index.ts'
import { type Content, type Ingredients, MESSAGE_KINDS } from './message-kinds.ts'
import { sampleRef } from './sample.ts'
import { botApi, dataFile } from './schema.ts'
import type { Update } from './types.ts'

export interface GenerateOptions {
  readonly seed: number
  readonly count: number
  /** Number of the first update. Default 1000000. */
  readonly startId?: number
  /** Unix seconds. Default 2026-01-01. */
  readonly date?: number
}

type Made = Omit<Update, 'update_id'> & Content
type Maker = (with_: Ingredients) => Made

const MESSAGE_ID_MAX = 900_000

/** Deterministic by seed; a longer run begins with the shorter one. */
export function generateUpdates({ seed, count, startId = 1_000_000, date = 1_767_225_600 }: GenerateOptions): readonly Update[] {
  const random = seededRandom(seed)
  const makers = [...recipes(), ...fromSchema()]
  const updates: Update[] = []
  for (let index = 0; updates.length < count; index += 1) {
    const with_ = ingredients(random, date + index)
    const maker = makers[index] ?? random.pick(makers)
    for (const made of makeAll(maker, with_, index)) if (updates.length < count) updates.push({ update_id: startId + updates.length, ...made })
  }
  return updates
}

/** How many updates hold each kind once. */
export function kindsOfUpdates(): number {
  return recipes().length + fromSchema().length
}

/**
 * Recorded updates of 2017 (Illemius/telegram_types, MIT): old shapes that a bot must not stumble over. Bare messages are
 * wrapped; each has a number of its own, as most were recorded under the same one and would be taken for duplicates.
 */
export function fixtureUpdates(): readonly { readonly name: string; readonly update: Update }[] {
  const folder = dataFile('updates/')
  return readdirSync(folder).filter(name => name.endsWith('.json')).sort().map((name, index) => {
    const recorded = JSON.parse(readFileSync(new URL(name, folder), 'utf8')) as Readonly<Record<string, unknown>>
    const content = typeof recorded['update_id'] === 'number' ? recorded : { message: recorded }
    return { name, update: { ...content, update_id: 900_000_000 + index } }
  })
}

/** An album is several messages of one `media_group_id`. */
function makeAll(maker: Maker, with_: Ingredients, index: number): readonly Made[] {
  const first = maker(with_)
  const message = first['message'] as Content | undefined
  if (message?.['media_group_id'] === undefined) return [first]
  const more = maker(with_)['message'] as Content
  return [first, { message: { ...more, message_id: Number(message['message_id']) + 1, media_group_id: message['media_group_id'], caption: `second of album ${String(index)}` } }]
}

function ingredients(random: SeededRandom, date: number): Ingredients {
  const id = random.int(10_000_000, 7_000_000_000)
  const firstName = random.pick(['Anna', 'Иван', '李', '<b>Eve</b>', 'O\'Neil & co', '\u200B', 'Zoë'])
  const person = { first_name: firstName, ...(random.next() < 0.5 ? { username: `user_${random.text(6)}` } : {}) }
  const language = random.pick(['en', 'ru', 'pt-br', undefined])
  return {
    random, date,
    from: { id, is_bot: false, ...person, ...(language === undefined ? {} : { language_code: language }) },
    chat: { id, type: 'private', ...person },
    channel: { id: -1_000_000_000_000 - random.int(1, 999_999_999), type: 'channel', title: 'News' },
  }
}

function message({ random, date, from, chat }: Ingredients, content: Content): Content {
  return { message_id: random.int(1, MESSAGE_ID_MAX), from, chat, date, ...content }
}

function recipes(): readonly Maker[] {
  const group: Maker = with_ => ({ message: { ...message(with_, { text: '/start@holdfast_demo_bot' }), chat: { id: -1_001_111_111_111, type: 'supergroup', title: 'Group' } } })
  return [
    ...Object.values(MESSAGE_KINDS).map((recipe): Maker => with_ => ({ message: message(with_, recipe(with_)) })),
    with_ => ({ message: message(with_, { media_group_id: with_.random.text(12), ...(MESSAGE_KINDS['photo']?.(with_) ?? {}) }) }),
    with_ => ({ edited_message: message(with_, { edit_date: with_.date + 1, text: 'edited' }) }),
    with_ => ({ edited_message: message(with_, { edit_date: with_.date + 1, ...(MESSAGE_KINDS['photo-with-caption']?.(with_) ?? {}) }) }),
    with_ => ({ channel_post: { message_id: 3, date: with_.date, chat: with_.channel, sender_chat: with_.channel, text: 'post' } }),
    group,
    with_ => ({ callback_query: callback(with_, { message: message(with_, { text: 'menu' }), data: 'menu:buy' }) }),
    with_ => ({ callback_query: callback(with_, { message: message(with_, { text: 'old menu' }), data: 'x'.repeat(64) }) }),
    with_ => ({ callback_query: callback(with_, { message: { chat: with_.chat, message_id: 5, date: 0 }, data: 'gone' }) }),
    with_ => ({ callback_query: callback(with_, { inline_message_id: with_.random.text(20), data: 'inline' }) }),
    with_ => ({ callback_query: callback(with_, { message: message(with_, { text: 'game' }), game_short_name: 'karate' }) }),
    with_ => ({ pre_checkout_query: { id: String(with_.random.int(1e9, 9e9)), from: with_.from, currency: 'RUB', total_amount: 19_900, invoice_payload: 'unknown-order' } }),
    with_ => ({ pre_checkout_query: { id: String(with_.random.int(1e9, 9e9)), from: with_.from, currency: 'XTR', total_amount: 250, invoice_payload: '' } }),
    with_ => ({ inline_query: { id: String(with_.random.int(1e9, 9e9)), from: with_.from, query: 'buy', offset: '' } }),
    with_ => ({ my_chat_member: membership(with_, 'member', 'kicked') }),
    with_ => ({ my_chat_member: membership(with_, 'kicked', 'member') }),
    with_ => ({ message_reaction: { chat: with_.chat, message_id: 4, user: with_.from, date: with_.date, old_reaction: [], new_reaction: [{ type: 'emoji', emoji: '\u{1F44D}' }] } }),
  ]
}

function callback({ random, from }: Ingredients, content: Content): Content {
  return { id: `${String(random.int(1e8, 9e8))}${String(random.int(1e8, 9e8))}`, from, chat_instance: random.text(16), ...content }
}

function membership({ chat, from, date }: Ingredients, before: string, after: string): Content {
  const bot = { id: 1_000_000_001, is_bot: true, first_name: 'Holdfast demo', username: 'holdfast_demo_bot' }
  const member = (status: string): Content => ({ status, user: bot, ...(status === 'kicked' ? { until_date: 0 } : {}) })
  return { chat, from, date, old_chat_member: member(before), new_chat_member: member(after) }
}

/** Fields that say who and when: the recipes fill them in. */
const FRAME: readonly string[] = ['message_id', 'date', 'chat', 'from', 'update_id']

function fromSchema(): readonly Maker[] {
  const { types } = botApi()
  const made: Maker[] = []
  for (const field of types.get('Message')?.fields.values() ?? []) {
    const [ref] = field.types
    if (ref === undefined || FRAME.includes(field.name)) continue
    made.push(with_ => ({ message: message(with_, { [field.name]: sampleRef(ref, { random: with_.random, date: with_.date, optional: 0.3 }, 1, field) }) }))
  }
  for (const field of types.get('Update')?.fields.values() ?? []) {
    const [ref] = field.types
    if (ref === undefined || FRAME.includes(field.name)) continue
    made.push(with_ => {
      const payload = sampleRef(ref, { random: with_.random, date: with_.date, optional: 0.3 }, 0, field) as Content
      const person = types.get(ref.kind === 'named' ? ref.name : '')?.fields.has('from') === true ? { from: with_.from } : {}
      return { [field.name]: { ...payload, ...person } }
    })
  }
  return made
}
