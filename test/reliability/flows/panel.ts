/** What the sagas of the flows ask: a panel that carries out everything but what it refuses, and can be looked at. */
import type { Json } from '../../../src/core/index.ts'
import { OutsideError, OutsideWorld, type OutsideOptions } from '../../../src/testing/index.ts'
import { field, type Outside } from '../flow.ts'

export class Panel implements Outside {
  readonly world: OutsideWorld
  readonly #refuses: readonly string[]
  readonly #looks: Readonly<Record<string, (world: OutsideWorld) => Json>>

  constructor(options: OutsideOptions, { refuses = [], looks = {} }: { readonly refuses?: readonly string[]; readonly looks?: Readonly<Record<string, (world: OutsideWorld) => Json>> } = {}) {
    this.world = new OutsideWorld(options)
    this.#refuses = refuses
    this.#looks = looks
  }

  handle(name: string, request: Json): Json {
    const look = this.#looks[name]
    if (look !== undefined) return look(this.world)
    if (this.#refuses.includes(name)) throw new OutsideError(422, `${name}: not for this customer`)
    return this.world.request(name, { key: field(request, 'key') })
  }
}
