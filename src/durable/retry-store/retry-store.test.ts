import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { testStores, type TestWorld } from '../../../test/durable-stores.ts'
import { retryStore, retryStorePort, type RetryStore, type RetryStoreOptions } from './retry-store.ts'

const Prompt = z.object({ prompt: z.string(), seed: z.number().default(7) })
type In = z.input<typeof Prompt>
type Out = z.output<typeof Prompt>

describe.each(testStores)('a retry store on $name', store => {
  let world: TestWorld
  beforeEach(async () => { world = await store.open() })
  afterEach(() => world.close())
  const make = (change: Partial<RetryStoreOptions<In, Out>> = {}, name = 'generation'): RetryStore<In, Out, unknown> => retryStore(name, { input: Prompt, ...change }, world.kit())
  const slots = async (inputs: RetryStore<In, Out, unknown>, owner = 'u1'): Promise<readonly string[]> => (await inputs.list(owner)).map(({ slot }) => slot)

  it('gives the last input of each user and model, decoded, to any instance', async () => {
    const inputs = make()
    await inputs.store('u1', 'flux', { prompt: 'a cat' })
    await inputs.store('u1', 'flux', { prompt: 'a dog', seed: 1 })
    await inputs.store('u1', 'kling', { prompt: 'a film' })
    await inputs.store('u2', 'flux', { prompt: 'a cow' })
    const other = retryStore<In, Out, unknown>('generation', { input: Prompt }, world.kit('b'))
    expect((await other.get('u1', 'flux'))?.input).toEqual({ prompt: 'a dog', seed: 1 })
    expect((await other.get('u1', 'kling'))?.input).toEqual({ prompt: 'a film', seed: 7 })
    expect((await other.list('u1')).map(({ slot, input }) => [slot, input.prompt])).toEqual([['kling', 'a film'], ['flux', 'a dog']])
    expect(await other.get('u3', 'flux')).toBeUndefined()
  })

  it('keeps stores apart, and users whose names look alike', async () => {
    await make().store('a', 'b c', { prompt: 'one' })
    await make().store('a b', 'c', { prompt: 'two' })
    expect((await make().get('a', 'b c'))?.input.prompt).toBe('one')
    expect((await make().get('a b', 'c'))?.input.prompt).toBe('two')
    expect(await make({}, 'other').get('a', 'b c')).toBeUndefined()
  })

  it('forgets after its time, which a new input begins again, and the sweep deletes it', async () => {
    const inputs = make({ keepFor: '7d' })
    await inputs.store('u1', 'old', { prompt: 'x' })
    await inputs.store('u1', 'renewed', { prompt: 'x' })
    await world.elapse(6 * 86_400_000)
    await inputs.store('u1', 'renewed', { prompt: 'y' })
    expect(await slots(inputs)).toEqual(['renewed', 'old'])
    await world.elapse(2 * 86_400_000)
    expect([await slots(inputs), await inputs.get('u1', 'old')]).toEqual([['renewed'], undefined])
    const prune = (): Promise<number> => world.database.transaction('test.prune', tx => retryStorePort<unknown>(world.database).prune(tx, 10))
    expect([await prune(), await prune()]).toEqual([1, 0])
    expect((await inputs.get('u1', 'renewed'))?.input.prompt).toBe('y')
  })

  it('keeps so many of an owner, the newest, however many are stored at once', async () => {
    const inputs = make({ perOwnerMax: 3 })
    for (const slot of ['1', '2', '3', '4']) await inputs.store('u1', slot, { prompt: slot })
    expect(await slots(inputs)).toEqual(['4', '3', '2'])
    await Promise.all(Array.from({ length: 20 }, (_, i) => inputs.store('u1', `p${String(i)}`, { prompt: 'x' })))
    await inputs.store('u1', 'last', { prompt: 'x' })
    const kept = await slots(inputs)
    expect([kept[0], kept.length]).toEqual(['last', 3])
    const all = await world.database.transaction('test.all', tx => retryStorePort<unknown>(world.database).list(tx, 'generation', 'u1', 100))
    expect(all).toHaveLength(3)
  })

  it('clears one slot, or all of a user', async () => {
    const inputs = make()
    for (const slot of ['1', '2', '3']) await inputs.store('u1', slot, { prompt: slot })
    await inputs.store('u2', '1', { prompt: 'x' })
    expect([await inputs.clear('u1', '2'), await inputs.clear('u1', '2'), await inputs.clear('u1'), await slots(inputs)]).toEqual([1, 0, 2, []])
    expect(await slots(inputs, 'u2')).toEqual(['1'])
  })

  it('commits with the caller\'s transaction or not at all', async () => {
    const inputs = make()
    await expect(world.database.transaction('test.join', async tx => {
      await inputs.store('u1', 'flux', { prompt: 'x' }, { tx })
      throw new Error('rolled back')
    })).rejects.toThrow('rolled back')
    expect(await slots(inputs)).toEqual([])
    await world.database.transaction('test.join', tx => inputs.store('u1', 'flux', { prompt: 'x' }, { tx }))
    expect(await slots(inputs)).toEqual(['flux'])
    await world.database.transaction('test.join', tx => inputs.clear('u1', undefined, { tx }))
    expect(await slots(inputs)).toEqual([])
  })

  it('refuses what does not fit, is too large, or has no owner', async () => {
    const inputs = make({ entryMax: '64b' })
    await expect(inputs.store('u1', 's', { prompt: 1 } as unknown as In)).rejects.toMatchObject({ code: 'HF_INPUT_INVALID' })
    await expect(inputs.store('u1', 's', { prompt: 'ä'.repeat(40) })).rejects.toMatchObject({ code: 'HF_INPUT_INVALID' })
    await expect(inputs.store('', 's', { prompt: 'x' })).rejects.toMatchObject({ code: 'HF_INPUT_INVALID' })
    expect(await slots(inputs)).toEqual([])
    for (const bad of [{ keepFor: '1s' }, { perOwnerMax: 0 }, { perOwnerMax: 1.5 }, { entryMax: 'x' }] as unknown as Partial<RetryStoreOptions<In, Out>>[]) expect(() => make(bad)).toThrow(expect.objectContaining({ code: 'HF_OPTION_INVALID' }) as Error)
  })

  it('takes an input that another version stored and this one refuses for none', async () => {
    await retryStore('generation', { input: z.object({ text: z.string() }) }, world.kit()).store('u1', 'flux', { text: 'older' })
    expect([await make().get('u1', 'flux'), await slots(make())]).toEqual([undefined, []])
  })
})
