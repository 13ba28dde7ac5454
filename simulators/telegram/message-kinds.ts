/**
 * One recipe for each kind of message that a bot with media must understand: what Telegram really sends, field by field.
 *
 * Kinds that nobody wrote a recipe for come from the schema (./generate.ts).
 */
import type { SeededRandom } from '../kit/index.ts'

export type Content = Readonly<Record<string, unknown>>

/** What recipes draw from. */
export interface Ingredients {
  readonly random: SeededRandom
  /** Unix seconds. */
  readonly date: number
  /** The sender. */
  readonly from: Readonly<Record<string, unknown>>
  /** The private chat with the sender. */
  readonly chat: Readonly<Record<string, unknown>>
  readonly channel: Readonly<Record<string, unknown>>
}

type Recipe = (with_: Ingredients) => Content

const TWENTY_MB = 20 * 1_048_576

function file({ random }: Ingredients, size?: number): Record<string, unknown> {
  return { file_id: `BQACAgIAAx${random.text(40)}`, file_unique_id: `AgAD${random.text(8)}`, file_size: size ?? random.int(1_000, 900_000) }
}

function photo(with_: Ingredients): readonly Content[] {
  return [[90, 60], [320, 213], [1_280, 853]].map(([width, height]) => ({ ...file(with_), width, height }))
}

function document(mimeType: string | undefined, fileName: string, size?: number): Recipe {
  return with_ => ({ document: { ...file(with_, size), file_name: fileName, ...(mimeType === undefined ? {} : { mime_type: mimeType }) } })
}

function sticker(kind: { readonly animated?: boolean; readonly video?: boolean }): Recipe {
  return with_ => ({ sticker: { ...file(with_), type: 'regular', width: 512, height: 512, is_animated: kind.animated ?? false, is_video: kind.video ?? false, emoji: '\u{1F600}', set_name: 'CityWars' } })
}

const video: Recipe = with_ => ({ video: { ...file(with_), width: 1_280, height: 720, duration: 12, mime_type: 'video/mp4', thumbnail: { ...file(with_, 900), width: 90, height: 50 } } })
const text: Recipe = ({ random }) => ({ text: `hello ${random.text(5)}` })

function forwarded(origin: Recipe): Recipe {
  return with_ => ({ ...text(with_), forward_origin: { date: with_.date - 600, ...origin(with_) } })
}

function message(with_: Ingredients, content: Content): Content {
  return { message_id: with_.random.int(1, 90_000), date: with_.date - 60, chat: with_.chat, from: with_.from, ...content }
}

