#include "app/command_line.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "app/commands.h"
#include "app/echo_server.h"
#include "app/options.h"
#include "base/log.h"
#include "base/temp_folder_for_test.h"
#include "env/files.h"
#include "node/identity.h"
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
  } wrong[] = {
      {{}, "subcommand"},
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
      {{"serve", "--peers", "n0@0.0.0.0:7400,n1@a:7400"}, "no address at which others"},  // K20
      {{"serve", "--advertise", "[::]:7400"}, "--advertise: \"[::]:7400\" is no address"},
      {{"serve", "--advertise", "a"}, "--advertise: \"a\" is no HOST:PORT"},
      {{"serve", "--advertise", "b:7400", "--peers", "n0@a:7400"}, "they must agree"},
      {{"serve", "--data", "/proc/none", "--peers", "n0@127.0.0.1:7400,n0@127.0.0.1:7410"},
       "--peers: n0 is there twice"},
      {{"serve", "--data", "/proc/none", "--peers", "n0@127.0.0.1:7400,n1@127.0.0.1:7402"},
       "each server has 4, from that of its address on"},
      {{"serve", "--data", "/proc/none", "--listen", "127.0.0.1:7410", "--peers", "n0@127.0.0.1:7400"},
       "listens on 127.0.0.1:7410"},
      {{"serve", "--data", "/proc/none", "--id", "n3", "--peers", "n0@127.0.0.1:7400"},
       "--peers: the server n3 is not among them"},
      {{"serve", "--data", "/proc/none", "--listen", "foo"}, "listen is \"foo\": HOST:PORT"},
      {{"serve", "--data", "/proc/none", "--log-segment-bytes", "1"}, "log.segment_bytes is 1: a multiple"},
      {{"serve", "--data", "/proc/none", "--id", "n\n0"}, "id: a server id is UTF-8 without control"},
      {{"config", "--config", "/no/such/file"}, "/no/such/file"}};
  for (const auto& one : wrong) {
    const Ran ran = Sluice(one.arguments);
    EXPECT_EQ(ran.code, 2) << one.named;
    EXPECT_THAT(ran.err, HasSubstr(one.named));
    ExpectOneLine(ran.err);
    EXPECT_EQ(ran.out, "");
  }
}

TEST(CommandLine, BootstrapIsForTheVeryFirstStart) {
  const TempFolder folder;
  const std::string data = folder.path();
  ASSERT_TRUE(node::OpenIdentity(env::RealFiles(), data, {"n0"}, /*bootstrap=*/true).ok());
  // The address is none of this machine: what is not refused before ends there.
  const Ran again = Sluice({"serve", "--listen", "192.0.2.1:7400", "--data", data.c_str(), "--bootstrap"});
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.err, StartsWith("sluice serve: --bootstrap is for the very first start, and " + data +
                                    " is not empty"));
  ExpectOneLine(again.err);
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

// Every command that can be chosen, and every one of its options, as CLI11 knows them.
class EveryOption : public testing::Test {
 protected:
  struct Command {
    std::vector<std::string> path;  // {"bench", "put"}
    std::vector<std::string> flags;
    std::vector<std::string> arguments;  // as many as are required
    std::vector<std::string> required;   // flags
  };
  // Where one value may stand. What is empty is not given.
  struct Given {
    std::string flag, environment, file;
  };

  EveryOption() { std::ofstream(other_file_) << ""; }

  static std::vector<Command> Commands() {
    CLI::App app{"", "sluice"};
    Chosen chosen;
    AddCommands(app, &chosen);
    std::vector<Command> commands;
    Collect(app, {}, &commands);
    return commands;
  }
  static void Collect(CLI::App& app, const std::vector<std::string>& path, std::vector<Command>* commands) {
    const std::vector<CLI::App*> inner = app.get_subcommands([](CLI::App*) { return true; });
    for (CLI::App* one : inner) {
      std::vector<std::string> longer = path;
      longer.push_back(one->get_name());
      Collect(*one, longer, commands);
    }
    if (!inner.empty()) return;
    Command command{.path = path};
    for (const CLI::Option* option : app.get_options()) {
      if (option->get_positional()) {
        if (option->get_required()) command.arguments.push_back("anything");
      } else if (option->get_name() != "--help") {
        command.flags.push_back("--" + option->get_lnames().front());
        if (option->get_required()) command.required.push_back(command.flags.back());
      }
    }
    commands->push_back(std::move(command));
  }

