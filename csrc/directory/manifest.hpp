#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "directory/json.hpp"

namespace routellm_fast {

/// What a value of a manifest must be.
enum class JsonType : std::uint8_t { kBoolean, kInteger, kNumber, kString, kList, kObject };

/// What a kind of directory must hold: its manifest's name, and the manifest's keys with their types.
struct DirectoryLayout {
  struct Key {
    std::string name;
    JsonType type;
    bool may_be_null = false;
  };

  std::string manifest_file;
  std::vector<Key> keys;
};

/// Of router directories: router.json.
[[nodiscard]] const DirectoryLayout& router_layout();

/// Turns a manifest, which is an object, of one version into that of the next; the caller counts format_version up.
using Migration = JsonValue (*)(JsonValue manifest);

/// Migration n turns a manifest of version n + 1 into one of version n + 2. None was needed yet.
inline constexpr std::span<const Migration> kMigrations{};

/// The version that is read and written; older ones are migrated.
inline constexpr std::int64_t kFormatVersion = 1 + static_cast<std::int64_t>(kMigrations.size());

/// Brings a manifest of an older version up to the one behind the last migration. Throws Error: kNewerVersion for one
/// that is newer, kBadDirectory for a version that is no positive integer.
[[nodiscard]] JsonValue migrated(JsonValue manifest, const std::string& where,
                                 std::span<const Migration> migrations = kMigrations);

/// The manifest's digest of itself: SHA-256 of its bytes with zeros for the 64 digits of this value. Directories of
/// before there was this key lack it.
inline constexpr std::string_view kOwnDigestKey = "manifest_sha256";

/// Throws Error(kBadDirectory) unless the manifest of a directory holds exactly the layout's keys, with its types.
void check_manifest(const JsonValue& manifest, const DirectoryLayout& layout, const std::string& directory);

/// Reads a manifest's text, checks it against its digest of itself, migrates and checks it. The result has no
/// kOwnDigestKey. Throws Error: kNewerVersion, kBadDirectory, and kDamaged where it is not what was written.
[[nodiscard]] JsonValue parse_manifest(std::string_view content, const DirectoryLayout& layout,
                                       const std::string& directory);

}  // namespace routellm_fast
