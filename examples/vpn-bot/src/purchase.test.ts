import { describe, expect, it } from 'vitest'
import { type Running, runInMemory, world, type World } from './bench.ts'
import type { MemoryTx } from 'holdfast/memory'

interface Bench { readonly outside: World; readonly bot: Running<MemoryTx> }
async function open(seed = 1): Promise<Bench> {
  const outside = world({ seed })
  return { outside, bot: await runInMemory(outside) }
}
const customer = (outside: World, id = 42, languageCode = 'en') => outside.telegram.user({ id, firstName: 'Anna', languageCode })

async function choose({ outside }: Bench, how: RegExp, id = 42) {
  const anna = customer(outside, id)
  anna.command('/start')
  await outside.env.advance('1s')
  anna.press(/See the plans/)
  await outside.env.advance('1s')
  anna.press(/^1 month/)
  await outside.env.advance('1s')
  anna.press(how)
  await outside.env.advance('2s')
  return anna
}
async function atRest({ outside, bot }: Bench) {
  await outside.env.advance('6s')
  expect(await bot.broken({ atRest: true })).toEqual([])
}

describe('a purchase', () => {
  it('by card ends with one charge, one subscription, one key, one message, and /key answers with it', async () => {
    const bench = await open()
    const anna = await choose(bench, /By card/)
    const payment = anna.pay()
    await bench.outside.env.advance('5s')
    expect(await payment).toMatchObject({ outcome: 'charged' })
    await atRest(bench)
    expect(bench.outside.telegram.charges).toHaveLength(1)
    const [key] = bench.outside.panel.keys()
    expect(bench.outside.panel.keys()).toHaveLength(1)
    expect(bench.outside.deliveries(42)).toBe(1)
    anna.command('/key')
    await bench.outside.env.advance('1s')
    expect(anna.last?.text).toContain(key?.links[0])
    await bench.bot.app.stop()
  })

  it('by crypto ends the same way', async () => {
    const bench = await open()
    const anna = await choose(bench, /By crypto/)
    const link = anna.button(/Pay/)?.url ?? ''
    bench.outside.cryptoPay.pay(link)
    await bench.outside.env.advance('5s')
    await atRest(bench)
    expect(bench.outside.panel.keys()).toHaveLength(1)
    expect(bench.outside.deliveries(42)).toBe(1)
    anna.command('/key')
    await bench.outside.env.advance('1s')
    expect(anna.last?.text).toContain('vless://')
  })
})
