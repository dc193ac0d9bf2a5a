// Plays testdata/*.txt: each line that starts with "> " is a command,
// what follows is the conversation it causes.
//
//   SLUICE_REWRITE=1 raft_test --gtest_filter='*Script*'    # writes the files anew; review the diff
//
// Commands (peers n0, n1, …; "all" where it makes sense):
//   cluster N [learner=zID]… [priority=ID:P]…   voters n0..N-1; nothing is started before
//   options ID [no-vote] [inflight=N] [batch=BYTES] [uncommitted=BYTES]   before `cluster`, ID "all"
//   campaign ID | stepdown ID | tick ID|all N | propose ID N | read ID TOKEN
//   transfer ID TO | unreachable ID TO | unreadable ID INDEX
//   config ID voters=a,b learners=c          proposes a configuration
//   deliver [FROM->TO] [N]                   all messages under way, also those they cause
//   drop [FROM->TO]                          forgets messages under way; show: lists them
//   cut FROM->TO | heal                      one way
//   run N                                    N ticks of all nodes, each with all messages; messages not shown
//   hold ID | persist ID [N] | flow ID       the disk of a node waits, does N batches, goes on by itself
//   crash ID [kept] | start ID [promised=I@T] [no-vote] | wipe ID | damage ID INDEX
//   recall ID                                asks all others once how far it may have lost entries
//   compact ID INDEX | snapshot FROM->TO [fail] | storage-failed ID
//   forge FROM->TO vote|pre-vote T LAST
//   forge FROM->TO append T PREV COMMIT [ENTRY]…
//   forge FROM->TO append-reply T CALL RESULT NEXT MATCH
//   state
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "raft/cluster_for_test.h"
#include "raft/recall.h"

namespace sluice::raft {
namespace {

using Words = std::vector<std::string>;

Words Split(const std::string& text, char separator) {
  Words words;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, separator);) {
    if (!word.empty()) words.push_back(word);
  }
  return words;
}

std::string After(const std::string& word, const std::string& prefix) {
  return word.rfind(prefix, 0) == 0 ? word.substr(prefix.size()) : std::string();
}

// "5@2", or "none".
TermIndex ParseAt(const std::string& text) {
  if (text == "none") return {Term{0}, kNoIndex};
  const size_t at = text.find('@');
  return {Term{std::stoull(text.substr(at + 1))}, Index{std::stoll(text.substr(0, at))}};
}

std::pair<PeerId, PeerId> ParseLink(const std::string& text) {
  const size_t arrow = text.find("->");
  return {PeerId{text.substr(0, arrow)}, PeerId{text.substr(arrow + 2)}};
}

std::string ShowAt(TermIndex at) {
  return at.index.valid() ? fmt::format("{}@{}", at.index.value, at.term.value) : "none";
}

class Script {
 public:
  // The output of one command.
  std::string Play(const std::string& line) {
    out_.clear();
    const Words words = Split(line, ' ');
    Run(words.at(0), Words(words.begin() + 1, words.end()));
    if (cluster_) {
      for (auto& [id, node] : cluster_->nodes()) cluster_->DoEffects(node);
      for (const std::string& violation : cluster_->violations) Print("VIOLATION: " + violation);
    }
    return out_;
  }

 private:
  void Print(const std::string& text) { out_ += text + "\n"; }
  Node& At(const std::string& id) { return cluster_->at(PeerId{id}); }
  Core& CoreOf(const std::string& id) { return *At(id).core; }

  std::vector<Node*> Nodes(const std::string& id) {
    std::vector<Node*> nodes;
    for (auto& [peer, node] : cluster_->nodes()) {
      if ((id == "all" || peer.value == id) && node.core) nodes.push_back(&node);
    }
    return nodes;
  }

