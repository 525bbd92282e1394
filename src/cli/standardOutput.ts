/** Standard output of commands that print much, or for a long time. */

/** The reader has gone: ends as a program that SIGPIPE has ended. */
const EXIT_NO_READER = 141;

// What goes wrong is told to each write.
process.stdout.on('error', () => {});

/** Resolves when it is taken, so that no more is fetched than is read. Ends the process where the reader has gone. */
export function writeOut(text: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => {
      if (!error) resolve();
      else if ((error as NodeJS.ErrnoException).code === 'EPIPE') process.exit(EXIT_NO_READER);
      else reject(new Error(`Cannot write to standard output: ${error.message}`));
    });
  });
}
