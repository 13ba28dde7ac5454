/**
 * Digests: which input a key was first used with, and the key that the other side is given.
 *
 * SHA-256 over canonical JSON: a fingerprint is compared years later and by other versions, so it must not depend on
 * the order of properties. Never reversed, so it may be stored and logged where the input may not.
 */
import { createHash } from 'node:crypto'
import { canonicalJson, encodeJson, HoldfastError, type Json } from '../core/index.ts'

export function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

/**
 * Fingerprint of an input: of what the schema decoded, so that a field which the schema drops makes no difference.
 * Where the decoded value is not JSON (a schema that makes a Date), of the input as it was given.
 */
export function fingerprintOf(decoded: unknown, given: unknown): string {
  try {
    encodeJson(decoded, 'fingerprint')
    return sha256(canonicalJson(decoded))
  } catch {
    // Not JSON once decoded: the given input is, because it was encoded for the record before.
    return sha256(canonicalJson(given))
  }
}

/** Fingerprint of what its definition says must be the same. @throws HF_RESULT_NOT_JSON */
export function fingerprintOfJson(value: Json, where: string): string {
  encodeJson(value, where)
  return sha256(canonicalJson(value))
}

/** Longest key that is accepted; longer ones make indexes slow and logs unreadable. Hash long keys yourself. */
const KEY_LENGTH_MAX = 300

/** @throws HF_INPUT_INVALID for an empty or overlong key */
export function checkKey(what: string, key: unknown): string {
  if (typeof key === 'string' && key.length > 0 && key.length <= KEY_LENGTH_MAX) return key
  const got = typeof key === 'string' ? `one of ${String(key.length)}` : typeof key
  throw new HoldfastError('HF_INPUT_INVALID', { message: `${what}: expected a key of 1 to ${String(KEY_LENGTH_MAX)} characters, got ${got}`, context: { what } })
}
