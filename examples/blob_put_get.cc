// sluice/blob.h: byte streams under names, in and out again.
#include "sluice/blob.h"

#include "sandbox.h"

namespace sluice::examples {
namespace {

absl::Status Example() {
  ASSIGN_OR_RETURN(const auto sandbox, Sandbox::Start());
  ASSIGN_OR_RETURN(const auto blobs, BlobClient::Create({.servers = {sandbox->address()}}));

  const Bytes song = Bytes::Take(std::string(3 << 20, 'a'));
  ASSIGN_OR_RETURN(const BlobFacts put, blobs->PutBytes("songs/a", song));
  printf("%s: %llu bytes, sha256:%s\n", put.name.c_str(), (unsigned long long)put.length,
         put.digest->ToHex().c_str());

  ASSIGN_OR_RETURN(const Bytes got, blobs->GetBytes("songs/a"));
  RETURN_IF_ERROR(Expect(got == song, "the bytes that were put"));
  // The digest is a name too.
  ASSIGN_OR_RETURN(const Bytes same, blobs->GetBytes("sha256:" + put.digest->ToHex()));
  RETURN_IF_ERROR(Expect(same == song, "the same bytes under the digest"));

  // Names are immutable: the same bytes again are fine, others are not.
  RETURN_IF_ERROR(blobs->PutBytes("songs/a", song).status());
  const absl::Status other = blobs->PutBytes("songs/a", Bytes::Copy("something else")).status();
  RETURN_IF_ERROR(Expect(absl::IsAlreadyExists(other), "ALREADY_EXISTS, not " + other.ToString()));

  ASSIGN_OR_RETURN(const auto names, blobs->List("songs/"));
  RETURN_IF_ERROR(Expect(names.size() == 1 && names[0].name == "songs/a", "one name in the list"));
  RETURN_IF_ERROR(blobs->Remove("songs/a"));
  return Expect(absl::IsNotFound(blobs->Stat("songs/a").status()), "NOT_FOUND after Remove");
}

}  // namespace
}  // namespace sluice::examples

int main() { return sluice::examples::Report(sluice::examples::Example()); }
