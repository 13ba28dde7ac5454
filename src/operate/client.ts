/**
 * The typed client of the operators' API, for the CLI and for programs that operate others.
 *
 * What the service refuses is thrown with the service's own code and sentence; what does not answer is
 * HF_SERVICE_UNREACHABLE. Every call is bounded in time, except `follow`, which ends with its signal.
 */
import { ERRORS, HoldfastError, messageOf, type Env, type ErrorCode, type Json } from '../core/index.ts'
import { ACTOR_HEADER, GUARD_HEADER, type AuditAnswer, type AuditRow, type CommandImpact, type CommandResult, type CommandsAnswer, type DemoAnswer, type DependencyAnswer, type DoctorReport, type ExplainAnswer, type NamedRunbook, type RunbookAnswer, type RunbooksAnswer, type SagaHistory, type Status, type StreamEvents, type TicketAnswer, type TimelineAnswer, type TimelineEntry } from './api.ts'

export interface OperatorClientOptions {
  /** With the base path: `http://127.0.0.1:8700/console`. */
  readonly url: string
  readonly token?: string | undefined
  readonly env: Pick<Env, 'fetch' | 'timer'>
  /** Who asks: `cli:alice`. */
  readonly actor?: string
  /** Bound of each read, milliseconds. Default 10000. A command may take as long as a worker's iteration (130 s). */
  readonly timeoutMs?: number
}

/** `worker.run` answers when the iteration is over, whose deadline is 120 s. */
const COMMAND_MS_MAX = 130_000

/** One event of the live stream. */
export type StreamMessage = { [Name in keyof StreamEvents]: { readonly event: Name; readonly data: StreamEvents[Name]; readonly id: string | undefined } }[keyof StreamEvents]

export interface OperatorClient {
  readonly url: string
  status(): Promise<Status>
  timeline(options?: { readonly after?: string; readonly limit?: number }): Promise<readonly TimelineEntry[]>
  explain(id: string): Promise<readonly TimelineEntry[]>
  commands(): Promise<CommandsAnswer['commands']>
  /** What a call of it costs at worst. @throws HF_UNKNOWN_NAME */
  dependency(name: string): Promise<DependencyAnswer>
  runbooks(): Promise<readonly NamedRunbook[]>
  /** @throws HF_UNKNOWN_NAME */
  runbook(id: string): Promise<NamedRunbook>
  doctor(): Promise<DoctorReport>
  /** Newest first. @throws HF_UNKNOWN_NAME where the service has no store */
  audit(options?: { readonly limit?: number; readonly before?: number }): Promise<readonly AuditRow[]>
  command(name: string, request: { readonly target: string; readonly args?: Readonly<Record<string, Json>>; readonly reason: string; readonly ticket?: string }): Promise<CommandResult>
  /** What it would do; nothing is changed. @throws HF_UNKNOWN_NAME */
  preview(name: string, request: { readonly target: string; readonly args?: Readonly<Record<string, Json>> }): Promise<CommandImpact>
  /** What happened to a run of a saga. @throws HF_UNKNOWN_NAME */
  sagaHistory(saga: string, id: string): Promise<SagaHistory>
  /** @throws HF_UNKNOWN_NAME when it waits for no confirmation */
  sagaTicket(saga: string, id: string): Promise<TicketAnswer>
  faults(): Promise<DemoAnswer>
  setFault(id: string, active: boolean): Promise<DemoAnswer>
  /** The live stream, until `signal` aborts or the service says bye. @throws HF_SERVICE_UNREACHABLE when it breaks */
  follow(options: { readonly signal: AbortSignal; readonly after?: string }): AsyncGenerator<StreamMessage, void, undefined>
}

