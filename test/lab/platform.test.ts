/** What a stock Linux makes of the platform's small devices. */
import { expect, test } from 'vitest';
import { LabGuest } from './guest.ts';
import { guestFiles, sharedLab } from './harness.ts';

test('clock, VM generation id and the size of the console', async () => {
  const guest = await LabGuest.boot({ agent: 'ttyS0' });
  // Commands go through the serial port as well.
  expect(await guest.sh('wc -c', { input: 'x'.repeat(3000) })).toBe('3000\n');
  const messages = await guest.sh('dmesg');
  expect(messages).not.toContain('rtc_cmos: probe of rtc_cmos failed');
  expect(await guest.sh('cat /sys/class/rtc/rtc0/name')).toContain('rtc_cmos');
  const seconds = Number(await guest.sh('cat /sys/class/rtc/rtc0/since_epoch'));
  const lab = await sharedLab();
  const now = Number((await lab.run(['date', '+%s'])).stdout);
  expect(Math.abs(seconds - now)).toBeLessThan(5);
  // Debian's cloud kernel has no driver for it; what one would look for is there.
  const generation = '/sys/bus/acpi/devices/TSVM0001:00';
  expect(await guest.sh(`cat ${generation}/path ${generation}/modalias`)).toMatch(
    /\\_SB_\.VGEN\s+acpi:TSVM0001:VM_GEN_COUNTER:/i,
  );
  const id = await guest.sh('dd if=/dev/mem bs=16 skip=$((0xef000 / 16)) count=1 2>/dev/null | od -An -tx1');
  expect(id.trim()).toMatch(/^([0-9a-f]{2} ){15}[0-9a-f]{2}$/);
  expect(id).not.toMatch(/^( 00)+$/);
  expect(await guest.powerOff()).toBe(0);
});

test('a panic is an event and a line for people', async () => {
  const lab = await sharedLab();
  const events = '/tmp/panic-events';
  const guest = await LabGuest.boot({
    cmdline: 'panic=1',
    args: ['--pvpanic', '--event-monitor', `path=${events}`, '--no-shutdown'],
  });
  expect(await guest.sh('ls /sys/bus/pci/drivers/pvpanic-pci')).toContain('0000:00:');
  await guest.rebooted(async () => {
    guest.start(['sh', '-c', 'echo c > /proc/sysrq-trigger']);
  });
  expect(guest.vmm.errors).toContain("The guest's kernel panicked");
  const { stdout } = await lab.run(['cat', events]);
  expect(stdout.replaceAll(/\s+/g, '')).toContain(
    '"source":"guest","event":"panic","properties":{"event":"panic"}',
  );
  guest.vmm.signal('SIGTERM');
  await guest.vmm.exitCode();
});

test('the console has the size of the terminal, and follows it', async () => {
  const lab = await sharedLab();
  let text = '';
  const job = lab.start({
    command: [
      '/tsvmm/bin/tsvmm',
      ...['--kernel', guestFiles.vmlinux, '--initramfs', guestFiles.initramfs],
      ...['--cmdline', 'console=hvc0 quiet', '--console', 'tty', '--serial', 'null'],
    ],
    terminal: { rows: 24, columns: 80 },
    onStdout: (bytes) => {
      text += bytes.toString();
    },
    onStderr: () => {},
  });
  const shows = async (wanted: RegExp) => {
    const end = lab.now() + 120_000;
    while (!wanted.test(text)) {
      if (lab.now() > end) throw new Error(`no ${wanted} in\n${text.slice(-2000)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    text = '';
  };
  await shows(/guest# /);
  // The guest hears of sizes by interrupts, some moments after the console is up.
  job.write(
    Buffer.from('while [ "$(stty size 2>/dev/null)" != "24 80" ]; do echo; usleep 50000; done; stty size\n'),
  );
  await shows(/\n24 80\r?\n/);
  job.resize(50, 132);
  job.write(Buffer.from('while [ "$(stty size)" = "24 80" ]; do usleep 10000; done; stty size\n'));
  await shows(/\n50 132\r?\n/);
  job.write(Buffer.from('poweroff -f\n'));
  expect(await job.exited).toBe(0);
});