export const MESSAGE_KINDS: Readonly<Record<string, Recipe>> = {
  'text': text,
  'command': () => ({ text: '/start ref_17', entities: [{ type: 'bot_command', offset: 0, length: 6 }] }),
  'unknown-command': () => ({ text: '/nonsense', entities: [{ type: 'bot_command', offset: 0, length: 9 }] }),
  'long-text': () => ({ text: 'x'.repeat(4_096) }),
  'hostile-text': () => ({ text: '<b>\u202E%s ${x} \u0000\'; DROP TABLE users; -- \u{1F468}\u200D\u{1F469}\u200D\u{1F467} \uD83D' }),
  'photo': with_ => ({ photo: photo(with_) }),
  'photo-with-caption': with_ => ({ photo: photo(with_), caption: 'look at this', caption_entities: [{ type: 'bold', offset: 0, length: 4 }] }),
  'photo-spoiler': with_ => ({ photo: photo(with_), has_media_spoiler: true }),
  'document-image': document('image/png', 'picture.png'),
  'document-video': document('video/mp4', 'clip.mp4'),
  'document-audio': document('audio/mpeg', 'song.mp3'),
  'document-pdf': document('application/pdf', 'paper.pdf'),
  'document-lying-mime': document('image/jpeg', 'setup.exe'),
  'document-without-mime': document(undefined, 'noname'),
  'document-too-big': document('video/mp4', 'film.mp4', TWENTY_MB + 1),
  'animation': with_ => {
    const shared = { ...file(with_), file_name: 'cat.mp4', mime_type: 'video/mp4' }
    return { animation: { ...shared, width: 320, height: 240, duration: 3 }, document: shared }
  },
  'video': video,
  'video-with-caption': with_ => ({ ...video(with_), caption: 'a video' }),
  'video-note': with_ => ({ video_note: { ...file(with_), length: 240, duration: 8 } }),
  'voice': with_ => ({ voice: { ...file(with_), duration: 4, mime_type: 'audio/ogg' } }),
  'audio': with_ => ({ audio: { ...file(with_), duration: 200, mime_type: 'audio/mpeg', performer: 'Someone', title: 'Song' } }),
  'sticker-static': sticker({}),
  'sticker-animated': sticker({ animated: true }),
  'sticker-video': sticker({ video: true }),
  'paid-media': with_ => ({ paid_media: { star_count: 5, paid_media: [{ type: 'preview', width: 300, height: 200, duration: 3 }, { type: 'photo', photo: photo(with_) }] } }),
  'contact': () => ({ contact: { phone_number: '+15550100', first_name: 'Pat' } }),
  'location': () => ({ location: { latitude: 55.69, longitude: 37.62 } }),
  'venue': () => ({ venue: { location: { latitude: 55.69, longitude: 37.62 }, title: 'Cafe', address: 'Street 1' } }),
  'dice': () => ({ dice: { emoji: '\u{1F3B2}', value: 4 } }),
  'forwarded-from-user': forwarded(({ from }) => ({ type: 'user', sender_user: from })),
  'forwarded-from-hidden-user': forwarded(() => ({ type: 'hidden_user', sender_user_name: 'Deleted Account' })),
  'forwarded-from-chat': forwarded(({ channel }) => ({ type: 'chat', sender_chat: { ...channel, type: 'supergroup' }, author_signature: 'admin' })),
  'forwarded-from-channel': forwarded(({ channel, random }) => ({ type: 'channel', chat: channel, message_id: random.int(1, 9_999) })),
  'forwarded-protected-video': with_ => ({ ...video(with_), has_protected_content: true, forward_origin: { type: 'channel', date: with_.date - 60, chat: with_.channel, message_id: 7 } }),
  'external-reply': with_ => ({ ...text(with_), external_reply: { origin: { type: 'channel', date: with_.date - 60, chat: with_.channel, message_id: 9 }, chat: with_.channel, message_id: 9, photo: photo(with_) } }),
  'quote': with_ => ({ ...text(with_), quote: { text: 'price', position: 4, is_manual: true }, reply_to_message: message(with_, { text: 'the price list' }) }),
  'reply': with_ => ({ ...text(with_), reply_to_message: message(with_, { photo: photo(with_) }) }),
  'topic': with_ => ({ ...text(with_), message_thread_id: 77, is_topic_message: true }),
  'pinned-inaccessible-message': with_ => ({ pinned_message: { chat: with_.chat, message_id: 5, date: 0 } }),
  'edited-later': with_ => ({ ...text(with_), edit_date: with_.date }),
  'via-bot': with_ => ({ ...text(with_), via_bot: { id: 987_654, is_bot: true, first_name: 'gif', username: 'gif' } }),
  'successful-payment': ({ random }) => ({ successful_payment: { currency: 'RUB', total_amount: 19_900, invoice_payload: `order-${random.text(8)}`, telegram_payment_charge_id: random.text(20), provider_payment_charge_id: random.text(20) } }),
  'successful-payment-stars': ({ random }) => ({ successful_payment: { currency: 'XTR', total_amount: 250, invoice_payload: `order-${random.text(8)}`, telegram_payment_charge_id: `stx${random.text(20)}`, provider_payment_charge_id: random.text(12) } }),
  'successful-payment-recurring': ({ random, date }) => ({
    successful_payment: {
      currency: 'XTR', total_amount: 250, invoice_payload: `order-${random.text(8)}`, subscription_expiration_date: date + 2_592_000, is_recurring: true,
      telegram_payment_charge_id: `stx${random.text(20)}`, provider_payment_charge_id: random.text(12),
    },
  }),
  'refunded-payment': ({ random }) => ({ refunded_payment: { currency: 'XTR', total_amount: 250, invoice_payload: `order-${random.text(8)}`, telegram_payment_charge_id: `stx${random.text(20)}` } }),
  'migrate-to-supergroup': () => ({ migrate_to_chat_id: -1_001_234_567_890 }),
  'new-members': ({ from }) => ({ new_chat_members: [from] }),
  'web-app-data': () => ({ web_app_data: { data: '{"a":1}', button_text: 'Open' } }),
}
