#include "directory/manifest.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/error.hpp"
#include "directory/sha256.hpp"
#include "text/utf8_text.hpp"

namespace routellm_fast {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorCode::kBadDirectory, what); }

bool fits(const JsonValue& value, JsonType type) {
  switch (type) {
    case JsonType::kBoolean:
      return value.boolean() != nullptr;
    case JsonType::kInteger:
      return value.integer().has_value();
    case JsonType::kNumber:
      return value.number() != nullptr;
    case JsonType::kString:
      return value.text() != nullptr;
    case JsonType::kList:
      return value.array() != nullptr;
    case JsonType::kObject:
      return value.object() != nullptr;
  }
  return false;
}

const char* name_of(JsonType type) {
  constexpr std::array<const char*, 6> kNames{"a boolean", "an integer", "a number", "a string", "a list", "an object"};
  return kNames[static_cast<std::size_t>(type)];  // NOLINT(*-constant-array-index): one a type
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Digests of files do not tell that of a manifest a bit has changed, e.g. of a model's name.
void check_own_digest(const JsonValue& manifest, std::string_view content, const std::string& where) {
  const JsonValue* const entry = manifest.find(kOwnDigestKey);
  if (entry == nullptr) return;
  if (entry->text() == nullptr || !is_sha256(*entry->text())) {
    refuse(where + ": " + std::string(kOwnDigestKey) + " must be 64 hexadecimal digits");
  }
  const std::string& stated = *entry->text();
  const std::size_t place = content.find(stated);
  std::string found = "nothing";
  if (place != std::string_view::npos) {
    Sha256 digest;
    digest.update(bytes_of(content.substr(0, place)));
    digest.update(bytes_of(std::string(stated.size(), '0')));
    digest.update(bytes_of(content.substr(place + stated.size())));
    found = digest.finish();
  }
  if (found == stated) return;
  throw Error(ErrorCode::kDamaged, where + " says that its " + std::string(kOwnDigestKey) + " is " + stated +
                                       ", its bytes make " + found +
                                       ": it is damaged or was edited. Copy or save the directory again; after "
                                       "an edit of your own, take " +
                                       std::string(kOwnDigestKey) + " out of it.");
}

}  // namespace

const DirectoryLayout& router_layout() {
  static const DirectoryLayout layout{.manifest_file = "router.json",
                                      .keys = {{"format_version", JsonType::kInteger},
                                               {"kind", JsonType::kString},
                                               {"model_pair", JsonType::kObject},
                                               {"embedder", JsonType::kObject, true},
                                               {"settings", JsonType::kObject},
                                               {"tensors", JsonType::kObject},
                                               {"files", JsonType::kObject},
                                               {"calibration", JsonType::kObject, true},
                                               {"provenance", JsonType::kObject}}};
  return layout;
}

JsonValue migrated(JsonValue manifest, const std::string& where, std::span<const Migration> migrations) {
  const auto current = 1 + static_cast<std::int64_t>(migrations.size());
  const JsonValue* const entry = manifest.find("format_version");
  const auto version = entry == nullptr ? std::nullopt : entry->integer();
  if (!version || *version < 1) {
    std::string found = entry == nullptr ? "nothing" : entry->type_name();
    if (version) found = std::to_string(*version);
    refuse(where + ": format_version must be an integer from 1 to " + std::to_string(current) + ", found " + found);
  }
  if (*version > current) {
    throw Error(ErrorCode::kNewerVersion,
                where + " has format version " + std::to_string(*version) + "; this routellm-fast reads up to " +
                    std::to_string(current) +
                    ". It was written by a newer version: upgrade routellm-fast, or save the router again with this "
                    "one.");
  }
  for (std::int64_t step = *version; step < current; ++step) {
    const JsonNumber next{
        .value = static_cast<double>(step + 1), .is_integer = true, .integer = step + 1, .digits = nullptr};
    manifest =
        migrations[static_cast<std::size_t>(step - 1)](std::move(manifest)).with("format_version", JsonValue(next));
  }
  return manifest;
}

void check_manifest(const JsonValue& manifest, const DirectoryLayout& layout, const std::string& directory) {
  const std::string where = directory + "/" + layout.manifest_file;
  std::string faults;
  for (const auto& key : layout.keys) {
    if (manifest.find(key.name) == nullptr) faults += " missing " + key.name + ";";
  }
  for (const auto& [name, value] : *manifest.object()) {
    if (std::ranges::find(layout.keys, name, &DirectoryLayout::Key::name) == layout.keys.end()) {
      faults += " unknown " + shown(name) + ";";
    }
  }
  if (!faults.empty()) {
    faults.pop_back();
    refuse(where + " does not hold the keys of format " + std::to_string(kFormatVersion) + ":" + faults);
  }
  for (const auto& key : layout.keys) {
    const JsonValue& value = *manifest.find(key.name);
    if ((key.may_be_null && value.is_null()) || fits(value, key.type)) continue;
    refuse(where + ": " + key.name + " must be " + name_of(key.type) + (key.may_be_null ? " or null" : "") +
           ", found " + value.type_name());
  }
}

JsonValue parse_manifest(std::string_view content, const DirectoryLayout& layout, const std::string& directory) {
  const std::string where = directory + "/" + layout.manifest_file;
  JsonValue manifest = [&] {
    try {
      return parse_json(content);
    } catch (const Error& error) {
      refuse(where + " is not valid JSON (" + error.what() + "). The directory is damaged: copy or save it again.");
    }
  }();
  if (manifest.object() == nullptr) refuse(where + " must hold a JSON object, found " + manifest.type_name());
  manifest = migrated(std::move(manifest), where);
  check_own_digest(manifest, content, where);
  manifest = std::move(manifest).without(kOwnDigestKey);
  check_manifest(manifest, layout, directory);
  return manifest;
}

}  // namespace routellm_fast
