/**
 * What the server refuses about keyboards that the schema does not say: one action for each button, 64 bytes of data.
 */
import { badRequest, type InlineKeyboardButton } from './types.ts'

const LABELS: readonly string[] = ['text', 'style', 'icon_custom_emoji_id']
const DATA_MAX_BYTES = 64
const BUTTONS_MAX = 100

/** @throws ApiError 400 */
export function checkKeyboard(markup: unknown, options: { readonly invoice: boolean }): void {
  if (typeof markup !== 'object' || markup === null || !('inline_keyboard' in markup)) return
  const rows = markup.inline_keyboard as readonly (readonly InlineKeyboardButton[])[]
  let count = 0
  for (const [rowIndex, row] of rows.entries()) {
    for (const [columnIndex, button] of row.entries()) {
      count += 1
      const actions = Object.entries(button).filter(([name, value]) => !LABELS.includes(name) && value !== '' && value !== undefined)
      if (actions.length === 0) throw badRequest("can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard")
      if (actions.length > 1) throw badRequest("can't parse inline keyboard button: exactly one optional field must be used")
      if (button.callback_data !== undefined && Buffer.byteLength(button.callback_data) > DATA_MAX_BYTES) throw badRequest('BUTTON_DATA_INVALID')
      if (button.url !== undefined && !isLink(button.url)) throw badRequest(`inline keyboard button URL '${button.url}' is invalid: Wrong HTTP URL`)
      if (button.pay === true && (rowIndex > 0 || columnIndex > 0 || !options.invoice)) throw badRequest('BUTTON_TYPE_INVALID')
    }
  }
  if (count > BUTTONS_MAX) throw badRequest('REPLY_MARKUP_TOO_LONG')
  if (options.invoice && count > 0 && rows[0]?.[0]?.pay !== true) throw badRequest('BUTTON_TYPE_INVALID')
}

function isLink(url: string): boolean {
  return /^(?:https?|tg|ton):\/\/[^\s]+$/i.test(url) || /^[\w-]+(?:\.[\w-]+)+(?:\/\S*)?$/.test(url)
}
