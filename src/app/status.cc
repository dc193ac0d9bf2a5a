// `sluice status`: servers, groups, leader, lag, streams under way, disk.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "app/commands.h"
#include "app/output.h"
#include "app/units.h"
#include "base/strings.h"
#include "client/connection.h"
#include "client/topology.h"

namespace sluice::app {
namespace {

constexpr auto kAnswerTimeout = std::chrono::seconds(2);

struct StatusFlags {
  ClientFlags client;
  bool json = false;
  bool streams = false;
  bool watch = false;
};

// Of each server, by address.
using StreamAnswers = std::map<std::string, absl::StatusOr<client::StreamList>>;

struct Answers {
  std::vector<client::ServerStatus> servers;
  std::map<std::string, absl::Status> silent;  // by address
  // Each group as its leader sees it, or as anybody does while there is none that answers.
  std::map<std::string, client::GroupView> groups;
  std::map<std::string, std::string> ids;  // of members, by address

  // What is not as the configuration wants it.
  std::vector<std::string> Problems() const;
  absl::Status Verdict() const;
};

// Adds what the servers at `addresses` say.
void Ask(client::Connection& connection, const std::vector<std::string>& addresses, Answers& answers) {
  std::vector<absl::StatusOr<client::ServerStatus>> asked(addresses.size(), absl::UnknownError("not asked"));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < addresses.size(); ++i) {
    threads.emplace_back([&, i] { asked[i] = client::AskStatus(connection, addresses[i], kAnswerTimeout); });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < addresses.size(); ++i) {
    if (!asked[i].ok()) {
      answers.silent.emplace(addresses[i], asked[i].status());
      continue;
    }
    for (const client::GroupView& group : asked[i]->groups) {
      const auto [it, fresh] = answers.groups.try_emplace(group.id, group);
      const bool newer =
          group.term > it->second.term || (it->second.leader.empty() && group.term == it->second.term);
      if (!fresh && (newer || (group.role == "leader" && group.term == it->second.term))) it->second = group;
    }
    answers.servers.push_back(*std::move(asked[i]));
  }
}

// Those who are named, then the other members of their groups: a dead one is a fact of the group, too.
Answers Ask(client::Connection& connection) {
  Answers answers;
  const std::vector<std::string> named = connection.servers();
  Ask(connection, named, answers);
  std::set<std::string> known(named.begin(), named.end());
  for (const client::ServerStatus& server : answers.servers) known.insert(server.self.address);
  std::vector<std::string> others;
  for (const auto& [id, group] : answers.groups) {
    for (const client::Member& voter : group.voters) {
      answers.ids.emplace(voter.address, voter.id);
      if (known.insert(voter.address).second) others.push_back(voter.address);
    }
  }
  Ask(connection, others, answers);
  return answers;
}

std::vector<std::string> Answers::Problems() const {
  std::vector<std::string> problems;
  for (const auto& [address, status] : silent) {
    const auto id = ids.find(address);
    problems.push_back(fmt::format("{}{} does not answer: {}", id == ids.end() ? "" : id->second + " at ",
                                   address, Message(status)));
  }
  for (const client::ServerStatus& server : servers) {
    const std::string& id = server.self.id;
    if (const std::string why = server.WhyNotReady(); !why.empty()) {
      problems.push_back(fmt::format("{} is not ready: {}", id, why));
    }
    for (const client::GroupView& group : server.groups) {
      if (!group.voting) problems.push_back(fmt::format("group {}: {} does not vote", group.id, id));
      if (!group.waits_for.empty()) {
        problems.push_back(fmt::format("group {}: {} waits for what {} know of something that it lost",
                                       group.id, id, fmt::join(group.waits_for, ", ")));
      } else if (group.repairing) {
        problems.push_back(fmt::format("group {}: {} repairs its log", group.id, id));
      }
      if (group.missing > 0) {
        problems.push_back(
            fmt::format("group {}: {} lacks the bytes of {} blobs", group.id, id, group.missing));
      }
    }
  }
  for (const auto& [id, group] : groups) {
    if (group.leader.empty()) problems.push_back(fmt::format("group {} has no leader", id));
    for (const client::FollowerView& one : group.followers) {
      if (one.learner) continue;
      if (!one.active) {
        problems.push_back(fmt::format("group {}: the leader does not hear {}", id, one.id));
      } else if (one.state == "snapshot" || (one.state == "probe" && one.lag > 0)) {
        problems.push_back(fmt::format("group {}: {} lacks {} entries and does not get them from the log", id,
                                       one.id, one.lag));
      }
    }
  }
  return problems;
}

// Success means: every member serves, and each group has the redundancy that its configuration gives it.
absl::Status Answers::Verdict() const {
  if (servers.empty()) return client::NoServerAnswered(silent);
  const std::vector<std::string> problems = Problems();
  if (problems.empty()) return absl::OkStatus();
  std::string text = problems.front();
  if (problems.size() > 1)
    text += fmt::format(" (and {} more: sluice status shows them)", problems.size() - 1);
  return absl::UnavailableError(text);
}

nlohmann::json ToJson(const Answers& answers) {
  nlohmann::json json{{"servers", nlohmann::json::array()},
                      {"groups", nlohmann::json::array()},
                      {"problems", answers.Problems()}};
  for (const client::ServerStatus& server : answers.servers) {
    json["servers"].push_back({{"id", server.self.id},
                               {"cluster", server.cluster.IsZero() ? "" : server.cluster.ToString()},
                               {"address", server.self.address},
                               {"data_stream_address", server.self.data_stream_address},
                               {"pid", server.pid},
                               {"ready", server.Ready()},
                               {"not_ready", server.WhyNotReady()},
                               {"stopping", server.stopping},
                               {"data_dir", server.data_dir},
                               {"uploads", server.uploads},
                               {"stages", server.stages},
                               {"staged_bytes", server.staged_bytes},
                               {"damaged_chunks", server.damaged_chunks},
                               {"free_bytes", server.free_bytes},
                               {"log_segments", server.log_segments},
                               {"log_bytes", server.log_bytes},
                               {"log_error", server.log_error}});
    nlohmann::json groups = nlohmann::json::array();
    for (const client::GroupView& group : server.groups) {
      groups.push_back({{"id", group.id},
                        {"role", group.role},
                        {"term", group.term},
                        {"first", group.first},
                        {"last", group.last},
                        {"commit", group.commit},
                        {"applied", group.applied},
                        {"missing", group.missing},
                        {"bytes_complete", group.bytes_complete},
                        {"repairing", group.repairing},
                        {"waits_for", group.waits_for},
                        {"voting", group.voting},
                        {"not_serving", group.not_serving},
                        {"installing", group.installing},
                        {"unreadable", group.unreadable},
                        {"storage_error", group.storage_error}});
    }
    json["servers"].back()["groups"] = std::move(groups);
  }
  for (const auto& [address, status] : answers.silent) {
    const auto id = answers.ids.find(address);
    json["servers"].push_back({{"id", id == answers.ids.end() ? "" : id->second},
                               {"address", address},
                               {"ready", false},
                               {"error", std::string(Message(status))}});
  }
  for (const auto& [id, group] : answers.groups) {
    nlohmann::json followers = nlohmann::json::array();
    for (const client::FollowerView& one : group.followers) {
      followers.push_back({{"id", one.id},
                           {"match", one.match},
                           {"lag", one.lag},
                           {"active", one.active},
                           {"learner", one.learner},
                           {"state", one.state},
                           {"snapshot_bytes", one.snapshot_bytes},
                           {"snapshot_total", one.snapshot_total}});
    }
    nlohmann::json voters = nlohmann::json::array();
    for (const client::Member& voter : group.voters)
      voters.push_back({{"id", voter.id}, {"address", voter.address}});
    json["groups"].push_back({{"id", id},
                              {"machine", group.machine},
                              {"leader", group.leader},
                              {"term", group.term},
                              {"first", group.first},
                              {"last", group.last},
                              {"commit", group.commit},
                              {"applied", group.applied},
                              {"snapshot", group.snapshot},
                              {"voters", voters},
                              {"followers", followers}});
  }
  return json;
}

// How far a server is that needs a snapshot.
std::string CatchingUp(const std::string& id, const client::GroupView& its,
                       const client::GroupView& leaders) {
  for (const client::FollowerView& one : leaders.followers) {
    if (one.id != id || one.snapshot_total == 0) continue;
    if (one.snapshot_bytes < one.snapshot_total && !its.installing) {
      return fmt::format("receives a snapshot, {} of {}", FormatSize(one.snapshot_bytes),
                         FormatSize(one.snapshot_total));
    }
  }
  return its.installing ? "installs a snapshot" : "";
}

void PrintTable(const Answers& answers) {
  Print("{:<8}{:<22}{:<9}{:<8}{:>10}{:>10}  {}\n", "SERVER", "ADDRESS", "PID", "STATE", "DISK FREE", "LOG",
        "UPLOADS");
  for (const client::ServerStatus& server : answers.servers) {
    Print("{:<8}{:<22}{:<9}{:<8}{:>10}{:>10}  {}\n", server.self.id, server.self.address, server.pid,
          server.Ready()    ? "ready"
          : server.stopping ? "ending"
                            : "waits",
          FormatSize(server.free_bytes), FormatSize(server.log_bytes), server.uploads.size());
  }
  for (const auto& [address, status] : answers.silent) {
    const auto id = answers.ids.find(address);
    Print("{:<8}{:<22}{:<9}{:<8}{}\n", id == answers.ids.end() ? "?" : id->second, address, "-", "silent",
          Message(status));
  }
  const auto known = std::find_if(answers.servers.begin(), answers.servers.end(),
                                  [](const auto& server) { return !server.cluster.IsZero(); });
  if (known != answers.servers.end()) Print("\nCLUSTER {}\n", known->cluster.ToString());
  for (const auto& [id, group] : answers.groups) {
    Print("\nGROUP {} ({}): leader {}, term {}, commit {}\n", id, group.machine,
          group.leader.empty() ? "none" : group.leader, group.term, group.commit);
    Print("  {:<8}{:<11}{:>10}{:>10}{:>8}{:>9}  {}\n", "SERVER", "ROLE", "APPLIED", "LAST", "LAG", "MISSING",
          "");
    for (const client::ServerStatus& server : answers.servers) {
      for (const client::GroupView& view : server.groups) {
        if (view.id != id) continue;
        const std::string catching_up = CatchingUp(server.self.id, view, group);
        const std::string note = !view.storage_error.empty() ? view.storage_error
                                 : view.unreadable >= 0 ? fmt::format("log unreadable at {}", view.unreadable)
                                 : !catching_up.empty() ? catching_up
                                 : !view.waits_for.empty()
                                     ? fmt::format("waits for {}", fmt::join(view.waits_for, ", "))
                                 : view.repairing ? "repairing"
                                 : !view.voting   ? "does not vote"
                                                  : "";
        Print("  {:<8}{:<11}{:>10}{:>10}{:>8}{:>9}  {}\n", server.self.id, view.role, view.applied, view.last,
              std::max<int64_t>(group.last - view.last, 0), view.missing, note);
      }
    }
  }
  const std::vector<std::string> problems = answers.Problems();
  if (!problems.empty()) Print("\n");
  for (const std::string& problem : problems) Print("! {}\n", problem);
  for (const client::ServerStatus& server : answers.servers) {
    for (const std::string& upload : server.uploads) Print("upload at {}: {}\n", server.self.id, upload);
  }
}

// --- --streams

StreamAnswers AskAllStreams(client::Connection& connection) {
  const std::vector<std::string> addresses = connection.servers();
  std::vector<absl::StatusOr<client::StreamList>> asked(addresses.size(), absl::UnknownError("not asked"));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < addresses.size(); ++i) {
    threads.emplace_back([&, i] { asked[i] = client::AskStreams(connection, addresses[i], kAnswerTimeout); });
  }
  for (std::thread& thread : threads) thread.join();
  StreamAnswers answers;
  for (size_t i = 0; i < addresses.size(); ++i) answers.emplace(addresses[i], std::move(asked[i]));
  return answers;
}

