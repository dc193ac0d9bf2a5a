#include "sim/cluster/client_operations.h"

#include <algorithm>

namespace sluice::sim {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
constexpr env::Duration kStreamTimeout = seconds(8);
constexpr env::Duration kFinishTimeout = seconds(12);
constexpr env::Duration kReturnAfter = milliseconds(300);
constexpr size_t kUnansweredMax = 4;
constexpr int kWriteAttempts = 4;

// One client that streams one upload, over DataStream or ByteStream. Nothing is entered before FORWARD, or
// FinishWrite, so what fails earlier is refused for sure.
class UploadOperation final : public OwnedByLife, public std::enable_shared_from_this<UploadOperation> {
 public:
  UploadOperation(std::shared_ptr<Clients::State> clients, Put put, Clients::End judge)
      : clients_(std::move(clients)), put_(std::move(put)), judge_(std::move(judge)) {
    upload_ = put_.upload.value_or(UploadId{clients_->client, clients_->NextCall()});
  }

  void Start() {
    Cluster& cluster = clients_->cluster;
    cluster.transports(put_.server).Own(weak_from_this());
    lane_ = cluster.lane(put_.server);
    host_ = &cluster.host(put_.server);
    const uint64_t round = ++round_;
    cluster.world().After(kStreamTimeout, [self = shared_from_this(), round] {
      if (self->round_ == round && !self->finishing_) self->Lost(absl::DeadlineExceededError("stream"));
    });
    if (put_.via == PutVia::kWrite) return OpenWrite();
    node::StreamHeader header = MakeHeader();
    lane_->Post([self = shared_from_this(), round, header] {
      if (self->round_ != round) return;
      self->relay_ = self->host_->OpenRelay(header, self->lane_, [self, round](absl::Status opened) {
        if (!opened.ok() && self->round_ == round) self->Lost(opened);
      });
      self->Pump();
    });
  }

  // The server died.
  void Drop() override {
    relay_.reset();
    ++round_;
    if (ended_) return;
    clients_->cluster.world().After(milliseconds(1), [self = shared_from_this()] {
      self->Lost(absl::UnavailableError("the server died"));
    });
  }

 private:
  node::BlobHeader Header() const {
    node::BlobHeader header;
    header.name = put_.name;
    header.expected_length = put_.content.size();
    header.compute_digest = put_.digest;
    return header;
  }

  node::StreamHeader MakeHeader() const {
    const Cluster& cluster = clients_->cluster;
    node::StreamHeader header;
    header.group = put_.group;
    header.upload = upload_;
    header.blob = Header();
    header.route.primary = cluster.id(put_.server);
    header.route.given = true;
    std::vector<PeerId> others;
    for (size_t i = 1; i < cluster.size(); ++i)
      others.push_back(cluster.id((put_.server + i) % cluster.size()));
    if (put_.via == PutVia::kStar) {
      header.route.successors.emplace_back(header.route.primary, others);
    } else {
      PeerId from = header.route.primary;
      for (const PeerId& next : others) {
        header.route.successors.push_back({from, {next}});
        from = next;
      }
    }
    return AsSent(std::move(header));
  }

  void OpenWrite() {
    const uint64_t round = round_;
    host_->OpenWrite(put_.group, Header(), sent_, lane_,
                     [self = shared_from_this(), round](absl::StatusOr<std::shared_ptr<node::Relay>> relay) {
                       if (self->round_ != round) return;
                       if (absl::IsInvalidArgument(relay.status()) && self->sent_ > 0 &&
                           std::exchange(self->offset_refused_, true)) {
                         // Twice: what was told is of an upload at another server. From the start, then.
                         self->sent_ = 0;
                         return self->Start();
                       }
                       if (!relay.ok()) return self->Lost(relay.status());
                       self->relay_ = std::move(*relay);
                       self->Pump();
                     });
  }

  // Relay methods run on its home.
  void OnHome(std::function<void()> task) {
    relay_->home()->Post([self = shared_from_this(), round = round_, task = std::move(task)] {
      if (self->round_ == round && self->relay_ != nullptr) task();
    });
  }

  void Pump() {
    if (relay_ == nullptr) return Lost(absl::NotFoundError("no such group"));
    OnHome([this] { PumpHere(); });
  }
  void PumpHere() {
    while (unanswered_ < kUnansweredMax && sent_ < put_.content.size()) {
      if (put_.vanish_at && sent_ >= *put_.vanish_at) return Vanish("in mid-upload");
      if (put_.interrupt_at && sent_ >= *put_.interrupt_at) return Interrupt();
      const std::string piece = put_.content.substr(sent_, std::min<size_t>(put_.piece_bytes, 256u << 10));
      ++unanswered_;
      const uint64_t offset = sent_;
      sent_ += piece.size();
      relay_->Append(offset, Bytes::Copy(piece),
                     [self = shared_from_this(), round = round_](absl::Status status) {
                       if (self->round_ != round) return;
                       if (!status.ok()) return self->Lost(status);
                       --self->unanswered_;
                       self->PumpHere();
                     });
    }
    if (unanswered_ > 0 || sent_ < put_.content.size() || finishing_) return;
    put_.via == PutVia::kWrite ? FinishWrite() : CloseStream();
  }

  void CloseStream() {
    finishing_ = true;
    const uint64_t round = round_;
    // Without an answer to CLOSE nobody is told to enter it.
    clients_->cluster.world().After(kFinishTimeout, [self = shared_from_this(), round] {
      if (self->round_ == round) self->Lost(absl::DeadlineExceededError("close"));
    });
    relay_->Close([self = shared_from_this(), round](absl::StatusOr<blob::Sealed> sealed) {
      if (self->round_ != round || self->ended_) return;
      if (!sealed.ok()) return self->Lost(sealed.status());
      if (self->put_.vanish_sealed) return self->Vanish("with everything sealed");
      ++self->round_;
      self->ended_ = true;
      self->relay_.reset();
      ForwardUpload(self->clients_, self->put_.server, self->put_.group, self->upload_, self->put_.name,
                    self->judge_);
    });
  }

