import { describe, expect, it } from 'vitest'
import { readSettings } from './settings.ts'

const all = {
  BOT_TOKEN: '123456:ABCDEFGHIJKLMNOPQRSTUVWX', TELEGRAM_WEBHOOK_SECRET: 'a'.repeat(32), CRYPTO_PAY_TOKEN: '1:abcdefghijk', PAYMENT_PROVIDER_TOKEN: 'p:TEST:1', VPN_PANEL_URL: 'https://panel.test/',
  VPN_PANEL_TOKEN: 'panel-token', ADMIN_IDS: '1, 2', PUBLIC_URL: 'https://bot.test',
}
const refusal = (environment: Record<string, string>): string => {
  try {
    readSettings(environment)
  } catch (error) {
    return (error as Error).message
  }
  throw new Error('was accepted')
}

describe('the settings', () => {
  it('are a demonstration when there are no credentials at all', () => {
    expect(readSettings({ PATH: '/bin', PORT: '9000' })).toMatchObject({ bot: undefined, port: 9_000, host: '127.0.0.1' })
  })

  it('are the real world when there are all', () => {
    expect(readSettings(all).bot).toMatchObject({ panelUrl: 'https://panel.test', adminIds: ['1', '2'], telegramApiRoot: 'https://api.telegram.org' })
    expect(readSettings(all).secrets).toContain(all.BOT_TOKEN)
  })

  it.each(Object.keys(all))('are refused when only %s is missing, with how to get it', name => {
    const message = refusal({ ...all, [name]: '' })
    expect(message).toContain(`${name} is missing (`)
    expect(message).not.toContain('ABCDEFGHIJKL')
  })

  it('are refused for everything at once, missing and malformed', () => {
    const message = refusal({ BOT_TOKEN: 'nonsense', PORT: '99999', VPN_PANEL_URL: 'ftp://x' })
    for (const name of ['BOT_TOKEN', 'PORT', 'VPN_PANEL_URL', 'CRYPTO_PAY_TOKEN is missing', 'ADMIN_IDS is missing']) expect(message).toContain(name)
    expect(message).not.toContain('nonsense')
  })

  it('point out a misspelt name', () => {
    expect(refusal({ BOT_TOKN: 'x' })).toContain('did you mean BOT_TOKEN')
  })

  it('do not open the console to others without a token', () => {
    expect(refusal({ ...all, HOST: '0.0.0.0' })).toContain('CONSOLE_TOKEN')
    expect(readSettings({ ...all, HOST: '0.0.0.0', CONSOLE_TOKEN: 'c'.repeat(32) }).host).toBe('0.0.0.0')
  })
})
