// ports - services inside the sandbox, reached by their public names.

import { assert, eventually, main, request, Sandbox, test } from './lib.mjs'

test('a server inside answers under its host name', async (sandbox) => {
  await sandbox.files.write('www/index.html', 'hello from inside')
  const server = await sandbox.commands.run('cd www && exec python -m http.server 8123', {
    background: true,
    timeoutMs: 0,
  })
  const host = sandbox.getHost(8123)
  assert.ok(host.startsWith(`8123-${sandbox.sandboxId}.`), host)
  const answer = await eventually('the server', async () => {
    const response = await request(`http://${host}/index.html`)
    return response.status === 200 && response
  })
  assert.equal(answer.body.toString(), 'hello from inside')
  assert.equal((await request(`http://${host}/missing`)).status, 404)
  await server.kill()
})

test('a closed port is 502 and says so', async (sandbox) => {
  const response = await request(`http://${sandbox.getHost(9)}/`)
  assert.equal(response.status, 502)
  const body = JSON.parse(response.body.toString())
  assert.equal(body.sandboxId, sandbox.sandboxId)
  assert.equal(body.port, 9)
  assert.match(body.message, /port is not open/)
})

test('a dead sandbox is 502', async () => {
  const sandbox = await Sandbox.create({ timeoutMs: 60_000 })
  const host = sandbox.getHost(8080)
  await sandbox.kill()
  const response = await request(`http://${host}/`)
  assert.equal(response.status, 502)
  assert.match(JSON.parse(response.body.toString()).message, /sandbox was not found/)
})

test('two sandboxes have the same port each for itself', async (sandbox) => {
  const other = await Sandbox.create({ timeoutMs: 60_000 })
  try {
    for (const [box, text] of [[sandbox, 'one'], [other, 'two']]) {
      await box.files.write('same/index.html', text)
      await box.commands.run('cd same && exec python3 -m http.server 8200', { background: true, timeoutMs: 0 })
    }
    for (const [box, text] of [[sandbox, 'one'], [other, 'two']]) {
      const answer = await eventually(text, async () => {
        const response = await request(`http://${box.getHost(8200)}/`)
        return response.status === 200 && response
      })
      assert.equal(answer.body.toString(), text)
    }
  } finally {
    await other.kill()
  }
})

test('a server may be told another host', async () => {
  const sandbox = await Sandbox.create({
    timeoutMs: 60_000,
    network: { maskRequestHost: 'inside.example.com:${PORT}' },
  })
  try {
    await sandbox.files.write(
      'host.py',
      `import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers['Host'].encode())
http.server.HTTPServer(('', 8080), Handler).serve_forever()`
    )
    await sandbox.commands.run('exec python3 host.py', { background: true, timeoutMs: 0 })
    const answer = await eventually('the server', async () => {
      const response = await request(`http://${sandbox.getHost(8080)}/`)
      return response.status === 200 && response
    })
    assert.equal(answer.body.toString(), 'inside.example.com:8080')
  } finally {
    await sandbox.kill()
  }
})

test('where a running sandbox may go is replaced', async () => {
  const sandbox = await Sandbox.create({
    timeoutMs: 60_000,
    network: { denyOut: ({ allTraffic }) => [allTraffic], allowOut: ['192.0.2.1'], allowPublicTraffic: true },
  })
  const reaches = async (address) =>
    (await sandbox.commands.run(`ip route get ${address} >/dev/null 2>&1; echo $?`)).stdout === '0\n'
  try {
    const online = await reaches('10.0.2.2') // not every machine has a way out
    assert.equal(await reaches('198.51.100.1'), false)
    await sandbox.updateNetwork({ denyOut: ['203.0.113.0/24'] })
    assert.equal(await reaches('8.8.8.8'), online)
    assert.equal(await reaches('203.0.113.7'), false)
    const { network } = await sandbox.getInfo()
    assert.deepEqual(network.denyOut, ['203.0.113.0/24'])
    assert.equal(network.allowOut, undefined)
    assert.equal(network.allowPublicTraffic, true)
    await sandbox.updateNetwork({ allowInternetAccess: false })
    assert.equal(await reaches('8.8.8.8'), false)
    await sandbox.updateNetwork({})
    assert.equal(await reaches('8.8.8.8'), online)
  } finally {
    await sandbox.kill()
  }
})

main()
