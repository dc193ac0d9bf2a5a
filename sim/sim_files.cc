#include "sim/sim_files.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "sim/sim_tree.h"

namespace sluice::sim {
namespace {

// Whether a mutating call happens: as asked, while the power goes, or not at all.
enum class Gate { kOpen, kInFlight, kShut };

struct CountedFault {
  std::string path_part;
  uint64_t count;
};

struct ReadFault {
  std::string path_part;
  uint64_t offset;
  uint64_t count;
};

bool Matches(const std::string& path, const std::string& part) {
  return path.find(part) != std::string::npos;
}

absl::Status PowerLost(const char* operation, const std::string& path) {
  return absl::InternalError(fmt::format("{} {}: the simulated machine or process is down", operation, path));
}
absl::Status Absent(const char* operation, const std::string& path) {
  return absl::NotFoundError(fmt::format("{} {}: No such file or directory", operation, path));
}
absl::Status Refused(const char* operation, const std::string& path, const char* why) {
  return absl::InternalError(fmt::format("{} {}: {}", operation, path, why));
}
absl::Status DeviceError(const char* operation, const std::string& path) {
  return absl::DataLossError(fmt::format("{} {}: simulated device error", operation, path));
}

}  // namespace

struct SimFiles::Disk {
  mutable std::mutex mutex;  // guards everything below, nodes included
  std::unique_ptr<SimTree> tree = std::make_unique<SimTree>();
  uint64_t epoch = 1;  // of the process; what an earlier one opened is inert
  bool halted = false;
  uint64_t halt_at = 0;
  uint64_t operations = 0;
  Counts counts;

  std::vector<CountedFault> open_faults;
  std::vector<CountedFault> sync_faults;
  std::vector<CountedFault> write_faults;
  std::vector<ReadFault> read_faults;
  bool lose_syncs = false;
  uint64_t capacity_bytes = kUnlimitedBytes;

  Gate Enter() {
    if (halted) return Gate::kShut;
    if (++operations != halt_at) return Gate::kOpen;
    halted = true;
    return Gate::kInFlight;
  }

  static bool TakeFault(std::vector<CountedFault>& faults, const std::string& path) {
    for (CountedFault& fault : faults) {
      if (fault.count == 0 || !Matches(path, fault.path_part)) continue;
      --fault.count;
      return true;
    }
    return false;
  }

  bool TakeDeviceFault(std::vector<CountedFault>& faults, const std::string& path) {
    const bool taken = TakeFault(faults, path);
    if (taken) ++counts.device_errors;
    return taken;
  }

  void StartProcess() {
    ++epoch;
    halted = false;
    halt_at = 0;
  }

  absl::Status Write(Node& node, const std::string& path, uint64_t offset, const Bytes& data, bool durably) {
    const Gate gate = Enter();
    if (gate == Gate::kShut) return PowerLost("write", path);
    durably ? ++counts.durable_writes : ++counts.writes;
    if (TakeDeviceFault(write_faults, path)) return DeviceError("write", path);
    Persistence persistence =
        durably && gate == Gate::kOpen && !lose_syncs ? Persistence::kDurable : Persistence::kUnsynced;
    const bool sync_fails = durably && TakeDeviceFault(sync_faults, path);
    if (sync_fails) persistence = Persistence::kLost;

    std::string flat = data.ToString();
    const uint64_t size = node.content.bytes().size();
    const bool grows = capacity_bytes != kUnlimitedBytes && offset + flat.size() > size;
    const uint64_t space = grows ? FreeBytes() : 0;
    const bool fits = !grows || offset + flat.size() - size <= space;
    if (!fits) flat.resize(size + space > offset ? size + space - offset : 0);
    node.content.Write(offset, flat, persistence);

    if (gate == Gate::kInFlight) return PowerLost("write", path);
    if (sync_fails) return DeviceError("write", path);
    if (!fits) return absl::ResourceExhaustedError(fmt::format("write {}: No space left on device", path));
    return absl::OkStatus();
  }

  absl::Status Sync(Node& node, const std::string& path) {
    const Gate gate = Enter();
    if (gate != Gate::kOpen) return PowerLost("sync", path);
    ++counts.syncs;
    if (TakeDeviceFault(sync_faults, path)) {
      node.content.Settle(Persistence::kLost);
      return DeviceError("sync", path);
    }
    if (!lose_syncs) node.content.Settle(Persistence::kDurable);
    return absl::OkStatus();
  }

