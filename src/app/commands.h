// The commands of `sluice`: each adds itself to the command line and says what to run if it is chosen.
//
//   CLI::App app;  Chosen chosen;  AddPut(app, &chosen);  app.parse(argc, argv);
//   absl::Status status = chosen.run();
//
// A command prints its result to standard output and returns a status; RunCommandLine prints the error, in
// one line, and turns it into the exit code: 0 success, 1 failed, 2 wrong usage. Threading: the main thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "sluice/blob.h"

namespace CLI {
class App;
}

namespace sluice::app {

struct Chosen {
  std::string name;
  std::function<absl::Status()> run;
};

// INVALID_ARGUMENT that main tells apart from a server's refusal: the command line itself cannot be.
absl::Status WrongUsage(std::string text);
bool IsWrongUsage(const absl::Status& status);

// All of them.
void AddCommands(CLI::App& app, Chosen* chosen);
void AddServe(CLI::App& app, Chosen* chosen);
void AddDev(CLI::App& app, Chosen* chosen);
void AddPut(CLI::App& app, Chosen* chosen);
void AddGet(CLI::App& app, Chosen* chosen);
void AddNames(CLI::App& app, Chosen* chosen);  // ls, stat, rm
void AddStatus(CLI::App& app, Chosen* chosen);
void AddConfig(CLI::App& app, Chosen* chosen);
void AddBench(CLI::App& app, Chosen* chosen);
void AddInspect(CLI::App& app, Chosen* chosen);
void AddRepair(CLI::App& app, Chosen* chosen);

// --server, SLUICE_SERVER and --group-id, as every client command has them.
struct ClientFlags {
  std::vector<std::string> servers;
  GroupId group = kDefaultGroup;
};
// `flags` must outlive the parse.
void AddClientFlags(CLI::App& command, ClientFlags* flags);
// --via and --route: how a put goes.
void AddWayFlags(CLI::App& command, BlobVia* via, BlobRoute* route);

// A subcommand with its example at the end of its help.
CLI::App* NewCommand(CLI::App& app, const std::string& name, const std::string& what,
                     const std::string& example, Chosen* chosen, std::function<absl::Status()> run);

}  // namespace sluice::app
