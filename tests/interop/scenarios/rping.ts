/**
 * rdma-core's `rping` over siw against ours, in both directions.
 *
 * @module
 */
import { rpingClient, rpingServer } from "../../../rdma/ping/rping.ts";
import { HOST_ADDRESS, runGuest } from "../guest.ts";
import type { Scenario } from "../main.ts";
import { captureAndJudge } from "../tshark.ts";
import { freePort } from "../../weft_server.ts";

const ROUNDS = 10;
const GUEST_PORT = 7174;

/** The scenario `rping`. */
export const rping: Scenario = {
  name: "rping",
  needsGuest: true,
  async run(report) {
    const serverPort = freePort();
    const forwardedPort = freePort();
    const rounds: string[] = [];
    const serving = rpingServer({
      hostname: "127.0.0.1",
      port: serverPort,
      count: ROUNDS,
      onRound: (text) => rounds.push(text),
    })
      .then(() => "", String);
    const expectations = [
      { name: "MPA start-ups", filter: "iwarp_mpa.req || iwarp_mpa.rep", framesMin: 4 },
      { name: "RDMA Writes", filter: "iwarp_rdma.opcode == 0", framesMin: 2 * ROUNDS },
      { name: "RDMA Reads", filter: "iwarp_rdma.opcode == 1", framesMin: 2 * ROUNDS },
      { name: "Sends", filter: "iwarp_rdma.opcode == 3", framesMin: 8 * ROUNDS },
    ];
    // what rping sends is neither RPC nor SMB
    const judgement = { label: "rping", expectations, without: ["rpcordma", "smb_direct"], report };
    const run = () =>
      runGuest({
        script: "rping.sh",
        env: { SERVER: HOST_ADDRESS, CLIENT_PORT: serverPort, SERVER_PORT: GUEST_PORT },
        forwards: [{ host: forwardedPort, guest: GUEST_PORT }],
        timeoutSeconds: 180,
        onResult: report,
        during: async (guest) => {
          const outcome = await Promise.race([serving, guest.ended.then(() => "the guest ended first")]);
          const isWhole = outcome === "" && rounds.length === ROUNDS &&
            rounds.every((text, i) => text.startsWith(`rdma-ping-${i}: `));
          report({
            name: "our rping server saw every round",
            outcome: isWhole ? "ok" : "failed",
            detail: `${outcome}\n${rounds.join("\n")}`,
          });
          await guest.waitFor("listening");
          const error = await rpingClient({ hostname: "127.0.0.1", port: forwardedPort, count: ROUNDS }).then(
            () => "",
            String,
          );
          report({
            name: "our rping client got every text back",
            outcome: error === "" ? "ok" : "failed",
            detail: error,
          });
          await guest.signal("client_done");
        },
      });
    await captureAndJudge([serverPort, forwardedPort], judgement, run);
  },
};