/** @throws (from its calls) HF_SERVICE_UNREACHABLE, HF_UNAUTHENTICATED, HF_FORBIDDEN, and what the command throws */
export function operatorClient(options: OperatorClientOptions): OperatorClient {
  const base = options.url.replace(/\/+$/, '')
  const timeoutMs = options.timeoutMs ?? 10_000

  const send = async (path: string, init: RequestInit, signal: AbortSignal): Promise<Response> => {
    const headers = new Headers(init.headers)
    if (options.token !== undefined) headers.set('authorization', `Bearer ${options.token}`)
    if (options.actor !== undefined) headers.set(ACTOR_HEADER, options.actor)
    let response: Response
    try {
      response = await options.env.fetch(`${base}/api/${path}`, { ...init, headers, signal, redirect: 'error' })
    } catch (error) {
      throw unreachable(base, error)
    }
    if (!response.ok) throw await refusal(base, response)
    return response
  }
  const call = async <T>(path: string, init: RequestInit = {}, boundMs: number = timeoutMs): Promise<T> => {
    const giveUp = new AbortController()
    const timer = options.env.timer(boundMs, () => { giveUp.abort(new Error(`no answer within ${String(boundMs)} ms`)) })
    try {
      const response = await send(path, init, giveUp.signal)
      return (await response.json()) as T
    } catch (error) {
      throw error instanceof HoldfastError ? error : unreachable(base, error)
    } finally {
      timer.cancel()
    }
  }
  const post = <T>(path: string, body: unknown): Promise<T> =>
    call<T>(path, {
      method: 'POST',
      body: JSON.stringify(body),
      // No browser asks here; the origin is said so that the server's rule needs no exception for us.
      headers: { 'content-type': 'application/json', [GUARD_HEADER]: '1', origin: new URL(base).origin },
    }, COMMAND_MS_MAX)

  return {
    url: base,
    status: () => call('status'),
    timeline: async query => {
      const params = new URLSearchParams()
      if (query?.after !== undefined) params.set('after', query.after)
      if (query?.limit !== undefined) params.set('limit', String(query.limit))
      return (await call<TimelineAnswer>(`timeline?${params.toString()}`)).entries
    },
    explain: async id => (await call<ExplainAnswer>(`explain/${encodeURIComponent(id)}`)).entries,
    commands: async () => (await call<CommandsAnswer>('commands')).commands,
    dependency: name => call<DependencyAnswer>(`dependencies/${encodeURIComponent(name)}`),
    runbooks: async () => (await call<RunbooksAnswer>('runbooks')).runbooks,
    runbook: async id => (await call<RunbookAnswer>(`runbooks/${encodeURIComponent(id)}`)).runbook,
    doctor: () => call('doctor'),
    audit: async query => {
      const params = new URLSearchParams()
      if (query?.limit !== undefined) params.set('limit', String(query.limit))
      if (query?.before !== undefined) params.set('before', String(query.before))
      return (await call<AuditAnswer>(`audit?${params.toString()}`)).rows
    },
    command: (name, request) => post(`commands/${encodeURIComponent(name)}`, request),
    preview: (name, request) => post(`previews/${encodeURIComponent(name)}`, request),
    sagaHistory: (saga, id) => call(`sagas/${encodeURIComponent(saga)}/${encodeURIComponent(id)}`),
    sagaTicket: (saga, id) => post(`saga-tickets/${encodeURIComponent(saga)}/${encodeURIComponent(id)}`, {}),
    faults: () => call('demo/faults'),
    setFault: (id, active) => post('demo/faults', { id, active }),
    follow: async function* ({ signal, after }) {
      const response = await send('events', { headers: { accept: 'text/event-stream', ...(after === undefined ? {} : { 'last-event-id': after }) } }, signal)
      if (response.body === null) return
      try {
        for await (const message of parseEvents(response.body)) {
          yield message
          if (message.event === 'bye') return
        }
      } catch (error) {
        if (signal.aborted) return
        throw unreachable(base, error)
      }
    },
  }
}

/** Longest event that is taken: a status of thousands of parts. */
const EVENT_CHARS_MAX = 10_000_000

/** Server-sent events out of bytes: blocks end with an empty line, comments are skipped. */
export async function* parseEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<StreamMessage, void, undefined> {
  const decoder = new TextDecoder()
  let buffer = ''
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    buffer += decoder.decode(chunk, { stream: true })
    if (buffer.length > EVENT_CHARS_MAX) throw new HoldfastError('HF_BODY_TOO_LARGE', { message: 'an event of the live stream is too long' })
    let end = buffer.indexOf('\n\n')
    while (end >= 0) {
      const message = parseEvent(buffer.slice(0, end))
      if (message !== undefined) yield message
      buffer = buffer.slice(end + 2)
      end = buffer.indexOf('\n\n')
    }
  }
}

function parseEvent(block: string): StreamMessage | undefined {
  const field = (name: string): string | undefined => block.split('\n').find(line => line.startsWith(`${name}: `))?.slice(name.length + 2)
  const event = field('event')
  const data = field('data')
  if (event === undefined || data === undefined) return undefined
  return { event, data: JSON.parse(data) as unknown, id: field('id') } as StreamMessage
}

async function refusal(url: string, response: Response): Promise<HoldfastError> {
  const text = await response.text().catch(() => '')
  const said = problemOf(text)
  const code = said?.code !== undefined && said.code in ERRORS ? (said.code as ErrorCode) : fallbackCode(response.status)
  const message = said?.detail ?? said?.title ?? `${url} answered ${String(response.status)}: is that a Holdfast console?`
  return new HoldfastError(code, { message, retryAfterMs: said?.retryAfterMs, context: { status: response.status } })
}

function problemOf(text: string): { readonly code?: string; readonly title?: string; readonly detail?: string; readonly retryAfterMs?: number } | undefined {
  try {
    const body = JSON.parse(text) as unknown
    return typeof body === 'object' && body !== null ? body : undefined
  } catch {
    // Not ours: a proxy's page, or another program on that port.
    return undefined
  }
}

function fallbackCode(status: number): ErrorCode {
  if (status === 401) return 'HF_UNAUTHENTICATED'
  if (status === 403) return 'HF_FORBIDDEN'
  return status === 404 || status >= 500 ? 'HF_SERVICE_UNREACHABLE' : 'HF_CALL_FAILED'
}

function unreachable(url: string, error: unknown): HoldfastError {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  return new HoldfastError('HF_SERVICE_UNREACHABLE', { message: `no service answers at ${url} (${messageOf(cause)})`, cause: error, context: { url } })
}
