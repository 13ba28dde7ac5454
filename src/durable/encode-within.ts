/**
 * JSON text of bounded size: what is kept for later must not grow a table, a backup and every reader of it without a limit.
 */
import { encodeJson, HoldfastError } from '../core/index.ts'

/** @throws HF_INPUT_INVALID beyond `bytesMax` of UTF-8, HF_RESULT_NOT_JSON */
export function encodeWithin(value: unknown, where: string, bytesMax: number): string {
  const text = encodeJson(value, where)
  const bytes = Buffer.byteLength(text)
  if (bytes > bytesMax) throw new HoldfastError('HF_INPUT_INVALID', { message: `${where}: expected at most ${String(bytesMax)} bytes of JSON, got ${String(bytes)}`, context: { where } })
  return text
}
