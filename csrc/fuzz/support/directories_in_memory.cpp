#include "support/directories_in_memory.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "directory/open_directory.hpp"

namespace routellm_fast {
namespace {

using fuzz::FilesInMemory;

constexpr std::align_val_t kMappingAlignment{64};

// The contents of files that are open now; a descriptor is a place in it.
std::vector<std::string_view>& open_files() {
  static std::vector<std::string_view> files;
  return files;
}

std::string_view content_of(int descriptor) { return open_files()[static_cast<std::size_t>(descriptor)]; }

int check_directory(const std::string& path, const std::string& expected_file) {
  if (fuzz::directories().contains(path)) return 0;
  throw Error(ErrorCode::kNotFound, path + " is no directory in memory with a " + expected_file);
}

int open_file(const DirectoryHandle& directory, const std::string& name) {
  const FilesInMemory& files = fuzz::directories().find(directory.path())->second;
  const auto found = files.find(name);
  if (found == files.end()) throw Error(ErrorCode::kNotFound, directory.path() + " lacks " + name);
  open_files().push_back(found->second);
  return static_cast<int>(open_files().size()) - 1;
}

// In memory of its own size, so that a sanitizer sees one byte too many.
void* copy_of(std::string_view content) {
  void* const copy = ::operator new(content.size(), kMappingAlignment);
  std::memcpy(copy, content.data(), content.size());
  return copy;
}

}  // namespace

std::map<std::string, FilesInMemory, std::less<>>& fuzz::directories() {
  static std::map<std::string, FilesInMemory, std::less<>> all;
  return all;
}

DirectoryHandle::DirectoryHandle(std::string path, const std::string& expected_file)
    : path_(std::move(path)), descriptor_(check_directory(path_, expected_file)) {}

DirectoryHandle::DirectoryHandle(const DirectoryHandle& from, const std::string& relative,
                                 const std::string& expected_file)
    : path_(from.path() + "/" + relative), descriptor_(check_directory(path_, expected_file)) {}

DirectoryHandle::~DirectoryHandle() = default;

// NOLINTNEXTLINE(readability-convert-member-functions-to-static): the class is that of the core
bool DirectoryHandle::was_replaced() const noexcept { return false; }

OpenFile::OpenFile(const DirectoryHandle& directory, const std::string& name)
    : path_(directory.path() + "/" + name), descriptor_(open_file(directory, name)) {
  const std::string_view content = content_of(descriptor_);
  identity_.inode = reinterpret_cast<std::uintptr_t>(content.data());
  identity_.bytes = content.size();
}

// The file that was opened last is closed first.
OpenFile::~OpenFile() { open_files().pop_back(); }

std::size_t OpenFile::read(std::uint64_t offset, std::span<char> buffer) const {
  const std::string_view content = content_of(descriptor_);
  const std::string_view rest = content.substr(std::min<std::uint64_t>(offset, content.size()));
  const std::size_t count = std::min(rest.size(), buffer.size());
  if (count > 0) std::memcpy(buffer.data(), rest.data(), count);
  return count;
}

std::string OpenFile::read(std::size_t size) const { return std::string(content_of(descriptor_).substr(0, size)); }

MappedFile::MappedFile(const OpenFile& file, std::string header, std::string sha256)
    : path_(file.path()),
      descriptor_(file.descriptor()),
      identity_(file.identity()),
      header_(std::move(header)),
      sha256_(std::move(sha256)),
      mapping_(copy_of(content_of(file.descriptor()))) {}

MappedFile::~MappedFile() { ::operator delete(mapping_, kMappingAlignment); }

// What lies in memory is changed by nobody.
void MappedFile::check_unchanged() const {}
void MappedFile::check_length() const {}

}  // namespace routellm_fast
