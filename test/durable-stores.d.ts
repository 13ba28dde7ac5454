import { type EventName, type HoldfastEvent } from '../src/core/index.ts';
import { type DurableKit } from '../src/durable/index.ts';
import { type Database } from '../src/store/index.ts';
import { type SimulatedEnv } from '../src/testing/index.ts';
export interface TestWorld {
    readonly env: SimulatedEnv;
    readonly database: Database<unknown>;
    /** Another instance on the same database. */
    kit(instance?: string): DurableKit<unknown> & {
        readonly env: SimulatedEnv;
    };
    /** The database's clock moves on; timers of processes do not fire. */
    elapse(ms: number): Promise<void>;
    /** A business write. */
    write(tx: unknown, text: string): Promise<void>;
    /** Business writes that were committed, in order. */
    written(): Promise<readonly string[]>;
    /** Facts announced so far by any instance. */
    readonly facts: readonly HoldfastEvent[];
    names(name: EventName): readonly HoldfastEvent[];
    close(): Promise<void>;
}
export interface TestStore {
    readonly name: string;
    /** Transactions really run at the same time. */
    readonly concurrent: boolean;
    open(): Promise<TestWorld>;
}
export declare const memoryStore: TestStore;
export declare const pgliteStore: TestStore;
export declare const postgresStore: TestStore;
export declare const testStores: readonly TestStore[];
