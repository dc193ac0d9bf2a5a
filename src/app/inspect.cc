// `sluice inspect`: an offline look at a data folder, and whether it verifies.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "app/commands.h"
#include "app/output.h"
#include "app/units.h"
#include "base/strings.h"
#include "blob/inspect.h"
#include "env/files.h"
#include "log/inspect.h"

namespace sluice::app {
namespace {

std::vector<std::string> Names(const std::vector<raft::Peer>& peers) {
  std::vector<std::string> names;
  for (const raft::Peer& peer : peers) names.push_back(fmt::format("{}@{}", peer.id.value, peer.address));
  return names;
}

// What mends it: the server itself, or a person who knows more than the servers.
void PrintRepair(const log::GroupReport& group, const std::string& dir) {
  const std::string id = group.group.ToString();
  if (group.hard_state_lost) {
    Print("  group {}: start the server: it votes again once every other voter has told its term\n", id);
  } else if (group.hard_state_older) {
    Print(
        "  group {}: hard state and log are of two times; restore both from one copy, or\n"
        "    sluice repair as-learner {} --group {}\n",
        id, dir, id);
  }
  if (group.promised_last) {
    Print(
        "  group {}: entries behind {} are lost here, {} behind them are whole; start the server: its peers\n"
        "    repair it. If they are gone for ever: sluice repair drop-damaged {} --group {}\n",
        id, group.last.index.value, group.whole_beyond, dir, id);
  }
  if (group.configuration && group.configuration->voters.size() > 1) {
    Print(
        "  group {}: it has {} voters ({}). If a majority of them is gone for ever:\n"
        "    sluice repair force-members {} --group {} --member ID@HOST:PORT (this server's)\n",
        id, group.configuration->voters.size(), fmt::join(Names(group.configuration->voters), ", "), dir, id);
  }
}

// Gives the number of findings.
absl::StatusOr<size_t> InspectLog(const std::string& dir) {
  ASSIGN_OR_RETURN(const log::Inspection found, log::Inspect(env::RealFiles(), dir));
  Print("log {}: {} segments, {} spare{}\n", dir, found.segments.size(), found.spare_segments,
        found.torn_tail ? ", a torn tail that opening will cut" : "");
  for (const log::SegmentReport& segment : found.segments) {
    Print("  {}  generation {}  {}  {} blocks{}\n", segment.path, segment.generation,
          FormatSize(segment.bytes), segment.blocks,
          segment.damaged_blocks > 0 ? fmt::format(", {} damaged", segment.damaged_blocks) : "");
  }
  for (const log::GroupReport& group : found.groups) {
    Print("  group {}  entries {} ({})  last {}.{}  hard state {}\n", group.group.ToString(), group.entries,
          FormatSize(group.bytes), group.last.term.value, group.last.index.value,
          group.hard_state_lost      ? "lost"
          : group.hard_state_healthy ? "healthy"
                                     : "one copy is damaged or older");
  }
  for (const std::string& damage : found.damage) Print("  DAMAGED {}\n", damage);
  for (const log::GroupReport& group : found.groups) PrintRepair(group, dir.substr(0, dir.rfind('/')));
  const auto lacks =
      std::count_if(found.groups.begin(), found.groups.end(),
                    [](const log::GroupReport& group) { return group.promised_last.has_value(); });
  return std::max(found.damage.size(),
                  static_cast<size_t>(lacks));  // what is lost stays so after its traces are gone
}

absl::StatusOr<size_t> InspectStore(const std::string& dir) {
  size_t findings = 0;
  uint64_t blobs = 0;
  uint64_t bytes = 0;
  Print("blobs {}:\n", dir);
  RETURN_IF_ERROR(blob::InspectBlobs(env::RealFiles(), dir, [&](const blob::InspectedBlob& blob) {
    ++blobs;
    bytes += blob.length;
    if (!blob.verified.ok()) ++findings;
    Print("  {:<13}{:>12}  {}  {}\n", blob::BlobKindName(blob.kind), blob.length, blob.path,
          blob.verified.ok() ? "verifies" : fmt::format("DAMAGED {}", Message(blob.verified)));
  }));
  Print("  {} files, {}\n", blobs, FormatSize(bytes));
  return findings;
}

absl::Status Inspect(const std::string& dir) {
  size_t findings = 0;
  bool anything = false;
  if (std::filesystem::is_directory(dir + "/log")) {
    ASSIGN_OR_RETURN(const size_t found, InspectLog(dir + "/log"));
    findings += found;
    anything = true;
  }
  if (std::filesystem::is_directory(dir + "/blobs")) {
    ASSIGN_OR_RETURN(const size_t found, InspectStore(dir + "/blobs"));
    findings += found;
    anything = true;
  }
  if (!anything)
    return absl::NotFoundError(fmt::format("{} is no data folder: it has neither log nor blobs", dir));
  if (findings > 0) {
    return absl::DataLossError(
        fmt::format("{}: {} findings; a server with peers repairs them when it is started", dir, findings));
  }
  Print("{} verifies\n", dir);
  return absl::OkStatus();
}

}  // namespace

void AddInspect(CLI::App& app, Chosen* chosen) {
  auto dir = std::make_shared<std::string>();
  CLI::App* command = NewCommand(
      app, "inspect", "Reads a data folder offline and says whether it verifies; the server must be stopped",
      "sluice inspect ./sluice-data", chosen, [dir] { return Inspect(*dir); });
  command->add_option("DIR", *dir, "Data folder of one server")->required();
}

}  // namespace sluice::app
