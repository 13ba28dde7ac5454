/**
 * The kinds of settings: how a text from the environment becomes a value, and what is said when it can't.
 */
import { type Duration, durationMs, HoldfastError } from '../core/index.ts'
import { Secret } from './secret.ts'

/** What every kind of setting may say about itself. */
export interface SettingOptions<T> {
  /** Used when the setting is absent or empty. */
  readonly default?: T
  /** Absent is a problem. A setting with neither `required` nor `default` is `undefined` when absent. */
  readonly required?: boolean
  /** One sentence: how somebody gets or makes the value. Shown with every problem. */
  readonly remedy?: string
}

/** One declared setting. `Value` is what the program gets. */
export interface Setting<Value> {
  readonly isSecret: boolean
  readonly required: boolean
  readonly fallback: Value | undefined
  readonly remedy: string | undefined
  /** Throws a sentence that says what was expected; it must never hold the value of a secret. */
  readonly parse: (text: string, name: string) => Value
}

type Optional<T, O> = O extends { readonly required: true } | { readonly default: T } ? T : T | undefined

function setting<T, const O extends SettingOptions<T>>(options: O | undefined, parse: (text: string, name: string) => T, isSecret = false): Setting<Optional<T, O>> {
  return { isSecret, required: options?.required === true, fallback: options?.default, remedy: options?.remedy, parse: parse }
}

function expected(what: string): never {
  throw new HoldfastError('HF_CONFIG_INVALID', { message: `expected ${what}`, stackless: true })
}

/** Any text; `minLength` in characters, `pattern` with `expected` in words. */
export function text<const O extends SettingOptions<string> & { readonly minLength?: number; readonly pattern?: RegExp; readonly expected?: string }>(options?: O): Setting<Optional<string, O>> {
  return setting<string, O>(options, value => {
    if (value.length < (options?.minLength ?? 0)) expected(`at least ${String(options?.minLength)} characters`)
    if (options?.pattern !== undefined && !options.pattern.test(value)) expected(options.expected ?? `something that matches ${String(options.pattern)}`)
    return value
  })
}

/** Like `text`, but the program gets a `Secret` and no message ever shows it. `minLength` default 1; 32 for signing keys. */
export function secret<const O extends Omit<SettingOptions<Secret>, 'default'> & { readonly minLength?: number; readonly pattern?: RegExp; readonly expected?: string }>(options?: O): Setting<Optional<Secret, O>> {
  return setting<Secret, O>(
    options,
    (value, name) => {
      if (value.length < (options?.minLength ?? 1)) expected(`a secret of at least ${String(options?.minLength)} characters, got ${String(value.length)}`)
      if (options?.pattern !== undefined && !options.pattern.test(value)) expected(options.expected ?? 'a secret of another form')
      return new Secret(name, value)
    },
    true,
  )
}

/** A URL; `protocols` default http and https. Comes without a trailing slash. */
export function url<const O extends SettingOptions<string> & { readonly protocols?: readonly string[]; readonly secret?: boolean }>(options?: O): Setting<Optional<string, O>> {
  const protocols = options?.protocols ?? ['http', 'https']
  return setting<string, O>(
    options,
    value => {
      const parsed = URL.canParse(value) ? new URL(value) : undefined
      if (parsed === undefined || !protocols.includes(parsed.protocol.slice(0, -1))) expected(`a URL that begins with ${protocols.map(protocol => `${protocol}://`).join(' or ')}`)
      return value.replace(/\/$/, '')
    },
    // A database URL holds a password.
    options?.secret === true,
  )
}

/** A whole number within `min` and `max`. */
export function integer<const O extends SettingOptions<number> & { readonly min?: number; readonly max?: number }>(options?: O): Setting<Optional<number, O>> {
  const min = options?.min ?? Number.MIN_SAFE_INTEGER
  const max = options?.max ?? Number.MAX_SAFE_INTEGER
  return setting<number, O>(options, value => {
    const number = /^-?\d+$/.test(value) ? Number(value) : Number.NaN
    if (!(number >= min && number <= max)) expected(`a whole number from ${String(min)} to ${String(max)}, got ${JSON.stringify(value)}`)
    return number
  })
}

/** `true/false`, `1/0`, `on/off`, `yes/no`. */
export function flag<const O extends SettingOptions<boolean>>(options?: O): Setting<Optional<boolean, O>> {
  return setting<boolean, O>(options, value => {
    if (/^(?:true|1|on|yes)$/i.test(value)) return true
    if (/^(?:false|0|off|no)$/i.test(value)) return false
    return expected(`true or false, got ${JSON.stringify(value)}`)
  })
}

/** Values separated by commas; empty ones are dropped. */
export function list<const O extends SettingOptions<readonly string[]> & { readonly pattern?: RegExp; readonly expected?: string }>(options?: O): Setting<Optional<readonly string[], O>> {
  return setting<readonly string[], O>(options, value => {
    const items = value.split(',').map(item => item.trim()).filter(item => item !== '')
    const wrong = items.find(item => options?.pattern?.test(item) === false)
    if (wrong !== undefined) expected(`${options?.expected ?? `items that match ${String(options?.pattern)}`}, separated by commas, got ${JSON.stringify(wrong)}`)
    return items
  })
}

/** A duration with its unit; the program gets milliseconds. */
export function duration<const O extends Omit<SettingOptions<number>, 'default'> & { readonly default?: number }>(options?: O): Setting<Optional<number, O>> {
  return setting<number, O>(options, (value, name) => durationMs(value as Duration, name))
}

/** One of a few words. */
export function choice<const Words extends readonly string[], const O extends SettingOptions<Words[number]>>(words: Words, options?: O): Setting<Optional<Words[number], O>> {
  return setting<Words[number], O>(options, value => (words.includes(value) ? value : expected(`one of ${words.join(', ')}, got ${JSON.stringify(value)}`)))
}
