import { servedSubject } from "./served_subject.ts";
import { testNfs3 } from "./suite.ts";

testNfs3(servedSubject({ proto: "tcp", backend: "memory" }));
testNfs3(servedSubject({ proto: "tcp", backend: "local directory" }));
testNfs3(servedSubject({ proto: "rdma", backend: "memory" }));
testNfs3(servedSubject({ proto: "rdma", backend: "local directory" }));
testNfs3(servedSubject({ proto: "rdma", backend: "indexed directory" }));
