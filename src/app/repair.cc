// `sluice repair`: changes of a data folder that no server may make by itself. Offline; tells first what it
// will do, and does it with --yes.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <memory>

#include "app/commands.h"
#include "app/output.h"
#include "app/units.h"
#include "base/fields.h"
#include "edge/told_address.h"
#include "env/executor.h"
#include "env/files.h"
#include "log/inspect.h"
#include "log/repair.h"

namespace sluice::app {
namespace {

struct RepairFlags {
  std::string dir;
  std::string group;   // typed out: what is repaired is never a default
  std::string member;  // force-members: this server, ID@HOST:PORT
  bool yes = false;
};

std::string Name(TermIndex at) { return fmt::format("{}.{}", at.term.value, at.index.value); }

// Opens nothing: what is there, for the group that is meant.
absl::StatusOr<log::GroupReport> Find(const RepairFlags& flags, const GroupId& group) {
  ASSIGN_OR_RETURN(const log::Inspection found, log::Inspect(env::RealFiles(), flags.dir + "/log"));
  for (const log::GroupReport& report : found.groups) {
    if (report.group == group) return report;
  }
  return absl::NotFoundError(fmt::format("{}/log holds no group {}; `sluice inspect {}` shows which it holds",
                                         flags.dir, flags.group, flags.dir));
}

// `tell` says what will be done, or why not; `act` does it.
absl::Status Repair(const RepairFlags& flags,
                    const std::function<absl::Status(const log::GroupReport&)>& tell,
                    const std::function<absl::Status(const GroupId&)>& act) {
  const auto group = GroupId::Parse(flags.group);
  if (!group) return WrongUsage(fmt::format("--group {}: a group id is a UUID, typed out", flags.group));
  if (!std::filesystem::is_directory(flags.dir + "/log")) {
    return absl::NotFoundError(fmt::format("{} is no data folder: it has no log", flags.dir));
  }
  ASSIGN_OR_RETURN(const auto lock, env::RealFiles().LockFile(flags.dir + "/LOCK"));  // no server runs on it
  ASSIGN_OR_RETURN(const log::GroupReport report, Find(flags, *group));
  RETURN_IF_ERROR(tell(report));
  if (!flags.yes) {
    Print("Nothing was changed. The same command with --yes does it; copy the folder first.\n");
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(act(*group));
  Print("done\n");
  return absl::OkStatus();
}

absl::Status AsLearner(const RepairFlags& flags) {
  return Repair(
      flags,
      [&](const log::GroupReport& report) {
        Print("group {}: the hard state is {}, the last entry is {}.\n", flags.group,
              report.hard_state ? fmt::format("of term {}", report.hard_state->term.value) : "lost",
              Name(report.last));
        Print(
            "What this server promised in its votes will count as forgotten. It follows, and neither votes "
            "nor counts until every other voter of the group has told its term.\n");
        return absl::OkStatus();
      },
      [&](const GroupId& group) { return log::BecomeLearner(env::RealFiles(), flags.dir + "/log", group); });
}

absl::Status DropDamaged(const RepairFlags& flags) {
  return Repair(
      flags,
      [&](const log::GroupReport& report) -> absl::Status {
        if (!report.promised_last) {
          return absl::FailedPreconditionError(
              fmt::format("group {}: no entry is damaged, there is nothing to drop", flags.group));
        }
        const bool known = report.promised_last->index.value != INT64_MAX;
        Print(
            "group {}: the log ends at {} before the first damaged entry; this server once held entries up "
            "to {}.\n",
            flags.group, Name(report.last),
            known ? Name(*report.promised_last) : std::string("an unknown one"));
        Print(
            "All that followed is dropped, {} entries that are still whole too. They may be acknowledged "
            "writes. Other servers of the group repair them when this one is started: do this only if they "
            "are gone, or wait for this one.\n",
            report.whole_beyond);
        return absl::OkStatus();
      },
      [&](const GroupId& group) {
        return log::DropDamaged(env::RealFiles(), env::RealExecutors(), flags.dir + "/log", group);
      });
}

// The id that the folder says, so that nobody makes a group of a server that does not exist.
absl::StatusOr<std::string> ServerOf(const std::string& dir) {
  constexpr size_t kIdentityBytesMax = 64u << 10;
  ASSIGN_OR_RETURN(const std::string record,
                   env::ReadWholeFile(env::RealFiles(), dir + "/identity", kIdentityBytesMax));
  FieldReader in(record);
  while (in.Next()) {
    if (in.tag() == 2) return std::string(in.text());
  }
  return absl::DataLossError(fmt::format("{}/identity is damaged", dir));
}

absl::Status ForceMembers(const RepairFlags& flags) {
  const size_t at = flags.member.find('@');
  if (at == std::string::npos || at == 0) {
    return WrongUsage(fmt::format("--member: \"{}\" is no ID@HOST:PORT", flags.member));
  }
  raft::Peer self;
  self.id.value = flags.member.substr(0, at);
  self.address = flags.member.substr(at + 1);
  if (const absl::Status told = edge::CheckTold(self.address); !told.ok()) {
    return WrongUsage(fmt::format("--member: {}", Message(told)));
  }
  ASSIGN_OR_RETURN(self.data_stream_address, MovePort(self.address, 1));
  return Repair(
      flags,
      [&](const log::GroupReport& report) -> absl::Status {
        ASSIGN_OR_RETURN(const std::string server, ServerOf(flags.dir));
        if (server != self.id.value) {
          return absl::FailedPreconditionError(
              fmt::format("{} belongs to server {}, not to {}", flags.dir, server, self.id.value));
        }
        Print("group {}: this log ends at {}. Server {} becomes the only member, in a new term.\n",
              flags.group, Name(report.last), flags.member);
        Print("What the others have acknowledged without this server is lost{}.\n",
              report.promised_last ? ", and so is what is damaged here" : "");
        Print(
            "They are not taken back: remove their data folders before they are started. A majority of them "
            "with the old data would go on as a group of its own.\n");
        return absl::OkStatus();
      },
      [&](const GroupId& group) {
        return log::ForceMember(env::RealFiles(), env::RealExecutors(), flags.dir + "/log", group, self);
      });
}

}  // namespace

void AddRepair(CLI::App& app, Chosen* chosen) {
  CLI::App* repair = app.add_subcommand(
      "repair",
      "Changes a data folder offline where no server may do it by itself; says first what it will do");
  repair->require_subcommand(1);
  const auto add = [&](const std::string& name, const std::string& what,
                       absl::Status (*run)(const RepairFlags&)) {
    auto flags = std::make_shared<RepairFlags>();
    CLI::App* command = NewCommand(
        *repair, name, what,
        fmt::format("sluice repair {} ./sluice-data --group 00000000-0000-0000-0000-736c75696365", name),
        chosen, [flags, run] { return run(*flags); });
    command->add_option("DIR", flags->dir, "Data folder of one server, which must be stopped")->required();
    command->add_option("--group", flags->group, "Id of the group, typed out")->required();
    if (run == ForceMembers) {
      command->add_option("--member", flags->member, "This server, as clients and new members will reach it")
          ->type_name("ID@HOST:PORT")
          ->required();
    }
    command->add_flag("--yes", flags->yes, "Do it; without this the command only tells");
  };
  add("as-learner",
      "Lets this server follow without its votes: the hard state is lost or older than the log (F-08, F-09)",
      AsLearner);
  add("drop-damaged", "Gives up damaged entries and what follows them, when no other server has them (F-06)",
      DropDamaged);
  add("force-members", "Makes this server the only member, when a majority is lost for ever (F-54)",
      ForceMembers);
}

}  // namespace sluice::app
