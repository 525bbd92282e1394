/** Each of virsh's commands for domains, with what it has to print. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { PAYLOAD } from './support.ts';
import { documentFile, type Host, host, run, SCHEMA, watchEvents } from './virsh.ts';

/** A domain with a disk and a balloon. */
async function withDisk(given: Host, cmdline = 'run=idle', devices = ''): Promise<string> {
  const image = path.join(given.folder, 'disk.img');
  fs.writeFileSync(image, Buffer.alloc(1 << 20));
  const disk = `<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${image}'/>
    <target dev='vda' bus='virtio'/></disk><memballoon model='virtio'/>${devices}`;
  await given.virsh('define', documentFile(given.folder, 'one', cmdline, disk));
  return image;
}

async function valid(given: Host, document: string): Promise<void> {
  const file = path.join(given.folder, 'valid.xml');
  fs.writeFileSync(file, document);
  expect(await run('xmllint', ['--noout', '--relaxng', SCHEMA, file])).toMatchObject({ code: 0 });
}

test('started paused, shut down, rebooted, reset and destroyed, with what is told of it', async () => {
  const given = await host();
  const { folder, virsh, refused } = given;
  await withDisk(given, 'run=serial-echo then=idle');
  const events = watchEvents(given);
  await events.ready();
  await virsh('start', '--paused', 'one');
  expect(await virsh('domstate', '--reason', 'one')).toBe('paused (user)');
  expect(await virsh('vcpuinfo', 'one')).toMatch(/CPU time: +0\.0s|State: +running\nCPU Affinity/);
  expect(await refused('shutdown', 'one')).toMatch(/domain is not running/);
  await virsh('resume', 'one');
  expect(await virsh('domstate', '--reason', 'one')).toBe('running (unpaused)');
  await virsh('setmem', 'one', '100M', '--live');
  await virsh('reset', 'one');
  await virsh('destroy', '--graceful', 'one');
  await expect
    .poll(events.lines)
    .toEqual([
      ...['lifecycle Started Booted', 'lifecycle Suspended Paused', 'lifecycle Resumed Unpaused'],
      ...['balloon-change 102400KiB', 'reboot', 'lifecycle Stopped Destroyed'],
    ]);
  expect(await virsh('domstate', '--reason', 'one')).toBe('shut off (destroyed)');
  // The agent is asked where that is wished for, and nothing else then.
  await virsh('start', 'one');
  expect(await refused('shutdown', '--mode', 'agent', 'one')).toMatch(/Guest agent is not responding/);
  expect(await refused('reboot', '--mode', 'agent', 'one')).toMatch(/Guest agent is not responding/);
  expect(await refused('shutdown', '--mode', 'initctl', 'one')).toMatch(
    /unsupported flags \(0x4\) in function/,
  );
  await virsh('shutdown', '--mode', 'agent,acpi', 'one');
  await virsh('destroy', 'one');
  // Of a transient domain.
  await virsh('undefine', 'one');
  const definition = documentFile(folder, 'two', 'run=idle');
  await virsh('create', '--paused', '--validate', definition);
  expect(await virsh('list', '--transient', '--state-paused', '--name')).toBe('two');
  expect(await virsh('dominfo', 'two')).toMatch(/Persistent: +no/);
  await virsh('destroy', 'two');
  expect(await virsh('list', '--all', '--name')).toBe('');
});

test('a guest that powers off when it is rebooted is started anew, as the same run', async () => {
  const given = await host();
  const { virsh } = given;
  await given.virsh('define', documentFile(given.folder, 'one', 'run=power-button'));
  await virsh('start', 'one');
  const events = watchEvents(given);
  const id = await virsh('domid', 'one');
  // The guest listens to its button after a moment.
  await expect
    .poll(async () => {
      await virsh('reboot', 'one');
      return events.lines();
    })
    .toContain('reboot');
  expect(await virsh('domid', 'one')).toBe(id);
  expect(await virsh('domstate', 'one')).toBe('running');
  await expect
    .poll(async () => {
      await virsh('shutdown', 'one').catch(() => {});
      return virsh('domstate', '--reason', 'one');
    })
    .toBe('shut off (shutdown)');
});

