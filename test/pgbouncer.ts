/**
 * A PgBouncer in transaction mode for tests, in front of a database of the test PostgreSQL: started on loopback, with a configuration
 * of its own in a temporary directory, as a user that is not root (which it refuses).
 *
 * scripts/install-pgbouncer.mjs, which the test command calls, installs it. Without it the tests of a pooler are skipped.
 */
import { spawn } from 'node:child_process'
import { chownSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { serverUser } from './postgres.ts'

const CANDIDATES = [process.env['PGBOUNCER'], '/usr/sbin/pgbouncer', '/usr/bin/pgbouncer', '/usr/local/bin/pgbouncer']

/** Undefined where it is not installed. */
export const pgbouncerPath: string | undefined = CANDIDATES.find(path => path !== undefined && path !== '' && existsSync(path))

export interface Pooler {
  /** The same database through the pooler. */
  readonly url: string
  stop(): void
}

/** At most `connections` connections to the server, whoever asks. */
export async function startPooler(databaseUrl: string, connections: number): Promise<Pooler> {
  if (pgbouncerPath === undefined) throw new Error('there is no pgbouncer; run node scripts/install-pgbouncer.mjs')
  const to = new URL(databaseUrl)
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-pgbouncer-'))
  const port = await freePort()
  const user = serverUser()
  const ini = join(dir, 'pgbouncer.ini')
  const users = join(dir, 'users.txt')
  writeFileSync(users, `"${to.username}" ""\n`, { mode: 0o600 })
  writeFileSync(ini, `[databases]
* = host=${to.hostname} port=${to.port} user=${to.username} password=${decodeURIComponent(to.password)}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${String(port)}
unix_socket_dir =
pool_mode = transaction
default_pool_size = ${String(connections)}
max_client_conn = 200
auth_type = trust
auth_file = ${users}
logfile = ${join(dir, 'log')}
`, { mode: 0o600 })
  for (const path of [dir, users, ini]) if (user.uid !== undefined && user.gid !== undefined) chownSync(path, user.uid, user.gid)
  const process = spawn(pgbouncerPath, ['-q', ini], { ...user, cwd: dir, stdio: 'ignore' })
  const stop = (): void => {
    process.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
  }
  for (let attempt = 0; !await answers(port); attempt++) {
    if (attempt >= 200 || process.exitCode !== null) {
      stop()
      throw new Error(`pgbouncer did not start (exit code ${String(process.exitCode)})`)
    }
    await new Promise(resolve => { setTimeout(resolve, 25) })
  }
  const url = new URL(databaseUrl)
  url.host = `127.0.0.1:${String(port)}`
  url.password = ''
  return { url: url.href, stop }
}

function answers(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => { socket.destroy(); resolve(true) })
    socket.once('error', () => { resolve(false) })
  })
}

function freePort(): Promise<number> {
  return new Promise(resolve => {
    const server = createServer()
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => { resolve(typeof address === 'object' && address !== null ? address.port : 0) })
    })
  })
}
