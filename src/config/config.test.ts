import { inspect } from 'node:util'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isHoldfastError } from '../core/index.ts'
import { choice, config, duration, flag, integer, list, Secret, secret, text, url } from './index.ts'

const spec = {
  BOT_TOKEN: secret({ required: true, minLength: 10, remedy: 'ask @BotFather for a token' }),
  PANEL_URL: url({ required: true, remedy: 'the address of the panel' }),
  DATABASE_URL: url({ protocols: ['postgres', 'postgresql'], secret: true }),
  PORT: integer({ default: 8700, min: 1, max: 65_535 }),
  ADMIN_IDS: list({ default: [], pattern: /^\d+$/, expected: 'numeric ids' }),
  LOUD: flag({ default: false }),
  EVERY: duration({ default: 1_000 }),
  LEVEL: choice(['info', 'debug'], { default: 'info' }),
  GREETING: text(),
}
const good = { BOT_TOKEN: '12345:abcdefgh', PANEL_URL: 'https://panel.test/' }

function problemsOf(environment: Record<string, string>, options = {}): string {
  try {
    config(spec, environment, options)
  } catch (error) {
    if (isHoldfastError(error) && error.code === 'HF_CONFIG_INVALID') return error.message
    throw error
  }
  return ''
}

describe('settings that are right', () => {
  it('come typed, with defaults, and without a trailing slash', () => {
    const { values } = config(spec, { ...good, PORT: '9000', ADMIN_IDS: '7, 8,', LOUD: 'yes', EVERY: '3s' })
    const port: number = values.PORT
    const greeting: string | undefined = values.GREETING
    expect([port, values.ADMIN_IDS, values.LOUD, values.EVERY, values.LEVEL, values.PANEL_URL, greeting]).toEqual([9000, ['7', '8'], true, 3_000, 'info', 'https://panel.test', undefined])
    expect(values.BOT_TOKEN.reveal()).toBe('12345:abcdefgh')
  })

  it('are described with their source and without their secrets', () => {
    const described = config(spec, { ...good, DATABASE_URL: 'postgres://u:hunter2@db/x' })
    expect(JSON.stringify(described.describe())).not.toMatch(/abcdefgh|hunter2/)
    expect(described.describe()).toContainEqual({ name: 'PORT', source: 'default', shown: '8700' })
    expect(described.secrets).toEqual(['12345:abcdefgh', 'postgres://u:hunter2@db/x'])
  })
})

describe('settings that are not right', () => {
  it('are refused all at once, each with its remedy', () => {
    const message = problemsOf({ PORT: '0', ADMIN_IDS: '7,bob', DATABASE_URL: 'mysql://x' })
    expect(message).toMatch(/^5 settings are not right:/)
    expect(message).toContain('BOT_TOKEN is missing (ask @BotFather for a token)')
    expect(message).toContain('PORT: expected a whole number from 1 to 65535, got "0"')
    expect(message).toContain('ADMIN_IDS: expected numeric ids, separated by commas, got "bob"')
    expect(message).toContain('DATABASE_URL: expected a URL that begins with postgres:// or postgresql://')
  })

  it('never show a secret, not even a wrong one', () => {
    expect(problemsOf({ ...good, BOT_TOKEN: 'short-one' })).not.toContain('short-one')
  })

  it('point out a misspelt name', () => {
    expect(problemsOf({ ...good, BOT_TOKN: 'x' }, { prefixes: ['BOT_'] })).toContain('BOT_TOKN is not a setting: did you mean BOT_TOKEN?')
  })

  it('are told apart from rules over several settings', () => {
    const rule = (): string => 'A and B exclude each other'
    expect(problemsOf(good, { check: [rule] })).toContain('A and B exclude each other')
    expect(problemsOf({}, { check: [rule] })).not.toContain('exclude')
  })

  it('are never let through as something else', () => {
    fc.assert(fc.property(fc.string(), value => {
      let port: unknown
      try {
        port = config({ PORT: integer({ min: 1, max: 65_535 }) }, { PORT: value }).values.PORT
      } catch {
        return
      }
      expect(port === undefined || (Number.isInteger(port) && (port as number) >= 1 && (port as number) <= 65_535)).toBe(true)
    }))
  })
})

describe('a secret', () => {
  it('does not print', () => {
    const held = new Secret('BOT_TOKEN', 'hunter2')
    expect([String(held), JSON.stringify({ held }), inspect({ held }), `${String(held)}`].join()).not.toContain('hunter2')
  })
})
