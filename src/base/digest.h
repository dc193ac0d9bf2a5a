// SHA-256 digests of content, and the MD5 that Ratis' snapshots carry, by OpenSSL.
//
//   DigestBuilder builder;  builder.Update(chunk);  Sha256 digest = builder.Finish();
//
// A builder lives on one thread at a time.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

struct evp_md_ctx_st;

namespace sluice {

struct Sha256 {
  std::array<uint8_t, 32> bytes{};
  auto operator<=>(const Sha256&) const = default;
  std::string_view AsBytes() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
  static std::optional<Sha256> FromBytes(std::string_view raw);
  // 64 lower-case hex digits; FromHex refuses upper case, as REAPI names do.
  std::string ToHex() const;
  static std::optional<Sha256> FromHex(std::string_view hex);
  template <typename H>
  friend H AbslHashValue(H h, const Sha256& s) {
    return H::combine(std::move(h), s.bytes);
  }
};

class DigestBuilder {
 public:
  DigestBuilder();
  ~DigestBuilder();
  DigestBuilder(DigestBuilder&&) noexcept;
  DigestBuilder& operator=(DigestBuilder&&) noexcept;

  void Update(std::string_view data);
  // The digest of everything so far. The builder is spent.
  Sha256 Finish();

 private:
  evp_md_ctx_st* context_;
};

// For integrity where a protocol asks for it, not for security.
class Md5Builder {
 public:
  Md5Builder();
  ~Md5Builder();
  Md5Builder(const Md5Builder&) = delete;
  Md5Builder& operator=(const Md5Builder&) = delete;

  void Update(std::string_view data);
  // Sixteen raw bytes. The builder is spent.
  std::string Finish();

 private:
  evp_md_ctx_st* const context_;
};

}  // namespace sluice
