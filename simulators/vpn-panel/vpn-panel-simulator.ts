/**
 * VPN panel, Marzban 0.8 style: creating a user that exists is 409, changing one by name is idempotent, a list for sweeps.
 *
 * Its users are the truth that invariants compare with: one active key for each paid subscription and none besides.
 * Not here: nodes, traffic, admins' login, and the other panels' manners (3x-ui, Remnawave, plain Xray).
 */
import { type Env } from 'holdfast/core'
import { control, FaultScript, json, Ledger, pathOf, seededRandom, type Simulator } from '../kit/index.ts'

export interface VpnPanelOptions {
  readonly env: Env
  /** Default 1. */
  readonly seed?: number
  /** Default `SIMULATED-panel-token`. */
  readonly token?: string
  /** Users survive `reset()`, as they survive a restart of the real one. Default false. */
  readonly keepUsersOnReset?: boolean
}

/** As the API answers it. */
export interface PanelUser {
  readonly username: string
  readonly uuid: string
  /** Where Marzban keeps the id of a VLESS account; the same as `uuid`. */
  readonly proxies: { readonly vless: { readonly id: string } }
  readonly status: 'active' | 'disabled' | 'limited' | 'expired'
  /** Unix seconds; 0 is never. */
  readonly expire: number
  /** Bytes; 0 is unlimited. */
  readonly data_limit: number
  readonly used_traffic: number
  readonly note: string
  readonly created_at: string
  /** Keys as a VPN client takes them. */
  readonly links: readonly string[]
  readonly subscription_url: string
}

export interface VpnPanelState {
  readonly users: readonly PanelUser[]
  readonly created: number
  readonly deleted: number
  readonly conflicts: number
}

export interface VpnPanelSimulator extends Simulator<VpnPanelState> {
  readonly token: string
  /** Everybody that the panel lets in or once did, oldest first. */
  keys(): readonly PanelUser[]
  /** Puts a user there behind the bot's back. */
  put(user: { readonly username: string; readonly uuid?: string; readonly expire?: number; readonly data_limit?: number }): PanelUser
  remove(username: string): boolean
  /** As after a crash: the last `loseLast` users that were created are gone. */
  restart(options?: { readonly loseLast?: number }): void
}

interface Row {
  readonly username: string
  uuid: string
  expire: number
  dataLimit: number
  disabled: boolean
  note: string
  readonly createdAt: number
}

const USERNAME = /^[a-z0-9_]{3,32}$/
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
const PAGE_MAX = 1_000

/** 422 in FastAPI's shape. */
class Refusal {
  readonly status: number
  readonly detail: unknown

  constructor(status: number, detail: unknown) {
    this.status = status
    this.detail = detail
  }
}

export function vpnPanelSimulator(options: VpnPanelOptions): VpnPanelSimulator {
  return new VpnPanel(options)
}

class VpnPanel implements VpnPanelSimulator {
  readonly name = 'vpn-panel'
  readonly token: string
  readonly ledger: Ledger
  readonly faults: FaultScript
  readonly fetch: (request: Request) => Promise<Response>
  readonly #env: Env
  readonly #random: ReturnType<typeof seededRandom>
  readonly #keepUsers: boolean
  readonly #users = new Map<string, Row>()
  readonly #counts = { created: 0, deleted: 0, conflicts: 0 }

  constructor({ env, seed = 1, token = 'SIMULATED-panel-token', keepUsersOnReset = false }: VpnPanelOptions) {
    this.#env = env
    this.#random = seededRandom(seed)
    this.#keepUsers = keepUsersOnReset
    this.token = token
    this.ledger = new Ledger(env)
    this.faults = new FaultScript(env, seededRandom(seed ^ 0x2545f491), this.ledger)
    this.fetch = request => this.#answer(request)
  }

