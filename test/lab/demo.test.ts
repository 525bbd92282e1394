/** What `npm run demo` does where nobody sits at a terminal, in the lab that all tests share. */
import { expect, test } from 'vitest';
import { demoScript, vmmCommand } from '../../scripts/demo/command.mjs';
import { labSession } from '../../scripts/demo/session.mjs';
import { typeScript } from '../../scripts/demo/typist.mjs';
import { guestFiles, inLab, sharedLab } from './harness.ts';

test('the guest has its disk and the network of its host, and is powered off by `poweroff`', async () => {
  const lab = await sharedLab();
  await inLab(lab, `cp ${guestFiles.disk} /tmp/demo.img`);
  const where = { root: '/tsvmm', files: '/guest', disk: '/tmp/demo.img', network: true };
  const script = demoScript(where.network);
  expect(script.at(-1)).toBe('poweroff');
  let shown = '';
  const code = await typeScript(labSession(lab, vmmCommand(where)), script, (text) => {
    shown += text;
  });
  expect(code).toBe(0);
  expect(shown).toContain('This file is on the disk.');
  expect(shown).toMatch(/inet 192\.0\.2\.2\/24 /);
  expect(shown).toContain('reboot: Power down');
});
