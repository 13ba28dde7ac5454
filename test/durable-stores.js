/**
 * The stores that the durable features' contract suites run on, each behind the same few words.
 *
 * The process's time is simulated on all of them. The database's time passes by `elapse`: the memory store's clock is
 * moved, an SQL database's recorded times are moved back, which is the same to whoever compares them with its clock.
 * An SQL database is opened once per test file and emptied for each world: opening one takes a second, emptying it a millisecond.
 */
import { afterAll } from 'vitest';
import { EventBus, realEnv } from "../src/core/index.js";
import { DURABLE_MIGRATIONS } from "../src/durable/index.js";
import { pgliteMemory } from "../src/store/embedded/testing.js";
import { migrate } from "../src/store/index.js";
import { memory } from "../src/store/memory/index.js";
import { postgres } from "../src/store/postgres/index.js";
import { simulatedEnv } from "../src/testing/index.js";
import { testPostgres } from "./postgres.js";
/** What `elapse` moves back: every recorded time that is compared with the clock. */
const TIMES = {
    lease: ['expires_at'],
    once_record: ['lease_until', 'updated_at', 'expires_at'],
    inbox_row: ['wake_at', 'lease_until', 'received_at', 'expires_at'],
    outbox_message: ['wake_at', 'send_before', 'created_at', 'updated_at', 'expires_at'],
    outbox_sender: ['lease_until', 'paused_until'],
    retry_entry: ['stored_at', 'expires_at'],
    saga_run: ['lease_until', 'wake_at', 'started_at', 'updated_at', 'expires_at', 'deadline_at', 'ask_until'],
};
/** Everything that a world may have left in an SQL database. Steps go with their runs. */
const EMPTY = [...Object.keys(TIMES), 'outbox_lane'].map(table => `DELETE FROM holdfast.${table}`).concat('DELETE FROM effect').join('; ');
function world(database, env, elapse, close) {
    const facts = [];
    const sql = database.dialect === 'sql';
    return {
        env,
        database,
        facts,
        names: name => facts.filter(fact => fact.name === name),
        kit: (instance = 'one') => {
            const own = env.process(instance);
            const events = new EventBus(own);
            events.onAny(fact => { facts.push(fact); });
            return { env: own, events, service: 'test', instance, database: () => database };
        },
        elapse,
        write: async (tx, text) => {
            if (sql)
                await tx.query('INSERT INTO effect (text) VALUES ($1)', [text]);
            else
                tx.table('effect').set(String(tx.sequence('effect')), { text });
        },
        written: () => database.transaction('test.read', async (tx) => sql
            ? (await tx.query('SELECT text FROM effect ORDER BY n')).map(row => row.text)
            : [...tx.table('effect').entries()].map(([, row]) => row.text)),
        close,
    };
}
export const memoryStore = {
    name: 'memory',
    concurrent: false,
    open: async () => {
        const env = simulatedEnv();
        const clock = env.process('database');
        const database = await memory().open({ env: clock, events: new EventBus(clock), service: 'test' });
        return world(database, env, async (ms) => { clock.jump(ms); }, () => database.close());
    },
};
function sqlStore(name, concurrent, store) {
    let opened;
    let inUse = false;
    afterAll(async () => { await (await opened)?.close(); });
    return {
        name, concurrent,
        open: async () => {
            if (inUse)
                throw new Error(`a world on ${name} is still open in this file; close it first`);
            inUse = true;
            opened ??= prepare(store);
            const database = await opened;
            await database.transaction('test.empty', tx => tx.query(EMPTY));
            return world(database, simulatedEnv(), ms => elapse(database, ms), async () => { inUse = false; });
        },
    };
}
async function prepare(store) {
    const env = realEnv();
    const database = await (await store()).open({ env, events: new EventBus(env), service: 'test' });
    await migrate(database, 'durable', DURABLE_MIGRATIONS);
    await database.transaction('test.table', tx => tx.query('CREATE TABLE effect (n bigserial PRIMARY KEY, text text NOT NULL)'));
    return database;
}
async function elapse(database, ms) {
    const back = Object.entries(TIMES).map(([table, columns]) => `UPDATE holdfast.${table} SET ${columns.map(column => `${column} = ${column} - ${String(ms)} * interval '1 millisecond'`).join(', ')}`);
    await database.transaction('test.elapse', tx => tx.query(back.join('; ')));
}
export const pgliteStore = sqlStore('PGlite', false, async () => pgliteMemory());
export const postgresStore = sqlStore('postgres', true, async () => postgres(await (await testPostgres()).url(), { connections: 8 }));
export const testStores = [memoryStore, pgliteStore, postgresStore];
//# sourceMappingURL=durable-stores.js.map