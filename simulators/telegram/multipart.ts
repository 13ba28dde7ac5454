/**
 * Reads multipart/form-data as leniently as the Bot API server does.
 *
 * `Request.formData()` refuses what grammY sends (no line break behind the last boundary, file names without quotes), so this is our own; a part's
 * bytes are kept as they are. Not here: nested multiparts, encodings of parts.
 */
import { Upload } from './schema.ts'
import { badRequest } from './types.ts'

/** Fields as text, files as `Upload`. @throws ApiError 400 */
export function parseMultipart(contentType: string, body: Buffer): Readonly<Record<string, unknown>> {
  const boundary = /boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(contentType)
  const mark = boundary?.[1] ?? boundary?.[2]
  if (mark === undefined) throw badRequest("can't parse multipart form data: no boundary")
  const fields: Record<string, unknown> = {}
  const delimiter = Buffer.from(`--${mark}`)
  let start = body.indexOf(delimiter)
  if (start < 0) throw badRequest("can't parse multipart form data: the boundary is nowhere")
  for (;;) {
    const from = start + delimiter.length + 2
    const end = body.indexOf(delimiter, from)
    if (end < 0) return fields
    const part = body.subarray(from, end - 2)
    const split = part.indexOf('\r\n\r\n')
    if (split >= 0) {
      const head = part.subarray(0, split).toString('utf8')
      const content = part.subarray(split + 4)
      const name = /\bname="([^"]*)"/i.exec(head)?.[1]
      const quoted = /\bfilename=(?:"([^"]*)"|([^;\r\n]*))/i.exec(head)
      const fileName = quoted?.[1] ?? quoted?.[2]
      if (name !== undefined) fields[name] = fileName === undefined ? content.toString('utf8') : new Upload(fileName, new Uint8Array(content))
    }
    start = end
  }
}