  void Run(const std::string& command, const Words& args) {
    if (RunNetwork(command, args) || RunDisk(command, args)) return;
    if (command == "cluster") return MakeCluster(args);
    if (command == "options") return SetOptions(args);
    if (command == "state") return ShowState();
    if (command == "forge") return Forge(args);
    if (command == "tick") {
      for (Node* node : Nodes(args.at(0)))
        cluster_->Tick(*node, static_cast<uint32_t>(std::stoul(args.at(1))));
    } else if (command == "campaign") {
      CoreOf(args.at(0)).Campaign();
    } else if (command == "stepdown") {
      CoreOf(args.at(0)).StepDown();
    } else if (command == "propose") {
      std::vector<Bytes> payloads;
      for (int i = 0; i < std::stoi(args.at(1)); ++i)
        payloads.push_back(Bytes::Copy(fmt::format("entry {:04}", ++made_)));
      Show(CoreOf(args.at(0)).Propose(std::move(payloads)));
    } else if (command == "config") {
      Configuration configuration;
      for (const std::string& arg : args) {
        for (const std::string& id : Split(After(arg, "voters="), ','))
          configuration.voters.push_back(PeerNamed(id));
        for (const std::string& id : Split(After(arg, "learners="), ','))
          configuration.learners.push_back(PeerNamed(id));
      }
      Show(CoreOf(args.at(0)).ProposeConfiguration(configuration));
    } else if (command == "read") {
      CoreOf(args.at(0)).RequestRead(std::stoull(args.at(1)));
    } else if (command == "transfer") {
      Show(CoreOf(args.at(0)).TransferTo(PeerId{args.at(1)}));
    } else if (command == "unreachable") {
      CoreOf(args.at(0)).Unreachable(PeerId{args.at(1)});
    } else if (command == "unreadable") {
      CoreOf(args.at(0)).Unreadable(Index{std::stoll(args.at(1))});
    } else {
      Print("unknown command " + command);
    }
  }

  bool RunNetwork(const std::string& command, const Words& args) {
    if (command == "deliver") {
      Deliver(args);
    } else if (command == "drop") {
      std::erase_if(cluster_->packets, [&](const Packet& p) {
        return args.empty() || ParseLink(args[0]) == std::pair(p.from, p.to);
      });
    } else if (command == "show") {
      for (const Packet& packet : cluster_->packets) Show(packet);
    } else if (command == "cut") {
      cluster_->cut.insert(ParseLink(args.at(0)));
    } else if (command == "heal") {
      cluster_->cut.clear();
    } else if (command == "run") {
      for (int i = 0; i < std::stoi(args.at(0)); ++i) {
        for (Node* node : Nodes("all")) cluster_->Tick(*node);
        cluster_->Settle();
      }
    } else {
      return false;
    }
    return true;
  }

  bool RunDisk(const std::string& command, const Words& args) {
    if (command == "hold") {
      At(args.at(0)).hold_disk = true;
    } else if (command == "flow") {
      At(args.at(0)).hold_disk = false;
    } else if (command == "persist") {
      for (int i = args.size() > 1 ? std::stoi(args[1]) : 1000; i > 0 && cluster_->PersistOne(At(args.at(0)));
           --i) {
      }
    } else if (command == "crash") {
      cluster_->Crash(PeerId{args.at(0)}, args.size() > 1 ? std::stoull(args[1]) : 0);
    } else if (command == "wipe") {
      At(args.at(0)).disk = Disk();
    } else if (command == "damage") {
      // The entry and all after it cannot be read any more.
      Disk& disk = At(args.at(0)).disk;
      disk.entries.resize(static_cast<size_t>(Index{std::stoll(args.at(1))} - disk.base.index - 1));
    } else if (command == "start") {
      Start(args);
    } else if (command == "recall") {
      Core& core = CoreOf(args.at(0));
      for (Node* other : Nodes("all")) {
        if (other->id.value == args.at(0)) continue;
        const auto end = LeadersEnd(AnswerRecall(*other->core, nullptr, {core.last().index.Next(), Term{0}}));
        if (end && core.LeaderEndsAt(*end)) Print(fmt::format("  promised {}", ShowAt(*end)));
      }
    } else if (command == "compact") {
      cluster_->Compact(At(args.at(0)), Index{std::stoll(args.at(1))});
    } else if (command == "snapshot") {
      auto [from, to] = ParseLink(args.at(0));
      cluster_->TransferSnapshot(from, to, args.size() < 2);
    } else if (command == "storage-failed") {
      CoreOf(args.at(0)).StorageFailed();
    } else {
      return false;
    }
    return true;
  }

