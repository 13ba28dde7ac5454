/**
 * Sagas whose steps make resources, wait for a confirmation, or are cancelled in the middle.
 *
 * Whoever confirms and cancels is a loop of the program, as an operator would be. Tickets are stateless here: what makes them single
 * use is another room's, and what voids them (the state of the run) is what is tried.
 */
import { decodeJson, encodeJson, type Json } from '../../../src/core/index.ts'
import { saga, sagaPort, type TicketPort } from '../../../src/durable/index.ts'
import type { RunRow } from '../../../src/durable/saga/port.ts'
import { effects, LEASE, loop, order, type Flow, type FlowProcess, type FlowView } from '../flow.ts'
import { Panel } from './panel.ts'

const OPERATOR = { id: 'operator', via: 'code' } as const

function runOf<Tx>(view: FlowView<Tx>, name: string): Promise<RunRow | undefined> {
  return view.read(tx => sagaPort<Tx>(view).read(tx, { saga: name, id: view.id }))
}

function ask<Tx>(process: FlowProcess<Tx>, what: string, key: string): Promise<Json> {
  return process.call(what, { key })
}

/** Two workspaces in one step, then a refusal: both are dropped again, and nothing that was not made. */
export const trackFlow: Flow = {
  name: 'saga-track',
  outside: (_, options = {}) => new Panel({ failsAfterEffect: [2, 4], ...options }, { refuses: ['open'] }),
  main(process) {
    const deploy = saga('deploy', {
      version: 1, input: order(), lease: LEASE, attempts: 1_000, undoAttempts: 1_000, crashes: 1_000,
      undo: { workspace: (name, { key }) => ask(process, `drop ${name}`, key) },
      run: async step => {
        await step('make', { effect: 'idempotent', run: async ({ key, track }) => {
          for (const name of ['a', 'b']) {
            await ask(process, `make ${name}`, `${key} ${name}`)
            if (!process.without('track')) await track('workspace', name)
          }
        } })
        await step('open', { effect: 'idempotent', run: async ({ key }) => { await ask(process, 'open', key) } })
        return 'open'
      },
    }, process.kit)
    loop(process, 4_000, () => deploy.start(process.id, { id: process.id, amount: 1 }))
    loop(process, 5_000, () => deploy.sweep(10))
  },
  over: async view => (await runOf(view, 'deploy'))?.state === 'undone',
  check: async view => ['make a', 'make b', 'drop a', 'drop b'].flatMap(what => effects(view, what, 1)),
}

function tickets<Tx>(): TicketPort<Tx> {
  return {
    issue: async ({ input, summary, state }) => ({ token: encodeJson({ input, summary, state }, 'ticket'), summary, expiresAt: new Date(0) }),
    redeem: async (_, { token, stateOf }) => {
      const ticket = decodeJson<{ input: string; summary: string; state: string }>(token)
      return await stateOf?.(ticket) === ticket.state ? { ok: true, ticket } : { ok: false, why: 'state-changed' }
    },
    refuse: (_, { why }) => { throw new Error(why) },
  }
}

/** Locks, waits for a confirmation, erases, unlocks: it is erased once, and never before somebody said so. */
export const confirmFlow: Flow = {
  name: 'saga-confirm',
  outside: (_, options = {}) => new Panel({ failsAfterEffect: [2, 3], ...options }),
  main(process) {
    const erase = saga('erase', {
      version: 1, input: order(), lease: LEASE, attempts: 1_000, crashes: 1_000,
      run: async step => {
        await step('lock', { effect: 'idempotent', run: async ({ key }) => { await ask(process, 'lock', key) }, undo: (_, { key }) => ask(process, 'unlock', key) })
        const run = async ({ key }: { readonly key: string }): Promise<void> => { await ask(process, 'erase', key) }
        await (process.without('confirmation') ? step('erase', { effect: 'idempotent', pivot: true, run }) : step('erase', { effect: 'idempotent', irreversible: { summary: 'Erase it', waitFor: '1m', onExpiry: 'ask-again' }, run }))
        await step('tell', { effect: 'idempotent', run: async ({ key }) => { await ask(process, 'tell', key) } })
        return 'erased'
      },
    }, process.kit, { tickets: tickets() })
    loop(process, 4_000, () => erase.start(process.id, { id: process.id, amount: 1 }))
    loop(process, 5_000, () => erase.sweep(10))
    loop(process, 9_000, async () => {
      const ticket = await erase.requestConfirmation(process.id, OPERATOR)
      if (ticket !== undefined) await erase.confirm(ticket.token, OPERATOR)
    })
  },
  over: async view => (await runOf(view, 'erase'))?.state === 'done',
  async holds(view) {
    if (view.outside.world.count('erase') === 0) return []
    const run = await runOf(view, 'erase')
    return [
      ...(run?.confirmedBy === null ? ['erased, and nobody confirmed it'] : []),
      ...(run?.pivot === null ? ['erased, and its point of no return is not recorded'] : []),
    ]
  },
  check: async view => [...effects(view, 'lock', 1), ...effects(view, 'erase', 1), ...effects(view, 'tell', 1), ...effects(view, 'unlock', 0)],
}

