// RocksDB's file system on top of env::Files, so that crash clones test the index, too.
//
//   std::shared_ptr<rocksdb::FileSystem> fs = NewRocksFiles(files, before_durable, 64 << 20);
//   std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(fs);
//
// A table is what makes entries durable, and everything in it was written before its file was made. So
// `before_durable` is called before a table's first sync, and its error is the sync's. It may be empty.
// Compactions leave the last `reserve_bytes` of the disk alone: their writes fail before, as on a full disk. A
// flush that fails makes RocksDB refuse writes, one of a compaction does not.
// Thread-safe as env::Files is. `files` must outlive it. Errors become IOStatus: NOT_FOUND is a path that is
// not there, RESOURCE_EXHAUSTED no space, the rest an I/O error that is not worth a retry (F-10). What
// RocksDB does not need here (memory maps, hard links, modification times) is not supported.
#pragma once

#include <rocksdb/file_system.h>

#include <functional>
#include <memory>

#include "base/status.h"
#include "env/files.h"

namespace sluice::blob {

std::shared_ptr<rocksdb::FileSystem> NewRocksFiles(env::Files& files,
                                                   std::function<absl::Status()> before_durable,
                                                   uint64_t reserve_bytes);

}  // namespace sluice::blob
