// sluice/server.h: a server inside one's own process, stopped and started again with its data.
#include "sluice/server.h"

#include "sandbox.h"
#include "sluice/blob.h"

namespace sluice::examples {
namespace {

absl::Status Example() {
  const Folder folder;
  ServerOptions options;
  options.listen = "127.0.0.1:0";  // a server that others look for has a port of its own, e.g. :7400
  options.data_dir = folder.path();

  {
    ASSIGN_OR_RETURN(const auto server, Server::Start(options));
    printf("serving at %s\n", server->address().c_str());
    ASSIGN_OR_RETURN(const auto blobs, BlobClient::Create({.servers = {server->address()}}));
    RETURN_IF_ERROR(blobs->PutBytes("greeting", Bytes::Copy("hello")).status());
    // A folder belongs to one server.
    const absl::Status second = Server::Start(options).status();
    printf("a second server there: %s\n", second.ToString().c_str());
    RETURN_IF_ERROR(Expect(!second.ok(), "a refusal"));
    server->Stop();
  }

  ASSIGN_OR_RETURN(const auto server, Server::Start(options));
  ASSIGN_OR_RETURN(const auto blobs, BlobClient::Create({.servers = {server->address()}}));
  ASSIGN_OR_RETURN(const Bytes greeting, blobs->GetBytes("greeting"));
  return Expect(greeting == "hello", "what was put before the restart");
}

}  // namespace
}  // namespace sluice::examples

int main() { return sluice::examples::Report(sluice::examples::Example()); }
