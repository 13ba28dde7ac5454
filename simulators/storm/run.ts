/**
 * One column under one load, in virtual time: calls arrive at random, clients call through the library, every second is counted.
 */
import { EventBus } from 'holdfast/core'
import { dependency } from 'holdfast/guard'
import { simulatedEnv } from 'holdfast/testing'
import { TIMEOUT_MS, type Column } from './columns.ts'
import { capacityOf, secondsOf, type Scenario } from './scenario.ts'
import { StormServer } from './server.ts'
import { countIn, emptyCounts, startTraffic, untilHungUp, zeros, type Counts } from './traffic.ts'

/** What was counted, one number for each second of the run. */
export interface Series extends Counts {
  readonly column: Column
  readonly load: number
  /** Requests that reached the server. */
  readonly arrivals: readonly number[]
  /** Requests that waited in the server at the end of the second. */
  readonly queued: readonly number[]
}

/** Calls go on for so long behind the last second that is counted, so that its own calls have ended. */
export const TAIL_SECONDS = 8

export async function runColumn(scenario: Scenario, column: Column, load: number): Promise<Series> {
  const env = simulatedEnv({ seed: scenario.seed })
  const kit = { env, events: new EventBus(env) }
  const server = new StormServer(scenario, column.server, kit)
  const seconds = secondsOf(scenario)
  const counts = emptyCounts(seconds), arrivals = zeros(seconds), queued = zeros(seconds)
  const traffic = startTraffic({
    env, counts,
    seed: scenario.seed * 1_000 + load,
    callsPerSecond: capacityOf(scenario) * load / 100,
    clients: Array.from({ length: scenario.clients }, () => dependency('server', column.client, kit)),
    request: ({ signal }) => {
      countIn(arrivals, Math.floor(env.monotonic() / 1_000))
      return untilHungUp(signal, server.handle(TIMEOUT_MS))
    },
  })
  for (let second = 0; second < seconds; second += 1) {
    await env.advance('1s')
    queued[second] = server.queued
  }
  await env.advance(TAIL_SECONDS * 1_000)
  traffic.stop()
  return { column, load, ...counts, arrivals, queued }
}