  // The value with which the command would run; nothing: it is refused.
  std::optional<std::string> Effective(const Command& command, const std::string& flag, const Given& given) {
    CLI::App app{"", "sluice"};
    Chosen chosen;
    AddCommands(app, &chosen);
    CLI::App* leaf = &app;
    for (const std::string& name : command.path) leaf = leaf->get_subcommand(name);
    CLI::Option* option = leaf->get_option(flag);
    const Option* of_server = nullptr;
    for (const Option& one : Options()) {
      if ("--" + one.Flag() == flag && !option->get_group().empty() && leaf->get_option_no_throw("--config"))
        of_server = &one;
    }
    const std::string variable = of_server != nullptr ? of_server->Environment() : option->get_envname();
    std::vector<std::string> words{"sluice"};
    words.insert(words.end(), command.path.begin(), command.path.end());
    if (!given.flag.empty()) {
      words.push_back(flag);
      if (option->get_expected_max() > 0) words.push_back(given.flag);
    }
    if (!given.file.empty()) {
      if (of_server == nullptr) return std::nullopt;  // this command reads no file
      std::ofstream(file_) << of_server->name << " = \"" << given.file << "\"\n";
      words.insert(words.end(), {"--config", file_.string()});
    }
    for (const std::string& one : command.required) {
      if (one != flag) words.insert(words.end(), {one, "anything"});
    }
    words.insert(words.end(), command.arguments.begin(), command.arguments.end());
    std::vector<const char*> arguments;
    for (const std::string& word : words) arguments.push_back(word.c_str());
    if (!given.environment.empty()) {
      if (variable.empty()) return std::nullopt;
      setenv(variable.c_str(), given.environment.c_str(), 1);
    }
    std::optional<std::string> value;
    try {
      app.parse(static_cast<int>(arguments.size()), arguments.data());
      option->capture_default_str();
      value = option->get_default_str();
    } catch (const CLI::ParseError&) {
    }
    if (!given.environment.empty()) unsetenv(variable.c_str());
    return value;
  }

  const TempFolder folder_;
  const std::filesystem::path file_ = folder_ / "file.toml";
  const std::string other_file_ = folder_ / "other.toml";
};

TEST_F(EveryOption, K27_AFlagWinsOverTheEnvironmentAndThatOverTheFile) {
  const std::vector<std::string> candidates{"3",
                                            "5",
                                            "7",
                                            "h:3",
                                            "h:5",
                                            "00000000-0000-0000-0000-000000000003",
                                            "00000000-0000-0000-0000-000000000005",
                                            "chain",
                                            "star",
                                            "datastream",
                                            "bytestream",
                                            "3ms",
                                            "5ms",
                                            "/dev/null",
                                            other_file_};
  size_t checked = 0;
  size_t with_environment = 0;
  for (const Command& command : Commands()) {
    for (const std::string& flag : command.flags) {
      SCOPED_TRACE(fmt::format("sluice {} {}", fmt::join(command.path, " "), flag));
      const std::string normal = Effective(command, flag, {}).value_or("refused");
      if (normal.empty() && Effective(command, flag, {.flag = "yes"}) == "") {
        ++checked;  // a switch, which neither environment nor file knows
        EXPECT_FALSE(Effective(command, flag, {.environment = "true"})) << "it has a variable, and no value";
        continue;
      }
      const bool reads_file = std::count(command.flags.begin(), command.flags.end(), "--config") > 0;
      std::vector<std::pair<std::string, std::string>> accepted;  // as it is written → as it counts
      for (const std::string& text : candidates) {
        if (accepted.size() == 2) break;
        const auto value = Effective(command, flag, {.flag = text});
        if (!value || (reads_file && *value == normal))
          continue;  // what a setting cannot be stays the default
        if (accepted.empty() || accepted[0].second != *value) accepted.emplace_back(text, *value);
      }
      if (normal == "false") accepted = {{"true", "true"}, {"false", "false"}};
      ASSERT_EQ(accepted.size(), 2u) << "no two values of it are among the candidates: add some";
      const auto& [a_text, a] = accepted[0];
      const auto& [b_text, b] = accepted[1];
      ++checked;
      if (!Effective(command, flag, {.environment = b_text})) continue;
      ++with_environment;
      EXPECT_EQ(Effective(command, flag, {.environment = b_text}), b);
      EXPECT_EQ(Effective(command, flag, {.flag = a_text, .environment = b_text}), a);
      if (!Effective(command, flag, {.file = b_text})) continue;
      EXPECT_EQ(Effective(command, flag, {.file = b_text}), b);
      EXPECT_EQ(Effective(command, flag, {.flag = a_text, .file = b_text}), a);
      EXPECT_EQ(Effective(command, flag, {.environment = a_text, .file = b_text}), a);
      EXPECT_EQ(Effective(command, flag, {.flag = a_text, .environment = b_text, .file = b_text}), a);
    }
  }
  EXPECT_GT(checked, 2 * Options().size());
  EXPECT_GE(with_environment, 3 * Options().size());  // serve, config, most of dev; nine client commands
}

TEST_F(EveryOption, K27_AVariableOfOneCommandDoesNotDisturbAnother) {
  setenv("SLUICE_SERVER", "nonsense", 1);
  EXPECT_EQ(Sluice({"config"}).code, 0);
  EXPECT_EQ(Sluice({"bench", "stream", "--help"}).code, 0);
  const Ran list = Sluice({"ls"});
  EXPECT_EQ(list.code, 2);
  EXPECT_THAT(list.err, HasSubstr("\"nonsense\" is no HOST:PORT"));
  unsetenv("SLUICE_SERVER");
}

