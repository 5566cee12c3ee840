/**
 * A worker that looks at files from the moment that they have a name: told `{ prefix, count }`, it answers once that it watches, and then
 * with the modification times, in seconds, that the files `prefix0`, `prefix1`, … had when they were first seen.
 *
 * @module
 */
const scope = self as unknown as {
  onmessage: (event: MessageEvent<{ prefix: string; count: number }>) => void;
  postMessage(message: unknown): void;
};

scope.onmessage = ({ data: { prefix, count } }) => {
  scope.postMessage("watching");
  const times: (number | undefined)[] = [];
  while (times.length < count) {
    try {
      const { mtime } = Deno.statSync(`${prefix}${times.length}`);
      times.push(mtime === null ? undefined : mtime.getTime() / 1000);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  scope.postMessage(times);
};