  CoreOptions OptionsOf(const PeerId& id) {
    CoreOptions options;
    auto it = options_.find(id.value);
    if (it == options_.end()) it = options_.find("all");
    if (it != options_.end()) options = it->second;
    options.self = id;
    options.first_call = 1;
    options.seed = 0;
    for (char c : id.value) options.seed = options.seed * 31 + static_cast<uint64_t>(c);
    return options;
  }

  void SetOptions(const Words& args) {
    CoreOptions& options = options_[args.at(0)];
    for (const std::string& arg : args) {
      if (arg == "no-vote") options.may_vote = false;
      if (std::string n = After(arg, "inflight="); !n.empty())
        options.inflight_appends_max = static_cast<uint32_t>(std::stoul(n));
      if (std::string n = After(arg, "batch="); !n.empty()) options.append_batch_bytes_max = std::stoull(n);
      if (std::string n = After(arg, "uncommitted="); !n.empty())
        options.uncommitted_bytes_max = std::stoull(n);
    }
  }

  void MakeCluster(const Words& args) {
    Configuration configuration;
    for (int i = 0; i < std::stoi(args.at(0)); ++i)
      configuration.voters.push_back(PeerNamed(fmt::format("n{}", i)));
    for (const std::string& arg : args) {
      if (std::string id = After(arg, "learner="); !id.empty())
        configuration.learners.push_back(PeerNamed(id));
      if (std::string value = After(arg, "priority="); !value.empty()) {
        const Words parts = Split(value, ':');
        for (Peer& peer : configuration.voters) {
          if (peer.id.value == parts.at(0)) peer.priority = static_cast<uint32_t>(std::stoul(parts.at(1)));
        }
      }
    }
    cluster_ = std::make_unique<Cluster>(configuration, [this](const std::string& text) { Print(text); });
    for (const Peer& peer : configuration.AllPeers()) cluster_->Start(OptionsOf(peer.id));
  }

  void Start(const Words& args) {
    CoreOptions options = OptionsOf(PeerId{args.at(0)});
    std::optional<TermIndex> promised;
    for (const std::string& arg : args) {
      if (arg == "no-vote") options.may_vote = false;
      if (std::string at = After(arg, "promised="); !at.empty()) promised = ParseAt(at);
    }
    cluster_->Start(options, promised);
  }

  void Deliver(const Words& args) {
    std::optional<std::pair<PeerId, PeerId>> link;
    std::optional<int> count;
    for (const std::string& arg : args) {
      if (arg.find("->") != std::string::npos) {
        link = ParseLink(arg);
      } else {
        count = std::stoi(arg);
      }
    }
    for (int i = 0; i < count.value_or(1000); ++i) {
      std::vector<Packet>& packets = cluster_->packets;
      auto it = std::find_if(packets.begin(), packets.end(), [&](const Packet& packet) {
        return !link || *link == std::pair(packet.from, packet.to);
      });
      if (it == packets.end()) return;
      Show(*it);
      cluster_->Deliver(static_cast<size_t>(it - packets.begin()));
    }
    if (!count) Print("messages without end");
  }

  void Forge(const Words& args) {
    auto [from, to] = ParseLink(args.at(0));
    const std::string& kind = args.at(1);
    const Term term{std::stoull(args.at(2))};
    Message message;
    if (kind == "vote" || kind == "pre-vote") {
      message = VoteRequest{1, term, ParseAt(args.at(3)), kind == "pre-vote"};
    } else if (kind == "append") {
      AppendRequest request{1, term, ParseAt(args.at(3)), {}, Index{std::stoll(args.at(4))}, false};
      for (size_t i = 5; i < args.size(); ++i)
        request.entries.push_back({ParseAt(args[i]), EntryKind::kCommand, Bytes::Copy("forged")});
      message = std::move(request);
    } else {
      AppendReply reply;
      reply.term = term;
      reply.call = std::stoull(args.at(3));
      reply.result = static_cast<AppendResult>(std::stoi(args.at(4)));
      reply.next = Index{std::stoll(args.at(5))};
      reply.match = Index{std::stoll(args.at(6))};
      message = reply;
    }
    cluster_->packets.push_back({from, to, std::move(message)});
    Deliver({args.at(0), "1"});
    std::erase_if(cluster_->packets, [&, to_sender = from](const Packet& p) {
      return p.to == to_sender && !cluster_->nodes().contains(to_sender);
    });
  }

