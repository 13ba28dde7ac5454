/**
 * The operators' API and the console: read models, a live stream, commands, the demo's faults, the built UI.
 *
 *   const console = operate(hold, { basePath: '/console', host })
 *   await serve(combine([probes(hold), console]), { host, port })
 *
 * Below the base path: `GET api/status`, `api/events` (server-sent), `api/timeline`, `api/explain/:id`, `api/commands`,
 * `api/dependencies/:name`, `api/runbooks`, `api/runbooks/:id`, `api/doctor`, `api/audit`, `api/sagas/:saga/:id`, `POST api/commands/:name`, `POST api/previews/:name`, `POST api/saga-tickets/:saga/:id`, `GET|POST api/demo/faults`, `POST login`, `POST logout`, and the pages. Every command goes to
 * `hold.command`, the one bus that audits; nothing is decided here.
 */
import type { AuditRow, CommandRequest, DoctorReport, DurableHoldfast, Holdfast, SagaHistory } from '../app/index.ts'
import { HoldfastError, type Json } from '../core/index.ts'
import { announce, json, mount, parseJson, plainProblem, problem, readBody, type Mounted, type RequestInfo } from '../http/index.ts'
import { Access } from './access.ts'
import type { AuditAnswer, CommandsAnswer, DependencyAnswer, DemoAnswer, DemoControls, ExplainAnswer, RunbookAnswer, RunbooksAnswer, TicketAnswer, TimelineAnswer } from './api.ts'
import { loginPage, Pages } from './pages.ts'
import { Streams } from './stream.ts'

/** What the API needs of a Holdfast; every `Holdfast` fits. */
export type Operated = Pick<Holdfast, 'service' | 'instance' | 'env' | 'events' | 'status' | 'timeline' | 'onTimeline' | 'command' | 'commands' | 'explain' | 'explainDependency' | 'runbook' | 'runbooks'> & {
  /** Absent in a program that has no doctor of its own. */
  readonly doctor?: () => Promise<DoctorReport>
  /** Absent where there is no store. */
  readonly audit?: (options?: { readonly limit?: number; readonly before?: number }) => Promise<readonly AuditRow[]>
} & Partial<Pick<DurableHoldfast<never>, 'preview' | 'sagaHistory' | 'requestConfirmation'>>

export interface OperateOptions {
  /** Where it is mounted. Default `/console`. */
  readonly basePath?: `/${string}`
  /** At least 32 characters. Without one only this machine is answered. */
  readonly token?: string
  /** The address that the server listens on, so that an open console beyond this machine is refused. Default `127.0.0.1`. */
  readonly host?: string
  /** Present when the program runs with simulators. */
  readonly demo?: DemoControls
  /** Live streams at once. Default 32; more are answered 503. */
  readonly streamsMax?: number
  /** The built UI, where it is not the package's own. */
  readonly webDir?: string
}

export const OPERATE_DEFAULTS: Readonly<{ basePath: '/console'; host: string; streamsMax: number }> = Object.freeze({ basePath: '/console', host: '127.0.0.1', streamsMax: 32 })

/** The handler, and the end of its streams. */
export type Console = Mounted & {
  /** Ends every live stream with `bye`. The server's drain does it too. */
  stop(): void
}

const ENTRIES_MAX = 1_000
const AUDIT_MAX = 500
const COMMAND_BODY = '64kb'
/** A token has 22. */
const TICKET_CHARS_MAX = 200

