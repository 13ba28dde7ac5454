/**
 * Who may see and do things through the operators' API.
 *
 * Without a token only this machine is answered: a loopback socket, under a loopback name (DNS rebinding), not through a
 * proxy. With a token: as Bearer, or once through the login form, which gives an HttpOnly, SameSite=Strict cookie. Writes by
 * a browser are accepted only from our own page: our header, JSON, and Sec-Fetch-Site (or, where a browser sends none,
 * an Origin that is our host). The two are separate on purpose: being known is no protection against being ridden.
 */
import { createHmac } from 'node:crypto'
import { HoldfastError, type Actor, type Env } from '../core/index.ts'
import { hostOf, isLocalRequest, isLoopbackHost, secretMatches, type RequestInfo } from '../http/index.ts'
import { ACTOR_HEADER, GUARD_HEADER, TOKEN_LENGTH_MIN } from './api.ts'

export interface AccessOptions {
  readonly basePath: string
  readonly token?: string | undefined
  readonly host?: string | undefined
}

const COOKIE = 'holdfast_session'
/** A working day and the night after it. */
const SESSION_MS = 12 * 3_600_000
/** Wrong tokens per minute, over all clients: a random token of 32 characters is not guessed at this rate. */
const LOGIN_FAILURES_MAX = 10
const LOGIN_WINDOW_MS = 60_000

export class Access {
  readonly #env: Pick<Env, 'now' | 'monotonic'>
  readonly #token: string | undefined
  readonly #basePath: string
  #failures = 0
  #windowFrom = Number.NEGATIVE_INFINITY

  /** @throws HF_OPTION_INVALID for a short token, and for an address beyond loopback without one */
  constructor(env: Pick<Env, 'now' | 'monotonic'>, options: AccessOptions) {
    const { token, host } = options
    if (token !== undefined && token.length < TOKEN_LENGTH_MIN) {
      throw new HoldfastError('HF_OPTION_INVALID', { message: `operate: expected a token of at least ${String(TOKEN_LENGTH_MIN)} characters, got ${String(token.length)}`, context: { option: 'token' } })
    }
    if (token === undefined && host !== undefined && !isLoopbackHost(host)) {
      throw new HoldfastError('HF_OPTION_INVALID', {
        message: `operate: the console would be open to everyone who reaches ${host}; give it a token of at least ${String(TOKEN_LENGTH_MIN)} characters, or listen on 127.0.0.1`,
        context: { option: 'host' },
      })
    }
    this.#env = env
    this.#token = token
    this.#basePath = options.basePath
  }

  get needsLogin(): boolean {
    return this.#token !== undefined
  }

  /** @throws HF_UNAUTHENTICATED, HF_FORBIDDEN */
  requireReader(request: Request, info: RequestInfo | undefined): void {
    // Another site's page must not even embed what we say; top-level navigation to the page itself is no read of ours.
    if (request.headers.get('sec-fetch-site') === 'cross-site' && request.headers.get('sec-fetch-mode') !== 'navigate') throw forbidden('another site asks on behalf of this browser')
    if (this.isKnown(request, info)) return
    throw new HoldfastError('HF_UNAUTHENTICATED', {
      message: this.#token === undefined ? 'without a token only this machine is answered, directly and as localhost or 127.0.0.1' : 'the operator token is missing, wrong or expired',
      stackless: true,
    })
  }

