#include "directory/router_directory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "directory/sha256.hpp"
#include "text/utf8_text.hpp"

namespace routellm_fast {
namespace {

constexpr std::int64_t kFormatVersion = 1;
constexpr std::string_view kManifestFile = "router.json";
constexpr std::string_view kWeightsFile = "weights.safetensors";
constexpr std::string_view kSuffix = ".safetensors";
constexpr std::uint64_t kMostManifestBytes = std::uint64_t{64} << 20;
constexpr std::size_t kMostDimensions = 32;
constexpr std::uint64_t kMostMappedHeaderBytes = std::uint64_t{64} << 10;
constexpr std::size_t kBorder = 64;
constexpr std::size_t kLengthBytes = 8;

constexpr const char* kCopyAgain = ". Copy or save the directory again.";

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorCode::kBadDirectory, what); }

std::string reason(int error) { return std::generic_category().message(error); }

class File {
 public:
  File(const DirectoryHandle& directory, const std::string& name)
      : path_(directory.path() + "/" + name),
        descriptor_(::openat(directory.descriptor(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)) {
    if (descriptor_ < 0) {
      const int error = errno;
      if (error == ELOOP) refuse(path_ + " is a symbolic link, which is not followed" + kCopyAgain);
      throw Error(ErrorCode::kNotFound, directory.path() + " lacks " + name + " (" + reason(error) +
                                            "): it is incomplete, or no such directory. Copy or save it again.");
    }
    struct stat status{};
    if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
      ::close(descriptor_);
      refuse(path_ + " is no regular file" + kCopyAgain);
    }
    bytes_ = static_cast<std::uint64_t>(status.st_size);
  }
  ~File() { ::close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

  // Up to `size` bytes from the start; fewer where the file ends.
  [[nodiscard]] std::string read(std::size_t size) const {
    std::string content(size, '\0');
    std::size_t done = 0;
    while (done < size) {
      const ssize_t count = ::pread(descriptor_, content.data() + done, size - done, static_cast<off_t>(done));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) refuse(path_ + " cannot be read (" + reason(errno) + ")");
      if (count == 0) break;
      done += static_cast<std::size_t>(count);
    }
    content.resize(done);
    return content;
  }

 private:
  std::string path_;
  int descriptor_;
  std::uint64_t bytes_ = 0;
};

