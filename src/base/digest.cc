#include "base/digest.h"

#include <openssl/evp.h>

#include <algorithm>

#include "base/check.h"
#include "base/strings.h"

namespace sluice {

std::optional<Sha256> Sha256::FromBytes(std::string_view raw) {
  if (raw.size() != 32) return std::nullopt;
  Sha256 digest;
  std::copy(raw.begin(), raw.end(), reinterpret_cast<char*>(digest.bytes.data()));
  return digest;
}

std::string Sha256::ToHex() const { return sluice::ToHex(AsBytes()); }

std::optional<Sha256> Sha256::FromHex(std::string_view hex) {
  if (hex.size() != 64) return std::nullopt;
  const bool lower = std::all_of(hex.begin(), hex.end(),
                                 [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (!lower) return std::nullopt;
  return FromBytes(*sluice::FromHex(hex));
}

DigestBuilder::DigestBuilder() : context_(EVP_MD_CTX_new()) {
  SLUICE_CHECK(context_ != nullptr && EVP_DigestInit_ex(context_, EVP_sha256(), nullptr) == 1) << "SHA-256";
}
DigestBuilder::~DigestBuilder() { EVP_MD_CTX_free(context_); }
DigestBuilder::DigestBuilder(DigestBuilder&& other) noexcept
    : context_(std::exchange(other.context_, nullptr)) {}
DigestBuilder& DigestBuilder::operator=(DigestBuilder&& other) noexcept {
  std::swap(context_, other.context_);
  return *this;
}

void DigestBuilder::Update(std::string_view data) {
  SLUICE_CHECK(EVP_DigestUpdate(context_, data.data(), data.size()) == 1) << "SHA-256 of " << data.size();
}

Sha256 DigestBuilder::Finish() {
  Sha256 digest;
  unsigned int size = 0;
  SLUICE_CHECK(EVP_DigestFinal_ex(context_, digest.bytes.data(), &size) == 1 && size == 32) << "SHA-256";
  return digest;
}

Md5Builder::Md5Builder() : context_(EVP_MD_CTX_new()) {
  SLUICE_CHECK(context_ != nullptr && EVP_DigestInit_ex(context_, EVP_md5(), nullptr) == 1) << "MD5";
}
Md5Builder::~Md5Builder() { EVP_MD_CTX_free(context_); }

void Md5Builder::Update(std::string_view data) {
  SLUICE_CHECK(EVP_DigestUpdate(context_, data.data(), data.size()) == 1) << "MD5 of " << data.size();
}

std::string Md5Builder::Finish() {
  std::string digest(16, '\0');
  unsigned int size = 0;
  SLUICE_CHECK(EVP_DigestFinal_ex(context_, reinterpret_cast<unsigned char*>(digest.data()), &size) == 1 &&
               size == digest.size())
      << "MD5";
  return digest;
}

}  // namespace sluice
