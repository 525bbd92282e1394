/** Where the folders of VMs are, and what our own programs keep there. */

/** VMs' folders, by name. @param root of a supervisor, or of masterblaster's daemon */
export function vmsFolder(root: string): string {
  return `${root}/vms`;
}

/** In a VM's folder. */
export const VmFile = {
  /** As the REST API's vm.create takes it. */
  config: 'vm.json',
  /** The same, human-readable. */
  tomlConfig: 'vm.toml',
  /** What the supervisor does with the VM. */
  policy: 'policy.json',
  /** The process that runs the VM. */
  pid: 'vmhost.pid',
  /** That process's control socket. */
  controlSocket: 'vmhost.sock',
  /** The VM's REST API. */
  apiSocket: 'api.sock',
  /** What was done, and what went wrong. */
  log: 'vmhost.log',
  /** What the guest prints: the process has no terminal. */
  serialLog: 'serial.log',
  /** How the VM ended. */
  exit: 'exit.json',
} as const;