class Mapping {
 public:
  explicit Mapping(const File& file)
      : bytes_(static_cast<std::size_t>(file.bytes())),
        data_(::mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, file.descriptor(), 0)) {
    if (data_ == MAP_FAILED) refuse(file.path() + " cannot be mapped (" + reason(errno) + ")");
  }
  ~Mapping() { ::munmap(data_, bytes_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  [[nodiscard]] const std::byte* data() const noexcept { return static_cast<const std::byte*>(data_); }

 private:
  std::size_t bytes_;
  void* data_;
};

std::span<const std::byte> bytes_of_text(const std::string& text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

// --- the manifest ---------------------------------------------------------------------------------------------------

struct Key {
  std::string_view name;
  bool may_be_null;
  bool (*fits)(const JsonValue&);
  const char* expected;
};

bool is_object(const JsonValue& value) { return value.object() != nullptr; }
bool is_text(const JsonValue& value) { return value.text() != nullptr; }
bool is_integer(const JsonValue& value) { return value.integer().has_value(); }

constexpr std::array<Key, 9> kKeys{{{"format_version", false, is_integer, "an integer"},
                                    {"kind", false, is_text, "a string"},
                                    {"model_pair", false, is_object, "an object"},
                                    {"embedder", true, is_object, "an object or null"},
                                    {"settings", false, is_object, "an object"},
                                    {"tensors", false, is_object, "an object"},
                                    {"files", false, is_object, "an object"},
                                    {"calibration", true, is_object, "an object or null"},
                                    {"provenance", false, is_object, "an object"}}};

void check_version(const JsonValue& manifest, const std::string& where) {
  const JsonValue* const entry = manifest.find("format_version");
  const auto version = entry == nullptr ? std::nullopt : entry->integer();
  if (!version || *version < 1) {
    std::string found = entry == nullptr ? "nothing" : entry->type_name();
    if (version) found = std::to_string(*version);
    refuse(where + ": format_version must be an integer from 1 to " + std::to_string(kFormatVersion) + ", found " +
           found);
  }
  if (*version > kFormatVersion) {
    refuse(where + " has format version " + std::to_string(*version) + "; this routellm-fast reads up to " +
           std::to_string(kFormatVersion) +
           ". It was written by a newer version: upgrade routellm-fast, or save the router again with this one.");
  }
}

void check_keys(const JsonValue& manifest, const std::string& where) {
  std::string faults;
  for (const Key& key : kKeys) {
    if (manifest.find(key.name) == nullptr) faults += " missing " + std::string(key.name) + ";";
  }
  for (const auto& [name, value] : *manifest.object()) {
    if (std::ranges::find(kKeys, name, &Key::name) == kKeys.end()) faults += " unknown " + shown(name) + ";";
  }
  if (!faults.empty()) {
    faults.pop_back();
    refuse(where + " does not hold the keys of format " + std::to_string(kFormatVersion) + ":" + faults);
  }
  for (const Key& key : kKeys) {
    const JsonValue& value = *manifest.find(key.name);
    if (!(key.may_be_null && value.is_null()) && !key.fits(value)) {
      refuse(where + ": " + std::string(key.name) + " must be " + key.expected + ", found " + value.type_name());
    }
  }
}

bool is_bare_name(std::string_view name) {
  // Surrogates have no UTF-8: no file system can be asked for them.
  const auto surrogate = [name](std::size_t i) {
    return name[i] == '\xED' && i + 1 < name.size() && static_cast<unsigned char>(name[i + 1]) >= 0xA0;
  };
  if (name.empty() || name.front() == '.') return false;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '/' || name[i] == '\\' || name[i] == '\0' || surrogate(i)) return false;
  }
  return true;
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

struct Recorded {
  std::uint64_t bytes;
  std::string sha256;
};

Recorded file_entry(const std::string& name, const JsonValue& entry, const std::string& where) {
  if (!is_bare_name(name)) {
    refuse(where + ": files names \"" + shown(name) + "\"; only bare names inside the directory are allowed");
  }
  const JsonValue* const bytes = entry.find("bytes");
  const JsonValue* const sha256 = entry.find("sha256");
  const std::int64_t size = bytes == nullptr ? -1 : bytes->integer().value_or(-1);
  if (!entry.has_exactly({"bytes", "sha256"}) || size < 0 || sha256->text() == nullptr || !is_sha256(*sha256->text())) {
    refuse(where + ": files." + shown(name) +
           " must be an object of bytes (an integer) and sha256 (64 hexadecimal digits)");
  }
  return {static_cast<std::uint64_t>(size), *sha256->text()};
}

// --- tensors --------------------------------------------------------------------------------------------------------

bool is_tensor_name(std::string_view name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '.';
  };
  return !name.empty() && name.front() != '.' && name != "weights" && std::ranges::all_of(name, fits);
}

struct Declared {
  DataType type;
  Shape shape;
};

// What the manifest says of a tensor; nothing where it says it in another way than the format does.
std::optional<Declared> declared(const JsonValue& entry, bool mapped) {
  const JsonValue* const dtype = entry.find("dtype");
  const JsonValue* const shape = entry.find("shape");
  const bool fits = mapped ? entry.has_exactly({"dtype", "shape", "file"}) : entry.has_exactly({"dtype", "shape"});
  if (!fits || dtype->text() == nullptr || shape->array() == nullptr) return std::nullopt;
  const auto type = type_named(*dtype->text());
  if (!type || shape->array()->size() > kMostDimensions) return std::nullopt;
  Declared result{*type, {}};
  for (const JsonValue& count : *shape->array()) {
    const auto integer = count.integer();
    if (!integer || *integer < 0) return std::nullopt;
    result.shape.push_back(static_cast<std::uint64_t>(*integer));
  }
  return result;
}

Declared mapped_entry(const std::string& name, const JsonValue& entry, const std::string& where) {
  const JsonValue* const file = entry.find("file");
  const auto found = declared(entry, true);
  if (!is_tensor_name(name) || !found || found->type == DataType::kBool || file->text() == nullptr ||
      *file->text() != name + std::string(kSuffix)) {
    refuse(where + ": tensors." + shown(name) +
           " must be an object of dtype (a number's), shape (a list of counts) and file (the name and " +
           std::string(kSuffix) + ")");
  }
  return *found;
}

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t k = 0; k < std::min(kLengthBytes, bytes.size()); ++k) {
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[k])) << 8 * k;
  }
  return value;
}