absl::Status Verdict(const StreamAnswers& answers) {
  std::map<std::string, absl::Status> silent;
  for (const auto& [address, list] : answers) {
    if (!list.ok()) silent.emplace(address, list.status());
  }
  if (silent.empty()) return absl::OkStatus();
  if (silent.size() == answers.size()) return client::NoServerAnswered(silent);
  return absl::UnavailableError(fmt::format("{} of {} servers do not answer: {}", silent.size(),
                                            answers.size(), silent.begin()->first));
}

nlohmann::json ToJson(const StreamAnswers& answers) {
  nlohmann::json json{{"servers", nlohmann::json::array()}};
  for (const auto& [address, list] : answers) {
    nlohmann::json server{{"address", address}, {"streams", nlohmann::json::array()}};
    if (!list.ok()) server["error"] = std::string(Message(list.status()));
    if (list.ok()) {
      server["more"] = list->more;
      for (const client::StreamView& stream : list->streams) {
        server["streams"].push_back({{"id", stream.id},
                                     {"peer", stream.peer},
                                     {"bytes_in", stream.bytes_in},
                                     {"bytes_out", stream.bytes_out},
                                     {"messages_in", stream.messages_in},
                                     {"messages_out", stream.messages_out},
                                     {"window_bytes", stream.window_bytes},
                                     {"unconsumed_bytes", stream.unconsumed_bytes},
                                     {"stalls", stream.stalls},
                                     {"age_ms", stream.age_ms}});
      }
    }
    json["servers"].push_back(std::move(server));
  }
  return json;
}

