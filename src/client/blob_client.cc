// sluice/blob.h: which door, which server, and when to go on elsewhere.
#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "base/names.h"
#include "client/bytestream.h"
#include "client/connection.h"
#include "client/content.h"
#include "client/persistence.h"
#include "client/put_stream.h"
#include "client/ratis_client.h"
#include "client/topology.h"
#include "client/verifier.h"
#include "sluice/blob.h"

namespace sluice {
namespace {

using client::Clock;
using client::Connection;
using client::Duration;

BlobFacts FactsOf(client::BlobView view) {
  return {.name = std::move(view.name),
          .length = view.length,
          .digest = view.digest,
          .created_ms = view.created_ms,
          .holders = std::move(view.holders)};
}

class Client final : public BlobClient {
 public:
  explicit Client(BlobClientOptions options)
      : options_(std::move(options)),
        connection_(std::make_shared<Connection>(options_.servers)),
        silence_(std::chrono::milliseconds(options_.silence_ms)) {}

  absl::StatusOr<BlobFacts> Put(const std::string& name, BlobContent& content,
                                const PutOptions& options) override;
  absl::StatusOr<BlobFacts> PutBytes(const std::string& name, const Bytes& data,
                                     const PutOptions& options) override {
    client::BytesContent content(data);
    return Put(name, content, options);
  }
  absl::StatusOr<BlobFacts> PutFile(const std::string& name, const std::string& path,
                                    const PutOptions& options) override {
    ASSIGN_OR_RETURN(const auto content, client::FileContent::Open(path));
    return Put(name, *content, options);
  }
  absl::StatusOr<BlobFacts> Get(const std::string& name,
                                const std::function<absl::Status(const Bytes&)>& take,
                                const GetOptions& options) override;
  absl::StatusOr<Bytes> GetBytes(const std::string& name, uint64_t bytes_max) override;
  absl::StatusOr<BlobFacts> GetFile(const std::string& name, const std::string& path,
                                    const GetOptions& options) override;

  absl::StatusOr<BlobFacts> Stat(const std::string& name) override {
    ASSIGN_OR_RETURN(client::BlobView view, client::StatBlob(*connection_, options_.group, name));
    return FactsOf(std::move(view));
  }
  absl::StatusOr<std::vector<BlobFacts>> List(const std::string& prefix, const std::string& after,
                                              uint32_t limit) override {
    ASSIGN_OR_RETURN(client::BlobPage page,
                     client::ListBlobs(*connection_, options_.group, prefix, after, limit));
    std::vector<BlobFacts> facts;
    for (client::BlobView& view : page.blobs) facts.push_back(FactsOf(std::move(view)));
    return facts;
  }
  absl::Status Remove(const std::string& name) override {
    return client::RemoveBlob(*connection_, options_.group, name);
  }

 private:
  struct Attempt {
    bool resume = false;  // at the server of the attempt before
    std::string writer;
    client::SilenceLimits silence;
  };
  absl::StatusOr<BlobFacts> PutByByteStream(const std::string& address, const std::string& name,
                                            BlobContent& content, const PutOptions& options,
                                            const Attempt& attempt);
  // True after the pause that is due: the transfer goes on at the server that comes first now.
  bool Again(client::Persistence& persistence, const std::string& address, const absl::Status& status) {
    const client::Persistence::Next next = persistence.Failed({.address = address,
                                                               .status = status,
                                                               .reached = connection_->Reached(address),
                                                               .servers = connection_->servers().size()},
                                                              Clock::now());
    if (!next.again) return false;
    connection_->Avoid(address);
    std::this_thread::sleep_for(next.pause);
    return true;
  }

  client::SilenceLimits SilenceAt(const std::string& address) const {
    client::SilenceLimits limits{.silence = silence_};
    if (connection_->servers().size() > 1) limits.alive = client::AliveAt(connection_.get(), address);
    return limits;
  }