/** Cancelled while it is under way: undone as the operator was told, or done where he was refused. */
export const cancelFlow: Flow = {
  name: 'saga-cancel',
  outside: (_, options = {}) => new Panel({ failsAfterEffect: [1, 3], ...options }),
  main(process) {
    const { kit, id } = process
    const provision = saga('cancelled', {
      version: 1, input: order(), lease: LEASE, attempts: 1_000, undoAttempts: 1_000, crashes: 1_000,
      run: async step => {
        for (const name of ['one', 'two']) await step(name, { effect: 'idempotent', run: async ({ key }) => { await ask(process, name, key) }, undo: (_, { key }) => ask(process, `undo ${name}`, key) })
        await step('pivot', { effect: 'idempotent', pivot: true, run: async ({ key }) => { await ask(process, 'pivot', key) } })
        return 'done'
      },
    }, kit)
    loop(process, 4_000, () => provision.start(id, { id, amount: 1 }))
    loop(process, 5_000, () => provision.sweep(10))
    loop(process, 6_000, async () => {
      const answer = process.without('cancellation') ? { outcome: 'undoing' } : await provision.cancel(id, 'not wanted any more', OPERATOR)
      process.tell(answer.outcome === 'refused' ? 'refused' : 'accepted')
    })
  },
  async over(view) {
    const state = (await runOf(view, 'cancelled'))?.state
    return state === 'done' || state === 'undone'
  },
  async check(view) {
    const { world } = view.outside
    const state = (await runOf(view, 'cancelled'))?.state
    if (state === 'done') return [...effects(view, 'one', 1), ...effects(view, 'two', 1), ...effects(view, 'pivot', 1), ...effects(view, 'undo one', 0), ...(view.told.includes('accepted') ? ['it was to be undone, and is done'] : [])]
    return [...effects(view, 'pivot', 0), ...['one', 'two'].flatMap(name => effects(view, `undo ${name}`, world.count(name)))]
  },
}

/** A panel that does not answer its first two callers, ever: whoever waits gives the run back at the step's timeout. */
export const hangingFlow: Flow = {
  name: 'saga-hanging',
  outside: (_, options = {}) => new Panel(options, { looks: { rings: world => world.count('ring') } }),
  main(process) {
    const slow = saga('hanging', {
      version: 1, input: order(), lease: LEASE, attempts: 1_000, crashes: 1_000, ...(process.without('timeout') ? { stepTimeout: '10h' as const } : { stepTimeout: '20s' as const }),
      run: async step => step('slow', { effect: 'idempotent', run: async ({ key }) => {
        await ask(process, 'ring', `${key} ${process.env.uuid()}`)
        if (Number(await process.call('rings', null)) <= 2) await new Promise(() => undefined)
        await ask(process, 'slow', key)
        return 'at last'
      } }),
    }, process.kit)
    loop(process, 4_000, () => slow.start(process.id, { id: process.id, amount: 1 }))
    loop(process, 5_000, () => slow.sweep(10))
  },
  over: async view => (await runOf(view, 'hanging'))?.state === 'done',
  check: async view => effects(view, 'slow', 1),
}
