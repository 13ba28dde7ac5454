import { beforeEach, describe, expect, it } from 'vitest'
import { simulatedEnv, type SimulatedEnv } from 'holdfast/testing'
import { type PanelUser, vpnPanelSimulator, type VpnPanelSimulator } from './index.ts'

const UUID = '0b6a5c1e-8c1d-5f3e-9a63-2f7d0f7f1a11'

let env: SimulatedEnv
let panel: VpnPanelSimulator

beforeEach(() => {
  env = simulatedEnv({ seed: 1 })
  panel = vpnPanelSimulator({ env, seed: 1 })
  env.serve('http://panel.test', panel.fetch)
})

async function api(method: string, path: string, body?: unknown, token = panel.token): Promise<{ status: number; body: unknown }> {
  const response = await env.fetch(`http://panel.test/api${path}`, { method, headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' }, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
  return { status: response.status, body: await response.json() }
}

describe('a user', () => {
  it('is created with the uuid it was given, and has a key', async () => {
    const { status, body } = await api('POST', '/user', { username: 'sub_1', uuid: UUID, expire: 1_800_000_000, data_limit: 0 })
    expect(status).toBe(200)
    expect(body).toMatchObject({ username: 'sub_1', uuid: UUID, status: 'active', expire: 1_800_000_000, links: [expect.stringContaining(`vless://${UUID}@`)] })
    expect(panel.keys()).toEqual([body])
  })

  it('gets a uuid when it brings none', async () => {
    expect((await api('POST', '/user', { username: 'sub_1' })).body).toMatchObject({ uuid: expect.stringMatching(/^[0-9a-f-]{36}$/) as string })
  })

  it('that exists is a conflict, and stays as it was', async () => {
    await api('POST', '/user', { username: 'sub_1', uuid: UUID })
    expect(await api('POST', '/user', { username: 'sub_1' })).toEqual({ status: 409, body: { detail: 'User already exists' } })
    expect(panel.keys().map(user => user.uuid)).toEqual([UUID])
    expect(panel.state().conflicts).toBe(1)
  })

  it('exists although the answer was lost', async () => {
    panel.faults.add({ match: { operation: 'createUser', times: 1 }, fault: { kind: 'apply-then-drop' } })
    await expect(api('POST', '/user', { username: 'sub_1' })).rejects.toThrow('fetch failed')
    expect((await api('POST', '/user', { username: 'sub_1' })).status).toBe(409)
  })

  it('is changed by name, again and again with the same result', async () => {
    await api('POST', '/user', { username: 'sub_1', uuid: UUID })
    const change = { expire: 1_900_000_000 }
    const first = await api('PUT', '/user/sub_1', change)
    expect(await api('PUT', '/user/sub_1', change)).toEqual(first)
    expect(first.body).toMatchObject({ uuid: UUID, expire: 1_900_000_000 })
  })

  it('expires by the clock', async () => {
    await api('POST', '/user', { username: 'sub_1', expire: Math.floor(env.now() / 1_000) + 60 })
    await env.advance('61s')
    expect((await api('GET', '/user/sub_1')).body).toMatchObject({ status: 'expired' })
  })

  it('is gone after it was deleted, and unknown is 404', async () => {
    await api('POST', '/user', { username: 'sub_1' })
    expect((await api('DELETE', '/user/sub_1')).status).toBe(200)
    for (const method of ['GET', 'DELETE']) expect(await api(method, '/user/sub_1')).toEqual({ status: 404, body: { detail: 'User not found' } })
    expect((await api('PUT', '/user/sub_1', {})).status).toBe(404)
  })

  it.each([[{ username: 'Ab' }, 'username'], [{ username: 'with space' }, 'username'], [{ username: 'abc', uuid: 'x' }, 'uuid'], [{ username: 'abc', expire: -1 }, 'expire'], [{ username: 'abc', data_limit: 1.5 }, 'data_limit'], [[], 'body']])('that is wrong is 422: %j', async (body, field) => {
    expect(await api('POST', '/user', body)).toMatchObject({ status: 422, body: { detail: { [field]: expect.any(String) as string } } })
    expect(panel.keys()).toHaveLength(0)
  })
})

describe('the door', () => {
  it('is shut without the token', async () => {
    for (const [method, path, body] of [['POST', '/user', { username: 'abc' }], ['GET', '/users'], ['GET', '/system']] as const) {
      expect(await api(method, path, body, 'wrong')).toEqual({ status: 401, body: { detail: 'Could not validate credentials' } })
    }
    expect(panel.keys()).toHaveLength(0)
  })

  it('says how it is', async () => {
    panel.put({ username: 'abc' })
    expect(await api('GET', '/system')).toMatchObject({ status: 200, body: { total_user: 1, users_active: 1 } })
    expect((await api('GET', '/elsewhere')).status).toBe(404)
  })
})

describe('the list', () => {
  it('comes in pages with the total', async () => {
    for (const name of ['aaa', 'bbb', 'ccc']) panel.put({ username: name })
    const names = (reply: { body: unknown }): string[] => (reply.body as { users: PanelUser[] }).users.map(user => user.username)
    expect(names(await api('GET', '/users'))).toEqual(['aaa', 'bbb', 'ccc'])
    const page = await api('GET', '/users?offset=1&limit=1')
    expect([names(page), (page.body as { total: number }).total]).toEqual([['bbb'], 3])
    expect((await api('GET', '/users?offset=x')).status).toBe(422)
  })
})

describe('a restart', () => {
  it('may lose the newest users', () => {
    for (const name of ['aaa', 'bbb', 'ccc']) panel.put({ username: name })
    panel.restart({ loseLast: 1 })
    expect(panel.keys().map(user => user.username)).toEqual(['aaa', 'bbb'])
  })

  it('of the simulator forgets users, unless told to keep them', () => {
    panel.put({ username: 'aaa' })
    panel.reset()
    expect(panel.keys()).toHaveLength(0)
    const keeping = vpnPanelSimulator({ env, keepUsersOnReset: true })
    keeping.put({ username: 'aaa' })
    keeping.reset()
    expect(keeping.keys()).toHaveLength(1)
  })
})
