/**
 * Files that users sent: `getFile` gives a path that can be downloaded for an hour, and nothing above 20 MB.
 */
import type { Env } from 'holdfast/core'
import type { SeededRandom } from '../kit/index.ts'
import { badRequest } from './types.ts'

export interface StoredFile {
  readonly file_id: string
  readonly file_unique_id: string
  readonly file_size: number
  readonly path: string
  readonly bytes: Uint8Array | undefined
}

const DOWNLOAD_MAX_BYTES = 20 * 1_048_576
const LINK_FOR_MS = 3_600_000
const FILES_MAX = 5_000

export class Files {
  readonly #env: Env
  readonly #random: SeededRandom
  readonly #byId = new Map<string, StoredFile>()
  readonly #links = new Map<string, { readonly file: StoredFile; readonly until: number }>()

  constructor(env: Env, random: SeededRandom) {
    this.#env = env
    this.#random = random
  }

  /** `size` without bytes makes a file of that many bytes; its content is made when it is downloaded. */
  add(folder: string, extension: string, content: { readonly bytes?: Uint8Array; readonly size?: number } = {}): StoredFile {
    const size = content.bytes?.length ?? content.size ?? this.#random.int(2_000, 200_000)
    const file: StoredFile = {
      file_id: `AgACAgIAAx${this.#random.text(50)}`, file_unique_id: `AQAD${this.#random.text(10)}`,
      file_size: size, path: `${folder}/file_${String(this.#byId.size)}${extension}`, bytes: content.bytes,
    }
    if (this.#byId.size >= FILES_MAX) this.#byId.delete(this.#byId.keys().next().value ?? '')
    this.#byId.set(file.file_id, file)
    return file
  }

  has(fileId: string): boolean {
    return this.#byId.has(fileId)
  }

  /** getFile. @throws ApiError 400 */
  open(fileId: string): Readonly<Record<string, unknown>> {
    const file = this.#byId.get(fileId)
    if (file === undefined) throw badRequest('wrong file_id or the file is temporarily unavailable')
    if (file.file_size > DOWNLOAD_MAX_BYTES) throw badRequest('file is too big')
    if (this.#links.size >= FILES_MAX) this.#links.delete(this.#links.keys().next().value ?? '')
    this.#links.set(file.path, { file, until: this.#env.now() + LINK_FOR_MS })
    return { file_id: file.file_id, file_unique_id: file.file_unique_id, file_size: file.file_size, file_path: file.path }
  }

  /** What `/file/bot<token>/<path>` answers. */
  download(path: string): Response {
    const link = this.#links.get(path)
    if (link === undefined || link.until <= this.#env.now()) return new Response('{"ok":false,"error_code":404,"description":"Not Found"}', { status: 404, headers: { 'content-type': 'application/json' } })
    const bytes = link.file.bytes ?? new Uint8Array(link.file.file_size).fill(0x5a)
    return new Response(new Uint8Array(bytes), { headers: { 'content-type': 'application/octet-stream', 'content-length': String(bytes.length) } })
  }

  clear(): void {
    this.#byId.clear()
    this.#links.clear()
  }
}
