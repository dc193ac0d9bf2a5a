#include "app/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <stdlib.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>
#include <span>
#include <sstream>
#include <string_view>
#include <utility>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include "absl/strings/ascii.h"
#include "app/commands.h"
#include "app/units.h"
#include "base/server_id.h"
#include "base/strings.h"
#include "node/check_options.h"

namespace sluice::app {
namespace {

#define SLUICE_FIELD(member) [](Settings& s) -> Field { return &s.member; }

std::vector<Option> MakeOptions() {
  return {
      {"id", Unit::kText, "Id of this server within its groups", SLUICE_FIELD(id)},
      {"listen", Unit::kText, "HOST:PORT of gRPC; the other ports follow it", SLUICE_FIELD(listen)},
      {"advertise", Unit::kText,
       "HOST:PORT of gRPC as others reach it; empty: that of --peers, or of --listen",
       SLUICE_FIELD(advertise)},
      {"data_stream_listen", Unit::kText, "HOST:PORT of DataStream; empty: port + 1",
       SLUICE_FIELD(data_stream_listen)},
      {"stream_listen", Unit::kText, "HOST:PORT of Streaming RPC; empty: port + 2; none: no such port",
       SLUICE_FIELD(stream_listen)},
      {"http_listen", Unit::kText, "HOST:PORT of /metrics; empty: port + 3; none: no such port",
       SLUICE_FIELD(http_listen)},
      {"data", Unit::kText, "Folder of everything that must survive", SLUICE_FIELD(data)},
      {"peers", Unit::kList, "Members at the very first start: ID@HOST:PORT,…; empty: a group of one",
       SLUICE_FIELD(peers)},
      {"group", Unit::kList, "Further groups: UUID=MACHINE (blob or counter)", SLUICE_FIELD(groups)},
      {"bootstrap", Unit::kFlag, "Very first start: an empty folder may vote", SLUICE_FIELD(bootstrap)},
      {"lane_loops", Unit::kCount, "Threads for connections that carry bytes", SLUICE_FIELD(lane_loops)},
      {"bytestream.calls_max", Unit::kCount, "ByteStream calls under way; further ones are refused",
       SLUICE_FIELD(limits.bytestream_calls_max)},
      {"data_stream.connections_max", Unit::kCount, "DataStream connections; further ones are closed",
       SLUICE_FIELD(limits.data_stream_connections_max)},
      {"data_stream.half_open_max", Unit::kCount,
       "DataStream connections of one address that have not said anything; further ones are closed",
       SLUICE_FIELD(limits.data_stream_half_open_max)},
      {"stream.loops", Unit::kCount, "Event loops of Streaming RPC", SLUICE_FIELD(limits.stream.loops)},
      {"stream.threads_max", Unit::kCount, "Threads of each of these loops that handlers may hold up",
       SLUICE_FIELD(limits.stream.threads_max)},
      {"stream.connections_max", Unit::kCount, "Streaming RPC connections; further ones are closed",
       SLUICE_FIELD(limits.stream.connections_max)},
      {"stream.half_open_max", Unit::kCount,
       "Streaming RPC connections of one address that have not said anything; further ones are closed",
       SLUICE_FIELD(limits.stream.half_open_max)},
      {"stream.per_connection_max", Unit::kCount, "Streams of one connection; further ones are refused",
       SLUICE_FIELD(limits.stream.streams_per_connection_max)},
      {"stream.files_max", Unit::kCount, "Puts and Gets over Streaming RPC; further ones are refused",
       SLUICE_FIELD(limits.stream.files_max)},
      {"stream.message_bytes_max", Unit::kBytes, "One message of a stream; a longer one fails its stream",
       SLUICE_FIELD(limits.stream.message_bytes_max)},
      {"stream.received_bytes_max", Unit::kBytes, "Arrived and not consumed, of one connection",
       SLUICE_FIELD(limits.stream.received_bytes_max)},
      {"stream.unsent_bytes_max", Unit::kBytes, "Written and not sent, of one connection",
       SLUICE_FIELD(limits.stream.unsent_bytes_max)},
      {"stream.stall_timeout_ms", Unit::kMilliseconds,
       "A Streaming RPC peer that takes nothing, or sends half a frame, for so long is dropped",
       SLUICE_FIELD(limits.stream.stall_timeout_ms)},
      {"shards", Unit::kCount, "Threads for groups", SLUICE_FIELD(host.shards)},
      {"tick_ms", Unit::kMilliseconds, "Step of a group's timers", SLUICE_FIELD(host.tick_ms)},
      {"election_timeout_min_ms", Unit::kMilliseconds, "Silence of the leader before an election, at least",
       SLUICE_FIELD(host.election_timeout_min_ms)},
      {"election_timeout_max_ms", Unit::kMilliseconds, "The same, at most",
       SLUICE_FIELD(host.election_timeout_max_ms)},
      {"heartbeat_ms", Unit::kMilliseconds, "Pause between the heartbeats of a leader",
       SLUICE_FIELD(host.heartbeat_ms)},
      {"inline_upload_bytes_max", Unit::kBytes, "Blobs up to this size travel inside the log",
       SLUICE_FIELD(host.inline_upload_bytes_max)},
      {"upload_window_bytes", Unit::kBytes, "Unanswered bytes of one upload",
       SLUICE_FIELD(host.upload_window_bytes)},
      {"upload_idle_ttl_ms", Unit::kMilliseconds,
       "An upload without progress, and a call whose client is silent, end after this",
       SLUICE_FIELD(host.upload_idle_ttl_ms)},
      {"successor_silence_ms", Unit::kMilliseconds,
       "An upload goes on without a server that is silent for this long",
       SLUICE_FIELD(host.successor_silence_ms)},
      {"read_timeout_ms", Unit::kMilliseconds,
       "A read waits this long for a leader or for bytes of another server",
       SLUICE_FIELD(host.read_timeout_ms)},
      {"group_uploads_max", Unit::kCount, "Uploads of one group under way; further ones are refused",
       SLUICE_FIELD(host.group_uploads_max)},
      {"pending_writes_max", Unit::kCount, "Writes of one group that wait; further ones are refused",
       SLUICE_FIELD(host.pending_writes_max)},
      {"pending_bytes_max", Unit::kBytes, "Bytes of writes of one group that wait",
       SLUICE_FIELD(host.pending_bytes_max)},
      {"session_bytes_max", Unit::kBytes, "Memory of the replies remembered for retries, per group",
       SLUICE_FIELD(host.session_bytes_max)},
      {"session_keep_ms", Unit::kMilliseconds, "How long a reply is remembered for retries",
       SLUICE_FIELD(host.session_keep_ms)},
      {"checkpoint_ms", Unit::kMilliseconds, "Applied state is flushed this often, if it changed",
       SLUICE_FIELD(host.checkpoint_ms)},
      {"compact_keep_entries", Unit::kCount, "Applied entries kept in the log for slow followers",
       SLUICE_FIELD(host.compact_keep_entries)},
      {"log_bytes_checkpoint", Unit::kBytes, "Applied state is flushed after this much log",
       SLUICE_FIELD(host.log_bytes_checkpoint)},
      {"catch_up_log_bytes_max", Unit::kBytes,
       "Log kept for servers that catch up, per group; beyond it they need a snapshot",
       SLUICE_FIELD(host.catch_up_log_bytes_max)},
      {"log.segment_bytes", Unit::kBytes, "Size of a log segment", SLUICE_FIELD(host.log.segment_bytes)},
      {"log.block_bytes", Unit::kBytes, "Atomic write size of the device",
       SLUICE_FIELD(host.log.block_bytes)},
      {"log.batch_bytes_max", Unit::kBytes, "One synced write of the log",
       SLUICE_FIELD(host.log.batch_bytes_max)},
      {"log.queue_bytes_max", Unit::kBytes, "Entries that wait for the log's disk",
       SLUICE_FIELD(host.log.queue_bytes_max)},
      {"log.cache_bytes_max", Unit::kBytes, "Recent entries kept in memory, all groups together",
       SLUICE_FIELD(host.log.cache_bytes_max)},
      {"log.spare_segments", Unit::kCount, "Recycled segments kept ready",
       SLUICE_FIELD(host.log.spare_segments)},
      {"blob.threads", Unit::kCount, "Threads that write uploads", SLUICE_FIELD(host.blob.threads)},
      {"blob.read_threads", Unit::kCount, "Threads that read blobs", SLUICE_FIELD(host.blob.read_threads)},
      {"blob.hash_threads", Unit::kCount, "Threads that compute SHA-256",
       SLUICE_FIELD(host.blob.hash_threads)},
      {"blob.direct_run_bytes", Unit::kBytes, "Uploads go past the page cache in runs of this size; 0: never",
       SLUICE_FIELD(host.blob.direct_run_bytes)},
      {"blob.direct_read_bytes", Unit::kBytes, "Larger blobs are read past the page cache; 0: none",
       SLUICE_FIELD(host.blob.direct_read_bytes)},
      {"blob.writeback_bytes", Unit::kBytes, "Early write-back of an upload is asked for this often",
       SLUICE_FIELD(host.blob.writeback_bytes)},
      {"blob.uploads_max", Unit::kCount, "Uploads that are being written; further ones are refused",
       SLUICE_FIELD(host.blob.uploads_max)},
      {"blob.stages_max", Unit::kCount,
       "Unfinished uploads, with those that nobody feeds; beyond, the oldest of these is dropped",
       SLUICE_FIELD(host.blob.stages_max)},
      {"blob.reserve_bytes", Unit::kBytes, "Free space that writes leave to removals, the log and the index",
       SLUICE_FIELD(host.blob.reserve_bytes)},
      {"index.cache_bytes", Unit::kBytes, "Memory for what is read of the index",
       SLUICE_FIELD(host.index.cache_bytes)},
      {"index.write_buffer_bytes", Unit::kBytes,
       "Memory for what is written to the index; twice as much at most",
       SLUICE_FIELD(host.index.write_buffer_bytes)},
      {"index.ballast_bytes", Unit::kBytes, "A file that is given up when the disk is full; 0: none",
       SLUICE_FIELD(host.index.ballast_bytes)},
      {"blob.queue_bytes", Unit::kBytes, "Queued bytes of one upload", SLUICE_FIELD(host.blob.queue_bytes)},
  };
}

#undef SLUICE_FIELD

std::string Upper(std::string text) {
  std::replace(text.begin(), text.end(), '.', '_');
  return absl::AsciiStrToUpper(text);
}

const Option* FindOption(const std::string& name) {
  for (const Option& option : Options()) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

std::vector<std::string> SplitList(const std::string& text) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

absl::StatusOr<uint64_t> ParseNumber(Unit unit, const std::string& text) {
  if (unit == Unit::kBytes) return ParseSize(text);
  if (unit == Unit::kMilliseconds) return ParseMilliseconds(text);
  return ParseCount(text);
}

absl::Status ReadTable(const toml::table& table, const std::string& prefix, Settings* settings) {
  for (const auto& [key, node] : table) {
    const std::string name = prefix + std::string(key.str());
    if (const toml::table* inner = node.as_table()) {
      RETURN_IF_ERROR(ReadTable(*inner, name + ".", settings));
      continue;
    }
    const Option* option = FindOption(name);
    if (option == nullptr) {
      return absl::InvalidArgumentError(
          fmt::format("{}: there is no option {}; `sluice config` lists them", settings->config_file, name));
    }
    std::string text;
    if (const toml::array* list = node.as_array()) {
      for (const toml::node& one : *list) text += (text.empty() ? "" : ",") + one.value_or(std::string());
    } else if (node.is_string()) {
      text = node.value_or(std::string());
    } else {
      std::stringstream stream;
      node.visit([&](const auto& value) { stream << value; });
      text = stream.str();
    }
    if (absl::Status status = SetOption(*option, text, settings); !status.ok()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: {}: {}", settings->config_file, name, Message(status)));
    }
    settings->sources[name] = Source::kFile;
  }
  return absl::OkStatus();
}

}  // namespace

std::string_view UnitName(Unit unit) {
  switch (unit) {
    case Unit::kText:
      return "text";
    case Unit::kList:
      return "list";
    case Unit::kFlag:
      return "flag";
    case Unit::kCount:
      return "count";
    case Unit::kBytes:
      return "bytes";
    case Unit::kMilliseconds:
      return "ms";
  }
  return "";
}

std::string_view SourceName(Source source) {
  switch (source) {
    case Source::kDefault:
      return "default";
    case Source::kFile:
      return "file";
    case Source::kEnvironment:
      return "env";
    case Source::kFlag:
      return "flag";
  }
  return "";
}

std::string Option::Flag() const {
  std::string flag = name;
  std::replace_if(
      flag.begin(), flag.end(), [](char c) { return c == '.' || c == '_'; }, '-');
  return flag;
}

std::string Option::Environment() const { return "SLUICE_" + Upper(name); }

const std::vector<Option>& Options() {
  static const std::vector<Option>& options = *new std::vector<Option>(MakeOptions());
  return options;
}

std::string ValueText(const Option& option, Settings& settings) {
  const Field field = option.field(settings);
  if (auto* const* text = std::get_if<std::string*>(&field)) return **text;
  if (auto* const* list = std::get_if<std::vector<std::string>*>(&field)) {
    return fmt::format("{}", fmt::join(**list, ","));
  }
  if (auto* const* flag = std::get_if<bool*>(&field)) return **flag ? "true" : "false";
  if (auto* const* narrow = std::get_if<uint32_t*>(&field)) return fmt::format("{}", **narrow);
  return fmt::format("{}", *std::get<uint64_t*>(field));
}

absl::Status SetOption(const Option& option, const std::string& text, Settings* settings) {
  const Field field = option.field(*settings);
  if (auto* const* value = std::get_if<std::string*>(&field)) {
    **value = text;
  } else if (auto* const* list = std::get_if<std::vector<std::string>*>(&field)) {
    **list = SplitList(text);
  } else if (auto* const* flag = std::get_if<bool*>(&field)) {
    if (text != "true" && text != "false" && text != "1" && text != "0") {
      return absl::InvalidArgumentError(fmt::format("\"{}\" is neither true nor false", text));
    }
    **flag = text == "true" || text == "1";
  } else {
    ASSIGN_OR_RETURN(const uint64_t number, ParseNumber(option.unit, text));
    if (auto* const* narrow = std::get_if<uint32_t*>(&field)) {
      if (number > std::numeric_limits<uint32_t>::max()) {
        return absl::InvalidArgumentError(fmt::format("{} is too large", text));
      }
      **narrow = static_cast<uint32_t>(number);
    } else {
      *std::get<uint64_t*>(field) = number;
    }
  }
  return absl::OkStatus();
}

namespace {

constexpr uint64_t kThreadsMax = 1024;
constexpr std::string_view kThreadCounts[] = {"lane_loops",       "stream.loops", "stream.threads_max",
                                              "shards",           "blob.threads", "blob.read_threads",
                                              "blob.hash_threads"};
// Where 0 has a meaning: never, none, nothing kept.
constexpr std::string_view kMayBeZero[] = {
    "inline_upload_bytes_max", "compact_keep_entries",  "catch_up_log_bytes_max", "log.cache_bytes_max",
    "log.spare_segments",      "blob.direct_run_bytes", "blob.direct_read_bytes", "blob.writeback_bytes",
    "blob.reserve_bytes",      "index.ballast_bytes",   "session_keep_ms"};

bool Among(std::string_view name, std::span<const std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool IsHostPort(const std::string& text) { return MovePort(text, 0).ok() || text.ends_with(":0"); }

absl::Status CheckAddresses(const Settings& settings) {
  const int last = settings.Ports() - 1;
  if (!MovePort(settings.listen, last).ok()) {
    return WrongUsage(
        fmt::format("listen is \"{}\": HOST:PORT, with a port from 1 to {}", settings.listen, 65535 - last));
  }
  for (const auto& [name, text] : {std::pair{"data_stream_listen", &settings.data_stream_listen},
                                   {"stream_listen", &settings.stream_listen},
                                   {"http_listen", &settings.http_listen}}) {
    const bool none = *text == "none" && text != &settings.data_stream_listen;
    if (!text->empty() && !none && !IsHostPort(*text))
      return WrongUsage(fmt::format("{} is \"{}\": HOST:PORT", name, *text));
  }
  return absl::OkStatus();
}

// What the units alone do not tell: values with which no server works.
absl::Status CheckValues(Settings& settings) {
  if (const absl::Status id = CheckServerId(settings.id); !id.ok())
    return WrongUsage(fmt::format("id: {}", Message(id)));
  RETURN_IF_ERROR(CheckAddresses(settings));
  for (const Option& option : Options()) {
    const Field field = option.field(settings);
    const auto* const* narrow = std::get_if<uint32_t*>(&field);
    const auto* const* wide = std::get_if<uint64_t*>(&field);
    if (narrow == nullptr && wide == nullptr) continue;
    const uint64_t value = narrow != nullptr ? **narrow : **wide;
    if (Among(option.name, kThreadCounts) && (value == 0 || value > kThreadsMax)) {
      return WrongUsage(fmt::format("{} is {}: 1 to {} threads", option.name, value, kThreadsMax));
    }
    if (value == 0 && !Among(option.name, kMayBeZero)) {
      return WrongUsage(fmt::format("{} is 0: with that nothing goes on", option.name));
    }
  }
  const node::HostOptions& host = settings.host;
  if (const absl::Status checked = node::CheckOptions(host); !checked.ok())
    return WrongUsage(std::string(Message(checked)));
  if (host.election_timeout_max_ms < host.election_timeout_min_ms) {
    return WrongUsage(fmt::format("election_timeout_max_ms is {}, less than election_timeout_min_ms, {}",
                                  host.election_timeout_max_ms, host.election_timeout_min_ms));
  }
  if (host.heartbeat_ms >= host.election_timeout_min_ms) {
    return WrongUsage(fmt::format("heartbeat_ms is {}: election_timeout_min_ms, {}, must be longer",
                                  host.heartbeat_ms, host.election_timeout_min_ms));
  }
  // One entry at least must fit, else every write waits.
  constexpr uint64_t kLeast = 1u << 20;
  for (const auto& [name, value] :
       {std::pair<std::string_view, uint64_t>{"pending_bytes_max", host.pending_bytes_max},
        {"session_bytes_max", host.session_bytes_max},
        {"log.queue_bytes_max", host.log.queue_bytes_max}}) {
    if (value < kLeast)
      return WrongUsage(fmt::format("{} is {}: {} at least", name, value, FormatSize(kLeast)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Settings::Resolve() {
  if (!config_file.empty()) {
    const toml::parse_result parsed = toml::parse_file(config_file);
    if (!parsed) {
      std::stringstream where;
      where << parsed.error().source().begin;
      return absl::InvalidArgumentError(
          fmt::format("{}: {} ({})", config_file, parsed.error().description(), where.str()));
    }
    RETURN_IF_ERROR(ReadTable(parsed.table(), "", this));
  }
  for (const Option& option : Options()) {
    const char* environment = getenv(option.Environment().c_str());
    if (environment == nullptr) continue;
    if (absl::Status status = SetOption(option, environment, this); !status.ok()) {
      return absl::InvalidArgumentError(fmt::format("{}: {}", option.Environment(), Message(status)));
    }
    sources[option.name] = Source::kEnvironment;
  }
  for (const auto& [name, text] : flags) {
    const Option* option = FindOption(name);
    if (absl::Status status = SetOption(*option, text, this); !status.ok()) {
      return WrongUsage(fmt::format("--{}: {}", option->Flag(), Message(status)));
    }
    sources[name] = Source::kFlag;
  }
  return CheckValues(*this);
}

void AddOptionFlags(CLI::App& command, Settings* settings, const std::vector<std::string>& without) {
  command.add_option("--config", settings->config_file, "File of options (TOML)")->check(CLI::ExistingFile);
  command.parse_complete_callback([settings] { settings->resolved = settings->Resolve(); });
  for (const Option& option : Options()) {
    if (std::find(without.begin(), without.end(), option.name) != without.end()) continue;
    const std::string name = option.name;
    const std::string flag = "--" + option.Flag();
    CLI::Option* added = nullptr;
    if (option.unit == Unit::kFlag) {
      added = command.add_flag_function(
          flag, [settings, name](std::int64_t) { settings->flags[name] = "true"; }, option.meaning);
    } else {
      const auto set = [settings, name, &option](const std::string& text) {
        std::string& all = settings->flags[name];  // lists may be given in several flags
        all = option.unit == Unit::kList && !all.empty() ? fmt::format("{},{}", all, text) : text;
      };
      if (option.unit == Unit::kList) {
        added = command
                    .add_option_function<std::vector<std::string>>(
                        flag,
                        [set](const std::vector<std::string>& texts) {
                          for (const std::string& text : texts) set(text);
                        },
                        option.meaning)
                    ->allow_extra_args(false);
      } else {
        added = command.add_option_function<std::string>(flag, set, option.meaning)
                    ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
      }
      added->type_name(std::string(UnitName(option.unit)));
    }
    const bool first_need = option.field == Options()[0].field || name.find("listen") != std::string::npos ||
                            name == "advertise" || name == "data" || name == "peers" || name == "group" ||
                            name == "bootstrap";
    added->default_function([settings, &option] { return ValueText(option, *settings); });
    added->group(first_need ? "Options" : "Tuning");
  }
}

}  // namespace sluice::app
