import { describe, expect, it } from 'vitest'
import { Crew } from './crew.ts'

function gates(): { readonly work: (item: number) => Promise<void>; readonly begun: number[]; readonly open: (item: number) => void } {
  const waiting = new Map<number, () => void>()
  const begun: number[] = []
  return { begun, work: item => new Promise(resolve => { begun.push(item); waiting.set(item, resolve) }), open: item => { waiting.get(item)?.() } }
}
const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

describe('a crew', () => {
  it('works on at most so many at a time, over all sweeps together', async () => {
    const crew = new Crew(3)
    const { work, begun, open } = gates()
    const sweeps = [crew.run([1, 2], work, new AbortController().signal), crew.run([3, 4, 5], work, new AbortController().signal)]
    await turn()
    expect([begun, crew.busy]).toEqual([[1, 2, 3], 3])
    expect(await crew.run([6], work, new AbortController().signal)).toBe(0)
    open(3)
    await turn()
    expect(begun).toEqual([1, 2, 3, 4])
    for (const item of [1, 2, 4]) open(item)
    await turn()
    open(5)
    expect(await Promise.all(sweeps)).toEqual([2, 3])
    expect(crew.busy).toBe(0)
  })

  it('is not waited for once it is enough; what was begun goes on, nothing else is begun', async () => {
    const crew = new Crew(1)
    const { work, begun, open } = gates()
    const enough = new AbortController()
    const sweep = crew.run([1, 2], work, enough.signal)
    await turn()
    enough.abort()
    expect(await sweep).toBe(1)
    expect(crew.busy).toBe(1)
    open(1)
    await turn()
    expect([begun, crew.busy]).toEqual([[1], 0])
  })

  it('begins nothing where it is enough already', async () => {
    const { work, begun } = gates()
    const enough = new AbortController()
    enough.abort()
    expect([await new Crew(2).run([1], work, enough.signal), begun]).toEqual([0, []])
  })
})