void PrintTable(const StreamAnswers& answers) {
  Print("{:<22}{:>8}  {:<22}{:>10}{:>10}{:>9}{:>9}{:>10}{:>11}{:>8}{:>10}\n", "SERVER", "STREAM", "PEER",
        "IN", "OUT", "MSG IN", "MSG OUT", "WINDOW", "UNCONSUMED", "STALLS", "AGE");
  for (const auto& [address, list] : answers) {
    if (!list.ok()) {
      Print("{:<22}silent: {}\n", address, Message(list.status()));
      continue;
    }
    for (const client::StreamView& stream : list->streams) {
      Print("{:<22}{:>8}  {:<22}{:>10}{:>10}{:>9}{:>9}{:>10}{:>11}{:>8}{:>10}\n", address, stream.id,
            stream.peer, FormatSize(stream.bytes_in), FormatSize(stream.bytes_out), stream.messages_in,
            stream.messages_out,
            stream.window_bytes == 0 ? std::string("none") : FormatSize(stream.window_bytes),
            FormatSize(stream.unconsumed_bytes), stream.stalls,
            FormatSeconds(static_cast<double>(stream.age_ms) / 1000));
    }
    if (list->streams.empty()) Print("{:<22}{:>8}\n", address, "none");
    if (list->more) Print("{:<22}and more, younger ones\n", address);
  }
}

