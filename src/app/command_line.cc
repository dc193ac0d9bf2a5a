#include "app/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <utility>

#include "app/commands.h"
#include "base/strings.h"
#include "client/connection.h"

namespace sluice::app {

namespace {

constexpr char kUsagePayload[] = "sluice.usage";

// CLI11's own choice prints its table, with the numbers of the enumerators, into help and errors.
template <typename T>
void AddChoice(CLI::App& command, const std::string& name, const std::string& what, const std::string& names,
               std::map<std::string, T> choices, T* chosen) {
  const auto set = [names, choices = std::move(choices), chosen](const std::string& text) -> std::string {
    const auto found = choices.find(text);
    if (found == choices.end()) return fmt::format("\"{}\" is none of {}", text, names);
    *chosen = found->second;
    return "";
  };
  command.add_option(name, what)->type_name(names)->check(CLI::Validator(set, ""));
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
  const std::string whole = app.get_parent() == nullptr ? name : app.get_name() + " " + name;
  command->callback([chosen, whole, run = std::move(run)] { *chosen = {whole, run}; });
  return command;
}

void AddClientFlags(CLI::App& command, ClientFlags* flags) {
  const auto set_servers = [flags](const std::string& text) -> std::string {
    auto servers = client::ParseServers(text);
    if (!servers.ok()) return std::string(Message(servers.status()));
    flags->servers = *std::move(servers);
    return "";
  };
  flags->servers = {"127.0.0.1:7400"};
  command.add_option("--server", "Servers to ask, HOST:PORT[,HOST:PORT]… (default 127.0.0.1:7400)")
      ->envname("SLUICE_SERVER")
      ->type_name("HOST:PORT")
      ->check(CLI::Validator(set_servers, ""));
  const auto set_group = [flags](const std::string& text) -> std::string {
    const auto group = GroupId::Parse(text);
    if (!group) return fmt::format("\"{}\" is no UUID", text);
    flags->group = *group;
    return "";
  };
  command.add_option("--group-id", "Group to talk to (default: the one that always exists)")
      ->type_name("UUID")
      ->check(CLI::Validator(set_group, ""));
}

void AddWayFlags(CLI::App& command, BlobVia* via, BlobRoute* route) {
  AddChoice<BlobVia>(command, "--via", "Protocol of the put (default datastream)", "datastream|bytestream",
                     {{"datastream", BlobVia::kDataStream}, {"bytestream", BlobVia::kByteStream}}, via);
  AddChoice<BlobRoute>(command, "--route", "How servers pass the bytes on (default chain)", "chain|star",
                       {{"chain", BlobRoute::kChain}, {"star", BlobRoute::kStar}}, route);
}

int RunCommandLine(int argc, const char* const* argv) {
  CLI::App app{"sluice: a replicated byte-stream store", "sluice"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "sluice " SLUICE_VERSION);
  app.footer(
      "\nFirst steps:\n  sluice dev &\n  sluice put /usr/bin/git --name tools/git\n  sluice get tools/git -o "
      "-");
  Chosen chosen;
  AddServe(app, &chosen);
  AddDev(app, &chosen);
  AddPut(app, &chosen);
  AddGet(app, &chosen);
  AddNames(app, &chosen);
  AddStatus(app, &chosen);
  AddConfig(app, &chosen);
  AddBench(app, &chosen);
  AddInspect(app, &chosen);
  AddRepair(app, &chosen);
  try {  // CLI11 reports by exceptions; none leaves this function
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    const std::vector<CLI::App*> given = app.get_subcommands();
    const std::vector<std::string> unknown = app.remaining();
    if (given.empty() && !unknown.empty()) {  // CLI11 would only say that a command is missing
      fmt::print(stderr, "sluice: there is no command {}; see `sluice --help`\n", unknown.front());
      return 2;
    }
    const std::string which = given.empty() ? "" : " " + given.front()->get_name();
    fmt::print(stderr, "sluice: {}; see `sluice{} --help`\n", error.what(), which);
    return 2;
  }
  const absl::Status status = chosen.run();
  if (status.ok()) return 0;
  fmt::print(stderr, "sluice {}: {}\n", chosen.name, Message(status));
  return IsWrongUsage(status) ? 2 : 1;
}

}  // namespace sluice::app
