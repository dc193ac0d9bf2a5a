#include "app/command_line.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "app/echo_server.h"
#include "app/options.h"
#include "base/log.h"
#include "sluice/blob.h"
#include "sluice/server.h"
#include "sluice/stream.h"

namespace sluice::app {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Ran {
  int code = -1;
  std::string out, err;
};

Ran Sluice(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "sluice");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Ran ran;
  ran.code = RunCommandLine(static_cast<int>(arguments.size()), arguments.data());
  fflush(stdout);
  ran.out = testing::internal::GetCapturedStdout();
  ran.err = testing::internal::GetCapturedStderr();
  return ran;
}

void ExpectOneLine(const std::string& text) {
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
}

TEST(CommandLine, WrongUsageIsOneLineAndTwo) {
  const Ran foo = Sluice({"foo"});
  EXPECT_EQ(foo.code, 2);
  EXPECT_EQ(foo.err, "sluice: there is no command foo; see `sluice --help`\n");
  const struct {
    std::vector<const char*> arguments;
    const char* named;
  } wrong[] = {{{}, "subcommand"},
               {{"put"}, "FILE"},
               {{"ls", "--color"}, "--color"},
               {{"put", "a", "b", "--name", "c"}, "--name takes one file, not 2"},
               {{"put", "a", "--via", "pigeon"}, "pigeon"},
               {{"ls", "--server", "nowhere"}, "nowhere"},
               {{"ls", "--group-id", "7"}, "\"7\" is no UUID"},
               {{"config", "--log-segment-bytes", "much"}, "--log-segment-bytes: \"much\""},
               {{"put", "x", "--via", "ftp"}, "--via: \"ftp\" is none of datastream|bytestream"},
               {{"bench", "put", "--route", "ring"}, "--route: \"ring\" is none of chain|star"},
               {{"bench", "stream", "--server", "nowhere"}, "--server: \"nowhere\" is no HOST:PORT"},
               {{"bench", "echo", "--server", "127.0.0.1:99999"}, "127.0.0.1:99999"},
               {{"bench", "stream-server", "--listen", "127.0.0.1:99999"}, "127.0.0.1:99999"},
               {{"bench", "stream", "--message", "0"}, "--message"},
               {{"bench", "echo", "--beside", "1TiB"}, "--beside"},
               {{"bench", "open", "--batch", "2000"}, "--batch"},
               {{"config", "--config", "/no/such/file"}, "/no/such/file"}};
  for (const auto& one : wrong) {
    const Ran ran = Sluice(one.arguments);
    EXPECT_EQ(ran.code, 2) << one.named;
    EXPECT_THAT(ran.err, HasSubstr(one.named));
    ExpectOneLine(ran.err);
    EXPECT_EQ(ran.out, "");
  }
}

TEST(CommandLine, EveryCommandHasHelpWithAnExample) {
  EXPECT_THAT(Sluice({"--version"}).out, testing::MatchesRegex("sluice [0-9.]+\n"));
  const std::string all = Sluice({"--help"}).out;
  for (const char* command :
       {"serve", "dev", "put", "get", "ls", "stat", "rm", "status", "config", "bench", "inspect", "repair"}) {
    EXPECT_THAT(all, HasSubstr(command));
    const Ran help = Sluice({command, "--help"});
    EXPECT_EQ(help.code, 0) << command;
    EXPECT_THAT(help.out, HasSubstr("sluice " + std::string(command))) << "no example";
  }
}

