/**
 * A bound on how long the run waits for the server that it crashes itself.
 */
/** The server may be crashed under a question, whose answer then may never come. */
export async function withinSeconds<T>(seconds: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  try {
    return await Promise.race([work, new Promise<never>((_resolve, reject) => { timer = setTimeout(() => { reject(new Error(`no answer within ${String(seconds)} s`)) }, seconds * 1_000) })])
  } finally {
    clearTimeout(timer)
  }
}