Tensor map_tensor(const DirectoryHandle& directory, const std::string& name, const Declared& description,
                  const Recorded& recorded) {
  const File file(directory, name + std::string(kSuffix));
  if (file.bytes() != recorded.bytes) {
    refuse(file.path() + " has bytes " + std::to_string(file.bytes()) + ", the manifest says " +
           std::to_string(recorded.bytes) + ": it is truncated or was changed" + kCopyAgain);
  }
  const std::uint64_t length = little_endian(file.read(kLengthBytes));
  if (length > kMostMappedHeaderBytes) {
    refuse(file.path() + ": its header claims " + std::to_string(length) + " bytes; at most " +
           std::to_string(kMostMappedHeaderBytes) + " are allowed");
  }
  const auto bytes = bytes_of(description.type, description.shape);
  const std::string header = file.read(kLengthBytes + static_cast<std::size_t>(length));
  std::string_view found = std::string_view(header).substr(std::min(kLengthBytes, header.size()));
  found = found.substr(0, found.find_last_not_of(' ') + 1);
  const std::string expected =
      bytes ? one_tensor_header(name, description.type, description.shape, *bytes) : "one of a possible size";
  if (!bytes || found != expected) {
    refuse(file.path() + ": its header is " + shown(found) + ", the manifest says " + shown(expected) + kCopyAgain);
  }
  if (header.size() % kBorder != 0 || header.size() != kLengthBytes + length) {
    refuse(file.path() + ": its data begins at byte " + std::to_string(header.size()) + "; expected a multiple of " +
           std::to_string(kBorder) + " behind the header");
  }
  if (*bytes != file.bytes() - header.size()) {
    refuse(file.path() + " has " + std::to_string(file.bytes()) + " bytes; a header of " +
           std::to_string(header.size()) + " and " + describe(description.type, description.shape) + " make " +
           std::to_string(header.size() + *bytes));
  }
  const auto mapping = std::make_shared<const Mapping>(file);
  return {description.type, description.shape, mapping->data() + header.size(), static_cast<std::size_t>(*bytes),
          mapping};
}

std::string position(std::size_t index, const Shape& shape) {
  std::vector<std::uint64_t> place(shape.size());
  for (std::size_t k = shape.size(); k-- > 0;) {
    place[k] = index % shape[k];
    index /= shape[k];
  }
  std::string text = "(";
  for (std::size_t k = 0; k < place.size(); ++k) text += (k == 0 ? "" : ", ") + std::to_string(place[k]);
  return text + (place.size() == 1 ? ",)" : ")");
}

// Entries of the manifest by a tensor's name.
using Entries = std::map<std::string, const JsonValue*, std::less<>>;

void check_weights(const TensorMap& tensors, const Entries& own, const DirectoryHandle& directory) {
  const std::string where = directory.path() + "/" + std::string(kWeightsFile);
  for (const auto& [name, entry] : own) {
    const auto expected = declared(*entry, false);
    const auto found = tensors.find(name);
    const bool same = expected && found != tensors.end() && found->second.type == expected->type &&
                      found->second.shape == expected->shape;
    if (!same) {
      refuse(where + ": tensor " + shown(name) + " is " +
             (found == tensors.end() ? "absent" : describe(found->second.type, found->second.shape)) +
             ", the manifest says " +
             (expected ? describe(expected->type, expected->shape) : "something else than its dtype and shape"));
    }
  }
  for (const auto& [name, tensor] : tensors) {
    if (!own.contains(name)) {
      refuse(where + ": tensor " + shown(name) + " is " + describe(tensor.type, tensor.shape) +
             ", the manifest says nothing of it");
    }
    if (const auto bad = first_non_finite(tensor)) {
      refuse(directory.path() + ": tensor " + shown(name) + " has " + bad->value + " at " +
             position(bad->index, tensor.shape) + "; every weight must be finite");
    }
  }
}

