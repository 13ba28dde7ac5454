/**
 * The VPN panel (Marzban's API) as the shop needs it: ensure a user, remove one, list them.
 *
 * Name and id are chosen by us and follow from the subscription, so everything here may be repeated: a user who exists
 * already (409: an answer of ours got lost) is looked up, compared and taken over, never made a second time.
 */
import type { Env } from 'holdfast/core'
import { type Dependency, HttpStatusError } from 'holdfast/guard'
import { z } from 'zod'
import { requestJson } from './http-json.ts'

export interface PanelUser {
  readonly username: string
  /** The UUID of its VLESS account. */
  readonly id: string
  readonly expiresAt: number
}

export type Ensured =
  | { readonly outcome: 'ensured'; readonly key: string; readonly adopted: boolean }
  /** The panel's definite no, or a user of this name who is not ours. Trying again changes nothing. */
  | { readonly outcome: 'refused'; readonly message: string }

export interface VpnPanel {
  ensureUser(user: PanelUser, signal?: AbortSignal): Promise<Ensured>
  /** Also when there is none. */
  removeUser(username: string, signal?: AbortSignal): Promise<void>
  /** Names on the panel, page by page. */
  list(page: { readonly offset: number; readonly limit: number }): Promise<{ readonly usernames: readonly string[]; readonly total: number }>
  /** Resolves when the panel answers as one. */
  ping(signal?: AbortSignal): Promise<void>
}

const User = z.object({
  username: z.string(),
  proxies: z.object({ vless: z.object({ id: z.string() }).optional() }).partial().optional(),
  expire: z.number().nullable().optional(),
  links: z.array(z.string()).default([]),
  subscription_url: z.string().default(''),
})
const Users = z.object({ users: z.array(z.object({ username: z.string() })), total: z.number() })

export interface VpnPanelOptions {
  readonly dependency: Dependency
  readonly env: Env
  readonly url: string
  readonly token: string
}

export function vpnPanel({ dependency, env, url, token }: VpnPanelOptions): VpnPanel {
  const headers = { authorization: `Bearer ${token}` }
  const byName = (username: string): string => `${url}/api/user/${encodeURIComponent(username)}`
  const bodyOf = (user: PanelUser) => ({
    username: user.username, proxies: { vless: { id: user.id } }, inbounds: {}, expire: Math.ceil(user.expiresAt / 1_000), data_limit: 0, status: 'active',
  })
  const options = (signal: AbortSignal | undefined) => ({ effect: 'idempotent' as const, ...(signal === undefined ? {} : { signal }) })

  /** The key of an answered user; undefined when the answer is none (empty body, other fields): then ask again. */
  const keyOf = (body: unknown): string | undefined => {
    const parsed = User.safeParse(body)
    if (!parsed.success) return undefined
    const key = parsed.data.links[0] ?? parsed.data.subscription_url
    return key === '' ? undefined : key
  }

  return {
    async ensureUser(user, signal) {
      const what = `vpn-panel ensure ${user.username}`
      return dependency.call('ensure-user', options(signal), async (attempt): Promise<Ensured> => {
        const created = await requestJson(env, attempt, { url: `${url}/api/user`, method: 'POST', headers, body: bodyOf(user), what })
        if (created.status === 401 || created.status === 403) throw denied(created.status, what)
        const key = created.status < 300 ? keyOf(created.body) : undefined
        if (key !== undefined) return { outcome: 'ensured', key, adopted: false }
        if (created.status >= 300 && created.status !== 409) return { outcome: 'refused', message: refusalOf(created.status, created.body) }

        // It exists: by an earlier call whose answer was lost, or because this answer said nothing. Ours has our id.
        const found = await requestJson(env, attempt, { url: byName(user.username), headers, what })
        const there = User.safeParse(found.body)
        if (found.status !== 200 || !there.success) throw new HttpStatusError({ status: 502, headers: new Headers() }, { what: `${what}: exists, but cannot be read (status ${String(found.status)})` })
        if (there.data.proxies?.vless?.id !== user.id) return { outcome: 'refused', message: `${user.username} exists on the panel with another id` }
        const updated = await requestJson(env, attempt, { url: byName(user.username), method: 'PUT', headers, body: bodyOf(user), what })
        if (updated.status >= 300) return { outcome: 'refused', message: refusalOf(updated.status, updated.body) }
        const adopted = keyOf(updated.body) ?? keyOf(found.body)
        return adopted === undefined ? { outcome: 'refused', message: `${user.username} has no link on the panel` } : { outcome: 'ensured', key: adopted, adopted: true }
      })
    },
    async removeUser(username, signal) {
      const what = `vpn-panel remove ${username}`
      await dependency.call('remove-user', options(signal), async attempt => {
        const answer = await requestJson(env, attempt, { url: byName(username), method: 'DELETE', headers, what })
        if (answer.status >= 300 && answer.status !== 404) throw denied(answer.status, what)
      })
    },
    async list({ offset, limit }) {
      return dependency.call('list-users', { effect: 'read' }, async attempt => {
        const answer = await requestJson(env, attempt, { url: `${url}/api/users?offset=${String(offset)}&limit=${String(limit)}`, headers, what: 'vpn-panel list' })
        if (answer.status !== 200) throw denied(answer.status, 'vpn-panel list')
        const page = Users.parse(answer.body)
        return { usernames: page.users.map(user => user.username), total: page.total }
      })
    },
    async ping(signal) {
      await dependency.call('ping', { effect: 'read', retry: false, ...(signal === undefined ? {} : { signal }) }, async attempt => {
        const answer = await requestJson(env, attempt, { url: `${url}/api/system`, headers, what: 'vpn-panel ping' })
        if (answer.status !== 200) throw denied(answer.status, 'vpn-panel ping')
      })
    },
  }
}

function denied(status: number, what: string): HttpStatusError {
  return new HttpStatusError({ status, headers: new Headers() }, { what })
}

/** What the panel says about its no: `{"detail": ...}`. Cut short: it is kept and shown to operators. */
function refusalOf(status: number, body: unknown): string {
  const detail = typeof body === 'object' && body !== null && 'detail' in body ? body.detail : undefined
  return `the panel answered ${String(status)}: ${(typeof detail === 'string' ? detail : JSON.stringify(detail ?? body ?? '')).slice(0, 200)}`
}
