#include "app/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "app/commands.h"
#include "base/strings.h"
#include "base/temp_folder_for_test.h"

namespace sluice::app {
namespace {

using testing::HasSubstr;

const Option& Find(const std::string& name) {
  for (const Option& option : Options()) {
    if (option.name == name) return option;
  }
  ADD_FAILURE() << "no option " << name;
  return Options().front();
}

class OptionsTest : public testing::Test {
 protected:
  ~OptionsTest() override { unsetenv("SLUICE_LOG_SEGMENT_BYTES"); }
  void Write(const std::string& text) {
    std::ofstream(file_) << text;
    settings_.config_file = file_;
  }
  const TempFolder folder_;
  const std::filesystem::path file_ = folder_ / "options.toml";
  Settings settings_;
};

TEST_F(OptionsTest, HaveNamesOfTheirOwnAndDefaultsThatCanBeSet) {
  std::set<std::string> flags;
  Settings other;
  for (const Option& option : Options()) {
    EXPECT_TRUE(flags.insert(option.Flag()).second) << option.name;
    EXPECT_FALSE(option.meaning.empty()) << option.name;
    const std::string text = ValueText(option, settings_);
    EXPECT_TRUE(SetOption(option, text, &other).ok()) << option.name << " = " << text;
    EXPECT_EQ(ValueText(option, other), text) << option.name;
  }
  EXPECT_EQ(Find("log.segment_bytes").Flag(), "log-segment-bytes");
  EXPECT_EQ(Find("log.segment_bytes").Environment(), "SLUICE_LOG_SEGMENT_BYTES");
}

TEST_F(OptionsTest, AFlagWinsOverTheEnvironmentAndThatOverTheFile) {
  Write(
      "heartbeat_ms = \"70ms\"\nlisten = \"a:1\"\npeers = [\"n0@a:1\", \"n1@b:1\"]\n[log]\nsegment_bytes = "
      "\"4MiB\"\n");
  setenv("SLUICE_LOG_SEGMENT_BYTES", "8MiB", 1);
  settings_.flags["listen"] = "c:1";
  ASSERT_TRUE(settings_.Resolve().ok());
  EXPECT_EQ(settings_.host.heartbeat_ms, 70u);
  EXPECT_EQ(settings_.sources.at("heartbeat_ms"), Source::kFile);
  EXPECT_EQ(settings_.host.log.segment_bytes, 8u << 20);
  EXPECT_EQ(settings_.sources.at("log.segment_bytes"), Source::kEnvironment);
  EXPECT_EQ(settings_.listen, "c:1");
  EXPECT_EQ(settings_.sources.at("listen"), Source::kFlag);
  EXPECT_THAT(settings_.peers, testing::ElementsAre("n0@a:1", "n1@b:1"));
  EXPECT_FALSE(settings_.sources.contains("shards"));
}

TEST_F(OptionsTest, WhatIsWrongIsNamedWithItsSource) {
  Write("[log]\nsegment_byte = 4\n");
  EXPECT_THAT(std::string(Message(settings_.Resolve())), HasSubstr("there is no option log.segment_byte"));
  Write("heartbeat_ms = \"soon\"\n");
  EXPECT_THAT(std::string(Message(settings_.Resolve())), HasSubstr("options.toml: heartbeat_ms: \"soon\""));
  Write("heartbeat_ms = = 1\n");
  EXPECT_THAT(std::string(Message(settings_.Resolve())), HasSubstr("options.toml"));
  Write("");
  setenv("SLUICE_LOG_SEGMENT_BYTES", "much", 1);
  EXPECT_THAT(std::string(Message(settings_.Resolve())), HasSubstr("SLUICE_LOG_SEGMENT_BYTES: \"much\""));
  unsetenv("SLUICE_LOG_SEGMENT_BYTES");
  settings_.flags["shards"] = "4294967296";
  const absl::Status flag = settings_.Resolve();
  EXPECT_THAT(std::string(Message(flag)), HasSubstr("--shards: 4294967296 is too large"));
  EXPECT_TRUE(IsWrongUsage(flag));
}

// With these a server starts and does nothing, or does not start and does not say why.
TEST(Settings, ValuesWithWhichNoServerWorksAreRefused) {
  const std::map<std::string, std::string> wrong[] = {{{"lane_loops", "4294967295"}},
                                                      {{"shards", "0"}},
                                                      {{"election_timeout_max_ms", "1ms"}},
                                                      {{"heartbeat_ms", "5s"}},
                                                      {{"pending_bytes_max", "1"}},
                                                      {{"log.queue_bytes_max", "0"}},
                                                      {{"data_stream.connections_max", "0"}},
                                                      {{"session_bytes_max", "0"}},
                                                      {{"log.segment_bytes", "1"}},
                                                      {{"log.block_bytes", "1000"}},
                                                      {{"log.segment_bytes", "2GiB"}},
                                                      {{"listen", "foo"}},
                                                      {{"listen", "127.0.0.1:65535"}},
                                                      {{"stream_listen", "foo"}},
                                                      {{"http_listen", "a:70000"}},
                                                      {{"data_stream_listen", "none"}},
                                                      {{"id", "n\n0"}},
                                                      {{"id", ""}}};
  for (const auto& flags : wrong) {
    Settings settings;
    for (const auto& [name, text] : flags) settings.flags[name] = text;
    const absl::Status refused = settings.Resolve();
    EXPECT_TRUE(IsWrongUsage(refused)) << flags.begin()->first;
    EXPECT_NE(refused.message().find(flags.begin()->first), absl::string_view::npos) << refused;
  }
  Settings settings;
  settings.flags = {{"index.ballast_bytes", "0"},
                    {"blob.reserve_bytes", "0"},
                    {"lane_loops", "1"},
                    {"stream_listen", "none"},
                    {"http_listen", "a:0"}};
  EXPECT_TRUE(settings.Resolve().ok()) << settings.Resolve();
}

}  // namespace
}  // namespace sluice::app
