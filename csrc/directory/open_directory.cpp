#include "directory/open_directory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/error.hpp"

namespace routellm_fast {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

int open_directory(int from, const std::string& relative) {
  return ::openat(from, relative.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

void check_directory(int descriptor, int error, const std::string& path, const std::string& expected_file) {
  if (descriptor >= 0) return;
  throw Error(ErrorCode::kNotFound, path + " is no directory that can be read (" + reason(error) +
                                        "). Expected one with a " + expected_file + ".");
}

// What a symbolic link of a directory names; empty for what is no link.
std::string link_target(const DirectoryHandle& directory, const std::string& name) {
  std::string target(PATH_MAX, '\0');
  const ssize_t length = ::readlinkat(directory.descriptor(), name.c_str(), target.data(), target.size());
  target.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
  return target;
}

[[noreturn]] void refuse_missing(const DirectoryHandle& directory, const std::string& name, int error) {
  const std::string target = link_target(directory, name);
  if (!target.empty()) {
    throw Error(ErrorCode::kNotFound,
                directory.path() + "/" + name + " is a symbolic link to " + target + ", which cannot be opened (" +
                    reason(error) + "). Fetch the file that it names, or copy the directory with its links resolved.");
  }
  throw Error(ErrorCode::kNotFound, directory.path() + " lacks " + name + " (" + reason(error) +
                                        "): it is incomplete, or no such directory. Copy or save it again.");
}

FileIdentity identity_of(const struct stat& status) noexcept {
  constexpr std::int64_t kSecondNs = 1'000'000'000;
  return {.device = static_cast<std::uint64_t>(status.st_dev),
          .inode = static_cast<std::uint64_t>(status.st_ino),
          .bytes = static_cast<std::uint64_t>(status.st_size),
          .modified_ns = static_cast<std::int64_t>(status.st_mtim.tv_sec) * kSecondNs + status.st_mtim.tv_nsec};
}

std::string absolute(const std::string& path) {
  std::error_code unknown;  // the working directory may be gone
  const std::filesystem::path found = std::filesystem::absolute(path, unknown);
  return unknown ? path : found.string();
}

}  // namespace

DirectoryHandle::DirectoryHandle(std::string path, const std::string& expected_file)
    : path_(std::move(path)), descriptor_(open_directory(AT_FDCWD, path_)) {
  check_directory(descriptor_, errno, path_, expected_file);
}

DirectoryHandle::DirectoryHandle(const DirectoryHandle& from, const std::string& relative,
                                 const std::string& expected_file)
    : path_(from.path() + "/" + relative), descriptor_(open_directory(from.descriptor(), relative)) {
  check_directory(descriptor_, errno, path_, expected_file);
}

DirectoryHandle::~DirectoryHandle() { ::close(descriptor_); }

bool DirectoryHandle::was_replaced() const noexcept {
  struct stat opened{};
  struct stat current{};
  return ::fstat(descriptor_, &opened) == 0 && ::stat(path_.c_str(), &current) == 0 &&
         (opened.st_dev != current.st_dev || opened.st_ino != current.st_ino);
}

// O_NONBLOCK: a FIFO is refused below, and must not be waited for here.
OpenFile::OpenFile(const DirectoryHandle& directory, const std::string& name)
    : path_(directory.path() + "/" + name),
      descriptor_(::openat(directory.descriptor(), name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
  if (descriptor_ < 0) refuse_missing(directory, name, errno);
  struct stat status{};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw Error(ErrorCode::kDamaged, path_ + " is no regular file. Copy or save the directory again.");
  }
  identity_ = identity_of(status);
}

OpenFile::~OpenFile() { ::close(descriptor_); }

std::size_t OpenFile::read(std::uint64_t offset, std::span<char> buffer) const {
  std::size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t count =
        ::pread(descriptor_, buffer.data() + done, buffer.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw Error(ErrorCode::kDamaged, path_ + " cannot be read (" + reason(errno) + ")");
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

std::string OpenFile::read(std::size_t size) const {
  std::string content(size, '\0');
  content.resize(read(0, content));
  return content;
}

MappedFile::MappedFile(const OpenFile& file, std::string header, std::string sha256)
    : path_(absolute(file.path())),
      descriptor_(::fcntl(file.descriptor(), F_DUPFD_CLOEXEC, 0)),
      identity_(file.identity()),
      header_(std::move(header)),
      sha256_(std::move(sha256)),
      mapping_(::mmap(nullptr, static_cast<std::size_t>(file.bytes()), PROT_READ, MAP_SHARED, file.descriptor(), 0)) {
  const int error = errno;
  if (mapping_ != MAP_FAILED && descriptor_ >= 0) return;
  release();
  throw Error(error == ENOMEM ? ErrorCode::kOutOfMemory : ErrorCode::kDamaged,
              path_ + " cannot be mapped and kept open (" + reason(error) + ")");
}

MappedFile::~MappedFile() { release(); }

void MappedFile::release() noexcept {
  if (mapping_ != MAP_FAILED) ::munmap(mapping_, static_cast<std::size_t>(identity_.bytes));
  if (descriptor_ >= 0) ::close(descriptor_);
}

void MappedFile::check_unchanged() const {
  const FileIdentity found = current();
  if (found == identity_) return;
  if (found.bytes != identity_.bytes) {
    refuse_change("it had " + std::to_string(identity_.bytes) + " bytes, it has " + std::to_string(found.bytes));
  }
  refuse_change("it was written to since it was loaded");
}

void MappedFile::check_length() const {
  if (current().bytes < identity_.bytes) check_unchanged();
}

FileIdentity MappedFile::current() const {
  struct stat status{};
  if (::fstat(descriptor_, &status) != 0) refuse_change(reason(errno));
  return identity_of(status);
}

void MappedFile::refuse_change(const std::string& change) const {
  throw Error(ErrorCode::kDamaged,
              path_ + " was changed in place while it is in use: " + change +
                  ". What it holds now was not checked, and is not scored with. Load the router again; next time, "
                  "replace the directory by another one (mv, or saving), never its files' contents (cp, rsync "
                  "--inplace).");
}

}  // namespace routellm_fast
