// `sluice put`: streams files in.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <utility>

#include "app/commands.h"
#include "app/output.h"
#include "app/progress.h"
#include "app/units.h"
#include "base/strings.h"
#include "client/content.h"
#include "sluice/blob.h"

namespace sluice::app {
namespace {

struct PutFlags {
  ClientFlags client;
  std::vector<std::string> files;
  std::string name;
  BlobVia via = BlobVia::kDataStream;
  BlobRoute route = BlobRoute::kChain;
  bool no_digest = false;
};

absl::Status PutOne(BlobClient& blobs, const PutFlags& flags, const std::string& file,
                    const std::string& name) {
  ASSIGN_OR_RETURN(const auto content, client::FileContent::Open(file));
  Progress progress(name, content->length());
  PutOptions options;
  options.via = flags.via;
  options.route = flags.route;
  options.digest = !flags.no_digest;
  bool moved = false;  // since the last note: a server that never answers is told once, at the end
  options.on_progress = [&](uint64_t taken) {
    moved = moved || taken > 0;
    progress.Show(taken);
  };
  options.on_retry = [&](const absl::Status& why) {
    if (!std::exchange(moved, false)) return;
    progress.Note(fmt::format("sluice put: {}: {}; going on at another server", name, Message(why)));
  };
  const absl::StatusOr<BlobFacts> facts = blobs.Put(name, *content, options);
  progress.Clear();
  if (!facts.ok()) {
    return absl::Status(facts.status().code(), fmt::format("{}: {}", name, Message(facts.status())));
  }
  const double seconds = progress.seconds();
  Print("{}  {}  {}  ({}, {})\n", facts->digest ? "sha256:" + facts->digest->ToHex() : "-", facts->length,
        name, FormatRate(static_cast<double>(facts->length) / std::max(seconds, 1e-6)),
        FormatSeconds(seconds));
  return FlushOutput();
}

absl::Status Put(const PutFlags& flags) {
  if (!flags.name.empty() && flags.files.size() > 1) {
    return WrongUsage(fmt::format("--name takes one file, not {}", flags.files.size()));
  }
  ASSIGN_OR_RETURN(const auto blobs,
                   BlobClient::Create({.servers = flags.client.servers, .group = flags.client.group}));
  for (const std::string& file : flags.files) {
    RETURN_IF_ERROR(PutOne(*blobs, flags, file, flags.name.empty() ? file : flags.name));
  }
  return absl::OkStatus();
}

}  // namespace

void AddPut(CLI::App& app, Chosen* chosen) {
  auto flags = std::make_shared<PutFlags>();
  CLI::App* command =
      NewCommand(app, "put", "Streams files in; prints digest, size and name",
                 "sluice put /usr/bin/git --name tools/git", chosen, [flags] { return Put(*flags); });
  command->add_option("FILE", flags->files, "Files; the path as typed is the name")->required();
  command->add_option("--name", flags->name, "Name of the one file")
      ->check(CLI::Validator(
          [](const std::string& name) {
            return std::string(name.empty() ? "a name has one byte at least" : "");
          },
          ""));
  AddWayFlags(*command, &flags->via, &flags->route);
  command->add_flag("--no-digest", flags->no_digest, "Servers need not compute SHA-256");
  AddClientFlags(*command, &flags->client);
}

}  // namespace sluice::app
