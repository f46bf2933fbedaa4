#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/error.hpp"

namespace routellm_fast {

/// An open directory. Its files are read through one handle: should it be replaced meanwhile, the old one is read.
class DirectoryHandle {
 public:
  /// Throws Error(kNotFound) for what is no directory that can be read; the text says that one with `expected_file` was
  /// looked for.
  DirectoryHandle(std::string path, const std::string& expected_file);
  /// The directory at `relative`, as seen from another one.
  DirectoryHandle(const DirectoryHandle& from, const std::string& relative, const std::string& expected_file);
  ~DirectoryHandle();
  DirectoryHandle(const DirectoryHandle&) = delete;
  DirectoryHandle& operator=(const DirectoryHandle&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
  /// Whether the path now leads to another directory than the one that was opened, of which files may be gone by now.
  [[nodiscard]] bool was_replaced() const noexcept;

 private:
  std::string path_;
  int descriptor_;
};

/// Opens a directory and reads it. Where that fails because the directory was replaced meanwhile, the new one is opened
/// and read; somebody who replaces it all the time is given up at last. `open` returns a DirectoryHandle and `read`
/// takes it. Throws what they throw.
template <typename Open, typename Read>
auto read_current(const Open& open, const Read& read) {
  constexpr int kMostAttempts = 100;
  for (int attempt = 1;; ++attempt) {
    const DirectoryHandle directory = open();
    try {
      return read(directory);
    } catch (const Error&) {
      if (attempt == kMostAttempts || !directory.was_replaced()) throw;
    }
  }
}

/// What tells whether a file is still the one that was opened.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t bytes = 0;
  std::int64_t modified_ns = 0;

  [[nodiscard]] bool is_same_file(const FileIdentity& other) const noexcept {
    return device == other.device && inode == other.inode;
  }
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

/// An open regular file of a directory, which its name leads to directly or through symbolic links. Type, size and
/// content all come from one descriptor: wherever a link leads later, what was checked is what is read.
class OpenFile {
 public:
  /// Throws Error: kNotFound where the name leads to no file, kDamaged where it leads to what is no regular file.
  OpenFile(const DirectoryHandle& directory, const std::string& name);
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] const FileIdentity& identity() const noexcept { return identity_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return identity_.bytes; }
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

  /// Fills `buffer` with the bytes from `offset` on, and returns how many there were; fewer where the file ends. Throws
  /// Error(kDamaged) where they cannot be read.
  [[nodiscard]] std::size_t read(std::uint64_t offset, std::span<char> buffer) const;
  /// Up to `size` bytes from the start.
  [[nodiscard]] std::string read(std::size_t size) const;

 private:
  std::string path_;
  int descriptor_;
  FileIdentity identity_;
};

/// A safetensors file of one tensor, mapped read-only, as it was when it was opened. It is kept open, so that a change
/// to what is mapped can be found, wherever its name leads by then.
class MappedFile {
 public:
  /// Throws Error where the file cannot be mapped or kept open: kOutOfMemory where there is no room for it, else
  /// kDamaged.
  MappedFile(const OpenFile& file, std::string header, std::string sha256);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }  // absolute
  [[nodiscard]] const FileIdentity& identity() const noexcept { return identity_; }
  /// Throws Error(kDamaged) where the file was written to or cut off since it was opened. A file that was removed, or
  /// replaced by a new one, is still as it was. Takes one system call: what reads the data asks before, as reading
  /// behind the end of a file ends the process, and after, as what was read may have changed meanwhile.
  void check_unchanged() const;
  /// The same where the file is too short to be read whole: enough for those who compare its digest.
  void check_length() const;
  /// All bytes before the data: the length, the JSON and its padding.
  [[nodiscard]] const std::string& header() const noexcept { return header_; }
  /// As its manifest stated it; nobody has compared it.
  [[nodiscard]] const std::string& sha256() const noexcept { return sha256_; }
  [[nodiscard]] const std::byte* data() const noexcept {
    return static_cast<const std::byte*>(mapping_) + header_.size();
  }

 private:
  void release() noexcept;
  [[noreturn]] void refuse_change(const std::string& change) const;
  [[nodiscard]] FileIdentity current() const;

  std::string path_;
  int descriptor_;
  FileIdentity identity_;
  std::string header_;
  std::string sha256_;
  void* mapping_;
};

}  // namespace routellm_fast