std::shared_ptr<const std::string> read_verified(const DirectoryHandle& directory, const std::string& name,
                                                 const Recorded& recorded) {
  const File file(directory, name);
  if (file.bytes() != recorded.bytes) {
    refuse(file.path() + " has bytes " + std::to_string(file.bytes()) + ", the manifest says " +
           std::to_string(recorded.bytes) + ": it is truncated or was changed" + kCopyAgain);
  }
  auto content = std::make_shared<const std::string>(file.read(static_cast<std::size_t>(recorded.bytes)));
  const std::string found = sha256_of(bytes_of_text(*content));
  if (found != recorded.sha256) {
    refuse(file.path() + " has sha256 " + found + ", the manifest says " + recorded.sha256 +
           ": it is truncated or was changed" + kCopyAgain);
  }
  return content;
}

}  // namespace

DirectoryHandle::DirectoryHandle(std::string path)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ < 0) {
    throw Error(ErrorCode::kNotFound, path_ + " is no directory that can be read (" + reason(errno) +
                                          "). Expected one with a " + std::string(kManifestFile) + ".");
  }
}

DirectoryHandle::DirectoryHandle(const DirectoryHandle& from, const std::string& relative)
    : path_(from.path() + "/" + relative),
      descriptor_(::openat(from.descriptor(), relative.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ < 0) {
    throw Error(ErrorCode::kNotFound, path_ + " is no directory that can be read (" + reason(errno) + ").");
  }
}

DirectoryHandle::~DirectoryHandle() { ::close(descriptor_); }

DirectoryContents read_router_directory(const DirectoryHandle& directory) {
  if constexpr (std::endian::native != std::endian::little) {
    refuse("router directories hold little-endian numbers; this library reads them on little-endian machines only.");
  }
  DirectoryContents contents;
  contents.path = directory.path();
  const std::string where = directory.path() + "/" + std::string(kManifestFile);
  {
    const File file(directory, std::string(kManifestFile));
    if (file.bytes() > kMostManifestBytes) {
      refuse(where + " is larger than the " + std::to_string(kMostManifestBytes) +
             " bytes that were expected. Copy or save it again.");
    }
    const std::string content = file.read(static_cast<std::size_t>(file.bytes()));
    contents.manifest_sha256 = sha256_of(bytes_of_text(content));
    try {
      contents.manifest = parse_json(content);
    } catch (const Error& error) {
      refuse(where + " is not valid JSON (" + error.what() + "). The directory is damaged: copy or save it again.");
    }
  }
  const JsonValue& manifest = contents.manifest;
  if (manifest.object() == nullptr) refuse(where + " must hold a JSON object, found " + manifest.type_name());
  check_version(manifest, where);
  check_keys(manifest, where);

  std::map<std::string, Recorded, std::less<>> recorded;
  for (const auto& [name, entry] : *manifest.find("files")->object()) {
    recorded.emplace(name, file_entry(name, entry, where));
  }
  Entries own;
  std::map<std::string, Declared, std::less<>> apart;  // by the name of their file
  for (const auto& [name, entry] : *manifest.find("tensors")->object()) {
    if (entry.find("file") == nullptr) {
      own.emplace(name, &entry);
      continue;
    }
    std::string file = name;
    file += kSuffix;
    apart.emplace(file, mapped_entry(name, entry, where));
    if (!recorded.contains(file)) {
      std::string text = where;
      text.append(": tensors.").append(name).append(" is in ").append(file);
      refuse(text.append(", which files does not list"));
    }
  }
  for (const auto& [name, entry] : recorded) {
    if (!apart.contains(name)) contents.files.emplace(name, read_verified(directory, name, entry));
  }
  for (const auto& [file, description] : apart) {
    const std::string name = file.substr(0, file.size() - kSuffix.size());
    contents.mapped.emplace(name, map_tensor(directory, name, description, recorded.find(file)->second));
  }
  if (const auto weights = contents.files.find(kWeightsFile); weights != contents.files.end()) {
    try {
      contents.tensors = read_safetensors(weights->second);
    } catch (const Error& error) {
      refuse(directory.path() + "/" + std::string(kWeightsFile) + " is " + error.what());
    }
    contents.files.erase(weights);
  }
  check_weights(contents.tensors, own, directory);
  return contents;
}

}  // namespace routellm_fast
