#pragma once

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "directory/sha256.hpp"

namespace routellm_fast {

/// The golden directories of format 1, and what they give.
inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(ROUTELLM_FAST_ARTIFACTS) / name;
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// A copy of a golden directory that a test may damage; removed with the object.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(const std::string& name) {
    std::string pattern = (std::filesystem::temp_directory_path() / "routellm-fast-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no directory for tests");
    root_ = pattern;
    std::filesystem::copy(golden(name), path(), std::filesystem::copy_options::recursive);
  }
  ~ScratchDirectory() { std::filesystem::remove_all(root_); }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  [[nodiscard]] std::filesystem::path path() const { return root_ / "router"; }
  [[nodiscard]] std::filesystem::path parent() const { return root_; }
  [[nodiscard]] std::string read(const std::string& name) const { return read_text(path() / name); }

  void write(const std::string& name, const std::string& content) const {
    std::ofstream(path() / name, std::ios::binary) << content;
  }

  /// Replaces the first `from` in a file; throws where there is none.
  void edit(const std::string& name, const std::string& from, const std::string& to) const {
    std::string content = read(name);
    const std::size_t at = content.find(from);
    if (at == std::string::npos) throw std::runtime_error(name + " holds no " + from);
    write(name, content.replace(at, from.size(), to));
  }

  /// Writes a file and records its size and digest in router.json, so that only what is in it can be at fault.
  void write_recorded(const std::string& name, const std::string& content) const {
    write(name, content);
    const std::string digest = sha256_of(std::as_bytes(std::span(content)));
    const std::string quoted = std::regex_replace(name, std::regex("\\."), "\\.");
    const std::regex entry("\"" + quoted + R"(": \{"bytes": \d+, "sha256": "[0-9a-f]+"\})");
    const std::string recorded =
        "\"" + name + "\": {\"bytes\": " + std::to_string(content.size()) + ", \"sha256\": \"" + digest + "\"}";
    write("router.json", std::regex_replace(read("router.json"), entry, recorded));
  }

  /// Moves each file to the folder `blobs` beside the directory, by another name, and leaves a symbolic link to it, as
  /// a model hub's cache does.
  void link_files() const {
    namespace fs = std::filesystem;
    fs::create_directory(root_ / "blobs");
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(path())) files.push_back(entry.path());
    for (const fs::path& file : files) {
      const std::string blob = "blob-of-" + file.filename().string();
      fs::rename(file, root_ / "blobs" / blob);
      fs::create_symlink(fs::path("../blobs") / blob, file);
    }
  }

 private:
  std::filesystem::path root_;
};

}  // namespace routellm_fast
