/**
 * What the host offers, and what is done to it, as functions of the addon. Descriptors stay the caller's: the core
 * duplicates what it keeps.
 */
import type { MachineHandle } from './machine.ts';

/** What the host's hypervisor offers, whatever its processor. */
export interface HypervisorInfo {
  /** KVM_GET_API_VERSION, always 12. */
  readonly apiVersion: number;
  /** Highest vCPU count that KVM accepts for one VM. */
  readonly maxVcpus: number;
  /** Whether the guest's kernel code runs on the processor: false where KVM emulates it. */
  readonly hardwareVirtualization: boolean;
}

/** The right to listen on a path. */
export interface SocketClaim {
  /** The lock's descriptor, the caller's: to be kept open as long as the claim. */
  readonly lock: number;
  /** Of the lock file; empty if that was there already, and is to stay. */
  readonly lockId: string;
  /** Where a server binds that makes its socket itself, for `placeSocket`. */
  readonly name: string;
}

/** A UNIX socket that this process listens on. */
export interface ListeningSocket {
  /** The caller's. */
  readonly listener: number;
  /** Of the socket's file. */
  readonly id: string;
}

/** Opaque, type-tagged handle of a FIFO that has records. */
export type RecordFifoHandle = { readonly __recordFifo: unique symbol };

/** Opaque, type-tagged handle of a stream server. */
export type StreamServerHandle = { readonly __streamServer: unique symbol };

/**
 * What happens to a connection of a stream server. `received`: streamTake has something; said again once it has nothing
 * more. `drained`: everything written has left, or is lost, after some of it had to wait. `gone`: the peer has gone
 * while what it sent is being answered; there may be more of that to take. `closed`: nothing more comes of it.
 */
export type StreamEvent = 'opened' | 'received' | 'drained' | 'gone' | 'closed';

/** What became of bytes: all have left, some wait for the peer to read, or there is no peer any more. */
export type StreamWritten = 'left' | 'waiting' | 'lost';

export interface StreamReceived {
  readonly bytes: Uint8Array;
  /** Came along with the last of these bytes (SCM_RIGHTS). The caller closes them. */
  readonly descriptors: readonly number[];
  /** There is something to be taken still. */
  readonly more: boolean;
  /** The peer will send no more; it may still read. */
  readonly ended: boolean;
  /** The peer is gone: nothing that is written reaches it. */
  readonly gone: boolean;
}

/** What goes around the body of an answer, before and behind the number of its bytes. */
export interface AnswerFrame {
  readonly head: string;
  readonly afterLength: string;
}

/** An answer as text around the memory that the guest has: what devices give it and take at any time. */
export interface MemoryText extends AnswerFrame {
  /** Of the body. */
  readonly before: string;
  readonly after: string;
  /** Bytes at boot, and now. */
  readonly memory: number;
  readonly left: number;
}

/** An answer as text with counters between. */
export interface CountersText extends AnswerFrame {
  /** Text, and the counter whose value follows it. */
  readonly pieces: readonly { readonly text: string; readonly device: string; readonly counter: string }[];
  readonly tail: string;
}

/**
 * What the host offers, and files, terminals, networks and sockets, which stay this process's. Throws an Error with
 * `code`.
 */
export interface HostCalls {
  /**
   * For a process that is to start a machine: on a thread, makes the VM that the next machineCreate then takes, unless
   * there is one, and finds out about the host.
   * @param soon the thread waits for the machine and becomes its control thread, as making another takes long
   */
  precreateVm(soon: boolean): void;

