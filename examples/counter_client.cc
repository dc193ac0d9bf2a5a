// sluice/client.h: writes, reads and watches of a replicated state machine, here the counter of the examples
// of Apache Ratis: INCREMENT counts, GET answers four bytes, big endian.
#include "sluice/client.h"

#include "sandbox.h"

namespace sluice::examples {
namespace {

const GroupId kCounter = *GroupId::Parse("00000000-0000-0000-0000-00000000c001");

int ValueOf(const RaftReply& reply) {
  int value = 0;
  for (const char byte : reply.message.ToString()) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}

absl::Status Example() {
  ASSIGN_OR_RETURN(const auto sandbox,
                   Sandbox::Start({{.id = kCounter, .machine = "counter", .factory = {}}}));
  ASSIGN_OR_RETURN(const auto client,
                   RaftClient::Create({.servers = {sandbox->address()}, .group = kCounter}));

  // A hundred writes under way at the same time, executed in this order.
  std::vector<Future<RaftReply>> replies;
  for (int i = 0; i < 100; ++i) replies.push_back(client->Async().Send(Bytes::Copy("INCREMENT")));
  Index last;
  for (int i = 0; i < 100; ++i) {
    ASSIGN_OR_RETURN(const RaftReply reply, replies[static_cast<size_t>(i)].Get());
    RETURN_IF_ERROR(Expect(ValueOf(reply) == i + 1, "the writes in their order"));
    last = reply.log_index;
  }

  ASSIGN_OR_RETURN(const RaftReply read, client->Blocking().SendReadOnly(Bytes::Copy("GET")));
  RETURN_IF_ERROR(Expect(ValueOf(read) == 100, "a linearizable read of all writes"));
  RETURN_IF_ERROR(client->Blocking().Watch(last, ReplicationLevel::kAllCommitted).status());
  ASSIGN_OR_RETURN(const RaftReply stale, client->Blocking().SendStaleRead(Bytes::Copy("GET"), last));
  RETURN_IF_ERROR(Expect(ValueOf(stale) == 100, "a stale read that is not older than it may be"));

  // The state machine's own refusal, with its code.
  const absl::Status refused = client->Blocking().Send(Bytes::Copy("DECREMENT")).status();
  RETURN_IF_ERROR(Expect(absl::IsInvalidArgument(refused), "INVALID_ARGUMENT, not " + refused.ToString()));

  // One write in parts of four bytes.
  ASSIGN_OR_RETURN(const RaftReply parts,
                   client->MessageStream().StreamAsync(Bytes::Copy("INCREMENT"), 4).Get());
  RETURN_IF_ERROR(Expect(ValueOf(parts) == 101, "the parts as one write"));

  ASSIGN_OR_RETURN(const std::vector<GroupId> groups, client->Admin().GroupList());
  RETURN_IF_ERROR(Expect(groups.size() == 2, "the counter's group and the one that always exists"));
  ASSIGN_OR_RETURN(const RaftGroupInfo info, client->Admin().GroupInfo(kCounter));
  RETURN_IF_ERROR(Expect(info.role == RaftGroupInfo::Role::kLeader && info.committed >= last, "a leader"));
  printf("counted to %d; %s leads %s\n", ValueOf(parts), info.leader.value.c_str(),
         info.id.ToString().c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace sluice::examples

int main() { return sluice::examples::Report(sluice::examples::Example()); }
