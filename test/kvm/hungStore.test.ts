/** A disk whose store hangs, as one on a dead server does: what waits for it says so, and nothing else waits. */
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import {
  diskImage,
  guestArgs,
  PAYLOAD,
  ROOT,
  RUNTIMES,
  settles,
  startGuest,
  Tsvmm,
  temporaryFolder,
} from './support.ts';

/**
 * For LD_PRELOAD: while the file $HUNG is there, writes to images do not come back; $HUNG.waiting says that there is
 * one.
 */
const HANG = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
static void hang(void) {
  char waiting[4096];
  snprintf(waiting, sizeof waiting, "%s.waiting", getenv("HUNG"));
  close(open(waiting, O_CREAT | O_WRONLY, 0600));
  while (access(getenv("HUNG"), F_OK) == 0) usleep(10000);
}
ssize_t pwritev2(int fd, const struct iovec *pieces, int count, off_t offset, int flags) {
  hang();
  return syscall(SYS_pwritev2, fd, pieces, count, offset, 0, flags);
}
ssize_t pwritev64v2(int fd, const struct iovec *pieces, int count, off_t offset, int flags) {
  return pwritev2(fd, pieces, count, offset, flags);
}
`;

interface HangingStore {
  readonly folder: string;
  /** Sets the variables for what it runs. */
  readonly prefix: readonly string[];
  readonly disk: string;
  /** Something waits for it. */
  hangs(): Promise<void>;
  answer(): void;
}

function hangingStore(): HangingStore {
  const folder = temporaryFolder();
  const source = path.join(folder, 'hang.c');
  const library = path.join(folder, 'hang.so');
  const hung = path.join(folder, 'hung');
  fs.writeFileSync(source, HANG);
  execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, source]);
  fs.writeFileSync(hung, '');
  return {
    folder,
    prefix: ['env', `HUNG=${hung}`, `LD_PRELOAD=${library}`],
    disk: diskImage(folder, 'disk.img'),
    hangs: () => settles(() => expect(fs.existsSync(`${hung}.waiting`)).toBe(true)),
    answer: () => fs.rmSync(hung),
  };
}

function startWriting(store: HangingStore, runtime: (typeof RUNTIMES)[number]): Tsvmm {
  return new Tsvmm(
    [
      ...guestArgs({ cmdline: 'run=blk-rw seed=3 block-timeout=2000000000 then=idle' }),
      ...['--api-socket', path.join(store.folder, 'api'), '--disk', `path=${store.disk},image_type=raw`],
    ],
    { runtime, prefix: store.prefix },
  );
}

describe.each(RUNTIMES)('%s', (runtime) => {
  test('a pause fails and says why, the API answers meanwhile, the guest goes on', async () => {
    const store = hangingStore();
    const vmm = startWriting(store, runtime);
    await vmm.ready();
    await store.hangs();
    const pause = vmm.api('PUT', 'vm.pause');
    expect((await vmm.api('GET', 'vmm.ping')).status).toBe(200);
    const { status, json } = await pause;
    expect(status).toBe(500);
    expect(JSON.stringify(json)).toContain('_disk0: the disk does not answer');
    expect((await vmm.api('GET', 'vm.info')).json.state).toBe('Running');
    store.answer();
    await vmm.waitFor('done ');
    expect((await vmm.api('PUT', 'vm.pause')).status).toBe(204);
    vmm.kill('SIGTERM');
    expect(await vmm.exit()).toEqual({ code: 0, signal: null });
  });

  test('SIGTERM ends the process in seconds, with everything else in order', async () => {
    const store = hangingStore();
    const vmm = startWriting(store, runtime);
    await vmm.ready();
    await store.hangs();
    const pause = vmm.api('PUT', 'vm.pause').catch(() => undefined);
    vmm.kill('SIGTERM');
    expect(await vmm.exit()).toEqual({ code: 1, signal: null });
    await pause;
    expect(vmm.stderr).toContain('_disk0: the disk does not answer');
    expect(fs.existsSync(path.join(store.folder, 'api'))).toBe(false);
  });
});

test('a library call says which disk it waits for, and the process goes on', async () => {
  const store = hangingStore();
  const program = path.join(store.folder, 'program.mjs');
  const options = {
    kernel: PAYLOAD,
    cmdline: 'run=blk-rw seed=3 block-timeout=2000000000 then=idle',
    memory: '128M',
    disks: [{ path: store.disk, image_type: 'Raw' }],
  };
  fs.writeFileSync(
    program,
    `import fs from 'node:fs';
     import { VirtualMachine } from ${JSON.stringify(pathToFileURL(path.join(ROOT, 'dist/js/index.js')).href)};
     const options = ${JSON.stringify(options)};
     const vm = await VirtualMachine.create(options);
     await vm.boot();
     while (!fs.existsSync(process.env.HUNG + '.waiting')) await new Promise((resolve) => setTimeout(resolve, 10));
     const failure = await vm.close().then(() => 'closed', String);
     console.log('close: ' + failure);
     console.log('exit: ' + JSON.stringify(await vm.exited));
     fs.rmSync(process.env.HUNG);
     for (;;) {
       const next = await VirtualMachine.create({ ...options, cmdline: 'run=blk-rw seed=4' });
       try {
         await next.boot();
         console.log('next: ' + (await next.exited).reason);
         break;
       } catch (error) {
         // The first one still has the lock.
         await next.close();
         await new Promise((resolve) => setTimeout(resolve, 50));
       }
     }`,
  );
  const [command, ...words] = [...store.prefix, process.execPath, program];
  const child = spawn(command as string, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  const code = await new Promise((resolve) => child.on('close', resolve));
  expect(output).toMatch(/^close: .*_disk0: the disk does not answer/m);
  expect(output).toMatch(/^exit: .*"code":1.*"incomplete":true/m);
  expect(output).toMatch(/^next: power-off$/m);
  expect(code).toBe(0);
});

test('device threads do not follow the vCPU that started them', async () => {
  const disk = diskImage(temporaryFolder(), 'disk.img');
  const allowed = (task: string) => /^Cpus_allowed_list:\s*(.*)$/m.exec(fs.readFileSync(task, 'utf8'))?.[1];
  const vmm = startGuest({
    cmdline: 'run=blk-rw then=idle',
    args: ['--cpus', 'boot=1,affinity=[0@[0]]', '--disk', `path=${disk},image_type=raw`],
  });
  await vmm.waitFor('done ');
  const cpus: Record<string, string | undefined> = {};
  for (const tid of fs.readdirSync(`/proc/${vmm.pid}/task`)) {
    const folder = `/proc/${vmm.pid}/task/${tid}`;
    cpus[fs.readFileSync(`${folder}/comm`, 'utf8').trim()] = allowed(`${folder}/status`);
  }
  expect(cpus.vcpu0).toBe('0');
  expect(cpus._disk0_q0).toBe(allowed('/proc/self/status'));
});
