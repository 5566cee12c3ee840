import { assert, assertEquals } from "@std/assert";
import type { FileSystem } from "../../storage/backend/file_system.ts";
import type { MemoryFileSystem } from "../../storage/backend/memory.ts";
import { memorySubject } from "../../tests/conformance/nfs3/memory_subject.ts";
import { bytes, callers, checkWcc, ok } from "../../tests/conformance/nfs3/subject.ts";
import { ChangeTracker } from "./change_tracker.ts";

Deno.test("ChangeTracker: changes one after the other are alone", () => {
  const tracker = new ChangeTracker();
  for (let i = 0; i < 3; i++) {
    const change = tracker.begin("f");
    assert(change.isAlone());
    change.end();
  }
  assertEquals(tracker.size, 0);
});

Deno.test("ChangeTracker: changes that overlap are not, whichever began and ended first", () => {
  const tracker = new ChangeTracker();
  const first = tracker.begin("f");
  const second = tracker.begin("f");
  const elsewhere = tracker.begin("g");
  assertEquals([first.isAlone(), second.isAlone(), elsewhere.isAlone()], [false, false, true]);
  second.end();
  assertEquals(first.isAlone(), false);
  const third = tracker.begin("f");
  first.end();
  assertEquals(third.isAlone(), false);
  third.end();
  elsewhere.end();
  assertEquals(tracker.size, 0);
});

Deno.test("wcc_data: a change that another one overlapped says nothing of before", async () => {
  const gates: (() => void)[] = [];
  const slow = (memory: MemoryFileSystem): FileSystem =>
    new Proxy(memory, {
      get(target, property): unknown {
        const value: unknown = Reflect.get(target, property, target);
        if (typeof value !== "function") return value;
        if (property !== "create") return value.bind(target);
        return async (...args: Parameters<MemoryFileSystem["create"]>): Promise<unknown> => {
          await new Promise<void>((resolve) => gates.push(resolve));
          return target.create(...args);
        };
      },
    });
  await using server = await memorySubject({ name: "slow", bulk: "reduced", fileSystem: slow }).open({});
  const { alice, bob, superuser, root } = await callers(server);
  ok(await superuser.setattr(root, { mode: 0o777 }));
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 20; turn++) await undefined;
  };
  const first = alice.create(root, "by alice");
  const second = bob.create(root, "by bob");
  await settle();
  assertEquals(gates.length, 2);
  for (const open of gates.splice(0)) open();
  for (const { dir_wcc } of [ok(await first), ok(await second)]) {
    assertEquals(dir_wcc.before, undefined);
    assert(dir_wcc.after !== undefined);
  }
  const alone = alice.create(root, "alone");
  await settle();
  gates.splice(0)[0]();
  await checkWcc(ok(await alone).dir_wcc, { as: alice, file: root, changed: true });
  const at = (name: string): { dir: Uint8Array; name: Uint8Array } => ({ dir: root, name: bytes(name) });
  const renamed = ok(await alice.call("RENAME", { from: at("alone"), to: at("renamed") }));
  await checkWcc(renamed.fromdir_wcc, { as: alice, file: root, changed: true });
  await checkWcc(renamed.todir_wcc, { as: alice, file: root, changed: true });
});
