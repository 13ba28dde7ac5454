/**
 * Is this request from whom it claims? Shared secrets and HMAC signatures, compared in constant time.
 *
 * A verifier cannot be made without a secret: a webhook that accepts everything because a setting was forgotten is the
 * most common lapse in this field. Several secrets are accepted at once, so that they can be rotated. Missing, wrong,
 * truncated and duplicated signatures are all answered with the same words.
 */
import { createHash, createHmac } from 'node:crypto'
import { HoldfastError, secretMatches } from '../core/index.ts'

/** Checks a request before its body is read (`early`) and with it (`late`). Throws HF_SIGNATURE_INVALID. */
export interface Verifier {
  readonly early?: (request: Request) => void
  readonly late?: (request: Request, body: Uint8Array) => void
}

export interface SharedSecretOptions {
  /** `x-telegram-bot-api-secret-token` */
  readonly header: string
  /** The current secret, and the old one while it is rotated. */
  readonly secrets: string | readonly string[]
}

/**
 * The sender repeats a secret in a header (Telegram). Checked before the body is read.
 * @throws HF_OPTION_INVALID without a secret
 */
export function sharedSecret(options: SharedSecretOptions): Verifier {
  const secrets = checkedSecrets(options.secrets, `shared secret ${options.header}`)
  return {
    early: request => {
      if (!secretMatches(request.headers.get(options.header), secrets)) throw refused()
    },
  }
}

/**
 * Crypto Pay: `crypto-pay-api-signature` is the hex HMAC-SHA-256 of the raw body under SHA-256 of the API token.
 * @throws HF_OPTION_INVALID without a token
 */
export function cryptoPaySignature(tokens: string | readonly string[]): Verifier {
  const keys = checkedSecrets(tokens, 'crypto pay token').map(token => createHash('sha256').update(token).digest())
  return {
    late: (request, body) => {
      const wanted = keys.map(key => createHmac('sha256', key).update(body).digest('hex'))
      if (!secretMatches(request.headers.get('crypto-pay-api-signature')?.toLowerCase(), wanted)) throw refused()
    },
  }
}

function checkedSecrets(given: string | readonly string[], where: string): readonly string[] {
  const secrets = typeof given === 'string' ? [given] : given
  if (secrets.length === 0 || secrets.some(secret => secret === '')) {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `${where}: expected at least one secret and none empty; without one every forged request would be accepted`, context: { option: where } })
  }
  return secrets
}

function refused(): HoldfastError {
  return new HoldfastError('HF_SIGNATURE_INVALID', { message: 'the signature is missing or wrong', stackless: true })
}
