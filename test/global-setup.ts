/**
 * Before the test run: a directory for what its workers share (the test PostgreSQL, started only when a test asks for it).
 * After it: that server is stopped and the directory removed.
 */
import { beginRun, endRun, RUN_DIR_VARIABLE } from './postgres.ts'

export default function setup(): () => void {
  const dir = beginRun()
  // Workers inherit the environment.
  process.env[RUN_DIR_VARIABLE] = dir
  return () => { endRun(dir) }
}
