/**
 * One column under one load in real time: a server process and client processes on loopback, counted in the same way as in virtual time.
 *
 * What is real here: processes, sockets, timers, the cost of refusing and of hanging up. What is not: the server's work is a wait.
 * Every process is ended by its own handle, also when something goes wrong.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { realEnv } from 'holdfast/core'
import type { Column } from '../columns.ts'
import type { Series } from '../run.ts'
import { secondsOf, type Scenario } from '../scenario.ts'
import { emptyCounts, zeros } from '../traffic.ts'
import type { Go, Order, Report } from './message.ts'

export const REAL_AFTER_SECONDS = 20
export const REAL_LOADS: readonly number[] = Object.freeze([75])

/** The same server and load; fewer processes, and an outage of seconds. */
export function scaledDown(scenario: Scenario): Scenario {
  return { ...scenario, clients: 4, beforeSeconds: 5, outageSeconds: 7 }
}

/** From when all are ready until the first second begins. */
const START_IN_MS = 250

export async function runReal(scenario: Scenario, column: Column, load: number): Promise<Series> {
  const env = realEnv()
  const children: ChildProcess[] = []
  const start = (order: Order): { readonly ready: Promise<string>; readonly done: Promise<Report> } => {
    const child = fork(fileURLToPath(new URL(`./process${import.meta.url.slice(-3)}`, import.meta.url)), { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    children.push(child)
    child.send(order)
    return {
      ready: reported(child, message => message.kind === 'ready' ? message.url : undefined),
      done: reported(child, message => message.kind === 'ready' ? undefined : message),
    }
  }
  try {
    const server = start({ role: 'server', scenario, intake: column.server })
    const url = await server.ready
    const clients = Array.from({ length: scenario.clients }, (_, number) => start({ role: 'client', scenario, columnId: column.id, load, number, url }))
    await Promise.all(clients.map(client => client.ready))
    const go: Go = { startAt: env.now() + START_IN_MS }
    for (const child of children) child.send(go)
    const reports = await Promise.all([server.done, ...clients.map(client => client.done)])
    return together(scenario, column, load, reports)
  } finally {
    await Promise.all(children.map(ended))
  }
}

/** The first report that says something. Rejects when the child is gone before. */
function reported<T>(child: ChildProcess, pick: (message: Report) => T | undefined): Promise<T> {
  const promise = new Promise<T>((resolve, reject) => {
    child.on('message', message => {
      const picked = pick(message as Report)
      if (picked !== undefined) resolve(picked)
    })
    child.once('exit', code => { reject(new Error(`a process of the storm ended early (${String(code)})`)) })
    child.once('error', reject)
  })
  // Whoever waits for it hears of it; nobody may be waiting yet.
  promise.catch(() => undefined)
  return promise
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise(resolve => {
    child.once('exit', () => { resolve() })
    child.kill('SIGKILL')
  })
}

function together(scenario: Scenario, column: Column, load: number, reports: readonly Report[]): Series {
  const counts = emptyCounts(secondsOf(scenario))
  let arrivals: readonly number[] = zeros(secondsOf(scenario))
  let queued = arrivals
  for (const report of reports) {
    if (report.kind === 'served') ({ arrivals, queued } = report)
    if (report.kind !== 'called') continue
    for (const name of ['offered', 'ok', 'failed'] as const) {
      for (const [second, calls] of report.counts[name].entries()) counts[name][second] = (counts[name][second] ?? 0) + calls
    }
  }
  return { column, load, ...counts, arrivals, queued }
}
