/**
 * Names of users and groups, from this machine's files: what a mounted NFSv3 file system shows, too.
 *
 * @module
 */

/** Looks numbers up; a number that has no name here stays one. */
export class UserNames {
  readonly #users: Promise<Map<number, string>>;
  readonly #groups: Promise<Map<number, string>>;

  constructor(files = { users: "/etc/passwd", groups: "/etc/group" }) {
    this.#users = readNames(files.users);
    this.#groups = readNames(files.groups);
  }

  /** The name of a user. */
  async user(uid: number): Promise<string> {
    return (await this.#users).get(uid) ?? String(uid);
  }

  /** The name of a group. */
  async group(gid: number): Promise<string> {
    return (await this.#groups).get(gid) ?? String(gid);
  }
}

async function readNames(path: string): Promise<Map<number, string>> {
  const text = await Deno.readTextFile(path).catch(() => "");
  const names = new Map<number, string>();
  for (const line of text.split("\n")) {
    const [name, , id] = line.split(":");
    if (/^[0-9]+$/.test(id ?? "") && !names.has(Number(id))) names.set(Number(id), name);
  }
  return names;
}