  /** @throws HF_UNAUTHENTICATED, HF_FORBIDDEN */
  requireWriter(request: Request, info: RequestInfo | undefined): void {
    this.requireReader(request, info)
    if (request.headers.get(GUARD_HEADER) !== '1') throw forbidden(`a write carries the header ${GUARD_HEADER}: 1`)
    if (!/^application\/json\b/i.test(request.headers.get('content-type') ?? '')) throw forbidden('a write is application/json')
    // No browser adds a Bearer token by itself, so a request with one cannot have been made by somebody else's page.
    if (!this.#hasBearer(request)) requireOwnPage(request)
  }

  /** Is this somebody we answer? */
  isKnown(request: Request, info: RequestInfo | undefined): boolean {
    if (this.#token === undefined) return isLocalRequest(request, info)
    return this.#hasBearer(request) || this.#hasSession(request)
  }

  /** Who is written to the audit. The CLI says its user; everybody else is the console. */
  actorOf(request: Request): Actor {
    const said = /^cli:([\w.@-]{1,60})$/.exec(request.headers.get(ACTOR_HEADER) ?? '')?.[1]
    const roles = ['admin']
    if (said !== undefined) return { id: said, via: 'cli', roles }
    return { id: this.#token === undefined ? 'local' : 'operator', via: 'console', roles }
  }

  /**
   * The cookie for a right token, undefined for a wrong one.
   * @throws HF_RATE_LIMITED after 10 wrong ones within a minute, HF_FORBIDDEN for a form of another site
   */
  login(request: Request, given: string): string | undefined {
    requireOwnPage(request)
    const now = this.#env.monotonic()
    if (now - this.#windowFrom >= LOGIN_WINDOW_MS) {
      this.#windowFrom = now
      this.#failures = 0
    }
    if (this.#failures >= LOGIN_FAILURES_MAX) {
      throw new HoldfastError('HF_RATE_LIMITED', { message: 'too many wrong tokens; wait a minute', retryAfterMs: LOGIN_WINDOW_MS - (now - this.#windowFrom), stackless: true })
    }
    if (this.#token === undefined || !secretMatches(given, [this.#token])) {
      this.#failures += 1
      return undefined
    }
    const expires = this.#env.now() + SESSION_MS
    return this.#cookie(request, `${String(expires)}.${this.#seal(expires, this.#token)}`, SESSION_MS / 1_000)
  }

  /** The cookie that ends a session. */
  logout(request: Request): string {
    return this.#cookie(request, '', 0)
  }

  #hasBearer(request: Request): boolean {
    const given = /^Bearer (\S+)$/i.exec(request.headers.get('authorization') ?? '')?.[1]
    return this.#token !== undefined && given !== undefined && secretMatches(given, [this.#token])
  }

  #hasSession(request: Request): boolean {
    const value = new RegExp(`(?:^|;\\s*)${COOKIE}=([^;]+)`).exec(request.headers.get('cookie') ?? '')?.[1]
    const [, expires, seal] = /^(\d{10,16})\.([\w-]{43})$/.exec(value ?? '') ?? []
    if (this.#token === undefined || expires === undefined || seal === undefined) return false
    return Number(expires) > this.#env.now() && secretMatches(seal, [this.#seal(Number(expires), this.#token)])
  }

  /** A session needs no memory: another token, or the end of its time, ends it. */
  #seal(expires: number, token: string): string {
    return createHmac('sha256', token).update(`holdfast-console|${String(expires)}`).digest('base64url')
  }

  #cookie(request: Request, value: string, maxAgeS: number): string {
    const secure = request.url.startsWith('https:') ? '; Secure' : ''
    return `${COOKIE}=${value}; Path=${this.#basePath}; HttpOnly; SameSite=Strict; Max-Age=${String(maxAgeS)}${secure}`
  }
}

/** Browsers on plain http under a name of the local network send no Sec-Fetch-Site; then Origin must be our own host. */
function requireOwnPage(request: Request): void {
  const site = request.headers.get('sec-fetch-site')
  if (site === 'same-origin' || site === 'none') return
  if (site !== null) throw forbidden('another site asks on behalf of this browser')
  const origin = request.headers.get('origin')
  if (origin === null || !URL.canParse(origin) || new URL(origin).host !== hostOf(request)) throw forbidden('the Origin is not this host')
}

function forbidden(message: string): HoldfastError {
  return new HoldfastError('HF_FORBIDDEN', { message, stackless: true })
}
