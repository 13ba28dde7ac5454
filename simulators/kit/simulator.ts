/**
 * What every simulator is, and the control routes that each one answers under `/__sim`.
 *
 * The control routes are never subject to faults: they are how faults are taken away again.
 */
import { isHoldfastError, messageOf } from 'holdfast/core'
import { FAULT_KINDS, parseFaultRule } from './fault-rule.ts'
import type { FaultScript } from './faults.ts'
import type { Ledger } from './ledger.ts'

export interface Simulator<State = unknown> {
  readonly name: string
  readonly faults: FaultScript
  readonly ledger: Ledger
  /** A web-standard handler, bound: hand it to `env.serve(origin, simulator.fetch)` or to `listen(simulator)`. */
  readonly fetch: (request: Request) => Promise<Response>
  /** JSON, for invariants. */
  state(): State
  /** Back to the beginning: state, faults, ledger. */
  reset(): void
  /** Nothing of it runs afterwards: timers are cancelled, what hangs is dropped. */
  stop(): void
}

/** One more control route, under `/__sim/`; the rest of the path comes in parts. */
export type ControlRoute = (parts: readonly string[], request: Request) => Promise<Response>

export interface Control {
  /** Lines for `GET /__sim/help`. */
  readonly help: readonly string[]
  readonly routes?: Readonly<Record<string, ControlRoute>>
}

const LEDGER_SHOWN = 200

/** Answers `/__sim/*`. */
export async function control(simulator: Simulator, request: Request, extra: Control): Promise<Response> {
  const url = new URL(request.url)
  const [, , area = 'help', ...parts] = url.pathname.split('/')
  try {
    const verb = `${request.method} ${area}`
    switch (verb) {
      case 'GET help':
        return new Response([`${simulator.name} simulator`, '', ...HELP, ...extra.help, ''].join('\n'), { headers: { 'content-type': 'text/plain; charset=utf-8' } })
      case 'GET ledger': {
        const operation = url.searchParams.get('operation') ?? undefined
        const entries = simulator.ledger.entries(operation)
        return json(200, { total: entries.length, dropped: simulator.ledger.dropped, entries: entries.slice(-LEDGER_SHOWN) })
      }
      case 'GET faults':
        return json(200, { faults: simulator.faults.list() })
      case 'POST faults': {
        const body: unknown = JSON.parse(await request.text())
        const rules = (Array.isArray(body) ? body : [body]).map(parseFaultRule)
        return json(201, { ids: rules.map(rule => simulator.faults.add(rule)) })
      }
      case 'DELETE faults':
        if (parts[0] === undefined) {
          simulator.faults.clear()
          return json(200, { removed: 'all' })
        }
        return simulator.faults.remove(parts[0]) ? json(200, { removed: parts[0] }) : json(404, { error: `no fault ${parts[0]}` })
      case 'GET state':
        return json(200, simulator.state())
      case 'POST reset':
        simulator.reset()
        return json(200, { reset: true })
      default: {
        const route = extra.routes?.[area]
        return route === undefined ? json(404, { error: `no ${request.method} /__sim/${area}; see GET /__sim/help` }) : await route(parts, request)
      }
    }
  } catch (error) {
    if (isHoldfastError(error) || error instanceof SyntaxError || error instanceof RangeError) return json(400, { error: messageOf(error) })
    throw error
  }
}

const HELP = [
  'GET    /__sim/state            what it holds, as JSON',
  'GET    /__sim/ledger           the last calls (?operation=name)',
  'GET    /__sim/faults           the rules that are set, and how often each was hit',
  'POST   /__sim/faults           one rule or a list, as JSON:',
  '         {"match":{"operation":"send*","times":3},"fault":{"kind":"apply-then-drop"}}',
  '         {"match":{"probability":0.2,"forMs":60000},"fault":{"kind":"delay","ms":500,"jitterMs":1000}}',
  `         kinds: ${FAULT_KINDS.join(', ')}`,
  'DELETE /__sim/faults[/id]      all of them, or one',
  'POST   /__sim/reset            back to the beginning',
]

export function json(status: number, body: unknown, headers?: Readonly<Record<string, string>>): Response {
  return new Response(JSON.stringify(body), { status, headers: headers === undefined ? JSON_HEADERS : { ...JSON_HEADERS, ...headers } })
}

const JSON_HEADERS = { 'content-type': 'application/json' }

/** The path of an absolute URL without parsing all of it: this runs for every call of ten thousand simulated purchases. */
export function pathOf(url: string): string {
  const start = url.indexOf('/', url.indexOf('://') + 3)
  if (start < 0) return '/'
  const query = url.indexOf('?', start)
  return query < 0 ? url.slice(start) : url.slice(start, query)
}
