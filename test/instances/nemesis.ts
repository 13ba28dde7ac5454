/**
 * What goes wrong during a run, drawn from a seed: every 250 to 600 ms something else.
 *
 * Two instances at most are down or frozen at a time, so that there is somebody to take over.
 */
import { seededRandom } from '../../src/testing/index.ts'
import type { Fleet, Slot } from './fleet.ts'
import type { RunServer } from './server-host.ts'

export interface Faults {
  kill: number
  freeze: number
  reset: number
  commitCutAfter: number
  commitCutBefore: number
  blackHole: number
  slow: number
  serverCrash: number
}

export interface Nemesis {
  readonly faults: Faults
  /** Nothing new; what is broken is mended. Resolves when everybody is back. */
  heal(): Promise<void>
}

export interface NemesisOptions {
  readonly fleet: Fleet
  readonly server: RunServer
  readonly seed: number
  readonly leaseMs: number
  readonly crashEveryMs: number
  readonly onKill: (instance: string) => void
  readonly onServer: (up: boolean) => void
}

const DOWN_MAX = 2
const RESPAWN_MS = [100, 900] as const

export function unleash({ fleet, server, seed, leaseMs, crashEveryMs, onKill, onServer }: NemesisOptions): Nemesis {
  const random = seededRandom(seed)
  const between = (from: number, to: number): number => from + random() * (to - from)
  const faults: Faults = { kill: 0, freeze: 0, reset: 0, commitCutAfter: 0, commitCutBefore: 0, blackHole: 0, slow: 0, serverCrash: 0 }
  const pending = new Set<NodeJS.Timeout>()
  const down = new Set<Slot>()
  const troubled = new Set<Slot>()
  let over = false
  let crashing: Promise<void> | undefined
  let nextCrashMs = performance.now() + crashEveryMs

  const later = (ms: number, run: () => void): void => {
    const timer = setTimeout(() => {
      pending.delete(timer)
      run()
    }, ms)
    pending.add(timer)
  }
  const pick = (from: readonly Slot[]): Slot | undefined => from[Math.floor(random() * from.length)]

  const acts: readonly (readonly [weight: number, act: (slot: Slot) => void])[] = [
    [5, slot => {
      if (down.size >= DOWN_MAX || down.has(slot)) return
      const died = slot.kill()
      down.add(slot)
      faults.kill += 1
      if (died !== undefined) onKill(died)
      later(between(...RESPAWN_MS), () => { slot.spawn(); down.delete(slot) })
    }],
    [4, slot => {
      if (down.size >= DOWN_MAX || down.has(slot)) return
      slot.freeze()
      down.add(slot)
      faults.freeze += 1
      later(leaseMs * between(1.15, 1.8), () => { slot.thaw(); down.delete(slot) })
    }],
    [4, slot => { slot.proxy.reset(); faults.reset += 1 }],
    [4, slot => { armCut(slot, 'after') }],
    [3, slot => { armCut(slot, 'before') }],
    [3, slot => {
      if (troubled.has(slot)) return
      troubled.add(slot)
      slot.proxy.set({ blackHole: true }, random() < 0.5 ? 'both' : 'to-client')
      faults.blackHole += 1
      later(leaseMs * between(0.2, 1.5), () => { slot.proxy.set({}); troubled.delete(slot) })
    }],
    [2, slot => {
      if (troubled.has(slot)) return
      troubled.add(slot)
      slot.proxy.set({ latency: '15ms', jitter: '30ms', ...(random() < 0.3 ? { slice: '64b' as const } : {}) })
      faults.slow += 1
      later(between(500, 1_500), () => { slot.proxy.set({}); troubled.delete(slot) })
    }],
  ]
  const total = acts.reduce((sum, [weight]) => sum + weight, 0)

  function armCut(slot: Slot, cut: 'after' | 'before'): void {
    const armed = slot.proxy.resetAfterCommit({ cut, times: 1 + Math.floor(random() * 3) })
    later(2_000, () => {
      armed.disarm()
      if (cut === 'after') faults.commitCutAfter += armed.cuts
      else faults.commitCutBefore += armed.cuts
    })
  }

  const tick = (): void => {
    if (over) return
    if (performance.now() >= nextCrashMs && crashing === undefined) {
      faults.serverCrash += 1
      onServer(false)
      crashing = server.crash().finally(() => {
        crashing = undefined
        nextCrashMs = performance.now() + crashEveryMs * between(0.7, 1.3)
        onServer(true)
      })
      crashing.catch(() => undefined)
    } else {
      let drawn = random() * total
      const slot = pick(fleet.slots)
      const act = acts.find(([weight]) => (drawn -= weight) < 0)?.[1]
      if (slot !== undefined) act?.(slot)
    }
    later(between(250, 600), tick)
  }
  later(between(250, 600), tick)

  return {
    faults,
    heal: async () => {
      over = true
      await crashing
      for (const timer of pending) clearTimeout(timer)
      for (const slot of fleet.slots) {
        await slot.proxy.heal()
        if (slot.frozen) slot.thaw()
        if (!slot.running) slot.spawn()
      }
      down.clear()
    },
  }
}
