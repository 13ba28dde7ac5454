/**
 * Gives the tests of a transaction pooler a PgBouncer: prints its path, and installs Debian's `pgbouncer` by apt-get when there is none (./apt.mjs).
 *
 *   node scripts/install-pgbouncer.mjs           a path on standard output, when it is there
 *
 * `PGBOUNCER` names another binary. The tests start one of their own; Debian's service is not needed and may be disabled.
 */
import { programFrom } from './apt.mjs'

const path = programFrom({
  program: 'pgbouncer',
  candidates: [process.env.PGBOUNCER, '/usr/sbin/pgbouncer', '/usr/bin/pgbouncer', '/usr/local/bin/pgbouncer'],
  packages: ['pgbouncer'],
  tests: 'Tests through a transaction pooler',
  remedy: 'install PgBouncer (Debian: apt-get install pgbouncer) or set PGBOUNCER=/path/to/pgbouncer',
})
process.stdout.write(`${path}\n`)
