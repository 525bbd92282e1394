/** QEMU's guest agent from Debian's package, on a disk: for a guest that reaches no archive of packages. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { run } from '../lib/exec.mjs';
import { toolFiles } from './tools.mjs';

const MEGABYTES = 32;

/** Where the disk has it, and what it loads beside the guest's own C library. */
export const AGENT_PROGRAM = 'usr/bin/qemu-ga';
export const AGENT_LIBRARIES = 'lib/x86_64-linux-gnu';
const OF_GUEST = /\/(ld-linux.*|lib[cm])\.so/;

/** @param {string} image to write */
export async function makeAgentDisk(image) {
  const work = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-agent-disk-'));
  try {
    const root = path.join(work, 'root');
    const files = await toolFiles({ 'qemu-guest-agent': ['usr/sbin/qemu-ga'] }, work);
    for (const { name, source } of files.filter((file) => !OF_GUEST.test(file.name))) {
      fs.cpSync(source, path.join(root, name), { dereference: true });
    }
    await run('mke2fs', ['-q', '-t', 'ext4', '-d', root, image, `${MEGABYTES}M`]);
  } finally {
    fs.rmSync(work, { recursive: true });
  }
}
