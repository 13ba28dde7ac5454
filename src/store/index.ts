/**
 * @module holdfast/store
 * The store as the rooms above see it: the port, migrations, and what wraps every store. Imports no database driver:
 * those are reached by their own subpaths (holdfast/memory, holdfast/embedded, holdfast/postgres).
 */
export * from './port.ts'
export { sqlDatabase, type TxAdapter } from './user-tx.ts'
export { withHooks, type StoreHooks } from './hooks.ts'
export { last } from './last.ts'
export { migrate, type Migration, type MigrationReport } from './migrations.ts'
export { rerunUnknownCommit } from './unknown-commit.ts'
