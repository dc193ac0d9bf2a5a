#include "app/command_line.h"

#include <fmt/format.h>

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "app/commands.h"
#include "app/output.h"
#include "base/strings.h"
#include "client/connection.h"

namespace sluice::app {

namespace {

constexpr char kUsagePayload[] = "sluice.usage";

// CLI11's own choice prints its table, with the numbers of the enumerators, into help and errors.
template <typename T>
void AddChoice(CLI::App& command, const std::string& name, const std::string& what, const std::string& names,
               std::map<std::string, T> choices, T* chosen) {
  const auto value = [choices](const std::string& text) -> std::optional<T> {
    const auto found = choices.find(text);
    return found == choices.end() ? std::nullopt : std::optional<T>(found->second);
  };
  const auto check = [names, value](const std::string& text) -> std::string {
    return value(text) ? "" : fmt::format("\"{}\" is none of {}", text, names);
  };
  command
      .add_option_function<std::string>(
          name, [=](const std::string& text) { *chosen = *value(text); }, what)
      ->type_name(names)
      ->check(CLI::Validator(check, ""))
      ->default_function([chosen, choices = std::move(choices)]() -> std::string {
        for (const auto& [text, one] : choices) {
          if (one == *chosen) return text;
        }
        return "";
      });
}

}  // namespace

absl::Status WrongUsage(std::string text) {
  absl::Status status = absl::InvalidArgumentError(text);
  status.SetPayload(kUsagePayload, absl::Cord());
  return status;
}

bool IsWrongUsage(const absl::Status& status) { return status.GetPayload(kUsagePayload).has_value(); }

CLI::App* NewCommand(CLI::App& app, const std::string& name, const std::string& what,
                     const std::string& example, Chosen* chosen, std::function<absl::Status()> run) {
  CLI::App* command = app.add_subcommand(name, what);
  command->footer("\nExample:\n  " + example);
  // CLI11 gives the environment to every command that could have been chosen, unless it ends a command's parse
  // where its arguments end: the values of one are then never those of another.
  command->parse_complete_callback([] {});
  const std::string whole = app.get_parent() == nullptr ? name : app.get_name() + " " + name;
  command->callback([chosen, whole, run = std::move(run)] { *chosen = {whole, run}; });
  return command;
}

void AddClientFlags(CLI::App& command, ClientFlags* flags) {
  const auto check_servers = [](const std::string& text) {
    return std::string(Message(client::ParseServers(text).status()));
  };
  flags->servers = {"127.0.0.1:7400"};
  command
      .add_option_function<std::string>(
          "--server", [flags](const std::string& text) { flags->servers = *client::ParseServers(text); },
          "Servers to ask, HOST:PORT[,HOST:PORT]… (default 127.0.0.1:7400)")
      ->envname("SLUICE_SERVER")
      ->type_name("HOST:PORT")
      ->check(CLI::Validator(check_servers, ""))
      ->default_function([flags] { return fmt::format("{}", fmt::join(flags->servers, ",")); });
  const auto check_group = [](const std::string& text) -> std::string {
    return GroupId::Parse(text) ? "" : fmt::format("\"{}\" is no UUID", text);
  };
  command
      .add_option_function<std::string>(
          "--group-id", [flags](const std::string& text) { flags->group = *GroupId::Parse(text); },
          "Group to talk to (default: the one that always exists)")
      ->type_name("UUID")
      ->check(CLI::Validator(check_group, ""))
      ->default_function([flags] { return flags->group.ToString(); });
}

void AddWayFlags(CLI::App& command, BlobVia* via, BlobRoute* route) {
  AddChoice<BlobVia>(command, "--via", "Protocol of the put (default datastream)", "datastream|bytestream",
                     {{"datastream", BlobVia::kDataStream}, {"bytestream", BlobVia::kByteStream}}, via);
  AddChoice<BlobRoute>(command, "--route", "How servers pass the bytes on (default chain)", "chain|star",
                       {{"chain", BlobRoute::kChain}, {"star", BlobRoute::kStar}}, route);
}

void AddCommands(CLI::App& app, Chosen* chosen) {
  app.require_subcommand(1);
  app.set_version_flag("--version", "sluice " SLUICE_VERSION);
  app.footer(
      "\nFirst steps:\n  sluice dev &\n  sluice put /usr/bin/git --name tools/git\n  sluice get tools/git -o "
      "-");
  AddServe(app, chosen);
  AddDev(app, chosen);
  AddPut(app, chosen);
  AddGet(app, chosen);
  AddNames(app, chosen);
  AddStatus(app, chosen);
  AddConfig(app, chosen);
  AddBench(app, chosen);
  AddInspect(app, chosen);
  AddRepair(app, chosen);
}

int RunCommandLine(int argc, const char* const* argv) {
  BeginOutput();
  CLI::App app{"sluice: a replicated byte-stream store", "sluice"};
  Chosen chosen;
  AddCommands(app, &chosen);
  absl::Status status;
  try {  // CLI11 reports by exceptions; none leaves this function
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    std::ostringstream text;
    app.exit(success, text, text);
    PrintText(text.str());
  } catch (const CLI::ParseError& error) {
    const std::vector<CLI::App*> given = app.get_subcommands();
    const std::vector<std::string> unknown = app.remaining();
    if (given.empty() && !unknown.empty()) {  // CLI11 would only say that a command is missing
      PrintError(fmt::format("sluice: there is no command {}; see `sluice --help`\n", unknown.front()));
      return 2;
    }
    const std::string which = given.empty() ? "" : " " + given.front()->get_name();
    PrintError(fmt::format("sluice: {}; see `sluice{} --help`\n", error.what(), which));
    return 2;
  }
  if (chosen.run) status = chosen.run();
  status.Update(FlushOutput());
  if (status.ok() || IsReaderGone(status)) return 0;
  PrintError(fmt::format("sluice {}: {}\n", chosen.name, Message(status)));
  return IsWrongUsage(status) ? 2 : 1;
}

}  // namespace sluice::app
