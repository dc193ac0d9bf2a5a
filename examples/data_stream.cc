// sluice/data_stream.h: one blob by hand, from memory and from a file, without waiting between the writes.
#include "sluice/data_stream.h"

#include "sandbox.h"
#include "sluice/blob.h"
#include "sluice/client.h"

namespace sluice::examples {
namespace {

absl::Status Example() {
  ASSIGN_OR_RETURN(const auto sandbox, Sandbox::Start());
  ASSIGN_OR_RETURN(const auto client, RaftClient::Create({.servers = {sandbox->address()}}));
  const Bytes head = Bytes::Take(std::string(1'500'000, 'h'));
  const Bytes tail = Bytes::Take(std::string(70'000, 't'));
  const std::unique_ptr<FILE, int (*)(FILE*)> file(tmpfile(), &fclose);
  RETURN_IF_ERROR(Expect(file != nullptr, "a temporary file"));
  fputs(tail.ToString().c_str(), file.get());
  fflush(file.get());

  ASSIGN_OR_RETURN(const auto stream,
                   client->DataStream().Stream(EncodeBlobHeader("by/hand", head.size() + tail.size())));
  const Future<DataStreamReply> first = stream->WriteAsync(head);
  const Future<DataStreamReply> second =
      stream->WriteAsync(FileRegion{.fd = fileno(file.get()), .offset = 0, .count = tail.size()});
  stream->CloseAsync();

  ASSIGN_OR_RETURN(const DataStreamReply first_reply, first.Get());
  ASSIGN_OR_RETURN(const DataStreamReply second_reply, second.Get());
  RETURN_IF_ERROR(
      Expect(first_reply.bytes_written == head.size() && second_reply.bytes_written == tail.size(),
             "every byte answered"));
  ASSIGN_OR_RETURN(const RaftReply reply, stream->RaftClientReplyFuture().Get());
  ASSIGN_OR_RETURN(const BlobFacts facts, DecodeBlobReply(reply.message));
  printf("%s: %llu bytes in entry %lld\n", facts.name.c_str(), (unsigned long long)facts.length,
         (long long)reply.log_index.value);

  // The same stream for those who write and wait.
  ASSIGN_OR_RETURN(const auto again, client->DataStream().Stream(EncodeBlobHeader("by/hand/2", tail.size())));
  RETURN_IF_ERROR(again->WritableChannel().Write(tail));
  ASSIGN_OR_RETURN(const DataStreamResult result, again->WritableChannel().Close());
  RETURN_IF_ERROR(Expect(result.log_index > reply.log_index, "a later entry"));

  ASSIGN_OR_RETURN(const auto blobs, BlobClient::Create({.servers = {sandbox->address()}}));
  Bytes whole = head;
  whole.Append(tail);
  ASSIGN_OR_RETURN(const Bytes got, blobs->GetBytes("by/hand"));
  return Expect(got == whole, "the bytes of both writes, in their order");
}

}  // namespace
}  // namespace sluice::examples

int main() { return sluice::examples::Report(sluice::examples::Example()); }