  /** Opens a pseudo terminal, raw; `path` is the slave. The caller closes `fd`. */
  openPty(): { readonly fd: number; readonly path: string };
  /**
   * Takes the lock file beside a socket's path, and with it the right to make and remove the socket. What is there is
   * left alone, but for a socket of this user's that no process listens on. Throws with code EADDRINUSE, or
   * ERR_TSVMM_SOCKET_LOCKED if another process has the lock.
   */
  claimSocket(path: string): SocketClaim;
  /**
   * Listens on a UNIX stream socket, the user's alone, at a path that is claimed; close-on-exec. It listens already
   * when it appears there.
   */
  listenUnix(path: string): ListeningSocket;
  /**
   * Gives a socket that listens, bound as a claim's `name`, the path that is claimed. Throws with code EADDRINUSE if
   * something is there; the socket has no name then. @returns the id of the socket's file
   */
  placeSocket(name: string, path: string): string;
  /**
   * Removes the files of a socket (each unless its id is empty) where they are still its own. The lock must be open.
   */
  removeListeningSocket(path: string, id: string, lockId: string): void;
  /**
   * Serves a listening stream socket (a duplicate of `fd`) on a thread of its own, until `closeStreams`.
   * Throws `ERR_TSVMM_NO_LISTENER` for any other descriptor. Numbers of connections that are gone do no harm.
   */
  serveStreams(fd: number, onEvent: (connection: number, event: StreamEvent) => void): StreamServerHandle;
  /** The same, for connections that are adopted, until it is told to listen. */
  openStreams(onEvent: (connection: number, event: StreamEvent) => void): StreamServerHandle;
  /**
   * Accepts on a listening stream socket (a duplicate of `fd`), and keeps so many connections.
   * Throws `ERR_TSVMM_NO_LISTENER` for any other descriptor, EBUSY if the server listens already.
   */
  streamListen(server: StreamServerHandle, fd: number, connections: number): void;
  /** Serves a connected stream socket (a duplicate of `fd`). @returns its number, of which `opened` does not tell */
  streamAdopt(server: StreamServerHandle, fd: number): number;
  /** At most 64 KiB are received and not taken. */
  streamTake(server: StreamServerHandle, connection: number): StreamReceived;
  /** Bytes leave in order. Where some wait for the peer to read, `drained` comes when they have left. */
  streamWrite(server: StreamServerHandle, connection: number, bytes: Uint8Array): StreamWritten;
  /**
   * Says that everything received is answered: what comes next may be answered by what is remembered. False, and it
   * may not, while bytes wait for the peer to read, be it of a remembered answer: `drained` comes when they have left.
   */
  streamRest(server: StreamServerHandle, connection: number): boolean;
  /** Takes no more of this connection, and closes it when everything written has left. */
  streamEnd(server: StreamServerHandle, connection: number): void;
  streamAbort(server: StreamServerHandle, connection: number): void;
  /** The connection that has had nothing to answer, and nothing on its way, for the longest time. */
  streamLongestIdle(server: StreamServerHandle): number | null;
  /** Answers `request`, wherever a resting connection sends just these bytes, without asking again. 32 can be kept. */
  streamRemember(server: StreamServerHandle, request: Uint8Array, answer: Uint8Array): void;
  /**
   * Answers it with the memory that a machine's guest has at that moment. While the machine is being changed, that is
   * what it was before.
   */
  streamRememberMemory(
    server: StreamServerHandle,
    request: Uint8Array,
    machine: MachineHandle,
    answer: MemoryText,
  ): void;
  /**
   * Answers it with a machine's counters of that moment. While the machine is being changed, and once it counts other
   * things, the request is asked about again. Throws if these are not just the counters that there are now.
   */
  streamRememberCounters(
    server: StreamServerHandle,
    request: Uint8Array,
    machine: MachineHandle,
    answer: CountersText,
  ): void;
  /** From the return on, what was remembered for this request is not given. */
  streamForget(server: StreamServerHandle, request: Uint8Array): void;
  /** Accepts no more connections. */
  stopListening(server: StreamServerHandle): void;
  /** Closes all connections; no event comes any more. Idempotent. */
  closeStreams(server: StreamServerHandle): void;
  /** Two connected UNIX stream sockets, close-on-exec. The caller closes both. */
  streamPair(): [number, number];
  /**
   * Takes an open-file-description write or read lock on a byte range (length 0: to the end). False if another holds
   * it.
   */
  lockRange(fd: number, exclusive: boolean, start: number, length: number): boolean;
  /** A lock of another description in a byte range, or null if there is none. */
  lockHolder(
    fd: number,
    start: number,
    length: number,
  ): { readonly start: number; readonly exclusive: boolean } | null;
  /** Gives back what lockRange took there. */
  unlockRange(fd: number, start: number, length: number): void;
  /** Puts a terminal into raw mode; returns what ends this use of it, or null if `fd` is no terminal. */
  terminalRaw(fd: number): number | null;
  /** The last use of a terminal that ends puts it back, whether or not its descriptor is still open. */
  terminalRestore(use: number): void;
  terminalSize(fd: number): { readonly columns: number; readonly rows: number } | null;
  setTerminalSize(fd: number, columns: number, rows: number): void;

  /**
   * Connects to the UNIX stream socket at a path, without waiting. The caller closes. To a console's socket, `reader`
   * says that nothing will be sent, so that the present peer keeps its place. Throws with an errno name,
   * EAGAIN while too many clients wait there.
   */
  connectUnix(path: string, reader: boolean): number;
  /**
   * Sends bytes (at least one) and descriptors (1 to 253) over a stream socket, without waiting. Returns how many bytes
   * left; the descriptors left with the first of them, and stay the caller's as well.
   */
  sendDescriptors(socket: number, bytes: Uint8Array, descriptors: readonly number[]): number;
  /** The same for two descriptors of one file, and for no others. */
  fileId(fd: number): string;
  /** fileId of what a path leads to; null if that cannot be looked at. */
  fileIdAt(path: string): string | null;
  /** Size in bytes of a regular file or block device. */
  imageSize(fd: number): number;

