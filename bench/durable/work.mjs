/**
 * The work of every subject, and the numbers that all of them are given: the same for all.
 */
export const CONNECTIONS = 10
export const PARALLEL = 32
/** Items of a queue that is drained, and how many are worked on at a time. */
export const QUEUED = 2_000
export const WORKERS = 32
/** Commits after which the embedded database's memory is looked at again. */
export const COMMITS = 1_000

export const BUSINESS_TABLE = 'CREATE TABLE business (id text PRIMARY KEY, amount integer NOT NULL)'
export const INSERT_BUSINESS = 'INSERT INTO business (id, amount) VALUES ($1, $2)'

export const order = n => ({ id: `order-${n}`, amount: 42 })
/** Steps that cost nothing themselves, so that what is measured is their record. */
export const steps = Object.freeze([async () => 1, async before => before + 1, async before => before + 1])
export const STEPS_RESULT = 3