  void FinishWrite() {
    finishing_ = true;
    const uint64_t round = round_;
    clients_->cluster.world().After(kFinishTimeout, [self = shared_from_this(), round] {
      if (self->round_ == round) self->Lost(absl::DeadlineExceededError("finish"));
    });
    host_->FinishWrite(relay_, lane_,
                       [self = shared_from_this(), round](const absl::StatusOr<node::BlobInfo>& info) {
                         if (self->round_ == round) self->End(OutcomeOf(info.status()), info.status());
                       });
  }

  void Vanish(const char* when) { End(Outcome::kRefused, absl::CancelledError(when)); }

  // Goes away, comes back, asks how far it got, goes on.
  void Interrupt() {
    put_.interrupt_at.reset();
    Return();
  }
  void Return() {
    relay_.reset();
    const uint64_t round = ++round_;
    unanswered_ = 0;
    clients_->cluster.world().After(kReturnAfter, [self = shared_from_this(), round] {
      if (self->round_ == round) self->AskWhere();
    });
  }
  void AskWhere() {
    Cluster& cluster = clients_->cluster;
    const uint64_t round = round_;
    if (!cluster.up(put_.server)) {
      // At another server, from the start (D-20).
      put_.server = (put_.server + 1) % cluster.size();
      sent_ = 0;
      if (cluster.up(put_.server)) return Start();
      return Return();
    }
    cluster.transports(put_.server).Own(weak_from_this());
    cluster.host(put_.server)
        .QueryWrite(
            put_.group, {put_.name}, true, cluster.lane(put_.server),
            [self = shared_from_this(), round](absl::StatusOr<node::WriteStatus> where) {
              if (self->round_ != round) return;
              self->sent_ = where.ok() && !where->complete ? where->committed : 0;
              if (self->sent_ > self->put_.content.size()) {
                self->clients_->cluster.Violation("committed more than was ever sent of " + self->put_.name);
                self->sent_ = 0;
              }
              self->Start();
            });
    cluster.world().After(seconds(4), [self = shared_from_this(), round] {
      if (self->round_ == round) self->Return();
    });
  }

  // Something failed.
  void Lost(absl::Status status) {
    if (ended_) return;
    const bool may_be_entered = finishing_ && put_.via == PutVia::kWrite;
    if (may_be_entered) return End(Outcome::kUnknown, status);
    if (put_.via == PutVia::kWrite && ++attempts_ < kWriteAttempts && !absl::IsAlreadyExists(status))
      return Return();
    End(Outcome::kRefused, status);
  }
  void End(Outcome outcome, const absl::Status& status) {
    ++round_;
    if (std::exchange(ended_, true)) return;
    // A relay is let go where it lives.
    if (relay_ != nullptr) {
      relay_->home()->Post([relay = std::move(relay_)]() mutable { relay.reset(); });
    }
    judge_(outcome, status);
  }

  const std::shared_ptr<Clients::State> clients_;
  Put put_;
  const Clients::End judge_;
  UploadId upload_;
  node::Host* host_ = nullptr;
  env::Executor* lane_ = nullptr;
  std::shared_ptr<node::Relay> relay_;
  uint64_t sent_ = 0;
  bool offset_refused_ = false;
  size_t unanswered_ = 0;
  uint64_t round_ = 0;  // answers to earlier rounds are ignored
  int attempts_ = 0;
  bool finishing_ = false;
  bool ended_ = false;
};

}  // namespace

void StartUpload(std::shared_ptr<Clients::State> clients, Put put, Clients::End judge) {
  std::make_shared<UploadOperation>(std::move(clients), std::move(put), std::move(judge))->Start();
}

void ForwardUpload(const std::shared_ptr<Clients::State>& clients, size_t server, const GroupId& group,
                   const UploadId& upload, const std::string& name, const Clients::End& judge) {
  auto request = std::make_shared<LeaderRequest>();
  request->clients = clients;
  request->request.group = group;
  request->request.kind = node::RequestKind::kForward;
  request->request.client = upload.client;
  request->request.call = upload.call;
  request->request.upload = upload;
  request->request.header.name = name;
  request->done = [judge](Outcome outcome, const absl::Status& status, const Bytes&) {
    judge(outcome, status);
  };
  request->Start(server);
}

void BlobRead::Start(node::Host& host, const std::string& name) {
  host.OpenRead(group, name, {}, lane, [self = shared_from_this()](absl::StatusOr<node::Reading> reading) {
    if (!self->done) return;
    if (!reading.ok()) return self->Finish(reading.status(), true);
    self->source_ = std::move(reading->source);
    self->Next();
  });
}

void BlobRead::Next() {
  constexpr uint64_t kPieceBytes = 256u << 10;
  if (content_.size() == source_->length()) return Finish(std::move(content_), true);
  source_->Read(content_.size(), kPieceBytes, lane, [self = shared_from_this()](absl::StatusOr<Bytes> piece) {
    if (!self->done) return;
    if (!piece.ok()) return self->Finish(piece.status(), false);
    if (piece->empty()) return self->Finish(absl::DataLossError("a read ended early with success"), false);
    self->content_ += piece->ToString();
    self->Next();
  });
}

void BlobRead::Finish(absl::StatusOr<std::string> content, bool definite) {
  source_.reset();
  if (const auto callback = std::exchange(done, nullptr)) callback(std::move(content), definite);
}

}  // namespace sluice::sim
