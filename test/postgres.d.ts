/** Whoever sets it (./global-setup.ts) names the directory that the workers of one run share, and removes it. */
export declare const RUN_DIR_VARIABLE = "HOLDFAST_TEST_POSTGRES_DIR";
export interface TestPostgres {
    /** URL of a fresh, empty database of its own. */
    url(): Promise<string>;
}
/** A server of the caller's own. */
export interface OwnTestPostgres extends TestPostgres {
    start(): Promise<void>;
    /** `fast` rolls open transactions back and disconnects; `immediate` is a crash. */
    stop(mode?: 'fast' | 'immediate'): Promise<void>;
    restart(mode?: 'fast' | 'immediate'): Promise<void>;
    /** Stops it for good and removes its files. */
    remove(): void;
}
/** `flushes`: every commit is flushed to the disk, as a server does that nobody has told otherwise; for benches. */
export declare function testPostgres(options: {
    readonly own: true;
    readonly flushes?: boolean;
}): Promise<OwnTestPostgres>;
export declare function testPostgres(options?: {
    readonly own?: false;
}): Promise<TestPostgres>;
/** Starts a run: ends what killed runs left, and gives the directory that its workers share. */
export declare function beginRun(): string;
/** Stops the server of a run, when one was started, and removes everything of it. */
export declare function endRun(dir: string): void;
/**
 * The folder of `initdb`, `pg_ctl` and `postgres`, in a copy that every user may run.
 * The copy also gets the symbolic links that the platform package's install script would make, so that it works where
 * scripts were not run (`npm ci --ignore-scripts`).
 */
export declare function binaries(): string;
