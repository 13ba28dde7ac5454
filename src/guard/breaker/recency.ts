/**
 * Things in the order of their last use, as a list through the things themselves: using, adding and removing one takes
 * constant time and no memory.
 */
export abstract class Recent {
  older: Recent | undefined = undefined
  newer: Recent | undefined = undefined
}

export class Recency<Item extends Recent> {
  #oldest: Item | undefined
  #newest: Item | undefined

  get oldest(): Item | undefined {
    return this.#oldest
  }

  /** Adds it as the one used last. */
  add(item: Item): void {
    item.older = this.#newest
    item.newer = undefined
    if (this.#newest === undefined) this.#oldest = item
    else this.#newest.newer = item
    this.#newest = item
  }

  remove(item: Item): void {
    if (item.older === undefined) this.#oldest = item.newer as Item | undefined
    else item.older.newer = item.newer
    if (item.newer === undefined) this.#newest = item.older as Item | undefined
    else item.newer.older = item.older
    item.older = undefined
    item.newer = undefined
  }

  use(item: Item): void {
    if (item === this.#newest) return
    this.remove(item)
    this.add(item)
  }

  *[Symbol.iterator](): Generator<Item> {
    for (let item = this.#oldest; item !== undefined; item = item.newer as Item | undefined) yield item
  }
}