test('a domain with --autodestroy ends with its connection, and not in its next run', async () => {
  const given = await host();
  await withDisk(given);
  const { virsh } = given;
  const shell = spawn('virsh', ['-c', given.uri], { stdio: ['pipe', 'pipe', 'ignore'] });
  onTestFinished(() => void shell.kill('SIGKILL'));
  shell.stdin.write('start --autodestroy one\n');
  await expect.poll(() => virsh('domstate', 'one')).toBe('running');
  await virsh('destroy', 'one');
  await virsh('start', 'one');
  shell.stdin.end();
  await new Promise((resolve) => shell.once('close', resolve));
  await virsh('create', '--autodestroy', documentFile(given.folder, 'two', 'run=idle'));
  await expect.poll(() => virsh('list', '--all', '--name')).toBe('one');
  expect(await virsh('domstate', 'one')).toBe('running');
});

test("definitions of transient domains are told of as libvirt's own driver does", async () => {
  const given = await host();
  const { folder, virsh, refused } = given;
  const events = watchEvents(given);
  const file = documentFile(folder, 'one', 'run=idle');
  await expect
    .poll(async () => {
      await virsh('define', file);
      await virsh('undefine', 'one');
      return events.lines();
    })
    .toContain('lifecycle Undefined Removed');
  events.clear();
  await virsh('define', file);
  await virsh('start', 'one');
  await virsh('undefine', 'one');
  expect(await virsh('dominfo', 'one')).toMatch(/Persistent: +no/);
  expect(await refused('undefine', 'one')).toMatch(/cannot undefine transient domain/);
  expect(await refused('autostart', 'one')).toMatch(/cannot set autostart for transient domain/);
  await virsh('destroy', 'one');
  expect(await virsh('list', '--all', '--name')).toBe('');
  await virsh('create', file);
  fs.writeFileSync(file, await virsh('dumpxml', 'one'));
  await virsh('define', file);
  await virsh('destroy', 'one');
  await virsh('undefine', 'one');
  // As `virsh event` has it from Debian's libvirtd with its test driver.
  const expected = ['Defined Added', 'Started Booted', 'Undefined Removed', 'Stopped Destroyed'];
  const again = ['Started Booted', 'Defined Added', 'Stopped Destroyed', 'Undefined Removed'];
  await expect
    .poll(() => events.lines().filter((line) => line.startsWith('lifecycle ')))
    .toEqual([...expected, ...again].map((what) => `lifecycle ${what}`));
});

test('a transient domain that ended while tsvmmd was away is gone', async () => {
  const { daemon, folder, virsh } = await host();
  await virsh('create', documentFile(folder, 'one', 'run=idle'));
  const [pid] = daemon.processes();
  await daemon.kill('SIGKILL');
  process.kill(pid as number, 'SIGKILL');
  await daemon.start();
  await expect.poll(() => virsh('list', '--all', '--name')).toBe('');
  expect(fs.readdirSync(path.join(daemon.dir, 'vms'))).toEqual([]);
});

test('what follows from a reset and from a panic is what the document says', async () => {
  const { daemon, folder, virsh } = await host();
  const define = async (name: string, cmdline: string, actions: string, devices = '') => {
    const file = documentFile(folder, name, cmdline, devices);
    fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('<devices>', `${actions}<devices>`));
    await virsh('define', file);
    await virsh('start', name);
  };
  await define('reset', 'run=reset', '<on_reboot>destroy</on_reboot>');
  await expect.poll(() => virsh('domstate', '--reason', 'reset')).toBe('shut off (shutdown)');
  await define('panic', 'run=pvpanic then=idle', '', "<panic model='pvpanic'/>");
  await expect.poll(() => virsh('domstate', '--reason', 'panic')).toBe('shut off (crashed)');
  await define('again', 'run=pvpanic then=idle', '<on_crash>restart</on_crash>', "<panic model='pvpanic'/>");
  const starts = async () => {
    const { restarts } = JSON.parse(await daemon.tsvmm('inspect', 'again'));
    return restarts;
  };
  await expect.poll(starts).toBeGreaterThan(1);
  await virsh('undefine', 'again');
  expect(await virsh('list', '--all', '--name')).not.toContain('again');
});