  absl::Status Truncate(Node& node, const std::string& path, uint64_t size) {
    const Gate gate = Enter();
    if (gate == Gate::kShut) return PowerLost("truncate", path);
    if (TakeDeviceFault(write_faults, path)) return DeviceError("truncate", path);
    node.content.Resize(size);
    return gate == Gate::kOpen ? absl::OkStatus() : PowerLost("truncate", path);
  }

  absl::StatusOr<size_t> Read(const Node& node, const std::string& path, uint64_t offset, char* out,
                              size_t count) const {
    const std::string& bytes = node.content.bytes();
    if (offset >= bytes.size()) return size_t{0};
    const size_t n = std::min<size_t>(count, bytes.size() - offset);
    for (const ReadFault& fault : read_faults) {
      if (!Matches(path, fault.path_part) || n == 0) continue;
      const bool apart =
          offset + n <= fault.offset || (offset >= fault.offset && offset - fault.offset >= fault.count);
      if (!apart) return DeviceError("read", path);
    }
    bytes.copy(out, n, offset);
    return n;
  }

  uint64_t FreeBytes() const {
    const uint64_t used = tree->BytesUsed();
    return used < capacity_bytes ? capacity_bytes - used : 0;
  }
};

namespace {

class SimFile final : public env::File {
 public:
  SimFile(std::shared_ptr<SimFiles::Disk> disk, NodePtr node, std::string path, bool read_only)
      : disk_(std::move(disk)),
        node_(std::move(node)),
        path_(std::move(path)),
        read_only_(read_only),
        epoch_(disk_->epoch) {}

  absl::StatusOr<size_t> ReadAt(uint64_t offset, char* out, size_t count) override {
    std::lock_guard lock(disk_->mutex);
    if (!alive()) return PowerLost("read", path_);
    return disk_->Read(*node_, path_, offset, out, count);
  }
  absl::Status WriteAt(uint64_t offset, const Bytes& data) override {
    std::lock_guard lock(disk_->mutex);
    RETURN_IF_ERROR(MayWrite("write"));
    return disk_->Write(*node_, path_, offset, data, false);
  }
  absl::Status WriteDurably(uint64_t offset, const Bytes& data) override {
    SLUICE_CHECK(offset % env::kSectorBytes == 0 && data.size() % env::kSectorBytes == 0)
        << path_ << ": " << data.size() << " bytes at " << offset << " are not whole sectors";
    std::lock_guard lock(disk_->mutex);
    RETURN_IF_ERROR(MayWrite("write"));
    return disk_->Write(*node_, path_, offset, data, true);
  }
  absl::Status Sync() override {
    std::lock_guard lock(disk_->mutex);
    if (!alive()) return PowerLost("sync", path_);
    return disk_->Sync(*node_, path_);
  }
  void StartWriteback(uint64_t, uint64_t) override {}
  void DropCache() override {
    std::lock_guard lock(disk_->mutex);
    if (alive()) node_->content.DropLost();
  }
  absl::StatusOr<uint64_t> Size() override {
    std::lock_guard lock(disk_->mutex);
    if (!alive()) return PowerLost("stat", path_);
    return uint64_t{node_->content.bytes().size()};
  }
  absl::Status Truncate(uint64_t size) override {
    std::lock_guard lock(disk_->mutex);
    RETURN_IF_ERROR(MayWrite("truncate"));
    return disk_->Truncate(*node_, path_, size);
  }

 private:
  bool alive() const { return !disk_->halted && epoch_ == disk_->epoch; }
  absl::Status MayWrite(const char* operation) const {
    if (!alive()) return PowerLost(operation, path_);
    return read_only_ ? Refused(operation, path_, "Bad file descriptor") : absl::OkStatus();
  }

  const std::shared_ptr<SimFiles::Disk> disk_;
  const NodePtr node_;
  const std::string path_;
  const bool read_only_;
  const uint64_t epoch_;
};

class SimLock final : public env::FileLock {
 public:
  SimLock(std::shared_ptr<SimFiles::Disk> disk, NodePtr node)
      : disk_(std::move(disk)), node_(std::move(node)) {
    epoch_ = node_->locked_in_epoch = disk_->epoch;
  }
  ~SimLock() override {
    std::lock_guard lock(disk_->mutex);
    if (node_->locked_in_epoch == epoch_) node_->locked_in_epoch = 0;
  }

