/** Flags of open(2) on Linux: node:fs has them as well, but takes too long to load on the start path. */
export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_APPEND = 0o2000;
export const O_NONBLOCK = 0o4000;
/** Includes O_DIRECTORY, which is another bit on arm64. */
export const O_TMPFILE: number = 0o20_000_000 | (process.arch === 'arm64' ? 0o40000 : 0o200000);
export const O_DIRECT: number = process.arch === 'arm64' ? 0o200000 : 0o40000;

/** Mode of files and sockets that are created: the user's alone. */
export const PRIVATE_FILE = 0o600;

/** What a path may lead to; a mask. The same as in native/host/files.h. */
export const FileKind = { regular: 1, block: 2, character: 4, fifo: 8 } as const;