/** @throws HF_OPTION_INVALID for a token that is short, a base path that is none, or an open console beyond this machine */
export function operate(hold: Operated, options: OperateOptions = {}): Console {
  const basePath = options.basePath ?? OPERATE_DEFAULTS.basePath
  if (!/^(?:\/[\w.-]+)+$/.test(basePath)) {
    throw new HoldfastError('HF_OPTION_INVALID', { message: `operate: expected a base path such as '/console', got ${JSON.stringify(basePath)}`, context: { option: 'basePath' } })
  }
  const access = new Access(hold.env, { basePath, token: options.token, host: options.host ?? OPERATE_DEFAULTS.host })
  const pages = new Pages(options.webDir)
  const streams = new Streams(hold, options.streamsMax ?? OPERATE_DEFAULTS.streamsMax)
  const parts: Parts = { hold, access, streams, demo: options.demo }

  const handle = async (request: Request, info?: RequestInfo): Promise<Response> => {
    const { pathname } = new URL(request.url)
    try {
      if (pathname === basePath) return new Response(null, { status: 308, headers: { location: `${basePath}/` } })
      const path = pathname.slice(basePath.length + 1)
      if (path.startsWith('api/')) return await api(parts, path.slice(4), request, info)
      return await page(parts, pages, path, request, info)
    } catch (error) {
      // By its first part: ids in the path would make as many names as somebody asks for.
      announce(hold.events, `console ${request.method} ${basePath}/${routeOf(pathname.slice(basePath.length + 1))}`, error)
      const answer = problem(error)
      if (answer.status === 401) answer.headers.set('www-authenticate', 'Bearer')
      return answer
    }
  }
  return Object.assign(mount([basePath, `${basePath}/*`], handle), { stop: () => { streams.stop('stopped') } })
}

interface Parts {
  readonly hold: Operated
  readonly access: Access
  readonly streams: Streams
  readonly demo: DemoControls | undefined
}

async function api(parts: Parts, path: string, request: Request, info: RequestInfo | undefined): Promise<Response> {
  const { hold, access } = parts
  const read = request.method === 'GET'
  if (!read && request.method !== 'POST') return plainProblem(405, undefined, { allow: 'GET, POST' })
  if (read) access.requireReader(request, info)
  else access.requireWriter(request, info)

  const [what, rest] = split(path)
  const query = new URL(request.url).searchParams
  switch (`${request.method} ${what}`) {
    case 'GET status':
      return json(await hold.status())
    case 'GET events':
      return events(parts, request, query, info)
    case 'GET timeline': {
      const after = query.get('after')
      return json({ entries: hold.timeline({ limit: limitOf(query, ENTRIES_MAX), ...(after === null ? {} : { after }) }) } satisfies TimelineAnswer)
    }
    case 'GET explain':
      return json({ id: rest, entries: hold.explain(rest) } satisfies ExplainAnswer)
    case 'GET commands':
      return json({ commands: hold.commands() } satisfies CommandsAnswer)
    case 'GET dependencies':
      return json(await dependencyOf(hold, rest))
    case 'GET runbooks':
      return json(rest === '' ? { runbooks: hold.runbooks() } satisfies RunbooksAnswer : runbookOf(hold, rest))
    case 'GET doctor':
      return json(await doctorOf(hold))
    case 'GET audit':
      return json(await auditOf(hold, query))
    case 'POST commands':
      return json(await hold.command(rest, commandOf(await bodyOf(request), access.actorOf(request))))
    case 'GET sagas':
      return json(await historyOf(hold, rest))
    case 'POST saga-tickets':
      return json(await ticketOf(hold, rest, access.actorOf(request)))
    case 'POST previews': {
      if (hold.preview === undefined) throw unknownHere('this service previews no commands')
      const { target, args, actor } = commandOf({ ...await bodyOf(request), reason: '' }, access.actorOf(request))
      return json(await hold.preview(rest, { target, actor, ...(args === undefined ? {} : { args }) }))
    }
    case 'GET demo':
      return json({ demo: parts.demo !== undefined, faults: parts.demo?.list() ?? [] } satisfies DemoAnswer)
    case 'POST demo':
      return setFault(parts.demo, await bodyOf(request))
    default:
      return plainProblem(404, 'The operators\' API has no such path')
  }
}