 private:
  const std::shared_ptr<SimFiles::Disk> disk_;
  const NodePtr node_;
  uint64_t epoch_;
};

// Creates an empty file at a place without a node.
absl::Status CreateFile(SimFiles::Disk& disk, SimTree::Place& place, const std::string& path) {
  const Gate gate = disk.Enter();
  if (gate == Gate::kShut) return PowerLost("open", path);
  place.node = std::make_shared<Node>(false);
  SimTree::Change(*place.folder, {.entries = {{place.name, nullptr, place.node}}});
  return gate == Gate::kOpen ? absl::OkStatus() : PowerLost("open", path);
}

}  // namespace

SimFiles::SimFiles() : disk_(std::make_shared<Disk>()) {}
SimFiles::SimFiles(std::shared_ptr<Disk> disk) : disk_(std::move(disk)) {}
SimFiles::~SimFiles() { Halt(); }

void SimFiles::Halt() {
  std::lock_guard lock(disk_->mutex);
  disk_->halted = true;
}

void SimFiles::HaltAt(uint64_t operation) {
  std::lock_guard lock(disk_->mutex);
  disk_->halt_at = operation;
}

bool SimFiles::halted() const {
  std::lock_guard lock(disk_->mutex);
  return disk_->halted;
}

uint64_t SimFiles::operations() const {
  std::lock_guard lock(disk_->mutex);
  return disk_->operations;
}

void SimFiles::KillProcess() {
  std::lock_guard lock(disk_->mutex);
  disk_->StartProcess();
}

void SimFiles::Crash(uint64_t seed, const CrashPolicy& policy) {
  std::lock_guard lock(disk_->mutex);
  SeededRandom random(seed);
  disk_->tree->Crash(random, policy);
  disk_->StartProcess();
}

std::unique_ptr<SimFiles> SimFiles::CrashClone(uint64_t seed, const CrashPolicy& policy) const {
  auto disk = std::make_shared<Disk>();
  {
    std::lock_guard lock(disk_->mutex);
    disk->tree = disk_->tree->Clone();
    disk->open_faults = disk_->open_faults;
    disk->sync_faults = disk_->sync_faults;
    disk->write_faults = disk_->write_faults;
    disk->read_faults = disk_->read_faults;
    disk->lose_syncs = disk_->lose_syncs;
    disk->capacity_bytes = disk_->capacity_bytes;
  }
  auto clone = std::unique_ptr<SimFiles>(new SimFiles(std::move(disk)));
  clone->Crash(seed, policy);
  return clone;
}

void SimFiles::FailNextSync(const std::string& path_part, uint64_t count) {
  std::lock_guard lock(disk_->mutex);
  disk_->sync_faults.push_back({path_part, count});
}

void SimFiles::FailNextWrite(const std::string& path_part, uint64_t count) {
  std::lock_guard lock(disk_->mutex);
  disk_->write_faults.push_back({path_part, count});
}

void SimFiles::FailNextOpen(const std::string& path_part, uint64_t count) {
  std::lock_guard lock(disk_->mutex);
  disk_->open_faults.push_back({path_part, count});
}

void SimFiles::FailReads(const std::string& path_part, uint64_t offset, uint64_t count) {
  std::lock_guard lock(disk_->mutex);
  disk_->read_faults.push_back({path_part, offset, count});
}

void SimFiles::LoseSyncs(bool lose) {
  std::lock_guard lock(disk_->mutex);
  disk_->lose_syncs = lose;
}

void SimFiles::SetCapacity(uint64_t bytes) {
  std::lock_guard lock(disk_->mutex);
  disk_->capacity_bytes = bytes;
}

void SimFiles::ClearFaults() {
  std::lock_guard lock(disk_->mutex);
  disk_->open_faults.clear();
  disk_->sync_faults.clear();
  disk_->write_faults.clear();
  disk_->read_faults.clear();
  disk_->lose_syncs = false;
  disk_->capacity_bytes = kUnlimitedBytes;
}

absl::Status SimFiles::FlipBit(const std::string& path, uint64_t offset, uint32_t bit) {
  char byte = 0;
  {
    std::lock_guard lock(disk_->mutex);
    ASSIGN_OR_RETURN(const SimTree::Place place, disk_->tree->Locate(path));
    if (place.node == nullptr || place.node->is_folder) return Absent("flip bit of", path);
    const std::string& bytes = place.node->content.bytes();
    if (offset >= bytes.size()) return absl::OutOfRangeError(fmt::format("{}: {} bytes", path, bytes.size()));
    byte = static_cast<char>(bytes[offset] ^ static_cast<char>(1u << (bit % 8)));
  }
  return Overwrite(path, offset, {&byte, 1});
}

absl::Status SimFiles::Overwrite(const std::string& path, uint64_t offset, std::string_view data) {
  std::lock_guard lock(disk_->mutex);
  ASSIGN_OR_RETURN(const SimTree::Place place, disk_->tree->Locate(path));
  if (place.node == nullptr || place.node->is_folder) return Absent("overwrite", path);
  const uint64_t size = place.node->content.bytes().size();
  if (offset > size || data.size() > size - offset) {
    return absl::OutOfRangeError(fmt::format("{}: {} bytes at {} of {}", path, data.size(), offset, size));
  }
  place.node->content.Write(offset, data, Persistence::kDurable);
  return absl::OkStatus();
}

SimFiles::Counts SimFiles::counts() const {
  std::lock_guard lock(disk_->mutex);
  return disk_->counts;
}

absl::StatusOr<std::unique_ptr<env::File>> SimFiles::Open(const std::string& path,
                                                          const env::OpenOptions& options) {
  std::lock_guard lock(disk_->mutex);
  if (disk_->halted) return PowerLost("open", path);
  if (disk_->TakeFault(disk_->open_faults, path)) {
    return absl::ResourceExhaustedError(fmt::format("open {}: Too many open files", path));
  }
  ASSIGN_OR_RETURN(SimTree::Place place, disk_->tree->Locate(path));
  if (place.node != nullptr && place.node->is_folder) return Refused("open", path, "Is a directory");
  if (place.node == nullptr && !options.create) return Absent("open", path);
  if (place.node != nullptr && options.create && options.exclusive) {
    return absl::AlreadyExistsError(fmt::format("open {}: File exists", path));
  }
  if (place.node == nullptr) RETURN_IF_ERROR(CreateFile(*disk_, place, path));
  return std::make_unique<SimFile>(disk_, place.node, path, options.read_only);
}

absl::Status SimFiles::Remove(const std::string& path) {
  std::lock_guard lock(disk_->mutex);
  if (disk_->halted) return PowerLost("remove", path);
  ASSIGN_OR_RETURN(const SimTree::Place place, disk_->tree->Locate(path));
  if (place.node == nullptr) return Absent("remove", path);
  if (place.folder == nullptr) return Refused("remove", path, "Device or resource busy");
  if (!place.node->entries.empty()) return Refused("remove", path, "Directory not empty");
  const Gate gate = disk_->Enter();
  SimTree::Change(*place.folder, {.entries = {{place.name, place.node, nullptr}}});
  return gate == Gate::kOpen ? absl::OkStatus() : PowerLost("remove", path);
}

absl::Status SimFiles::Rename(const std::string& from, const std::string& to) {
  std::lock_guard lock(disk_->mutex);
  const std::string both = fmt::format("{} to {}", from, to);
  if (disk_->halted) return PowerLost("rename", both);
  ASSIGN_OR_RETURN(const SimTree::Place source, disk_->tree->Locate(from));
  ASSIGN_OR_RETURN(const SimTree::Place target, disk_->tree->Locate(to));
  if (source.node == nullptr) return Absent("rename", both);
  if (source.folder == nullptr || target.folder == nullptr)
    return Refused("rename", both, "Invalid argument");
  if (source.node == target.node) return absl::OkStatus();
  if (SimTree::IsWithin(target.folder, source.node)) return Refused("rename", both, "Invalid argument");
  if (target.node != nullptr && target.node->is_folder != source.node->is_folder) {
    return Refused("rename", both, target.node->is_folder ? "Is a directory" : "Not a directory");
  }
  if (target.node != nullptr && !target.node->entries.empty())
    return Refused("rename", both, "Directory not empty");

  const Gate gate = disk_->Enter();
  const FolderChange::Entry taken{source.name, source.node, nullptr};
  const FolderChange::Entry given{target.name, target.node, source.node};
  if (source.folder == target.folder) {
    SimTree::Change(*source.folder, {.entries = {taken, given}});
  } else {
    const uint64_t rename = disk_->tree->NextRename();
    SimTree::Change(*target.folder, {.entries = {given}, .rename = rename});
    SimTree::Change(*source.folder, {.entries = {taken}, .rename = rename, .takes_name_away = true});
  }
  return gate == Gate::kOpen ? absl::OkStatus() : PowerLost("rename", both);
}

absl::Status SimFiles::MakeDirs(const std::string& path) {
  std::lock_guard lock(disk_->mutex);
  if (disk_->halted) return PowerLost("make folder", path);
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    ASSIGN_OR_RETURN(const SimTree::Place place, disk_->tree->Locate(path.substr(0, end)));
    if (place.node == nullptr) {
      const Gate gate = disk_->Enter();
      if (gate == Gate::kShut) return PowerLost("make folder", path);
      SimTree::Change(*place.folder, {.entries = {{place.name, nullptr, std::make_shared<Node>(true)}}});
      if (gate == Gate::kInFlight) return PowerLost("make folder", path);
      if (!disk_->lose_syncs) place.folder->changes.clear();
    } else if (!place.node->is_folder && end == std::string::npos) {
      return absl::AlreadyExistsError(fmt::format("make folder {}: File exists", path));
    }
    if (end == std::string::npos) return absl::OkStatus();
  }
}