absl::Status Streams(client::Connection& connection, const StatusFlags& flags) {
  while (true) {
    const StreamAnswers answers = AskAllStreams(connection);
    if (flags.watch && !flags.json) Print("\x1b[H\x1b[2J");
    flags.json ? Print("{}\n", ToJson(answers).dump(2)) : PrintTable(answers);
    RETURN_IF_ERROR(FlushOutput());
    if (!flags.watch) return Verdict(answers);
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

absl::Status Status(const StatusFlags& flags) {
  client::Connection connection(flags.client.servers);
  if (flags.streams) return Streams(connection, flags);
  while (true) {
    const Answers answers = Ask(connection);
    const std::string meant = flags.client.group.ToString();
    if (flags.client.group != kDefaultGroup && !answers.servers.empty() && !answers.groups.contains(meant)) {
      return absl::NotFoundError(fmt::format("group {} is not here; `sluice status` shows which are", meant));
    }
    if (flags.json) {
      Print("{}\n", ToJson(answers).dump(2));
    } else if (!answers.servers.empty()) {
      if (flags.watch) Print("\x1b[H\x1b[2J");
      PrintTable(answers);
    }
    RETURN_IF_ERROR(FlushOutput());
    if (!flags.watch) return answers.Verdict();
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

}  // namespace

void AddStatus(CLI::App& app, Chosen* chosen) {
  auto flags = std::make_shared<StatusFlags>();
  CLI::App* command = NewCommand(
      app, "status", "Shows servers and groups; succeeds if all members serve and none lacks anything",
      "sluice status --watch --server 127.0.0.1:7400,127.0.0.1:7410", chosen,
      [flags] { return Status(*flags); });
  command->add_flag("--json", flags->json, "For programs");
  command->add_flag("--streams", flags->streams,
                    "The open streams of Streaming RPC instead: bytes, messages, window, stalls, age");
  command->add_flag("--watch", flags->watch, "Again every second");
  AddClientFlags(*command, &flags->client);
}

}  // namespace sluice::app
