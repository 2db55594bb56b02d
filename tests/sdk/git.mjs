// git - the SDK's git helpers, over repositories inside the sandbox.

import { CommandExitError } from 'e2b'
import { assert, main, test } from './lib.mjs'

const me = { authorName: 'Test', authorEmail: 'test@example.com' }

async function repository(sandbox, path) {
  await sandbox.git.init(path, { initialBranch: 'main' })
  await sandbox.files.write(`${path}/README.md`, 'one\n')
  await sandbox.git.add(path)
  await sandbox.git.commit(path, 'first', me)
  return path
}

test('init, add, commit, status', async (sandbox) => {
  const path = await repository(sandbox, '/home/user/first')
  const clean = await sandbox.git.status(path)
  assert.equal(clean.currentBranch, 'main')
  assert.equal(clean.isClean, true)
  await sandbox.files.write(`${path}/README.md`, 'two\n')
  await sandbox.files.write(`${path}/ž "odd".txt`, 'new\n')
  const dirty = await sandbox.git.status(path)
  assert.equal(dirty.hasChanges, true)
  assert.equal(dirty.untrackedCount, 1)
  assert.equal(dirty.unstagedCount, 2)
  await sandbox.git.add(path, { files: ['README.md'] })
  assert.equal((await sandbox.git.status(path)).stagedCount, 1)
})

test('branches', async (sandbox) => {
  const path = await repository(sandbox, '/home/user/branches')
  await sandbox.git.createBranch(path, 'feature')
  assert.deepEqual(await sandbox.git.branches(path), { branches: ['feature', 'main'], currentBranch: 'feature' })
  await sandbox.git.checkoutBranch(path, 'main')
  await sandbox.git.deleteBranch(path, 'feature')
  assert.deepEqual((await sandbox.git.branches(path)).branches, ['main'])
  await assert.rejects(sandbox.git.checkoutBranch(path, 'missing'), CommandExitError)
})

test('clone, push, pull', async (sandbox) => {
  const origin = '/home/user/origin.git'
  await sandbox.git.init(origin, { bare: true, initialBranch: 'main' })
  const path = await repository(sandbox, '/home/user/pusher')
  await sandbox.git.remoteAdd(path, 'origin', origin)
  assert.equal(await sandbox.git.remoteGet(path, 'origin'), origin)
  await sandbox.git.push(path, { remote: 'origin', branch: 'main', setUpstream: true })
  await sandbox.git.clone(origin, { path: '/home/user/cloned' })
  assert.equal(await sandbox.files.read('/home/user/cloned/README.md'), 'one\n')
  await sandbox.files.write(`${path}/README.md`, 'two\n')
  await sandbox.git.add(path)
  await sandbox.git.commit(path, 'second', me)
  await sandbox.git.push(path)
  await sandbox.git.pull('/home/user/cloned')
  assert.equal(await sandbox.files.read('/home/user/cloned/README.md'), 'two\n')
})

test('configuration, reset, restore', async (sandbox) => {
  await sandbox.git.configureUser('Somebody', 'some@example.com')
  assert.equal(await sandbox.git.getConfig('user.name', { scope: 'global' }), 'Somebody')
  const path = await repository(sandbox, '/home/user/config')
  await sandbox.git.setConfig('core.editor', 'true', { scope: 'local', path })
  assert.equal(await sandbox.git.getConfig('core.editor', { scope: 'local', path }), 'true')
  assert.equal(await sandbox.git.getConfig('no.such', { scope: 'local', path }), undefined)
  await sandbox.files.write(`${path}/README.md`, 'changed\n')
  await sandbox.git.restore(path, { paths: ['README.md'] })
  assert.equal(await sandbox.files.read(`${path}/README.md`), 'one\n')
  await sandbox.files.write(`${path}/README.md`, 'changed\n')
  await sandbox.git.reset(path, { mode: 'hard' })
  assert.equal((await sandbox.git.status(path)).isClean, true)
})

main()