absl::Status SimFiles::SyncDir(const std::string& path) {
  std::lock_guard lock(disk_->mutex);
  if (disk_->halted) return PowerLost("sync folder", path);
  ASSIGN_OR_RETURN(const SimTree::Place place, disk_->tree->Locate(path));
  if (place.node == nullptr) return Absent("sync folder", path);
  if (!place.node->is_folder) return Refused("sync folder", path, "Not a directory");
  if (disk_->TakeFault(disk_->open_faults, path + "/.")) {
    return absl::ResourceExhaustedError(fmt::format("sync folder {}: Too many open files", path));
  }
  if (disk_->Enter() != Gate::kOpen) return PowerLost("sync folder", path);
  ++disk_->counts.folder_syncs;
  if (disk_->TakeDeviceFault(disk_->sync_faults, path)) return DeviceError("sync folder", path);
  if (!disk_->lose_syncs) place.node->changes.clear();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> SimFiles::List(const std::string& path) {
  std::lock_guard lock(disk_->mutex);
  if (disk_->halted) return PowerLost("list", path);
  ASSIGN_OR_RETURN(const SimTree::Place place, disk_->tree->Locate(path));
  if (place.node == nullptr) return Absent("list", path);
  if (!place.node->is_folder) return Refused("list", path, "Not a directory");
  std::vector<std::string> names;
  for (const auto& [name, node] : place.node->entries) names.push_back(name);
  return names;
}

absl::StatusOr<bool> SimFiles::Exists(const std::string& path) {
  std::lock_guard lock(disk_->mutex);
  if (disk_->halted) return PowerLost("stat", path);
  const auto place = disk_->tree->Locate(path);
  return place.ok() && place->node != nullptr;
}

absl::StatusOr<std::unique_ptr<env::FileLock>> SimFiles::LockFile(const std::string& path) {
  std::lock_guard lock(disk_->mutex);
  if (disk_->halted) return PowerLost("lock", path);
  ASSIGN_OR_RETURN(SimTree::Place place, disk_->tree->Locate(path));
  if (place.node == nullptr) RETURN_IF_ERROR(CreateFile(*disk_, place, path));
  if (place.node->is_folder) return Refused("lock", path, "Is a directory");
  if (place.node->locked_in_epoch == disk_->epoch) {
    return absl::FailedPreconditionError(fmt::format("{} is locked by another process", path));
  }
  return std::make_unique<SimLock>(disk_, place.node);
}

absl::StatusOr<uint64_t> SimFiles::FreeBytes(const std::string& path) {
  std::lock_guard lock(disk_->mutex);
  if (disk_->halted) return PowerLost("statvfs", path);
  ASSIGN_OR_RETURN(const SimTree::Place place, disk_->tree->Locate(path));
  if (place.node == nullptr) return Absent("statvfs", path);
  return disk_->FreeBytes();
}

}  // namespace sluice::sim