  const BlobClientOptions options_;
  const std::shared_ptr<Connection> connection_;
  const Duration silence_;
};

absl::StatusOr<BlobFacts> Client::PutByByteStream(const std::string& address, const std::string& name,
                                                  BlobContent& content, const PutOptions& options,
                                                  const Attempt& attempt) {
  const client::ByteStreamTarget target{.address = address,
                                        .name = name,
                                        .group = options_.group,
                                        .digest = options.digest,
                                        .expected_digest = options.expected_digest,
                                        .writer = attempt.writer};
  uint64_t offset = 0;
  if (attempt.resume) {
    // The same server may still have what it synced; if not, the upload starts anew.
    const auto committed = client::QueryWrite(*connection_, target);
    if (committed.ok() && !committed->complete && committed->bytes <= content.length())
      offset = committed->bytes;
  }
  absl::StatusOr<uint64_t> size =
      client::WriteStream(*connection_, target, content, offset, attempt.silence, options.on_progress);
  if (offset > 0 && absl::IsInvalidArgument(size.status())) {
    // What the server told of may be at another one, where it cannot be gone on with from here.
    size = client::WriteStream(*connection_, target, content, 0, attempt.silence, options.on_progress);
  }
  RETURN_IF_ERROR(size.status());
  if (*size != content.length()) {
    return absl::DataLossError(fmt::format("{} bytes were stored of {}", *size, content.length()));
  }
  ASSIGN_OR_RETURN(BlobFacts facts, Stat(name));
  if (facts.length != content.length()) {
    return absl::AlreadyExistsError(
        fmt::format("\"{}\" exists with {} bytes: choose another name, or remove it", name, facts.length));
  }
  return facts;
}

absl::StatusOr<BlobFacts> Client::Put(const std::string& name, BlobContent& content,
                                      const PutOptions& options) {
  RETURN_IF_ERROR(CheckName(name));
  PutOptions watched = options;
  if (const auto promised = DigestName(name)) {
    watched.expected_digest = promised;
    watched.digest = true;
  }
  client::Persistence persistence(silence_, Clock::now());
  watched.on_progress = [&](uint64_t bytes) {
    persistence.Progress(bytes, Clock::now());
    if (options.on_progress) options.on_progress(bytes);
  };
  const bool by_bytestream = options.via == BlobVia::kByteStream ||
                             (content.length() <= client::kSmallBytesMax && !watched.expected_digest);
  client::PutStreamRequest request{.group = options_.group,
                                   .name = DigestName(name) ? "" : name,
                                   .options = &watched,
                                   .stream = {.silence = silence_, .window_bytes = options_.window_bytes}};
  const std::string writer = client::NewClientId().ToString();
  std::string last_address;
  while (true) {
    const std::string address = connection_->Order().front();
    const Attempt attempt{.resume = address == last_address, .writer = writer, .silence = SilenceAt(address)};
    request.attempt = persistence.AttemptSilence(connection_->servers().size());
    absl::StatusOr<BlobFacts> facts = by_bytestream
                                          ? PutByByteStream(address, name, content, watched, attempt)
                                          : client::PutStream(connection_, address, request, content);
    if (facts.ok()) return facts;
    if (!Again(persistence, address, facts.status())) return persistence.Verdict(facts.status());
    if (options.on_retry) options.on_retry(facts.status());
    last_address = address;
  }
}

absl::StatusOr<BlobFacts> Client::Get(const std::string& name,
                                      const std::function<absl::Status(const Bytes&)>& take,
                                      const GetOptions& options) {
  ASSIGN_OR_RETURN(client::BlobView view, client::StatBlob(*connection_, options_.group, name));
  // Wherever the read goes on, it goes on with this content: the name may have another one by then.
  const std::string content_id = view.content_id;
  const BlobFacts facts = FactsOf(std::move(view));
  client::Verifier verifier(options.verify && facts.digest.has_value());
  client::Persistence persistence(silence_, Clock::now());
  uint64_t offset = 0;
  absl::Status taken;  // of the user: nothing to try again
  const auto on_bytes = [&](const Bytes& data) {
    if (data.size() > facts.length - offset) {
      return taken = absl::DataLossError(
                 fmt::format("\"{}\" changed while it was read: more than {} bytes", name, facts.length));
    }
    verifier.Update(data);
    taken = take(data);
    offset += data.size();
    persistence.Progress(offset, Clock::now());
    if (options.on_progress) options.on_progress(offset, facts.length);
    return taken;
  };
  while (offset < facts.length) {
    const std::string address = connection_->Order().front();
    absl::Status status = client::ReadStream(
        *connection_,
        {.address = address, .name = name, .group = options_.group, .digest = true, .content_id = content_id},
        offset, SilenceAt(address), on_bytes);
    if (!taken.ok()) return taken;
    if (absl::IsAborted(status)) {
      return absl::AbortedError(
          fmt::format("\"{}\" changed while it was read, after {} of {} bytes: read it again ({})", name,
                      offset, facts.length, Message(status)));
    }
    if (offset == facts.length) break;
    if (status.ok())
      status = absl::UnavailableError(fmt::format("the stream ended at {} of {}", offset, facts.length));
    // Another server may have a good copy of what is damaged here.
    const absl::Status judged = absl::IsDataLoss(status) ? absl::UnavailableError(status.message()) : status;
    if (!Again(persistence, address, judged)) return persistence.Verdict(status);
    if (options.on_retry) options.on_retry(status);
  }
  if (const std::optional<Sha256> digest = verifier.Finish(); digest && *digest != *facts.digest) {
    return absl::DataLossError(fmt::format("\"{}\" has the digest {}, but its bytes give {}", name,
                                           facts.digest->ToHex(), digest->ToHex()));
  }
  return facts;
}

absl::StatusOr<Bytes> Client::GetBytes(const std::string& name, uint64_t bytes_max) {
  Bytes whole;
  const auto facts = Get(
      name,
      [&](const Bytes& data) {
        if (whole.size() + data.size() > bytes_max) {
          return absl::ResourceExhaustedError(fmt::format("\"{}\" is longer than {} bytes", name, bytes_max));
        }
        whole.Append(data);
        return absl::OkStatus();
      },
      {});
  RETURN_IF_ERROR(facts.status());
  return whole;
}

absl::StatusOr<BlobFacts> Client::GetFile(const std::string& name, const std::string& path,
                                          const GetOptions& options) {
  ASSIGN_OR_RETURN(const auto file, client::OutputFile::Create(path));
  auto facts = Get(
      name, [&](const Bytes& data) { return file->Append(data); }, options);
  RETURN_IF_ERROR(facts.status());
  RETURN_IF_ERROR(file->Commit());
  return facts;
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlobClient>> BlobClient::Create(BlobClientOptions options) {
  if (options.servers.empty()) return absl::InvalidArgumentError("no server is given");
  for (const std::string& server : options.servers) RETURN_IF_ERROR(client::ParseServers(server).status());
  if (options.silence_ms <= 0 || options.window_bytes < (1u << 20)) {
    return absl::InvalidArgumentError("silence_ms must be positive, and window_bytes 1 MiB at least");
  }
  return std::make_unique<Client>(std::move(options));
}

}  // namespace sluice
