#include "sim/files_contract.h"

#include <cstdlib>
#include <filesystem>

#include "base/check.h"
#include "sim/sim_files.h"

namespace sluice::sim {
namespace {

class RealScene final : public FilesScene {
 public:
  RealScene() {
    std::string pattern = testing::TempDir() + "/sluice_files_XXXXXX";
    SLUICE_CHECK(mkdtemp(pattern.data()) != nullptr) << pattern;
    root_ = pattern;
  }
  ~RealScene() override {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  env::Files& files() override { return env::RealFiles(); }
  std::string root() override { return root_; }

 private:
  std::string root_;
};

class SimScene final : public FilesScene {
 public:
  SimScene() { SLUICE_CHECK(files_.MakeDirs("/data").ok()); }
  env::Files& files() override { return files_; }
  std::string root() override { return "/data"; }

 private:
  SimFiles files_;
};

INSTANTIATE_TEST_SUITE_P(Files, FilesContract,
                         testing::Values(FilesCase{"Real", [] { return std::make_unique<RealScene>(); }},
                                         FilesCase{"Simulated", [] { return std::make_unique<SimScene>(); }}),
                         FilesCaseName);

}  // namespace
}  // namespace sluice::sim