  /**
   * Opens `queues` queues of a tap with vnet headers; makes it if it is not there. `%d` in a name stands for a number
   * that the kernel chooses for a new one. The caller closes.
   */
  openTap(
    name: string,
    queues: number,
  ): { readonly fds: readonly number[]; readonly name: string; readonly created: boolean };
  /** The interface that a tap's descriptor belongs to. */
  tapQueueInfo(fd: number): {
    readonly name: string;
    readonly tap: boolean;
    readonly vnetHeader: boolean;
    readonly multiQueue: boolean;
  };
  /** null if there is no such interface in this network namespace. */
  interfaceInfo(
    name: string,
  ): { readonly up: boolean; readonly mtu: number; readonly mac: Uint8Array } | null;
  // These change what is not so already, which needs CAP_NET_ADMIN.
  bringInterfaceUp(name: string): void;
  setInterfaceMtu(name: string, mtu: number): void;
  setInterfaceMac(name: string, mac: Uint8Array): void;
  /** Address and mask in their usual notation, both IPv4 or both IPv6. */
  setInterfaceAddress(name: string, address: string, mask: string): void;
  /** Makes an interface a port of a bridge; one that is so already stays. */
  putIntoBridge(name: string, bridge: string): void;

  // Files on the start path go through the addon: loading node:fs costs the standalone executable 1 ms.
  /**
   * open(2) that neither blocks nor touches what is not of a kind in `kinds` (FileKind); close-on-exec. `mode` is that
   * of a file it creates. Throws with `code` an errno name, or ERR_TSVMM_FILE_KIND.
   */
  openFile(path: string, flags: number, mode: number, kinds: number): number;
  /**
   * Whether a file's store answers: true at once for one that the host has in memory, on a file system that asks nobody
   * else. Reads the beginning and the end of any other on a thread, unless that is in progress, and is true once that
   * has ended, be it with an error. False before that: to be asked again. What is neither a folder nor has bytes at
   * offsets is not opened. Throws EAGAIN while eight others have not answered.
   */
  fileAnswers(path: string): boolean;
  closeFile(fd: number): void;
  /**
   * The runtime closes this descriptor from now on. Others that the addon gave are closed when a worker thread ends.
   */
  disownFile(fd: number): void;
  /** pread(2), repeated until `length` bytes or the end of the file. */
  readAt(fd: number, offset: number, length: number): Uint8Array;
  /** ftruncate(2). */
  setFileSize(fd: number, size: number): void;
  /**
   * Writes to a descriptor of any kind, which others may share, without blocking. Returns how many bytes were taken:
   * fewer only if a reader is slow. What can never be written (no reader any more, a full disk) counts as taken.
   */
  writeNow(fd: number, bytes: Uint8Array): number;
  /**
   * For records to readers that come and go, each of which begins with the start of one. Null if the descriptor, which
   * must not be open for reading, is none of a FIFO.
   */
  openRecordFifo(fd: number): RecordFifoHandle | null;
  /**
   * Writes a record without blocking, or the rest of the one of which the last call took a part only. Returns how many
   * bytes there was room for.
   */
  writeRecord(fifo: RecordFifoHandle, bytes: Uint8Array): number;
  /**
   * Sends one datagram to a UNIX socket's path, or to an abstract name behind an `@`. Throws EAGAIN where it would have
   * to wait.
   */
  sendDatagram(address: string, bytes: Uint8Array): void;
  /** Up to 256 random bytes, unpredictable (getrandom(2)). */
  randomBytes(length: number): Uint8Array;
  /**
   * Restricts a thread of any process of this user's, by its id, to those host CPUs. EINVAL if none of them is there.
   */
  pinThread(thread: number, cpus: readonly number[]): void;
  /**
   * Has SIGHUP, SIGINT and SIGTERM wait until `releaseSignals`: for a thread that is about to have handlers for them,
   * and on which alone signals arrive. Child processes that are started meanwhile have them wait for good.
   */
  holdSignals(): void;
  releaseSignals(): void;
  /**
   * Ends the process with this exit code, without handlers and without waiting for threads: for one whose threads may
   * be stuck in the kernel, after everything else has been done.
   */
  exitAtOnce(code: number): never;
}
