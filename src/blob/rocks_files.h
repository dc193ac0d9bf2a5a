// RocksDB's file system on top of env::Files, so that crash clones test the index, too.
//
//   std::shared_ptr<rocksdb::FileSystem> fs = NewRocksFiles(files);
//   std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(fs);
//
// Thread-safe as env::Files is. `files` must outlive it. Errors become IOStatus: NOT_FOUND is a path that is
// not there, RESOURCE_EXHAUSTED no space, the rest an I/O error that is not worth a retry (F-10). What
// RocksDB does not need here (memory maps, hard links, modification times) is not supported.
#pragma once

#include <rocksdb/file_system.h>

#include <memory>

#include "base/status.h"
#include "env/files.h"

namespace sluice::blob {

std::shared_ptr<rocksdb::FileSystem> NewRocksFiles(env::Files& files);

}  // namespace sluice::blob
