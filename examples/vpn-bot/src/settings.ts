/**
 * The settings of the bot, and which of three ways it starts: against the real world, or (with no credentials at all) as
 * a demonstration against simulators. Some credentials and not others is neither, and is refused with what is missing.
 */
import { HoldfastError, isHoldfastError } from 'holdfast/core'
import { config, integer, list, secret, text, url } from 'holdfast/config'

const SPEC = {
  BOT_TOKEN: secret({ pattern: /^\d+:[\w-]{20,}$/, expected: 'a token such as 123456:ABC-DEF...', remedy: 'ask @BotFather for one' }),
  TELEGRAM_WEBHOOK_SECRET: secret({ minLength: 16, pattern: /^[A-Za-z0-9_-]{16,256}$/, expected: '16 to 256 letters, digits, _ and -', remedy: 'make one: openssl rand -hex 32' }),
  CRYPTO_PAY_TOKEN: secret({ minLength: 10, remedy: 'create an app at @CryptoBot, Crypto Pay' }),
  CRYPTO_PAY_URL: url({ default: 'https://pay.crypt.bot', remedy: 'https://testnet-pay.crypt.bot for the test network' }),
  PAYMENT_PROVIDER_TOKEN: secret({ minLength: 5, remedy: '@BotFather, Payments; use a provider that charges roubles' }),
  VPN_PANEL_URL: url({ remedy: 'the address of your Marzban panel' }),
  VPN_PANEL_TOKEN: secret({ minLength: 8, remedy: 'an access token of the panel' }),
  DATABASE_URL: url({ protocols: ['postgres', 'postgresql'], secret: true, remedy: 'postgres://user:password@host/database; without it the embedded store in DATA_DIR is used' }),
  ADMIN_IDS: list({ pattern: /^\d{1,16}$/, expected: 'Telegram user ids (numbers)', remedy: 'ask @userinfobot for yours' }),
  PUBLIC_URL: url({ protocols: ['https', 'http'], remedy: 'where Telegram reaches this server, such as https://bot.example.org' }),
  TELEGRAM_API_ROOT: url({ default: 'https://api.telegram.org', remedy: 'only for a local Bot API server' }),
  PORT: integer({ default: 8700, min: 0, max: 65_535 }),
  HOST: text({ default: '127.0.0.1' }),
  CONSOLE_TOKEN: secret({ minLength: 32, remedy: 'make one: openssl rand -hex 32; needed when HOST is not this machine only' }),
  DATA_DIR: text({}),
} as const

/** Without one of these the real world cannot be served. */
const CREDENTIALS = ['BOT_TOKEN', 'TELEGRAM_WEBHOOK_SECRET', 'CRYPTO_PAY_TOKEN', 'PAYMENT_PROVIDER_TOKEN', 'VPN_PANEL_URL', 'VPN_PANEL_TOKEN', 'ADMIN_IDS', 'PUBLIC_URL'] as const

export const LOOPBACK: readonly string[] = ['127.0.0.1', 'localhost', '::1']

/** What the app needs to know about the partners. */
export interface BotConfig {
  readonly botToken: string
  readonly telegramApiRoot: string
  readonly webhookSecret: string
  /** Where Telegram delivers; undefined: somebody else has registered the webhook (tests, simulators). */
  readonly publicUrl: string | undefined
  readonly cryptoPayToken: string
  readonly cryptoPayUrl: string
  readonly paymentProviderToken: string
  readonly panelUrl: string
  readonly panelToken: string
  readonly adminIds: readonly string[]
}

export interface Settings {
  /** Undefined: no credentials were given, a demonstration is wanted. */
  readonly bot: BotConfig | undefined
  readonly databaseUrl: string | undefined
  readonly dataDir: string | undefined
  readonly port: number
  readonly host: string
  readonly consoleToken: string | undefined
  /** Every secret text, for the redaction of logs. */
  readonly secrets: readonly string[]
}

/** @throws HF_CONFIG_INVALID naming everything that is wrong or missing, each with its remedy */
export function readSettings(environment: Readonly<Record<string, string | undefined>>): Settings {
  const given = CREDENTIALS.filter(name => (environment[name]?.trim() ?? '') !== '')
  // One credential means that the real world is wanted, and then each of them is required.
  const spec = given.length === 0 ? SPEC : { ...SPEC, ...Object.fromEntries(CREDENTIALS.map(name => [name, { ...SPEC[name], required: true }])) }
  const { values, secrets } = read(spec, environment, given.length > 0)
  const common = { databaseUrl: values.DATABASE_URL, dataDir: values.DATA_DIR, port: values.PORT, host: values.HOST, consoleToken: values.CONSOLE_TOKEN?.reveal(), secrets }
  if (given.length === 0) return { ...common, bot: undefined }
  return {
    ...common,
    bot: {
      botToken: values.BOT_TOKEN?.reveal() ?? '', telegramApiRoot: values.TELEGRAM_API_ROOT, webhookSecret: values.TELEGRAM_WEBHOOK_SECRET?.reveal() ?? '', publicUrl: values.PUBLIC_URL,
      cryptoPayToken: values.CRYPTO_PAY_TOKEN?.reveal() ?? '', cryptoPayUrl: values.CRYPTO_PAY_URL, paymentProviderToken: values.PAYMENT_PROVIDER_TOKEN?.reveal() ?? '',
      panelUrl: values.VPN_PANEL_URL ?? '', panelToken: values.VPN_PANEL_TOKEN?.reveal() ?? '', adminIds: values.ADMIN_IDS ?? [],
    },
  }
}

function read(spec: typeof SPEC, environment: Readonly<Record<string, string | undefined>>, real: boolean): ReturnType<typeof config<typeof SPEC>> {
  try {
    return config(spec, environment, {
      prefixes: ['BOT_', 'TELEGRAM_', 'CRYPTO_PAY_', 'VPN_PANEL_', 'PAYMENT_', 'ADMIN_'],
      check: [({ HOST: host, CONSOLE_TOKEN: token }) => (LOOPBACK.includes(String(host)) || token !== undefined ? undefined : `CONSOLE_TOKEN is missing: HOST is ${String(host)}, so the console would be open to others (${SPEC.CONSOLE_TOKEN.remedy ?? ''})`)],
    })
  } catch (error) {
    if (!real || !isHoldfastError(error)) throw error
    throw new HoldfastError('HF_CONFIG_INVALID', { message: `${error.message}\nSet all credentials, or none of them for a demonstration against simulators.`, cause: error })
  }
}
