// templates - builds from a list of steps through the SDK: RUN, COPY, ENV, start and ready command.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { BuildError, NotFoundError, Template, waitForFile, waitForPort } from 'e2b'
import { assert, main, Sandbox, test } from './lib.mjs'

const name = `built-${Date.now()}-${Math.floor(Math.random() * 1e9)}`
const context = fs.mkdtempSync(path.join(os.tmpdir(), 'context-'))
process.on('exit', () => fs.rmSync(context, { recursive: true, force: true }))
fs.mkdirSync(path.join(context, 'folder/inner'), { recursive: true })
fs.writeFileSync(path.join(context, 'file.txt'), 'a file\n')
fs.writeFileSync(path.join(context, 'folder/one'), '1\n')
fs.writeFileSync(path.join(context, 'folder/inner/two'), '2\n')

test('a template from steps', async () => {
  const logs = []
  const template = Template({ fileContextPath: context })
    .fromBaseImage()
    .setEnvs({ GREETING: 'hello', LONGER: '$GREETING again' })
    .runCmd('echo "$GREETING, $LONGER" | sudo tee /usr/local/share/greeting')
    .copy('file.txt', '/opt/app/')
    .setWorkdir('/opt/app')
    .copy('folder', 'copied', { user: 'root', mode: 0o700 })
    .runCmd(['pwd >where', 'id -un >>where'])
    .setStartCmd('python3 -m http.server 8123', waitForPort(8123))
  const info = await Template.build(template, name, { onBuildLogs: (entry) => logs.push(entry.message) })
  assert.equal(info.name, name)
  assert.ok(logs.some((line) => line.includes('hello, hello again')), logs.join('\n'))
  assert.equal(await Template.exists(name), true)
  const sandbox = await Sandbox.create(name, { timeoutMs: 60_000 })
  try {
    const shown = await sandbox.commands.run(
      'cat /usr/local/share/greeting /opt/app/file.txt /opt/app/where /opt/app/copied/one /opt/app/copied/inner/two; ' +
      'echo "$GREETING|$LONGER|$PWD"; stat -c %a /opt/app/copied/one; curl -s localhost:8123/where')
    assert.equal(shown.stdout, 'hello, hello again\na file\n/opt/app\nuser\n1\n2\nhello|hello again|/opt/app\n700\n/opt/app\nuser\n')
  } finally {
    await sandbox.kill()
  }
})

test('a template over a template, with a tag', async () => {
  const template = Template().fromTemplate(name).runCmd('echo more >>/opt/app/where').setReadyCmd(waitForFile('/opt/app/where'))
  await Template.build(template, `${name}:v2`)
  const sandbox = await Sandbox.create(`${name}:v2`, { timeoutMs: 60_000 })
  const older = await Sandbox.create(name, { timeoutMs: 60_000 })
  assert.equal((await sandbox.commands.run('tail -1 /opt/app/where; echo $GREETING')).stdout, 'more\nhello\n')
  assert.equal((await older.commands.run('tail -1 /opt/app/where')).stdout, 'user\n')
  await Promise.all([sandbox.kill(), older.kill()])
  assert.deepEqual((await Template.getTags(name)).map((t) => t.tag).sort(), ['default', 'v2'])
  await Template.assignTags(`${name}:v2`, ['stable'])
  await (await Sandbox.create(`${name}:stable`, { timeoutMs: 60_000 })).kill()
  await Template.removeTags(name, ['stable'])
  await assert.rejects(Sandbox.create(`${name}:stable`), /404/)
})

test('a build that fails names the step', async () => {
  const failing = Template().fromBaseImage().runCmd('true').runCmd('echo no luck >&2; exit 3')
  await assert.rejects(Template.build(failing, `${name}-failing`), (error) => {
    assert.ok(error instanceof BuildError)
    assert.match(error.message, /exit status 3: no luck/)
    return true
  })
  assert.equal(await Template.exists(`${name}-failing`), false)
  const late = Template().fromBaseImage().setStartCmd('exit 4', waitForPort(1))
  await assert.rejects(Template.build(late, `${name}-failing`), /status 4/)
  await assert.rejects(Template.build(Template().fromImage('alpine:3'), `${name}-failing`), /alpine.*SANDBOX_HOST_TEMPLATES/)
  await assert.rejects(Template.build(Template().fromTemplate('not-there'), `${name}-failing`), /not-there/)
  assert.deepEqual((await Sandbox.list().nextItems()).length, 0)
})

test('background builds and their status', async () => {
  const info = await Template.buildInBackground(Template().fromBaseImage().runCmd('sleep 0.3; echo done'), `${name}-slow`)
  let status
  do {
    status = await Template.getBuildStatus(info)
  } while (['building', 'waiting'].includes(status.status))
  assert.equal(status.status, 'ready')
  assert.ok(status.logEntries.some((entry) => entry.message.includes('done')))
  await assert.rejects(Template.getBuildStatus({ ...info, buildId: '00000000-0000-4000-8000-000000000000' }), /404|not found/)
})

await main({ sandbox: null })