async function page(parts: Parts, pages: Pages, path: string, request: Request, info: RequestInfo | undefined): Promise<Response> {
  const { access } = parts
  if (request.method === 'POST' && path === 'login') {
    const given = new URLSearchParams(new TextDecoder().decode(await readBody(request, COMMAND_BODY))).get('token') ?? ''
    try {
      const cookie = access.login(request, given)
      if (cookie === undefined) return loginPage('That is not the token.', 401)
      return new Response(null, { status: 303, headers: { location: './', 'set-cookie': cookie } })
    } catch (error) {
      if (error instanceof HoldfastError && error.code === 'HF_RATE_LIMITED') return loginPage('Too many wrong tokens; wait a minute.', 429)
      throw error
    }
  }
  if (request.method === 'POST' && path === 'logout') {
    access.requireReader(request, info)
    return new Response(null, { status: 303, headers: { location: './', 'set-cookie': access.logout(request) } })
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') return plainProblem(405, undefined, { allow: 'GET, HEAD' })
  // Scripts and styles hold no facts; the page itself is the door.
  if (path === '' && !access.isKnown(request, info) && access.needsLogin) return loginPage(undefined, 200)
  if (path === '') access.requireReader(request, info)
  return pages.answer(path, request) ?? plainProblem(404)
}

function events(parts: Parts, request: Request, query: URLSearchParams, info: RequestInfo | undefined): Response {
  if (parts.streams.full) return plainProblem(503, 'Too many consoles are open; close one', { 'retry-after': '10' })
  const after = request.headers.get('last-event-id') ?? query.get('after') ?? undefined
  return new Response(parts.streams.connect(after, info?.draining), {
    headers: { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-store', 'x-accel-buffering': 'no' },
  })
}

async function setFault(demo: DemoControls | undefined, body: Readonly<Record<string, unknown>>): Promise<Response> {
  const { id, active } = body
  if (demo === undefined) throw new HoldfastError('HF_UNKNOWN_NAME', { message: 'there are no simulators here, so no faults to inject', stackless: true })
  if (typeof id !== 'string' || typeof active !== 'boolean') throw invalid('expected { id: string, active: boolean }')
  if (!demo.list().some(fault => fault.id === id)) throw new HoldfastError('HF_UNKNOWN_NAME', { message: `no fault is called ${JSON.stringify(id)}`, stackless: true })
  await demo.set(id, active)
  return json({ demo: true, faults: demo.list() } satisfies DemoAnswer)
}

async function bodyOf(request: Request): Promise<Readonly<Record<string, unknown>>> {
  const body = parseJson(await readBody(request, COMMAND_BODY))
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw invalid('expected a JSON object')
  return body as Readonly<Record<string, unknown>>
}

function commandOf(body: Readonly<Record<string, unknown>>, actor: CommandRequest['actor']): CommandRequest {
  const { target, args, reason, ticket } = body
  if (typeof target !== 'string') throw invalid('expected target to be a string')
  if (typeof reason !== 'string' || reason.length > 500) throw invalid('expected reason to be a string of at most 500 characters')
  if (args !== undefined && (typeof args !== 'object' || args === null || Array.isArray(args))) throw invalid('expected args to be an object')
  if (ticket !== undefined && (typeof ticket !== 'string' || ticket.length > TICKET_CHARS_MAX)) throw invalid('expected ticket to be a short text')
  return { target, reason, actor, ...(ticket === undefined ? {} : { ticket }), ...(args === undefined ? {} : { args: args as Readonly<Record<string, Json>> }) }
}

const API_PARTS: ReadonlySet<string> = new Set(['status', 'events', 'timeline', 'explain', 'commands', 'dependencies', 'runbooks', 'doctor', 'audit', 'sagas', 'saga-tickets', 'previews', 'demo'])

function routeOf(path: string): string {
  const [first, second] = path.split('/')
  if (first === 'api') return second !== undefined && API_PARTS.has(second) ? `api/${second}` : 'api'
  return first === 'login' || first === 'logout' ? first : ''
}

/** `commands/flag.set` > `commands`, `flag.set`. */
function split(path: string): readonly [what: string, rest: string] {
  const slash = path.indexOf('/')
  if (slash < 0) return [path, '']
  try {
    return [path.slice(0, slash), decodeURIComponent(path.slice(slash + 1))]
  } catch {
    throw invalid('the path is not well encoded')
  }
}

function limitOf(query: URLSearchParams, max: number): number {
  const limit = Number(query.get('limit') ?? '100')
  return Number.isInteger(limit) && limit >= 1 ? Math.min(limit, max) : 100
}

/** @throws HF_UNKNOWN_NAME */
function runbookOf(hold: Operated, id: string): RunbookAnswer {
  const runbook = hold.runbook(id)
  if (runbook !== undefined) return { runbook }
  const known = hold.runbooks().map(each => each.id).join(', ')
  throw new HoldfastError('HF_UNKNOWN_NAME', { message: `no runbook is called ${JSON.stringify(id)}; there is ${known === '' ? 'none' : known}`, context: { kind: 'runbook', name: id }, stackless: true })
}

/** @throws HF_UNKNOWN_NAME */
async function dependencyOf(hold: Operated, name: string): Promise<DependencyAnswer> {
  const explanation = hold.explainDependency(name)
  if (explanation !== undefined) return { name, explanation }
  const known = (await hold.status()).dependencies.map(each => each.name).join(', ')
  throw new HoldfastError('HF_UNKNOWN_NAME', { message: `no dependency is called ${JSON.stringify(name)}; there is ${known === '' ? 'none' : known}`, context: { kind: 'dependency', name }, stackless: true })
}

/** @throws HF_UNKNOWN_NAME */
async function doctorOf(hold: Operated): Promise<DoctorReport> {
  if (hold.doctor === undefined) throw new HoldfastError('HF_UNKNOWN_NAME', { message: 'this service has no doctor', stackless: true })
  return hold.doctor()
}

/** @throws HF_UNKNOWN_NAME where there is no store, and what the store throws */
async function auditOf(hold: Operated, query: URLSearchParams): Promise<AuditAnswer> {
  if (hold.audit === undefined) throw new HoldfastError('HF_UNKNOWN_NAME', { message: 'this service keeps no audit: it has no store', stackless: true })
  const before = Number(query.get('before') ?? Number.NaN)
  return { rows: await hold.audit({ limit: limitOf(query, AUDIT_MAX), ...(Number.isInteger(before) ? { before } : {}) }) }
}

/** `provision/42`: names have no slash, so the first one ends the saga's. @throws HF_UNKNOWN_NAME */
function runOf(rest: string): readonly [saga: string, id: string] {
  const slash = rest.indexOf('/')
  if (slash < 1 || slash === rest.length - 1) throw unknownHere('expected a saga and an id')
  return [rest.slice(0, slash), rest.slice(slash + 1)]
}

/** @throws HF_UNKNOWN_NAME */
async function historyOf(hold: Operated, rest: string): Promise<SagaHistory> {
  const [saga, id] = runOf(rest)
  const history = await hold.sagaHistory?.(saga, id)
  if (history === undefined) throw unknownHere(`${saga} has no run ${JSON.stringify(id)}`)
  return history
}

/** @throws HF_UNKNOWN_NAME and what the saga throws */
async function ticketOf(hold: Operated, rest: string, actor: CommandRequest['actor']): Promise<TicketAnswer> {
  const [saga, id] = runOf(rest)
  const ticket = await hold.requestConfirmation?.(saga, id, actor)
  if (ticket === undefined) throw unknownHere(`${saga} ${id} waits for no confirmation`)
  return { token: ticket.token, summary: ticket.summary, expiresAt: ticket.expiresAt.getTime() }
}

function unknownHere(message: string): HoldfastError {
  return new HoldfastError('HF_UNKNOWN_NAME', { message, stackless: true })
}

function invalid(message: string): HoldfastError {
  return new HoldfastError('HF_BODY_INVALID', { message, stackless: true })
}
