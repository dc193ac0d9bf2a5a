// Where the bytes of a put come from, and where those of a get go: files and memory.
//
//   ASSIGN_OR_RETURN(auto file, FileContent::Open("/usr/bin/git"));   file->length(), file->Read(0, 4096)
//   ASSIGN_OR_RETURN(auto out, OutputFile::Create("git.copy"));  out->Append(data);  out->Commit();
//
// Threading: one thread at a time. Failure: errors name the path and the system's reason. An OutputFile that
// was not committed leaves nothing behind.
#pragma once

#include <memory>
#include <string>

#include "sluice/blob.h"

namespace sluice::client {

class FileContent final : public BlobContent {
 public:
  // NOT_FOUND, PERMISSION_DENIED, or INVALID_ARGUMENT for what is no regular file.
  static absl::StatusOr<std::unique_ptr<FileContent>> Open(const std::string& path);
  ~FileContent() override;
  uint64_t length() const override { return length_; }
  absl::StatusOr<Bytes> Read(uint64_t offset, uint64_t count) override;
  absl::Status CheckEnd() override;
  int fd() const override { return fd_; }

 private:
  FileContent(std::string path, int fd, uint64_t length) : path_(std::move(path)), fd_(fd), length_(length) {}
  const std::string path_;
  const int fd_;
  const uint64_t length_;
};

class BytesContent final : public BlobContent {
 public:
  explicit BytesContent(Bytes data) : data_(std::move(data)) {}
  uint64_t length() const override { return data_.size(); }
  absl::StatusOr<Bytes> Read(uint64_t offset, uint64_t count) override { return data_.Slice(offset, count); }

 private:
  const Bytes data_;
};

// Written beside its final name, and renamed by Commit. A path that exists and is no regular file (a
// terminal, a pipe, /dev/null) is written in place.
class OutputFile {
 public:
  static absl::StatusOr<std::unique_ptr<OutputFile>> Create(const std::string& path);
  ~OutputFile();
  absl::Status Append(const Bytes& data);
  absl::Status Commit();

 private:
  OutputFile(std::string path, std::string temporary, int fd)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}
  const std::string path_;
  std::string temporary_;  // empty: written in place, or committed
  int fd_;
};

// Writes everything to a descriptor.
absl::Status WriteAll(int fd, const Bytes& data, const std::string& what);

}  // namespace sluice::client