  keys(): readonly PanelUser[] {
    return [...this.#users.values()].map(row => this.#shown(row))
  }

  put(user: { readonly username: string; readonly uuid?: string; readonly expire?: number; readonly data_limit?: number }): PanelUser {
    const row: Row = { username: user.username, uuid: user.uuid ?? this.#uuid(), expire: user.expire ?? 0, dataLimit: user.data_limit ?? 0, disabled: false, note: '', createdAt: this.#env.now() }
    this.#users.set(row.username, row)
    return this.#shown(row)
  }

  remove(username: string): boolean {
    return this.#users.delete(username)
  }

  restart({ loseLast = 0 }: { readonly loseLast?: number } = {}): void {
    this.faults.release()
    if (loseLast > 0) for (const username of [...this.#users.keys()].slice(-loseLast)) this.#users.delete(username)
  }

  state(): VpnPanelState {
    return { users: this.keys(), ...this.#counts }
  }

  /** Forgets faults, ledger, counts, and users unless `keepUsersOnReset`. */
  reset(): void {
    this.faults.clear()
    this.faults.release()
    this.ledger.clear()
    if (!this.#keepUsers) this.#users.clear()
    Object.assign(this.#counts, { created: 0, deleted: 0, conflicts: 0 })
  }

  stop(): void {
    this.faults.clear()
    this.faults.release()
  }

  async #answer(request: Request): Promise<Response> {
    const path = pathOf(request.url)
    if (path.startsWith('/__sim')) return control(this, request, { help: HELP, routes: { restart: async (_parts, asked) => this.#restartRoute(asked) } })
    const { method } = request
    const [operation, name] = route(method, path)
    if (operation === undefined) return detail(404, 'Not Found')
    let body: unknown
    if (method === 'POST' || method === 'PUT') {
      try {
        body = JSON.parse(await request.text())
      } catch {
        // FastAPI checks the token before the body; so does #perform.
        body = undefined
      }
    }
    const authorized = request.headers.get('authorization') === `Bearer ${this.token}`
    const query = request.url.includes('?') ? new URL(request.url).searchParams : undefined
    return this.faults.run({
      direction: 'in', operation, method, args: name === undefined ? body ?? Object.fromEntries(query ?? []) : { username: name, ...(body as object | undefined) }, signal: request.signal,
      apply: () => {
        if (!authorized) return detail(401, 'Could not validate credentials', { 'www-authenticate': 'Bearer' })
        const answer = this.#perform(operation, name, body, query)
        return answer instanceof Refusal ? detail(answer.status, answer.detail) : json(200, answer)
      },
      refuse: (status, retryAfterS) => detail(status, REFUSALS[status] ?? `Error ${String(status)}`, retryAfterS === undefined ? undefined : { 'retry-after': String(retryAfterS) }),
    })
  }

  #perform(operation: Operation, name: string | undefined, body: unknown, query: URLSearchParams | undefined): unknown {
    switch (operation) {
      case 'createUser': return this.#create(body)
      case 'listUsers': return this.#list(query)
      case 'getSystem': return { version: '0.8.4', total_user: this.#users.size, users_active: this.keys().filter(user => user.status === 'active').length, mem_total: 2_147_483_648, mem_used: 734_003_200, cpu_cores: 2, cpu_usage: 3.5 }
      case 'getUser':
      case 'updateUser':
      case 'deleteUser': {
        const row = this.#users.get(name ?? '')
        if (row === undefined) return new Refusal(404, 'User not found')
        if (operation === 'getUser') return this.#shown(row)
        if (operation === 'updateUser') return this.#update(row, body)
        this.#users.delete(row.username)
        this.#counts.deleted += 1
        return { detail: 'User successfully deleted' }
      }
    }
  }

  #create(body: unknown): unknown {
    const checked = check(body, true)
    if (checked instanceof Refusal) return checked
    const { username, uuid, expire = 0, dataLimit = 0, status, note = '' } = checked
    if (username === undefined) return invalid('username', 'Field required')
    if (this.#users.has(username)) {
      this.#counts.conflicts += 1
      return new Refusal(409, 'User already exists')
    }
    const row: Row = { username, uuid: uuid ?? this.#uuid(), expire, dataLimit, disabled: status === 'disabled', note, createdAt: this.#env.now() }
    this.#users.set(username, row)
    this.#counts.created += 1
    return this.#shown(row)
  }

  #update(row: Row, body: unknown): unknown {
    const checked = check(body, false)
    if (checked instanceof Refusal) return checked
    const { uuid, expire, dataLimit, status, note } = checked
    row.uuid = uuid ?? row.uuid
    row.expire = expire ?? row.expire
    row.dataLimit = dataLimit ?? row.dataLimit
    row.note = note ?? row.note
    if (status !== undefined) row.disabled = status === 'disabled'
    return this.#shown(row)
  }

  #list(query: URLSearchParams | undefined): unknown {
    const offset = Number(query?.get('offset') ?? '0')
    const limit = Number(query?.get('limit') ?? String(PAGE_MAX))
    if (!Number.isInteger(offset) || offset < 0) return invalid('offset', 'Input should be a valid integer')
    if (!Number.isInteger(limit) || limit < 0) return invalid('limit', 'Input should be a valid integer')
    return { users: this.keys().slice(offset, offset + Math.min(limit, PAGE_MAX)), total: this.#users.size }
  }

  #shown(row: Row): PanelUser {
    const { username, uuid, expire, dataLimit, disabled, note, createdAt } = row
    return {
      username, uuid, proxies: { vless: { id: uuid } }, status: disabled ? 'disabled' : expire > 0 && expire * 1_000 <= this.#env.now() ? 'expired' : 'active',
      expire, data_limit: dataLimit, used_traffic: 0, note, created_at: new Date(createdAt).toISOString(),
      links: [`vless://${uuid}@vpn.example.com:443?encryption=none&security=reality&type=tcp&sni=example.com#${username}`],
      subscription_url: `https://vpn.example.com/sub/${username}`,
    }
  }

  #uuid(): string {
    const random = this.#random
    return `${random.hex(8)}-${random.hex(4)}-4${random.hex(3)}-8${random.hex(3)}-${random.hex(12)}`
  }

  async #restartRoute(request: Request): Promise<Response> {
    const body = JSON.parse((await request.text()) || '{}') as { readonly loseLast?: number }
    this.restart({ loseLast: Number(body.loseLast ?? 0) })
    return json(200, { users: this.#users.size })
  }
}

const HELP = [
  'POST   /__sim/restart          {"loseLast":1}: drops what hangs and forgets the newest users',
  'Operations: createUser, getUser, updateUser, deleteUser, listUsers, getSystem',
]

type Operation = 'createUser' | 'listUsers' | 'getSystem' | 'getUser' | 'updateUser' | 'deleteUser'

const REFUSALS: Readonly<Record<number, string>> = {
  401: 'Could not validate credentials', 404: 'User not found', 409: 'User already exists', 429: 'Too Many Requests', 500: 'Internal Server Error', 502: 'Bad Gateway', 503: 'Service Unavailable',
}

function route(method: string, path: string): readonly [operation: Operation | undefined, name?: string] {
  if (path === '/api/user' && method === 'POST') return ['createUser']
  if (path === '/api/users' && method === 'GET') return ['listUsers']
  if (path === '/api/system' && method === 'GET') return ['getSystem']
  if (!path.startsWith('/api/user/')) return [undefined]
  const name = decodeURIComponent(path.slice('/api/user/'.length))
  return method === 'GET' ? ['getUser', name] : method === 'PUT' ? ['updateUser', name] : method === 'DELETE' ? ['deleteUser', name] : [undefined]
}

interface CheckedUser {
  readonly username?: string
  readonly uuid?: string
  readonly expire?: number
  readonly dataLimit?: number
  readonly status?: string
  readonly note?: string
}

function check(body: unknown, create: boolean): CheckedUser | Refusal {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return invalid('body', 'Input should be a valid dictionary')
  const { username, expire, data_limit: dataLimit, status, note, proxies, uuid = vlessId(proxies) } = body as Readonly<Record<string, unknown>>
  if (create && (typeof username !== 'string' || !USERNAME.test(username))) {
    return invalid('username', 'Username only can be 3 to 32 characters and contain a-z, 0-9, and underscores in between.')
  }
  if (uuid !== undefined && uuid !== null && (typeof uuid !== 'string' || !UUID.test(uuid))) return invalid('uuid', 'Input should be a valid UUID')
  if (expire !== undefined && expire !== null && (typeof expire !== 'number' || !Number.isInteger(expire) || expire < 0)) return invalid('expire', 'Input should be a valid integer')
  if (dataLimit !== undefined && dataLimit !== null && (typeof dataLimit !== 'number' || !Number.isInteger(dataLimit) || dataLimit < 0)) return invalid('data_limit', 'Input should be greater than or equal to 0')
  if (status !== undefined && status !== null && status !== 'active' && status !== 'disabled') return invalid('status', "Input should be 'active' or 'disabled'")
  return {
    ...(typeof username === 'string' ? { username } : {}), ...(typeof uuid === 'string' ? { uuid } : {}), ...(typeof expire === 'number' ? { expire } : {}),
    ...(typeof dataLimit === 'number' ? { dataLimit } : {}), ...(typeof status === 'string' ? { status } : {}), ...(typeof note === 'string' ? { note } : {}),
  }
}

/** `{"vless":{"id":"..."}}` */
function vlessId(proxies: unknown): unknown {
  const vless: unknown = typeof proxies === 'object' && proxies !== null && 'vless' in proxies ? proxies.vless : undefined
  return typeof vless === 'object' && vless !== null && 'id' in vless ? vless.id : undefined
}

function invalid(field: string, message: string): Refusal {
  return new Refusal(422, { [field]: message })
}

function detail(status: number, what: unknown, headers?: Readonly<Record<string, string>>): Response {
  return json(status, { detail: what }, headers)
}
