// create, run-cmd and delete with the types that openapi-typescript makes of /openapi.json (schema.d.ts).
import { randomUUID } from 'node:crypto'
import createClient from 'openapi-fetch'
import type { paths } from './schema.js'

const [url, token] = process.argv.slice(2)
const client = createClient<paths>({
  baseUrl: url,
  headers: { Authorization: `Bearer ${token}`, 'User-Agent': 'generated-typescript/1.0', 'X-Request-ID': randomUUID() },
})
const base = '/agent/sandboxes/sandboxes'

const made = await client.POST(`${base}/create`, { body: { user_id: 'generated' } })
if (!made.data?.data || !('mcp_url' in made.data.data)) throw new Error(JSON.stringify(made.error))
const id = made.data.data.sandbox_id

const ran = await client.POST(`${base}/run-cmd`, { body: { sandbox_id: id, command: 'echo from TypeScript' } })
// a string when Accept asks for the event stream
if (typeof ran.data !== 'object' || ran.data.data?.output !== 'from TypeScript\n') throw new Error(JSON.stringify(ran))

const gone = await client.DELETE(`${base}/{id}`, { params: { path: { id } } })
if (gone.data?.data?.status !== 'deleted') throw new Error(JSON.stringify(gone))

const refused = await client.POST(`${base}/run-cmd`, { body: { sandbox_id: id, command: 'true' } })
if (refused.error?.error?.type !== 'sandbox_not_found') throw new Error(JSON.stringify(refused))
console.log('ok')
