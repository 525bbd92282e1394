import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { completions } from '../../../src/cli/completions.ts';
import { processFlags, vmFlags } from '../../../src/cli/flags.ts';
import { manPage } from '../../../src/cli/manPage.ts';

const flags = [...Object.keys(vmFlags()), ...Object.keys(processFlags)];

/** What bash offers at the end of a line. */
function offered(line: string): string[] {
  const script = `compopt() { :; }
${completions('bash')}
COMP_LINE="$1" COMP_POINT=\${#1}
_tsvmm
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr } = spawnSync('bash', ['-c', script, 'bash', line], { encoding: 'utf8' });
  expect(stderr).toBe('');
  return stdout.split('\n').filter((word) => word !== '');
}

describe('completions', () => {
  it.each(['bash', 'zsh', 'fish'])('for %s have every option', (shell) => {
    const text = completions(shell);
    for (const name of flags) expect(text).toMatch(new RegExp(`(--|-l )${name}\\b`));
  });

  it.each([
    ['tsvmm --ker', ['--kernel']],
    ['tsvmm --kernel k --mem', ['--memory', '--memory-zone']],
    ['tsvmm --memory si', ['size=']],
    ['tsvmm --memory size=1G,hugepage', ['hugepages=', 'hugepage_size=']],
    ['tsvmm --memory hotplug_method=', ['acpi', 'virtio-mem']],
    ['tsvmm --disk path=/a,readonly=o', ['on', 'off']],
    ['tsvmm --disk path=a path=b,image_type=q', ['qcow2']],
    ['tsvmm --serial f', ['file=']],
    ['tsvmm --console p', ['pty', 'pci_segment=', 'pci_device_id=']],
    ['tsvmm --completions ', ['bash', 'zsh', 'fish']],
  ])('of bash after "%s"', (line, words) => {
    expect(offered(line).map((word) => word.replace(/^.*,/, ''))).toEqual(words);
  });

  it('of bash are files where a path is', () => {
    expect(offered('tsvmm --kernel /etc/passw')).toContain('/etc/passwd');
    expect(offered('tsvmm --disk path=/etc/passw')).toContain('/etc/passwd');
  });

  it('for other shells are refused', () => {
    expect(() => completions('csh')).toThrow('--completions: "csh" is none of bash, zsh, fish');
    expect(() => completions('toString')).toThrow('is none of');
  });
});

describe('the manual page', () => {
  const page = manPage();

  it('has every option and the exit codes', () => {
    for (const name of flags) expect(page).toContain(`\\-\\-${name.replaceAll('-', '\\-')}`);
    expect(page).toMatch(/^\.TH TSVMM 1 /);
    expect(page).toContain('.SH EXIT STATUS');
  });

  it('has every command, and those of ctl', () => {
    for (const name of ['ps', 'run', 'ctl', 'console']) expect(page).toContain(`.B tsvmm ${name}\n`);
    for (const name of ['resize\\-disk', 'shutdown\\-vmm', 'watch']) expect(page).toContain(`.BI "${name}"`);
    expect(page).toContain('\\-\\-read\\-only');
  });

  it('has only requests at the start of a line that begins with a dot or a quote', () => {
    const requests = new Set([
      '.RB',
      '.IR',
      '.TH',
      '.SH',
      '.TP',
      '.B',
      '.BI',
      '.RI',
      '.br',
      '.PP',
      '.RS',
      '.RE',
      '.IP',
    ]);
    for (const line of page.split('\n')) {
      if (/^[.']/.test(line)) expect(requests, line).toContain(line.split(' ')[0]);
    }
  });
});
