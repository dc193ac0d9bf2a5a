// sluice/stream.h with coroutines: stores and fetches files through sluice.FileService, port +2.
//
//   stream_files put HOST:PORT FILE NAME
//   stream_files get HOST:PORT NAME FILE
//   stream_files                             a round trip to a server of its own
//
// A brpc program says the same in the same order: docs/formats/stream-files.md.
#include "sluice/stream.h"

#include <fstream>
#include <future>

#include "sandbox.h"
#include "sluice/files.pb.h"

namespace sluice::examples {
namespace {

constexpr size_t kDataBytes = 256 << 10;

// One byte that says the kind, then protobuf or bytes of the file.
Bytes Record(char kind, const std::string& rest) { return Bytes::Take(kind + rest); }

absl::Status StatusOf(const FileResult& result) {
  if (result.code() == FILE_OK) return absl::OkStatus();
  return absl::UnknownError(FileCode_Name(result.code()) + ": " + result.text());
}

struct Transfer {
  Channel* channel;
  std::string name;
  std::string path;
  std::promise<absl::Status> over;
};

StreamTask PutFile(Transfer* transfer) {
  Controller controller;
  Stream stream = Stream::Create(controller);
  Bytes answer;
  co_await AsyncCall(transfer->channel, "sluice.FileService", "Put", controller, Bytes(), &answer);
  absl::Status status =
      controller.Failed() ? absl::UnavailableError(controller.ErrorText()) : absl::OkStatus();
  std::ifstream file(transfer->path, std::ios::binary);
  if (status.ok() && !file.is_open()) status = absl::NotFoundError("cannot read " + transfer->path);
  if (status.ok()) {
    FilePutHeader header;
    header.set_name(transfer->name);
    co_await stream.Write(Record('H', header.SerializeAsString()));
    uint64_t length = 0;
    for (std::string part(kDataBytes, '\0'); file; part.resize(kDataBytes)) {
      file.read(part.data(), static_cast<std::streamsize>(part.size()));
      part.resize(static_cast<size_t>(file.gcount()));
      length += part.size();
      if (co_await stream.Write(Record('D', part)) != 0) break;  // the server says why
    }
    FilePutEnd end;
    end.set_length(length);
    if (file.eof()) co_await stream.Write(Record('E', end.SerializeAsString()));
    if (file.bad()) stream.Close();  // half a file is none
    const std::optional<Bytes> last = co_await stream.Read();
    FileResult result;
    status = last && !last->empty() && result.ParseFromString(last->ToString().substr(1))
                 ? StatusOf(result)
                 : absl::UnavailableError("the stream ended without a result");
  }
  stream.Close();
  transfer->over.set_value(status);
}

StreamTask GetFile(Transfer* transfer) {
  FileGetRequest request;
  request.set_name(transfer->name);
  Controller controller;
  Stream stream = Stream::Create(controller);
  Bytes answer;
  co_await AsyncCall(transfer->channel, "sluice.FileService", "Get", controller,
                     Bytes::Take(request.SerializeAsString()), &answer);
  absl::Status status = absl::UnavailableError(controller.Failed() ? controller.ErrorText()
                                                                   : "the stream ended without a result");
  std::ofstream file(transfer->path, std::ios::binary);
  while (const std::optional<Bytes> record = co_await stream.Read()) {
    const std::string text = record->ToString();
    if (text.starts_with('D')) file.write(text.data() + 1, static_cast<std::streamsize>(text.size() - 1));
    if (!text.starts_with('R')) continue;
    FileResult result;
    status = result.ParseFromString(text.substr(1)) ? StatusOf(result) : absl::InternalError("no FileResult");
    break;
  }
  stream.Close();
  file.close();
  if (status.ok() && !file) status = absl::InternalError("cannot write " + transfer->path);
  transfer->over.set_value(status);
}

absl::Status Run(StreamTask (*task)(Transfer*), const std::string& address, const std::string& name,
                 const std::string& path) {
  ASSIGN_OR_RETURN(const auto channel, Channel::Create(address, {.timeout_ms = 5'000}));
  Transfer transfer{.channel = channel.get(), .name = name, .path = path, .over = {}};
  auto over = transfer.over.get_future();
  task(&transfer);
  return over.get();
}

absl::Status RoundTrip() {
  ASSIGN_OR_RETURN(const auto sandbox, Sandbox::Start());
  const Folder folder;
  const std::string there = folder.path() + "/there";
  const std::string back = folder.path() + "/back";
  const std::string text(1'000'000, 's');
  std::ofstream(there) << text;
  RETURN_IF_ERROR(Run(PutFile, sandbox->stream_address(), "letters/s", there));
  RETURN_IF_ERROR(Run(GetFile, sandbox->stream_address(), "letters/s", back));
  std::ifstream file(back);
  RETURN_IF_ERROR(Expect(std::string(std::istreambuf_iterator<char>(file), {}) == text, "the same bytes"));
  return Expect(!Run(GetFile, sandbox->stream_address(), "letters/z", back).ok(), "a refusal");
}

absl::Status Example(const std::vector<std::string>& arguments) {
  if (arguments.empty()) return RoundTrip();
  if (arguments.size() == 4 && arguments[0] == "put")
    return Run(PutFile, arguments[1], arguments[3], arguments[2]);
  if (arguments.size() == 4 && arguments[0] == "get")
    return Run(GetFile, arguments[1], arguments[2], arguments[3]);
  return absl::InvalidArgumentError(
      "usage: stream_files put HOST:PORT FILE NAME | stream_files get HOST:PORT NAME FILE");
}

}  // namespace
}  // namespace sluice::examples

int main(int count, char** arguments) {
  return sluice::examples::Report(sluice::examples::Example({arguments + 1, arguments + count}));
}
