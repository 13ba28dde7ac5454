/**
 * A share of the schedules, in a thread of its own.
 *
 * Threads use every core, and they end: what a simulated process that died still awaits is never settled, and Node keeps
 * some of it (listeners of composed signals) for as long as the thread lives.
 */
import { parentPort, workerData } from 'node:worker_threads'
import type { Control } from '../drill/without.ts'
import type { Plan } from './plan.ts'
import { type Found, search } from './search.ts'

export interface Share {
  readonly plans: readonly Plan[]
  readonly without: Control | undefined
}

const { plans, without } = workerData as Share
const found: Found = await search(plans, { without })
parentPort?.postMessage(found)
