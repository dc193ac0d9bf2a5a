#include <snappy.h>
#include <zlib.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "fmt/format.h"
#include "wire/brpc/meta.h"

namespace sluice::wire::brpc {
namespace {

constexpr size_t kPieceBytes = 64 << 10;  // of what zlib writes
// No snappy stream grows by more: three bytes give at most a copy of 64.
constexpr size_t kSnappyRatioMax = 22;

int WindowBits(CompressType type) { return type == CompressType::kGzip ? MAX_WBITS | 16 : MAX_WBITS; }

void SetInput(std::string_view chunk, z_stream* zlib) {
  SLUICE_CHECK(chunk.size() <= std::numeric_limits<uInt>::max());
  zlib->next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(chunk.data()));  // zlib only reads there
  zlib->avail_in = static_cast<uInt>(chunk.size());
}

// Where zlib writes: pieces of memory that become Bytes without another copy.
class Sink {
 public:
  // `bytes_first` is a guess of what will come.
  explicit Sink(size_t bytes_first) : piece_(std::clamp<size_t>(bytes_first, 64, kPieceBytes), '\0') {}

  // Room of 1 to `bytes_max` bytes.
  void Offer(size_t bytes_max, z_stream* zlib) {
    if (used_ == piece_.size()) {
      bytes_.Append(Bytes::Take(std::exchange(piece_, std::string(kPieceBytes, '\0'))));
      used_ = 0;
    }
    offered_ = std::min(piece_.size() - used_, bytes_max);
    zlib->next_out = reinterpret_cast<Bytef*>(piece_.data() + used_);
    zlib->avail_out = static_cast<uInt>(offered_);
  }
  void Took(const z_stream& zlib) { used_ += offered_ - zlib.avail_out; }

  size_t size() const { return bytes_.size() + used_; }
  Bytes Finish() {
    piece_.resize(used_);
    bytes_.Append(Bytes::Take(std::move(piece_)));
    return std::move(bytes_);
  }

 private:
  Bytes bytes_;
  std::string piece_;
  size_t used_ = 0;
  size_t offered_ = 0;
};

Bytes Deflate(CompressType type, const Bytes& raw) {
  z_stream zlib = {};
  SLUICE_CHECK(deflateInit2(&zlib, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WindowBits(type), 8,
                            Z_DEFAULT_STRATEGY) == Z_OK);
  Sink sink(raw.size() / 2);
  const auto run = [&](int flush) {
    int result = Z_OK;
    do {
      sink.Offer(kPieceBytes, &zlib);
      result = deflate(&zlib, flush);
      sink.Took(zlib);
    } while (result != Z_STREAM_END && (flush == Z_FINISH || zlib.avail_in > 0));
  };
  raw.ForEachChunk([&](std::string_view chunk) {
    SetInput(chunk, &zlib);
    run(Z_NO_FLUSH);
  });
  run(Z_FINISH);
  deflateEnd(&zlib);
  return sink.Finish();
}

class Inflater {
 public:
  Inflater(CompressType type, size_t bytes_first, size_t bytes_max)
      : is_gzip_(type == CompressType::kGzip), bytes_max_(bytes_max), sink_(bytes_first) {
    SLUICE_CHECK(inflateInit2(&zlib_, WindowBits(type)) == Z_OK);
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { inflateEnd(&zlib_); }

  absl::Status Take(std::string_view chunk) {
    SetInput(chunk, &zlib_);
    // Also without input, as long as zlib fills what it is offered: it may hold more back.
    bool is_full = false;
    while (zlib_.avail_in > 0 || is_full) {
      if (ended_ && zlib_.avail_in > 0) RETURN_IF_ERROR(BeginMember());
      sink_.Offer(bytes_max_ - sink_.size() + 1, &zlib_);  // one more, to see that there is more
      const int result = inflate(&zlib_, Z_NO_FLUSH);
      sink_.Took(zlib_);
      if (sink_.size() > bytes_max_) {
        return absl::ResourceExhaustedError(
            fmt::format("a body that unpacks to more than {} bytes", bytes_max_));
      }
      ended_ = result == Z_STREAM_END;
      is_full = !ended_ && zlib_.avail_out == 0;
      if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
        return absl::InvalidArgumentError("a body that does not unpack");
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Bytes> Finish() {
    if (!ended_) return absl::InvalidArgumentError("a packed body that is cut off");
    return sink_.Finish();
  }

 private:
  // A gzip file may have several members, one after the other; nothing may follow the end of a zlib stream.
  absl::Status BeginMember() {
    if (!is_gzip_) return absl::InvalidArgumentError("bytes behind the end of a packed body");
    SLUICE_CHECK(inflateReset(&zlib_) == Z_OK);
    ended_ = false;
    return absl::OkStatus();
  }

  const bool is_gzip_;
  const size_t bytes_max_;
  Sink sink_;
  z_stream zlib_ = {};
  bool ended_ = false;
};

absl::StatusOr<Bytes> Inflate(CompressType type, const Bytes& packed, size_t bytes_max) {
  bytes_max = std::min(bytes_max, std::numeric_limits<size_t>::max() / 2);  // room to count one more
  Inflater inflater(type, std::min(packed.size() * 4, bytes_max), bytes_max);
  absl::Status status;
  packed.ForEachChunk([&](std::string_view chunk) {
    if (status.ok()) status = inflater.Take(chunk);
  });
  RETURN_IF_ERROR(status);
  return inflater.Finish();
}

Bytes Snap(Bytes raw) {
  const std::string_view flat = raw.Flatten();
  std::string packed;
  snappy::Compress(flat.data(), flat.size(), &packed);
  return Bytes::Take(std::move(packed));
}

absl::StatusOr<Bytes> Unsnap(Bytes packed, size_t bytes_max) {
  const std::string_view flat = packed.Flatten();
  size_t raw_bytes = 0;
  if (!snappy::GetUncompressedLength(flat.data(), flat.size(), &raw_bytes) ||
      raw_bytes > flat.size() * kSnappyRatioMax) {  // a promise that cannot be true is not allocated
    return absl::InvalidArgumentError("a body that does not unpack");
  }
  if (raw_bytes > bytes_max) {
    return absl::ResourceExhaustedError(
        fmt::format("a body that unpacks to {} bytes, the limit is {}", raw_bytes, bytes_max));
  }
  std::string raw(raw_bytes, '\0');
  if (!snappy::RawUncompress(flat.data(), flat.size(), raw.data())) {
    return absl::InvalidArgumentError("a body that does not unpack");
  }
  return Bytes::Take(std::move(raw));
}

}  // namespace

Bytes Compress(CompressType type, const Bytes& raw) {
  switch (type) {
    case CompressType::kNone:
      return raw;
    case CompressType::kSnappy:
      return Snap(raw);
    case CompressType::kGzip:
    case CompressType::kZlib:
      return Deflate(type, raw);
  }
  return raw;
}

absl::StatusOr<Bytes> Decompress(CompressType type, const Bytes& packed, size_t bytes_max) {
  switch (type) {
    case CompressType::kNone:
      if (packed.size() <= bytes_max) return packed;
      return absl::ResourceExhaustedError(
          fmt::format("a body of {} bytes, the limit is {}", packed.size(), bytes_max));
    case CompressType::kSnappy:
      return Unsnap(packed, bytes_max);
    case CompressType::kGzip:
    case CompressType::kZlib:
      return Inflate(type, packed, bytes_max);
  }
  return absl::InvalidArgumentError(fmt::format("unknown compression {}", static_cast<int>(type)));
}

}  // namespace sluice::wire::brpc
