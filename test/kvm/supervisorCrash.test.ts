/**
 * `tsvmmd` is killed at random moments while Debian's `virsh` defines, creates, starts, ends and undefines domains. The
 * next one has to know what is there, and nothing may be there that it does not know. As often as one likes, and the
 * same again: TSVMM_CRASHES=300 TSVMM_SEED=7 npx vitest run --project kvm supervisorCrash
 */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { settles, sleep } from './support.ts';
import { documentFile, type Host, host, run } from './virsh.ts';

const CRASHES = Number(process.env.TSVMM_CRASHES ?? 30);
const SEED = Number(process.env.TSVMM_SEED ?? Date.now() % 100_000);
const NAMES = ['a', 'b', 'c', 'd'];
const LONGEST_LIFE_MS = 600;
/** One in so many supervisors is killed before it serves. */
const EARLY = 4;
const POOL = 1;

type State = 'none' | 'off' | 'running' | 'transient';
type Step = readonly [command: string, to: State];

const STEPS: Readonly<Record<State, readonly Step[]>> = {
  none: [
    ['define', 'off'],
    ['create', 'transient'],
  ],
  off: [
    ['start', 'running'],
    ['undefine', 'none'],
  ],
  running: [
    ['destroy', 'off'],
    ['undefine', 'transient'],
  ],
  transient: [['destroy', 'none']],
};

/** Park and Miller's generator: the same moments for the same seed. */
function generator(seed: number): () => number {
  let state = (seed % 2_147_483_646) + 1;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

/** A domain that is changed all the time, and what is known of it. */
class Changed {
  readonly name: string;
  /** Two of them where it is not known whether a step was taken. */
  states: readonly State[] = ['none'];
  /** Of a run that has been told of, and has not been asked to end. */
  id: string | undefined;
  readonly #document: string;
  readonly #random: () => number;

  constructor(name: string, folder: string, random: () => number) {
    this.name = name;
    this.#document = documentFile(folder, name, 'run=idle');
    this.#random = random;
  }

  /** Takes steps until the supervisor is killed. @param virsh undefined where it fails */
  async change(virsh: (...words: string[]) => Promise<string | undefined>): Promise<void> {
    for (;;) {
      const from = this.states[0] as State;
      const steps = STEPS[from];
      const [command, to] = steps[Math.floor(this.#random() * steps.length)] as Step;
      if (command === 'destroy') this.id = undefined;
      this.states = [from, to];
      const about = command === 'define' || command === 'create' ? this.#document : this.name;
      if ((await virsh(command, about)) === undefined) return;
      this.states = [to];
      if (command === 'start' || command === 'create') this.id = await virsh('domid', this.name);
    }
  }
}

/** Which state each domain is in, as virsh sees it. */
async function seen({ virsh }: Host): Promise<ReadonlyMap<string, State>> {
  const list = async (...which: string[]) =>
    (await virsh('list', '--name', ...which)).split('\n').filter((name) => name !== '');
  const transient = await list('--all', '--transient');
  const active = await list();
  const all = await list('--all');
  return new Map(
    all.map((name) => [
      name,
      transient.includes(name) ? 'transient' : active.includes(name) ? 'running' : 'off',
    ]),
  );
}

/** The folders that processes of VMs work in; `/` of those that have no VM. */
function workingFolders({ daemon }: Host): string[] {
  return daemon
    .processes()
    .flatMap((pid) => {
      try {
        return [path.relative(path.join(daemon.dir, 'vms'), fs.readlinkSync(`/proc/${pid}/cwd`))];
      } catch {
        return []; // It has ended since.
      }
    })
    .sort();
}

/** Processes, folders and sockets are those of what is listed, and that is what it was asked to be. */
async function checkAll(one: Host, domains: readonly Changed[], runs: Map<string, string>): Promise<void> {
  const vms = path.join(one.daemon.dir, 'vms');
  const states = await seen(one);
  const lives = ({ name }: Changed) => ['running', 'transient'].includes(states.get(name) ?? 'none');
  for (const { name, states: possible } of domains)
    expect(possible, name).toContain(states.get(name) ?? 'none');
  expect(fs.readdirSync(vms).sort()).toEqual([...states.keys()].sort());
  const idle = path.relative(vms, '/');
  const folders = workingFolders(one);
  expect(folders.filter((folder) => folder !== idle)).toEqual(domains.filter(lives).map(({ name }) => name));
  expect(folders.filter((folder) => folder === idle).length).toBeLessThanOrEqual(POOL);
  for (const domain of domains) {
    const { name } = domain;
    if (lives(domain)) {
      const id = await one.virsh('domid', name);
      if (domain.id !== undefined) expect(id, name).toBe(domain.id);
      domain.id = id;
      expect(runs.get(id) ?? name, `the id ${id}`).toBe(name);
      runs.set(id, name);
      await one.virsh('dumpxml', name);
    } else if (states.has(name)) {
      expect(
        fs.readdirSync(path.join(vms, name)).filter((file) => /\.(sock|bound|pid|new)$/.test(file)),
      ).toEqual([]);
    }
  }
  for (const domain of domains) domain.states = [states.get(domain.name) ?? 'none'];
}

test(`a supervisor that is killed at ${CRASHES} moments loses and doubles nothing that virsh did`, {
  timeout: 60_000 + CRASHES * 10_000,
}, async () => {
  const one = await host(['--pool', String(POOL)]);
  const { daemon, folder, uri } = one;
  const random = generator(SEED);
  const domains = NAMES.map((name) => new Changed(name, folder, random));
  const runs = new Map<string, string>();
  for (let crash = 1; crash <= CRASHES; crash++) {
    const label = `seed ${SEED}, crash ${crash}`;
    const over = { value: false };
    const virsh = async (...words: string[]) => {
      const { code, stdout, stderr } = await run('virsh', ['-c', uri, ...words]);
      if (code === 0) return stdout.trim();
      if (!over.value) await sleep(50);
      expect(over.value, `${label}: ${words.join(' ')}: ${stderr}`).toBe(true);
      return undefined;
    };
    const changing = Promise.all(domains.map((domain) => domain.change(virsh)));
    await sleep(random() * LONGEST_LIFE_MS);
    over.value = true;
    await daemon.kill('SIGKILL');
    await changing;
    if (random() < 1 / EARLY) {
      const begun = daemon.start(['--pool', String(POOL)]).catch(() => {});
      await sleep(random() * 150);
      await daemon.kill('SIGKILL');
      await begun;
    }
    await daemon.start(['--pool', String(POOL)]);
    await settles(() => checkAll(one, domains, runs)).catch((error) => {
      throw new Error(`${label}: ${JSON.stringify(domains)}`, { cause: error });
    });
  }
});
