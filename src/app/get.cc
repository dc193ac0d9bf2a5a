// `sluice get`: streams a blob out and verifies it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "app/commands.h"
#include "app/output.h"
#include "app/progress.h"
#include "app/units.h"
#include "base/strings.h"
#include "sluice/blob.h"

namespace sluice::app {
namespace {

struct GetFlags {
  ClientFlags client;
  std::string name;
  std::string output;
};

// The last part of the name, as a shell user expects; names never become paths by themselves.
std::string DefaultOutput(const std::string& name) {
  const std::string last = name.substr(name.rfind('/') + 1);
  return last.empty() || last == "." || last == ".." ? "sluice.out" : last;
}

absl::Status Get(const GetFlags& flags) {
  ASSIGN_OR_RETURN(const auto blobs,
                   BlobClient::Create({.servers = flags.client.servers, .group = flags.client.group}));
  const std::string output = flags.output.empty() ? DefaultOutput(flags.name) : flags.output;
  std::unique_ptr<Progress> progress;
  GetOptions options;
  options.on_progress = [&](uint64_t taken, uint64_t length) {
    if (progress == nullptr) progress = std::make_unique<Progress>(flags.name, length);
    progress->Show(taken);
  };
  options.on_retry = [&](const absl::Status& why) {
    // Before the first byte a server that never answers is told once, at the end.
    if (progress == nullptr) return;
    progress->Note(fmt::format("sluice get: {}: {}; going on at another server", flags.name, Message(why)));
  };
  const absl::StatusOr<BlobFacts> facts = output == "-" ? blobs->Get(
                                                              flags.name,
                                                              [](const Bytes& data) {
                                                                data.ForEachChunk(PrintText);
                                                                return FlushOutput();
                                                              },
                                                              options)
                                                        : blobs->GetFile(flags.name, output, options);
  if (progress != nullptr) progress->Clear();
  RETURN_IF_ERROR(FlushOutput());
  if (!facts.ok()) {
    return absl::Status(facts.status().code(), fmt::format("{}: {}", flags.name, Message(facts.status())));
  }
  if (output == "-") return absl::OkStatus();
  const double seconds = progress == nullptr ? 0 : progress->seconds();
  Print("{}  {}  {}  ({})\n", facts->digest ? "sha256:" + facts->digest->ToHex() : "-", facts->length, output,
        FormatRate(static_cast<double>(facts->length) / std::max(seconds, 1e-6)));
  return absl::OkStatus();
}

}  // namespace

void AddGet(CLI::App& app, Chosen* chosen) {
  auto flags = std::make_shared<GetFlags>();
  CLI::App* command = NewCommand(app, "get", "Streams a blob out and verifies its digest",
                                 "sluice get tools/git -o git.copy", chosen, [flags] { return Get(*flags); });
  command->add_option("NAME", flags->name, "Name, or sha256:HEX")->required();
  command->add_option("-o,--output", flags->output,
                      "File; - is standard output (default: the last part of the name)");
  AddClientFlags(*command, &flags->client);
}

}  // namespace sluice::app