// Runs with standard output at `fd`, which it closes.
Ran SluiceInto(int fd, std::vector<const char*> arguments) {
  fflush(stdout);
  const int kept = dup(STDOUT_FILENO);
  dup2(fd, STDOUT_FILENO);
  close(fd);
  arguments.insert(arguments.begin(), "sluice");
  testing::internal::CaptureStderr();
  Ran ran;
  ran.code = RunCommandLine(static_cast<int>(arguments.size()), arguments.data());
  dup2(kept, STDOUT_FILENO);
  close(kept);
  ran.err = testing::internal::GetCapturedStderr();
  return ran;
}

int PipeWithoutReader() {
  signal(SIGPIPE, SIG_IGN);
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  close(ends[0]);
  return ends[1];
}

TEST(CommandLine, K27_WhatCannotBeWrittenIsAFailure) {
  const std::vector<std::vector<const char*>> commands{
      {"config"}, {"config", "--json"}, {"--help"}, {"serve", "--help"}, {"--version"}};
  for (const auto& command : commands) {
    const Ran full = SluiceInto(open("/dev/full", O_WRONLY), command);
    EXPECT_EQ(full.code, 1) << command[0];
    EXPECT_THAT(full.err, HasSubstr("cannot write to standard output: No space left on device"));
    ExpectOneLine(full.err);
    const Ran gone = SluiceInto(PipeWithoutReader(), command);
    EXPECT_EQ(gone.code, 0) << command[0];
    EXPECT_EQ(gone.err, "");
    EXPECT_NE(Sluice(command).out, "") << "an earlier failure is remembered";
  }
}

class WithServer : public testing::Test {
 protected:
  WithServer() {
    spdlog::set_level(spdlog::level::err);  // the server's lines would stand among those of the command
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.data_dir = folder_ / "data";
    auto server = Server::Start(options);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  ~WithServer() override { server_.reset(); }
  Ran SluiceThere(std::vector<const char*> arguments) {
    arguments.push_back("--server");
    arguments.push_back(server_->address().c_str());
    return Sluice(std::move(arguments));
  }
  static nlohmann::json Parsed(const Ran& ran) {
    EXPECT_EQ(ran.code, 0) << ran.err;
    return nlohmann::json::parse(ran.out, nullptr, /*allow_exceptions=*/false);
  }
  const TempFolder folder_;
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
  const std::string copy = folder_ / "copy";
  const std::string original = folder_ / "original";
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

TEST_F(WithServer, APutThatCannotBeWholeSaysSo) {
  for (const auto& [file, named] : {std::pair{"/proc/cpuinfo", "its size was 0 when the put began"},
                                    {"/dev/zero", "/dev/zero is no regular file"},
                                    {"/no/such/file", "/no/such/file: No such file or directory"}}) {
    const Ran put = SluiceThere({"put", file, "--name", "part"});
    EXPECT_EQ(put.code, 1);
    EXPECT_THAT(put.err, HasSubstr(named));
    ExpectOneLine(put.err);
  }
  EXPECT_EQ(SluiceThere({"stat", "part"}).code, 1);
}

TEST_F(WithServer, K27_TheServerOfTheFlagIsAskedWhateverTheEnvironmentNames) {
  setenv("SLUICE_SERVER", "127.0.0.1:1", 1);
  const std::string original = folder_ / "original";
  const std::string copy = folder_ / "copy";
  std::ofstream(original) << "hello";
  const std::vector<std::vector<const char*>> commands{
      {"put", original.c_str(), "--name", "one"}, {"ls"},        {"stat", "one"},
      {"get", "one", "-o", copy.c_str()},         {"status"},    {"bench", "put", "--size", "1KiB"},
      {"bench", "get", "--size", "1KiB"},         {"rm", "one"},
  };
  for (const auto& command : commands) {
    const Ran ran = SluiceThere(command);
    EXPECT_EQ(ran.code, 0) << command[0] << ": " << ran.err;
  }
  unsetenv("SLUICE_SERVER");
}

TEST_F(WithServer, K27_AListThatCannotBeWrittenIsAFailure) {
  const auto blobs = *BlobClient::Create({.servers = {server_->address()}});
  ASSERT_TRUE(blobs->PutBytes("one", Bytes::Copy("hello")).ok());
  for (std::vector<const char*> command : std::vector<std::vector<const char*>>{
           {"ls"}, {"ls", "--json"}, {"stat", "one"}, {"status"}, {"get", "one", "-o", "-"}}) {
    command.insert(command.end(), {"--server", server_->address().c_str()});
    const Ran full = SluiceInto(open("/dev/full", O_WRONLY), command);
    EXPECT_EQ(full.code, 1) << command[0];
    EXPECT_THAT(full.err, HasSubstr("cannot write to standard output: No space left on device"));
    ExpectOneLine(full.err);
    const Ran gone = SluiceInto(PipeWithoutReader(), command);
    EXPECT_EQ(gone.code, 0) << command[0];
    EXPECT_EQ(gone.err, "");
  }
}

}  // namespace
}  // namespace sluice::app
