// Every option of a server, in one table: name, default, unit, meaning, value, and where the value came from.
//
//   Settings settings;
//   AddOptionFlags(*command, &settings);                      // --log-segment-bytes 64MiB
//   RETURN_IF_ERROR(settings.resolved);                       // default < file < environment < flag
//   node::HostOptions host = settings.host;
//
// In a file an option is `log.segment_bytes = "64MiB"`; in the environment SLUICE_LOG_SEGMENT_BYTES.
// Threading: one thread. Failure: an option that does not exist or cannot be parsed is named with its source.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "base/status.h"
#include "edge/limits.h"
#include "node/host.h"

namespace CLI {
class App;
}

namespace sluice::app {

enum class Unit : uint8_t { kText, kList, kFlag, kCount, kBytes, kMilliseconds };
enum class Source : uint8_t { kDefault, kFile, kEnvironment, kFlag };
std::string_view UnitName(Unit unit);
std::string_view SourceName(Source source);

struct Settings {
  std::string id = "n0";
  std::string listen = "127.0.0.1:7400";
  std::string advertise;           // HOST:PORT; empty: that of `peers`, else `listen`
  std::string data_stream_listen;  // empty: the port of `listen` + 1
  std::string stream_listen;       // empty: the port of `listen` + 2; "none": none
  std::string http_listen;         // empty: the port of `listen` + 3; "none": none
  std::string data = "./sluice-data";
  std::vector<std::string> peers;   // ID@HOST:PORT
  std::vector<std::string> groups;  // UUID=MACHINE
  bool bootstrap = false;
  uint32_t lane_loops = 2;
  edge::EdgeLimits limits;
  node::HostOptions host;  // the tuning part of it

  std::string config_file;
  std::map<std::string, std::string> flags;  // option name → text, as the command line gave it
  std::map<std::string, Source> sources;     // absent: default

  absl::Status resolved;  // how Resolve ended when the command line was read

  // That a server has, from that of `listen` on.
  int Ports() const { return http_listen.empty() ? 4 : stream_listen.empty() ? 3 : 2; }
  // Reads file, environment and flags, in this order.
  absl::Status Resolve();
};

using Field = std::variant<std::string*, std::vector<std::string>*, bool*, uint32_t*, uint64_t*>;

struct Option {
  std::string name;  // "log.segment_bytes"
  Unit unit;
  std::string meaning;
  Field (*field)(Settings& settings);

  std::string Flag() const;         // "log-segment-bytes"
  std::string Environment() const;  // "SLUICE_LOG_SEGMENT_BYTES"
};

const std::vector<Option>& Options();
std::string ValueText(const Option& option, Settings& settings);
absl::Status SetOption(const Option& option, const std::string& text, Settings* settings);

// Adds --config and a flag for every option but those in `without`. `settings` must outlive the parse.
void AddOptionFlags(CLI::App& command, Settings* settings, const std::vector<std::string>& without = {});

}  // namespace sluice::app