TEST(CommandLine, ConfigPrintsEveryOption) {
  const Ran table = Sluice({"config"});
  const Ran json = Sluice({"config", "--heartbeat-ms", "90ms", "--json"});
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_EQ(json.code, 0) << json.err;
  const nlohmann::json parsed = nlohmann::json::parse(json.out, nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(parsed.is_array()) << json.out;
  EXPECT_EQ(parsed.size(), Options().size());
  for (const Option& option : Options()) {
    EXPECT_THAT(table.out, HasSubstr("\n" + option.name + " "));
    EXPECT_THAT(table.out, HasSubstr(option.meaning));
    const auto found = std::find_if(parsed.begin(), parsed.end(),
                                    [&](const nlohmann::json& one) { return one["name"] == option.name; });
    ASSERT_NE(found, parsed.end()) << option.name;
    EXPECT_EQ((*found)["from"], option.name == "heartbeat_ms" ? "flag" : "default") << option.name;
    if (option.name == "heartbeat_ms") {
      EXPECT_EQ((*found)["value"], "90");
    }
  }
}

TEST(CommandLine, EveryBenchHasHelpWithAnExample) {
  const std::string all = Sluice({"bench", "--help"}).out;
  for (const char* command : {"put", "get", "log", "stream", "echo", "open", "idle", "stream-server"}) {
    EXPECT_THAT(all, HasSubstr(command));
    EXPECT_THAT(Sluice({"bench", command, "--help"}).out, HasSubstr("sluice bench " + std::string(command)))
        << "no example";
  }
}

TEST(CommandLine, StreamBenchesCountEveryMessage) {
  auto server = EchoServer::Start("127.0.0.1:0");
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string address = fmt::format("127.0.0.1:{}", (*server)->port());
  const auto run = [&address](std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "bench");
    arguments.insert(arguments.end(), {"--rounds", "1", "--json", "--server", address.c_str()});
    const Ran ran = Sluice(std::move(arguments));
    EXPECT_EQ(ran.code, 0) << ran.err;
    return nlohmann::json::parse(ran.out, nullptr, /*allow_exceptions=*/false);
  };
  const nlohmann::json stream =
      run({"stream", "--message", "1000", "--streams", "3", "--writers", "2", "--bytes", "300000"});
  EXPECT_EQ(stream["bytes"], 300'000);
  EXPECT_GT(stream["ratio"], 0);
  const nlohmann::json echo =
      run({"echo", "--count", "50", "--in-flight", "4", "--beside", "1MiB", "--beside-bytes", "8MiB"});
  EXPECT_EQ(echo["echoes"], 50);
  EXPECT_GE(echo["beside_echoes"], 4);
  const nlohmann::json open = run({"open", "--at-once", "4", "--batch", "3", "--count", "120"});
  EXPECT_EQ(open["streams"], 120);
  const nlohmann::json idle = run({"idle", "--streams", "300"});
  EXPECT_EQ(idle["streams"], 300);
  server->reset();  // its ends of them
  EXPECT_TRUE(ListStreams().empty()) << "a bench left streams open";
}

TEST(CommandLine, AStreamBenchWithoutItsServerSaysSo) {
  for (const char* command : {"stream", "echo", "open", "idle"}) {
    const Ran ran = Sluice({"bench", command, "--server", "127.0.0.1:1"});
    EXPECT_EQ(ran.code, 1);
    EXPECT_THAT(ran.err, HasSubstr("127.0.0.1:1"));
    ExpectOneLine(ran.err);
  }
}

class WithServer : public testing::Test {
 protected:
  WithServer() {
    spdlog::set_level(spdlog::level::err);  // the server's lines would stand among those of the command
    folder_ = std::filesystem::path(testing::TempDir()) / "sluice-command-line-XXXXXX";
    EXPECT_NE(mkdtemp(folder_.data()), nullptr);
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.data_dir = folder_ + "/data";
    auto server = Server::Start(options);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  ~WithServer() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }
  Ran SluiceThere(std::vector<const char*> arguments) {
    arguments.push_back("--server");
    arguments.push_back(server_->address().c_str());
    return Sluice(std::move(arguments));
  }
  static nlohmann::json Parsed(const Ran& ran) {
    EXPECT_EQ(ran.code, 0) << ran.err;
    return nlohmann::json::parse(ran.out, nullptr, /*allow_exceptions=*/false);
  }
  std::string folder_;
  std::unique_ptr<Server> server_;
};

TEST_F(WithServer, WhatAPersonReadsAProgramCanParse) {
  const auto blobs = *BlobClient::Create({.servers = {server_->address()}});
  ASSERT_TRUE(blobs->PutBytes("a \"b\"\n", Bytes::Copy("hello")).ok());

  const nlohmann::json names = Parsed(SluiceThere({"ls", "--json"}));
  ASSERT_EQ(names.size(), 1u) << names;
  EXPECT_EQ(names[0]["name"], "a \"b\"\n");
  EXPECT_EQ(names[0]["size"], 5);
  const nlohmann::json stat = Parsed(SluiceThere({"stat", "a \"b\"\n", "--json"}));
  EXPECT_EQ(stat["digest"], names[0]["digest"]);
  EXPECT_THAT(stat["digest"].get<std::string>(), StartsWith("sha256:2cf24dba"));
  const nlohmann::json status = Parsed(SluiceThere({"status", "--json"}));
  ASSERT_EQ(status["servers"].size(), 1u) << status;
  EXPECT_EQ(status["servers"][0]["ready"], true);
  EXPECT_EQ(status["groups"][0]["leader"], "n0");
}

TEST_F(WithServer, AFileGoesInAndComesOut) {
  const std::string copy = folder_ + "/copy";
  const std::string original = folder_ + "/original";
  std::filesystem::copy_file("/proc/self/exe", original);
  const Ran put = SluiceThere({"put", original.c_str(), "--name", "exe"});
  EXPECT_EQ(put.code, 0) << put.err;
  EXPECT_THAT(put.out, StartsWith("sha256:"));
  ExpectOneLine(put.out);
  EXPECT_EQ(SluiceThere({"get", "exe", "-o", copy.c_str()}).code, 0);
  EXPECT_EQ(std::filesystem::file_size(copy), std::filesystem::file_size(original));
  EXPECT_EQ(SluiceThere({"rm", "exe"}).code, 0);
  const Ran gone = SluiceThere({"get", "exe", "-o", copy.c_str()});
  EXPECT_EQ(gone.code, 1);
  EXPECT_THAT(gone.err, StartsWith("sluice get: exe: "));
  ExpectOneLine(gone.err);
}

}  // namespace
}  // namespace sluice::app
