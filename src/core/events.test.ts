import { describe, expect, it } from 'vitest'
import { withContext } from './context.ts'
import { EventBus, type HoldfastEvent } from './events.ts'

const fact = { fact: 'x', severity: 'info', message: 'm' } as const

describe('the event spine', () => {
  it('tells listeners of the name and listeners of everything, with time and correlation id', () => {
    const bus = new EventBus({ now: () => 42 })
    const seen: HoldfastEvent[] = []
    bus.on('app.fact', event => seen.push(event))
    bus.onAny(event => seen.push(event))
    withContext({ correlationId: 'c-1', component: 'handler buy' }, () => { bus.emit('app.fact', fact) })
    expect(seen).toHaveLength(2)
    expect(seen[0]).toMatchObject({ at: 42, name: 'app.fact', correlationId: 'c-1', component: 'handler buy', data: fact })
    expect(seen[0]).toBe(seen[1])
  })

  it('never lets a listener that throws fail the caller or the other listeners, and reports it once', () => {
    const bus = new EventBus({ now: () => 0 })
    const failures: string[] = []
    let reached = 0
    bus.on('app.fact', () => { throw new Error('listener is broken') })
    bus.on('app.fact', () => { reached += 1 })
    bus.on('listener.failed', event => failures.push(event.data.message))
    bus.emit('app.fact', fact)
    bus.emit('app.fact', fact)
    expect(reached).toBe(2)
    expect(failures).toEqual(['listener is broken'])
  })

  it('does not recurse when the listener of failures fails', () => {
    const bus = new EventBus({ now: () => 0 })
    bus.on('listener.failed', () => { throw new Error('so am I') })
    bus.on('app.fact', () => { throw new Error('broken') })
    expect(() => { bus.emit('app.fact', fact) }).not.toThrow()
  })

  it('stops telling who stopped listening', () => {
    const bus = new EventBus({ now: () => 0 })
    let heard = 0
    const stop = bus.on('app.fact', () => { heard += 1 })
    bus.emit('app.fact', fact)
    stop()
    bus.emit('app.fact', fact)
    expect(heard).toBe(1)
  })
})