test('vCPUs and memory, of the definition and of the machine', async () => {
  const given = await host();
  const { virsh, refused } = given;
  await withDisk(given);
  await virsh('start', 'one');
  // What is defined anew is for the next start: the machine is what it is.
  await virsh('setvcpus', 'one', '4', '--maximum', '--config');
  await virsh('setvcpus', 'one', '2', '--config');
  expect(await virsh('vcpucount', 'one')).toMatch(
    /^maximum +config +4\nmaximum +live +1\ncurrent +config +2\ncurrent +live +1$/,
  );
  expect(await refused('setvcpus', 'one', '2')).toMatch(
    /greater than max allowable vcpus for the live domain: 2 > 1/,
  );
  const both = ['--maximum', '--config', '--live'];
  expect(await refused('setvcpus', 'one', '2', ...both)).toMatch(/live domain can't be modified/);
  expect(await virsh('dominfo', 'one')).toMatch(/CPU\(s\): +1\n/);
  expect(await virsh('vcpuinfo', 'one')).toMatch(/^VCPU: +0\nCPU: +\d+\nState: +running\n/);
  expect(await virsh('cpu-stats', 'one', '--total')).toMatch(
    /cpu_time +\d.*\n\s*user_time.*\n\s*system_time/,
  );
  await virsh('vcpupin', 'one', '0', '0', '--live', '--config');
  expect(await virsh('vcpupin', 'one', '--live')).toMatch(/ 0 +0$/);
  expect(await virsh('vcpuinfo', '--pretty', 'one')).toMatch(/CPU Affinity: +0 \(out of/);
  expect(await virsh('dumpxml', '--inactive', 'one')).toMatch(/<vcpupin vcpu='0' cpuset='0'\/>/);
  expect(await refused('vcpupin', 'one', '7', '0')).toMatch(/vcpu 7 is out of range of live cpu count/);
  await virsh('setmem', 'one', '64M');
  expect(await virsh('dominfo', 'one')).toMatch(/Max memory: +131072 KiB\nUsed memory: +65536 KiB/);
  await virsh('setmem', 'one', '96M', '--config');
  expect(await virsh('dumpxml', '--inactive', 'one')).toMatch(/<currentMemory unit='KiB'>98304</);
  expect(await virsh('dumpxml', 'one')).toMatch(/<currentMemory unit='KiB'>65536</);
  expect(await refused('setmem', 'one', '256M')).toMatch(/cannot set memory higher than max memory/);
  expect(await refused('setmaxmem', 'one', '256M', '--live')).toMatch(/on an active domain/);
  await virsh('setmaxmem', 'one', '256M', '--config');
  expect(await virsh('dumpxml', '--inactive', 'one')).toMatch(/<memory unit='KiB'>262144<.*\n.*>98304</);
  expect(await virsh('dommemstat', 'one')).toMatch(/^actual \d+\nrss \d+$/);
  await virsh('destroy', 'one');
  await virsh('start', 'one');
  expect(await virsh('dominfo', 'one')).toMatch(
    // Its time is shown once it has some.
    /CPU\(s\): +2\n(?:CPU time:.*\n)?Max memory: +262144 KiB\nUsed memory: +98304 KiB/,
  );
  await valid(given, await virsh('dumpxml', 'one'));
});

test('disks, interfaces and figures', async () => {
  const given = await host();
  const { virsh, refused } = given;
  const image = await withDisk(
    given,
    'run=idle',
    "<interface type='ethernet'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>",
  );
  expect(await virsh('domblklist', '--details', 'one')).toMatch(new RegExp(`file +disk +vda +${image}$`));
  expect(await virsh('domblkinfo', 'one', 'vda')).toMatch(
    /^Capacity: +1048576\nAllocation: +\d+\nPhysical: +1048576$/,
  );
  expect(await virsh('domiflist', 'one')).toMatch(/- +ethernet +- +virtio +52:54:00:00:00:01/);
  await virsh('start', 'one');
  expect(await virsh('domblkstat', 'one', 'vda')).toMatch(
    /^vda rd_req 0\nvda rd_bytes 0\nvda wr_req 0\nvda wr_bytes 0/,
  );
  expect(await virsh('domblkstat', 'one')).toMatch(/^rd_req 0\n rd_bytes 0/);
  expect(await refused('domblkstat', 'one', 'vdz')).toMatch(/disk 'vdz' not found in domain/);
  expect(await virsh('domifstat', 'one', '52:54:00:00:00:01')).toMatch(
    /rx_bytes 0\n.*rx_packets 0\n.*rx_drop 0/,
  );
  expect(await refused('domifstat', 'one', 'none0')).toMatch(/'none0' is not a known interface/);
  expect(await virsh('domifaddr', 'one')).toMatch(/^Name +MAC address +Protocol +Address\n-+$/);
  expect(await virsh('domifaddr', '--source', 'arp', 'one')).toMatch(/^Name/);
  expect(await refused('domifaddr', '--source', 'agent', 'one')).toMatch(/Guest agent is not responding/);
  expect(await virsh('domblkerror', 'one')).toBe('No errors found');
  expect(await virsh('domcontrol', 'one')).toBe('ok');
  const stats = Object.fromEntries(
    [...(await virsh('domstats', 'one')).matchAll(/^ {2}(\S+)=(.*)$/gm)].map(([, key, value]) => [
      key,
      value,
    ]),
  );
  expect(stats).toMatchObject({
    ...{ 'state.state': '1', 'state.reason': '1', 'balloon.current': '131072', 'balloon.maximum': '131072' },
    ...{
      'vcpu.current': '1',
      'vcpu.maximum': '1',
      'vcpu.0.state': '1',
      'net.count': '1',
      'net.0.rx.bytes': '0',
    },
    ...{ 'block.count': '1', 'block.0.name': 'vda', 'block.0.path': image, 'block.0.rd.reqs': '0' },
    ...{ 'block.0.capacity': '1048576', 'block.0.wr.times': '0', 'block.0.fl.reqs': '0' },
  });
  expect(Number(stats['cpu.time'])).toBe(Number(stats['cpu.user']) + Number(stats['cpu.system']));
  expect(await virsh('domstats', '--vcpu', '--list-running')).toMatch(
    /^Domain: 'one'\n {2}vcpu\.current=1\n/,
  );
  expect(await refused('domstats', '--enforce', '--perf', 'one')).toMatch(/bits 0x40 are not supported/);
});

test('descriptions, metadata and edits', async () => {
  const given = await host();
  const { virsh, refused } = given;
  await withDisk(given);
  expect(await virsh('desc', 'one')).toBe('No description for domain: one');
  await virsh('desc', 'one', 'what', 'it', 'is', 'for');
  await virsh('desc', 'one', '--title', 'The first');
  expect(await virsh('desc', 'one')).toBe('what it is for');
  expect(await virsh('list', '--all', '--title')).toMatch(/one +shut off +The first/);
  const uri = 'http://example.org/thing';
  expect(await refused('metadata', 'one', uri)).toMatch(/Requested metadata element is not present/);
  await virsh('metadata', 'one', uri, '--key', 'thing', '--set', '<a b="c&amp;d"/>');
  expect(await virsh('metadata', 'one', uri)).toMatch(
    /^<thing:a b='c&amp;d' xmlns:thing='http:\/\/example.org\/thing'\/>$/,
  );
  await valid(given, await virsh('dumpxml', 'one'));
  await virsh('metadata', 'one', uri, '--remove');
  expect(await refused('metadata', 'one', uri)).toMatch(/not present/);
  const edited = await run('virsh', ['-c', given.uri, 'edit', 'one'], {
    EDITOR: "sed -i 's/The first/The only/'",
  });
  expect(edited).toMatchObject({ code: 0 });
  expect(await virsh('desc', '--title', 'one')).toBe('The only');
  const strange = path.join(given.folder, 'strange.xml');
  fs.writeFileSync(strange, (await virsh('dumpxml', 'one')).replace('<os>', '<strange/>\n  <os>'));
  expect(await refused('define', '--validate', strange)).toMatch(/unknown element <strange> in line \d+/);
  await virsh('define', strange);
  fs.writeFileSync(strange, (await virsh('dumpxml', 'one')).replace('<os>', '<numatune/>\n  <os>'));
  expect(await refused('define', strange)).toMatch(/unsupported configuration: <numatune>/);
});

test('what later work brings is not supported, and the shell goes on', async () => {
  const given = await host();
  await withDisk(given);
  await given.virsh('start', 'one');
  const commands = [
    ...[
      'save one /tmp/none',
      'restore /tmp/none',
      'managedsave one',
      'dump one /tmp/none',
      'snapshot-create one',
    ],
    ...['snapshot-revert one any', 'blockcommit one vda', 'migrate one tsvmm:///none'],
    ...['qemu-monitor-command one any', 'checkpoint-list one', 'screenshot one', 'net-list', 'nodedev-list'],
  ];
  const { stderr, stdout } = await run('virsh', ['-c', given.uri, [...commands, 'domstate one'].join('; ')]);
  const refusals = stderr.match(/this function is not supported by the connection driver/g) ?? [];
  expect(refusals.length).toBeGreaterThanOrEqual(commands.length - 1);
  expect(stdout.trim().split('\n').at(-1)).toBe('running');
});

test('a client that is kept alive, and one that does not answer', async () => {
  const given = await host();
  await withDisk(given);
  const kept = spawn(
    'virsh',
    ['-c', given.uri, '-k', '1', '-K', '1', 'event', '--event', 'lifecycle', 'one'],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  onTestFinished(() => void kept.kill('SIGKILL'));
  let printed = '';
  kept.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed += text;
  });
  // Longer than virsh waits for an answer to its pings.
  await new Promise((resolve) => setTimeout(resolve, 3_500));
  expect(kept.exitCode).toBeNull();
  await given.virsh('start', 'one');
  await expect.poll(() => printed).toMatch(/'lifecycle' for domain 'one': Started Booted/);
});

test('a console that somebody has is refused, or taken by force', async () => {
  const given = await host();
  const { virsh } = given;
  await virsh('define', documentFile(given.folder, 'one', 'run=serial-echo then=idle'));
  await virsh('start', 'one');
  const open = (...words: string[]) => {
    const child = spawn(
      'script',
      ['-qec', `virsh -c '${given.uri}' console ${words.join(' ')}`, '/dev/null'],
      {
        stdio: ['pipe', 'pipe', 'ignore'],
      },
    );
    onTestFinished(() => void child.kill('SIGKILL'));
    const shown = { text: '', closed: false };
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      shown.text += text;
    });
    child.once('close', () => {
      shown.closed = true;
    });
    return { child, shown };
  };
  const first = open('one');
  await expect
    .poll(() => {
      first.child.stdin.write('hello');
      return first.shown.text;
    })
    .toContain('HELLO');
  const second = open('one');
  await expect.poll(() => second.shown.text).toMatch(/Active console session exists for this domain/);
  const third = open('one', '--force');
  await expect.poll(() => first.shown.closed).toBe(true);
  await expect
    .poll(() => {
      third.child.stdin.write('again');
      return third.shown.text;
    })
    .toContain('AGAIN');
  await virsh('destroy', 'one');
  await expect.poll(() => third.shown.closed).toBe(true);
});

