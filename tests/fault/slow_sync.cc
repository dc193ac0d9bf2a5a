// LD_PRELOAD: fsync, fdatasync and synced pwritev2 take SLOW_MS longer, of files whose path contains SLOW_PART
// (all if it is unset). A disk that is slow, but not broken (D-25).
#include <dlfcn.h>
#include <sys/uio.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

void BeSlow(int fd) {
  const char* ms = std::getenv("SLOW_MS");
  const char* part = std::getenv("SLOW_PART");
  if (ms == nullptr) return;
  if (part != nullptr) {
    char link[64];
    char path[PATH_MAX];
    std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return;
    path[length] = 0;
    if (std::strstr(path, part) == nullptr) return;
  }
  usleep(1000 * static_cast<useconds_t>(std::atoi(ms)));  // tidy-allow: it is the slow disk
}

template <typename Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int fsync(int fd) {
  static const auto next = Next<int (*)(int)>("fsync");
  BeSlow(fd);
  return next(fd);
}

int fdatasync(int fd) {
  static const auto next = Next<int (*)(int)>("fdatasync");
  BeSlow(fd);
  return next(fd);
}

ssize_t pwritev2(int fd, const struct iovec* parts, int count, off_t offset, int flags) {
  static const auto next = Next<ssize_t (*)(int, const struct iovec*, int, off_t, int)>("pwritev2");
  if (flags & RWF_DSYNC) BeSlow(fd);
  return next(fd, parts, count, offset, flags);
}

ssize_t pwritev64v2(int fd, const struct iovec* parts, int count, off64_t offset, int flags) {
  static const auto next = Next<ssize_t (*)(int, const struct iovec*, int, off64_t, int)>("pwritev64v2");
  if (flags & RWF_DSYNC) BeSlow(fd);
  return next(fd, parts, count, offset, flags);
}

}  // extern "C"
