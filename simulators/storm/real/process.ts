/**
 * A process of the real storm: the server, or one client. It is told what it is and when it begins, reports when the time is over,
 * and ends with its parent.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { EventBus, realEnv, type Env } from 'holdfast/core'
import { dependency, HttpStatusError } from 'holdfast/guard'
import { COLUMNS, TIMEOUT_MS } from '../columns.ts'
import { TAIL_SECONDS } from '../run.ts'
import { capacityOf, secondsOf } from '../scenario.ts'
import { StormServer } from '../server.ts'
import { countIn, emptyCounts, startTraffic, zeros } from '../traffic.ts'
import type { Go, Order, Report } from './message.ts'

/** How long the caller still waits, as it says itself. */
const PATIENCE_HEADER = 'x-patience-ms'

process.once('disconnect', () => { process.exit() })
process.once('message', order => { void obey(order as Order) })

function report(message: Report): void {
  process.send?.(message)
}

/** Says that it is ready, and waits for the word. */
function go(url: string): Promise<Go> {
  return new Promise(resolve => {
    process.once('message', message => { resolve(message as Go) })
    report({ kind: 'ready', url })
  })
}

/** The real world, with monotonic time that begins when the run does. */
function envSince({ startAt }: Go, env: Env): Env {
  const zero = env.monotonic() + (startAt - env.now())
  return { ...env, monotonic: () => env.monotonic() - zero }
}

function obey(order: Order): Promise<void> {
  return order.role === 'server' ? serve(order) : callOut(order)
}

async function serve({ scenario, intake }: Extract<Order, { role: 'server' }>): Promise<void> {
  let handle = (_incoming: IncomingMessage, outgoing: ServerResponse): void => { outgoing.writeHead(503).end() }
  const server = createServer((incoming, outgoing) => { handle(incoming, outgoing) })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', 4_096, resolve) })
  const env = envSince(await go(`http://127.0.0.1:${String((server.address() as AddressInfo).port)}/`), realEnv())
  const seconds = secondsOf(scenario)
  const arrivals = zeros(seconds), queued = zeros(seconds)
  const storm = new StormServer(scenario, intake, { env, events: new EventBus(env) })
  handle = (incoming, outgoing) => {
    countIn(arrivals, Math.floor(env.monotonic() / 1_000))
    // Nobody tells it that the caller has hung up; its answer then goes nowhere.
    outgoing.on('error', () => undefined)
    storm.handle(Number(incoming.headers[PATIENCE_HEADER])).then(
      () => { outgoing.writeHead(200).end() },
      () => { outgoing.writeHead(503).end() },
    )
  }
  for (let second = 0; second < seconds; second += 1) {
    await env.sleep((second + 1) * 1_000 - env.monotonic())
    queued[second] = storm.queued
  }
  report({ kind: 'served', arrivals, queued })
}

async function callOut({ scenario, columnId, load, number, url }: Extract<Order, { role: 'client' }>): Promise<void> {
  const column = COLUMNS.find(one => one.id === columnId)
  if (column === undefined) throw new Error(`there is no column ${columnId}`)
  const env = envSince(await go(url), realEnv())
  const counts = emptyCounts(secondsOf(scenario))
  await env.sleep(-env.monotonic())
  const traffic = startTraffic({
    env, counts,
    seed: scenario.seed * 1_000 + load * 100 + number,
    callsPerSecond: capacityOf(scenario) * load / 100 / scenario.clients,
    clients: [dependency('server', column.client, { env, events: new EventBus(env) })],
    request: async ({ signal }) => {
      const response = await env.fetch(url, { signal, headers: { [PATIENCE_HEADER]: String(TIMEOUT_MS) } })
      await response.arrayBuffer()
      if (!response.ok) throw new HttpStatusError(response, { what: 'GET /' })
    },
  })
  await env.sleep((secondsOf(scenario) + TAIL_SECONDS) * 1_000 - env.monotonic())
  traffic.stop()
  report({ kind: 'called', counts })
}
