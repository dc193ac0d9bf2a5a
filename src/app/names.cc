// `sluice ls`, `stat` and `rm`: what is stored.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/commands.h"
#include "app/output.h"
#include "app/units.h"
#include "base/strings.h"
#include "client/connection.h"
#include "client/topology.h"

namespace sluice::app {
namespace {

struct NamesFlags {
  ClientFlags client;
  std::string name;
  bool json = false;
};

std::string TimeText(int64_t milliseconds) {
  const std::time_t seconds = milliseconds / 1000;
  return fmt::format("{:%Y-%m-%d %H:%M:%S}Z", fmt::gmtime(seconds));
}

std::string DigestText(const client::BlobView& blob) {
  return blob.digest ? "sha256:" + blob.digest->ToHex() : "-";
}

nlohmann::json ToJson(const client::BlobView& blob) {
  return {{"name", blob.name},
          {"size", blob.length},
          {"digest", blob.digest ? DigestText(blob) : ""},
          {"created_ms", blob.created_ms},
          {"holders", blob.holders},
          {"local", blob.local},
          {"inlined", blob.inlined}};
}

absl::Status List(const NamesFlags& flags) {
  client::Connection connection(flags.client.servers);
  nlohmann::json json = nlohmann::json::array();
  std::string after;
  while (true) {
    ASSIGN_OR_RETURN(const client::BlobPage page,
                     client::ListBlobs(connection, flags.client.group, flags.name, after, 0));
    for (const client::BlobView& blob : page.blobs) {
      if (flags.json) {
        json.push_back(ToJson(blob));
      } else {
        Print("{:>10}  {}  {}  {}\n", FormatSize(blob.length), TimeText(blob.created_ms),
              DigestText(blob).substr(0, 23), blob.name);
      }
    }
    RETURN_IF_ERROR(FlushOutput());
    if (!page.more || page.blobs.empty()) break;
    after = page.blobs.back().name;
  }
  if (flags.json) Print("{}\n", json.dump(2));
  return absl::OkStatus();
}

absl::Status Stat(const NamesFlags& flags) {
  client::Connection connection(flags.client.servers);
  const auto blob = client::StatBlob(connection, flags.client.group, flags.name);
  if (!blob.ok())
    return absl::Status(blob.status().code(), fmt::format("{}: {}", flags.name, Message(blob.status())));
  if (flags.json) {
    Print("{}\n", ToJson(*blob).dump(2));
    return absl::OkStatus();
  }
  Print("name     {}\nsize     {} ({})\ndigest   {}\ncreated  {}\nholders  {}\n", blob->name, blob->length,
        FormatSize(blob->length), DigestText(*blob), TimeText(blob->created_ms),
        blob->inlined ? "every server: it travelled in the log"
                      : fmt::format("{}", fmt::join(blob->holders, ", ")));
  return absl::OkStatus();
}

absl::Status Remove(const NamesFlags& flags) {
  client::Connection connection(flags.client.servers);
  const absl::Status status = client::RemoveBlob(connection, flags.client.group, flags.name);
  if (!status.ok()) return absl::Status(status.code(), fmt::format("{}: {}", flags.name, Message(status)));
  Print("removed {}\n", flags.name);
  return absl::OkStatus();
}

}  // namespace

void AddNames(CLI::App& app, Chosen* chosen) {
  auto listed = std::make_shared<NamesFlags>();
  CLI::App* list = NewCommand(app, "ls", "Lists what is stored, in the order of names", "sluice ls tools/",
                              chosen, [listed] { return List(*listed); });
  list->add_option("PREFIX", listed->name, "Only names that begin with this");
  list->add_flag("--json", listed->json, "For programs");
  AddClientFlags(*list, &listed->client);

  auto shown = std::make_shared<NamesFlags>();
  CLI::App* stat = NewCommand(app, "stat", "Shows size, digest, time and holders of one blob",
                              "sluice stat tools/git", chosen, [shown] { return Stat(*shown); });
  stat->add_option("NAME", shown->name, "Name, or sha256:HEX")->required();
  stat->add_flag("--json", shown->json, "For programs");
  AddClientFlags(*stat, &shown->client);

  auto removed = std::make_shared<NamesFlags>();
  CLI::App* remove = NewCommand(app, "rm", "Removes a name; it is free for other bytes then",
                                "sluice rm tools/git", chosen, [removed] { return Remove(*removed); });
  remove->add_option("NAME", removed->name, "Name")->required();
  AddClientFlags(*remove, &removed->client);
}

}  // namespace sluice::app