test('virt-install defines a guest with a kernel and a disk that are there, and starts it', async () => {
  const given = await host();
  const image = path.join(given.folder, 'disk.img');
  fs.writeFileSync(image, Buffer.alloc(1 << 20));
  const installed = await run('virt-install', [
    ...['--connect', given.uri, '--name', 'installed', '--vcpus', '1,maxvcpus=2'],
    ...['--memory', 'memory=128,maxmemory=256'],
    ...['--boot', `kernel=${PAYLOAD},kernel_args=run=idle`, '--import', '--osinfo', 'detect=off,require=off'],
    ...['--disk', `source.file=${image},target.bus=virtio`, '--network', 'none'],
    ...['--graphics', 'none', '--noautoconsole'],
  ]);
  expect(installed).toMatchObject({ code: 0 });
  expect(installed.stdout).toMatch(/Domain creation completed/);
  expect(await given.virsh('list', '--persistent', '--name')).toBe('installed');
  expect(await given.virsh('domblklist', 'installed')).toContain(image);
  expect(await given.virsh('dumpxml', 'installed')).toMatch(/<cmdline>run=idle</);
  expect(await given.virsh('dominfo', 'installed')).toMatch(
    /Max memory: +262144 KiB\s+Used memory: +131072 KiB/,
  );
});