  void Show(const Packet& packet) {
    auto it = cluster_->nodes().find(packet.to);
    const bool lost =
        cluster_->cut.contains({packet.from, packet.to}) || it == cluster_->nodes().end() || !it->second.core;
    Print(fmt::format("{}->{} {}{}", packet.from.value, packet.to.value, ToString(packet.message),
                      lost ? " LOST" : ""));
  }
  void Show(const absl::StatusOr<Index>& result) {
    Print(result.ok() ? fmt::format("  index {}", result->value)
                      : "  refused: " + result.status().ToString());
  }
  void Show(const absl::Status& status) {
    if (!status.ok()) Print("  refused: " + status.ToString());
  }

  void ShowState() {
    static constexpr const char* kRoles[] = {"follower", "candidate", "leader", "learner"};
    static constexpr const char* kStates[] = {"probe", "replicate", "snapshot"};
    for (auto& [id, node] : cluster_->nodes()) {
      if (!node.core) {
        Print(fmt::format("  {}: down", id.value));
        continue;
      }
      const Core& core = *node.core;
      Print(fmt::format(
          "  {}: {} term={} leader={} log={}..{} durable={} commit={} {}{}{}", id.value,
          kRoles[static_cast<int>(core.role())], core.term().value,
          core.leader().empty() ? "?" : core.leader().value, core.first_index().value, ShowAt(core.last()),
          core.durable().value, core.commit().value, ToString(core.configuration()),
          core.repairing() ? " repairing" : "",
          core.impossible_messages() > 0 ? fmt::format(" impossible={}", core.impossible_messages()) : ""));
      for (const Core::PeerProgress& peer : core.Progress()) {
        Print(fmt::format("    {} {} match={} next={}{}", peer.id.value,
                          kStates[static_cast<int>(peer.state)], peer.match.value, peer.next.value,
                          peer.active ? "" : " silent"));
      }
    }
  }

  std::map<std::string, CoreOptions> options_;
  std::unique_ptr<Cluster> cluster_;
  std::string out_;
  int made_ = 0;
};

class InteractionScript : public testing::TestWithParam<std::string> {};

TEST_P(InteractionScript, Plays) {
  const std::string path = std::string(SLUICE_SOURCE_DIR) + "/src/raft/testdata/" + GetParam() + ".txt";
  std::stringstream expected;
  expected << std::ifstream(path).rdbuf();
  ASSERT_FALSE(expected.str().empty()) << path;

  std::string actual;
  Script script;
  std::istringstream in(expected.str());
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("> ", 0) == 0) {
      actual += line + "\n" + script.Play(line.substr(2));
    } else if (line.empty() || line[0] == '#') {
      actual += line + "\n";
    }
  }
  const char* rewrite = std::getenv("SLUICE_REWRITE");
  if (rewrite != nullptr && std::string_view(rewrite) == "1") {
    std::ofstream(path) << actual;
  } else {
    EXPECT_EQ(actual, expected.str()) << "rewrite with SLUICE_REWRITE=1 and review the diff";
  }
  EXPECT_EQ(actual.find("VIOLATION"), std::string::npos);
}

std::vector<std::string> AllScripts() {
  std::vector<std::string> names;
  for (const auto& file :
       std::filesystem::directory_iterator(std::string(SLUICE_SOURCE_DIR) + "/src/raft/testdata")) {
    if (file.path().extension() == ".txt") names.push_back(file.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Raft, InteractionScript, testing::ValuesIn(AllScripts()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace sluice::raft
