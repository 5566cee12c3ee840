import type { FileSystem } from "../../../storage/backend/file_system.ts";
import { memorySubject } from "./memory_subject.ts";
import { testNfs3 } from "./suite.ts";

testNfs3(memorySubject({ name: "memory, payload beside the stream", bulk: "reduced" }));
testNfs3(memorySubject({ name: "memory, payload in the stream", bulk: "linear" }));
testNfs3(memorySubject({ name: "a backend that answers later", bulk: "reduced", fileSystem: deferred }));

/** The same file system with every answer some microtasks later, so that calls overlap. */
function deferred(fileSystem: FileSystem): FileSystem {
  return new Proxy(fileSystem, {
    get(target, property): unknown {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== "function") return value;
      return async (...args: unknown[]): Promise<unknown> => {
        for (let turn = 0; turn < 10; turn++) await undefined;
        return Reflect.apply(value, target, args);
      };
    },
  });
}
