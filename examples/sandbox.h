// What an example stands in: a folder that goes away with it, and one server with its data there.
//
//   ASSIGN_OR_RETURN(auto sandbox, Sandbox::Start());
//   ASSIGN_OR_RETURN(auto blobs, BlobClient::Create({.servers = {sandbox->address()}}));
//
//   int main() { return Report(Example()); }
//
// One thread. A real program gives the server a folder and ports that stay; see embedded_server.cc.
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sluice/server.h"

namespace sluice::examples {

class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / "sluice-example-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~Folder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class Sandbox {
 public:
  static absl::StatusOr<std::unique_ptr<Sandbox>> Start(std::vector<ServerGroup> groups = {}) {
    auto sandbox = std::make_unique<Sandbox>();
    ServerOptions options;
    options.listen = "127.0.0.1:0";  // any free port
    options.stream_listen = "127.0.0.1:0";
    options.data_dir = sandbox->folder_.path();
    options.groups = std::move(groups);
    ASSIGN_OR_RETURN(sandbox->server_, Server::Start(std::move(options)));
    return sandbox;
  }
  const std::string& address() const { return server_->address(); }
  const std::string& stream_address() const { return server_->stream_address(); }

 private:
  Folder folder_;
  std::unique_ptr<Server> server_;
};

// An error that says what an example expected; the exit code for main.
inline absl::Status Expect(bool holds, const std::string& what) {
  return holds ? absl::OkStatus() : absl::InternalError("expected: " + what);
}
inline int Report(const absl::Status& status) {
  if (status.ok()) return 0;
  fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}

}  // namespace sluice::examples
