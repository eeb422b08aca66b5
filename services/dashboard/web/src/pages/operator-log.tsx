/** For staff: how far the consumers of the event log are, and what they put aside. */
import { ConsumerLag } from "../components/consumer-lag";
import { DeadLetters } from "../components/dead-letters";
import { OperatorPage } from "../components/operator-frame";

export function OperatorLogPage() {
  return (
    <OperatorPage title="Event log" about="How far each consumer is, and the messages that it could not take.">
      <ConsumerLag />
      <DeadLetters />
    </OperatorPage>
  );
}
