#include "directory/reader.hpp"

#include <algorithm>
#include <bit>
#include <map>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "directory/sha256.hpp"
#include "text/utf8_text.hpp"

namespace routellm_fast {
namespace {

constexpr std::string_view kModelCardFile = "README.md";
constexpr std::string_view kSuffix = ".safetensors";
constexpr std::uint64_t kMostTextBytes = std::uint64_t{64} << 20;
constexpr std::size_t kMostDimensions = 32;
constexpr std::uint64_t kMostMappedHeaderBytes = std::uint64_t{64} << 10;
constexpr std::size_t kBorder = 64;
constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kVerifiedAtOnce = std::size_t{4} << 20;

constexpr const char* kCopyAgain = ". Copy or save the directory again.";

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorCode::kBadDirectory, what); }
[[noreturn]] void refuse_damage(const std::string& what) { throw Error(ErrorCode::kDamaged, what); }

std::string sha256_of_text(std::string_view text) {
  return sha256_of(std::as_bytes(std::span<const char>(text.data(), text.size())));
}

// --- files ----------------------------------------------------------------------------------------------------------

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

void check_size(const OpenFile& file, const Recorded& recorded) {
  if (file.bytes() == recorded.bytes) return;
  refuse_damage(file.path() + " has bytes " + std::to_string(file.bytes()) + ", the manifest says " +
                std::to_string(recorded.bytes) + ": it is truncated or was changed" + kCopyAgain);
}

void check_digest(const OpenFile& file, const std::string& found, const std::string& recorded) {
  if (found == recorded) return;
  refuse_damage(file.path() + " has sha256 " + found + ", the manifest says " + recorded +
                ": it is truncated or was changed" + kCopyAgain);
}

FileContent read_verified(const DirectoryHandle& directory, const std::string& name, const Recorded& recorded,
                          const AllocateFile& allocate) {
  const OpenFile file(directory, name);
  check_size(file, recorded);
  const auto size = static_cast<std::size_t>(recorded.bytes);
  FileBuffer buffer = allocate(name, size);
  const std::string_view bytes(buffer.data, file.read(0, {buffer.data, size}));
  check_digest(file, sha256_of_text(bytes), recorded.sha256);
  return {bytes, std::move(buffer.owner)};
}

std::string read_manifest(const DirectoryHandle& directory, const DirectoryLayout& layout) {
  const OpenFile file(directory, layout.manifest_file);
  if (file.bytes() > kMostTextBytes) {
    refuse_damage(file.path() + " is larger than the " + std::to_string(kMostTextBytes) +
                  " bytes that were expected. Copy or save it again.");
  }
  return file.read(static_cast<std::size_t>(file.bytes()));
}

// The only file without a digest: it is prose, free to be edited, and may be missing.
std::string read_model_card(const DirectoryHandle& directory) {
  try {
    const OpenFile file(directory, std::string(kModelCardFile));
    return file.bytes() > kMostTextBytes ? "" : file.read(static_cast<std::size_t>(file.bytes()));
  } catch (const Error&) {
    if (directory.was_replaced()) throw;  // it was removed with the old directory
    return "";
  }
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

std::shared_ptr<const MappedFile> map_file(const DirectoryHandle& directory, const std::string& name,
                                           const Declared& description, const Recorded& recorded) {
  const OpenFile file(directory, name + std::string(kSuffix));
  check_size(file, recorded);
  const std::uint64_t length = little_endian(file.read(kLengthBytes));
  if (length > kMostMappedHeaderBytes) {
    refuse(file.path() + ": its header claims " + std::to_string(length) + " bytes; at most " +
           std::to_string(kMostMappedHeaderBytes) + " are allowed");
  }
  const auto bytes = bytes_of(description.type, description.shape);
  std::string header = file.read(kLengthBytes + static_cast<std::size_t>(length));
  std::string_view found = std::string_view(header).substr(std::min(kLengthBytes, header.size()));
  while (found.ends_with(' ')) found.remove_suffix(1);
  const std::string expected =
      bytes ? one_tensor_header(name, description.type, description.shape, *bytes) : "one of a possible size";
  if (!bytes || found != expected) {
    refuse(file.path() + ": its header is \"" + shown(found) + "\", the manifest says " + shown(expected) + kCopyAgain);
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
  return std::make_shared<const MappedFile>(file, std::move(header), recorded.sha256);
}

std::string position(std::size_t index, const Shape& shape) {
  std::vector<std::uint64_t> place(shape.size());
  for (std::size_t k = shape.size(); k > 0; --k) {
    place[k - 1] = index % shape[k - 1];
    index /= shape[k - 1];
  }
  std::string text = "(";
  for (std::size_t k = 0; k < place.size(); ++k) text += (k == 0 ? "" : ", ") + std::to_string(place[k]);
  return text + (place.size() == 1 ? ",)" : ")");
}

[[noreturn]] void refuse_non_finite(const DirectoryHandle& directory, const std::string& tensor, const char* value,
                                    std::size_t index, const Shape& shape) {
  refuse_damage(directory.path() + ": tensor " + shown(tensor) + " has " + value + " at " + position(index, shape) +
                "; every weight must be finite");
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
      refuse_non_finite(directory, name, bad->value, bad->index, tensor.shape);
    }
  }
}

// What a manifest says of files and tensors.
struct Listed {
  std::map<std::string, Recorded, std::less<>> files;
  Entries own;                                         // tensors of weights.safetensors
  std::map<std::string, Declared, std::less<>> apart;  // mapped tensors, by the name of their file
};

Listed list_contents(const JsonValue& manifest, const std::string& where) {
  Listed listed;
  for (const auto& [name, entry] : *manifest.find("files")->object()) {
    listed.files.emplace(name, file_entry(name, entry, where));
  }
  for (const auto& [name, entry] : *manifest.find("tensors")->object()) {
    if (entry.find("file") == nullptr) {
      listed.own.emplace(name, &entry);
      continue;
    }
    std::string file = name;
    file += kSuffix;
    listed.apart.emplace(file, mapped_entry(name, entry, where));
    if (!listed.files.contains(file)) {
      std::string text = where;
      text.append(": tensors.").append(name).append(" is in ").append(file);
      refuse(text.append(", which files does not list"));
    }
  }
  return listed;
}

void map_tensors(const DirectoryHandle& directory, const Listed& listed, DirectoryContents& contents) {
  for (const auto& [file, description] : listed.apart) {
    const std::string name = file.substr(0, file.size() - kSuffix.size());
    const auto mapped = map_file(directory, name, description, listed.files.find(file)->second);
    const auto bytes = bytes_of(description.type, description.shape).value_or(0);
    contents.mapped.emplace(
        name, Tensor{description.type, description.shape, mapped->data(), static_cast<std::size_t>(bytes), mapped});
    contents.mapped_files.emplace(name, mapped);
  }
}

// Reads one file of a mapped tensor whole. on_bytes is called with the size of each piece.
template <typename OnBytes>
void verify_file(const DirectoryHandle& directory, const std::string& name, const Tensor& tensor,
                 const MappedFile& mapped, std::vector<char>& buffer, const OnBytes& on_bytes) {
  const OpenFile file(directory, name + std::string(kSuffix));
  // The name may lead to another file by now, by a link for instance: of that one nothing is mapped.
  if (!file.identity().is_same_file(mapped.identity())) {
    refuse_damage(file.path() +
                  " was replaced by another file while it was in use. Load and verify the directory again.");
  }
  Sha256 digest;
  std::optional<std::pair<NonFinite, std::size_t>> bad;
  const auto take = [&](std::uint64_t offset, std::size_t size) {
    const std::size_t count = file.read(offset, std::span(buffer).first(size));
    digest.update(std::as_bytes(std::span(buffer).first(count)));
    on_bytes(count);
    return count;
  };
  std::uint64_t offset = take(0, mapped.header().size());
  std::size_t first = 0;  // value of the tensor that the piece begins with
  while (const std::size_t count = take(offset, buffer.size())) {
    const Tensor piece{tensor.type, {}, reinterpret_cast<const std::byte*>(buffer.data()), count, nullptr};
    const auto found = bad ? std::nullopt : first_non_finite(piece);
    if (found) bad.emplace(*found, first);
    first += piece.count();
    offset += count;
  }
  // The digest first: where it differs, a value that is not finite is but a consequence.
  check_digest(file, digest.finish(), mapped.sha256());
  if (bad) refuse_non_finite(directory, name, bad->first.value, bad->second + bad->first.index, tensor.shape);
}

constexpr std::string_view kDigestPrefix = "sha256:";

// The digits of a digest that a caller gave.
std::string checked_digest(std::string_view given) {
  const std::string_view digits = given.starts_with(kDigestPrefix) ? given.substr(kDigestPrefix.size()) : given;
  if (is_sha256(digits)) return std::string(digits);
  throw Error(ErrorCode::kInvalidArgument,
              "a router's digest is sha256: and 64 hexadecimal digits in lower case, found '" + shown(given) +
                  "'. `routellm-fast info ROUTER --digest` prints it.");
}

void check_directory_digest(const std::string& found, const std::string& expected, const std::string& manifest_path) {
  if (found == expected) return;
  refuse_damage(manifest_path + " has sha256 " + found + ", the digest that was asked for is " + expected +
                ": this is another router, or it was changed. Fetch the right one, or, if you trust this one, give its "
                "digest.");
}

DirectoryContents read(const DirectoryHandle& directory, const DirectoryLayout& layout, const AllocateFile& allocate,
                       const std::optional<std::string>& digest) {
  if constexpr (std::endian::native != std::endian::little) {
    refuse("router directories hold little-endian numbers; this library reads them on little-endian machines only.");
  }
  const std::string manifest_path = directory.path() + "/" + layout.manifest_file;
  DirectoryContents contents;
  contents.path = directory.path();
  contents.is_directory = true;
  {
    const std::string content = read_manifest(directory, layout);
    contents.manifest_sha256 = sha256_of_text(content);
    if (digest) check_directory_digest(contents.manifest_sha256, checked_digest(*digest), manifest_path);
    contents.manifest = parse_manifest(content, layout, directory.path());
  }
  const Listed listed = list_contents(contents.manifest, manifest_path);
  for (const auto& [name, entry] : listed.files) {
    if (!listed.apart.contains(name)) contents.files.emplace(name, read_verified(directory, name, entry, allocate));
  }
  map_tensors(directory, listed, contents);
  if (const auto weights = contents.files.find(kWeightsFile); weights != contents.files.end()) {
    try {
      contents.tensors = read_safetensors(weights->second);
    } catch (const Error& error) {
      refuse(directory.path() + "/" + std::string(kWeightsFile) + " is " + error.what());
    }
    contents.files.erase(weights);
  }
  check_weights(contents.tensors, listed.own, directory);
  contents.model_card = read_model_card(directory);
  if (digest) verify_mapped(directory, contents, {});
  return contents;
}

[[noreturn]] void refuse_memory(const DirectoryHandle& directory) {
  throw Error(ErrorCode::kOutOfMemory, directory.path() +
                                           " needs more memory than this process can get. Allow it more, or load a "
                                           "smaller router.");
}

}  // namespace

FileBuffer allocate_file(const std::string& /*name*/, std::size_t bytes) {
  auto memory = std::make_shared<std::string>(bytes, '\0');
  char* const data = memory->data();
  return {data, std::move(memory)};
}

DirectoryContents read_directory(const DirectoryHandle& directory, const DirectoryLayout& layout,
                                 const AllocateFile& allocate, const std::optional<std::string>& digest) {
  try {
    return read(directory, layout, allocate, digest);
  } catch (const std::bad_alloc&) {
    refuse_memory(directory);
  } catch (const std::length_error&) {
    refuse_memory(directory);
  }
}

std::uint64_t verify_mapped(const DirectoryHandle& directory, const DirectoryContents& contents,
                            const OnVerified& on_verified) {
  std::uint64_t total = 0;
  for (const auto& [name, entry] : *contents.entry("files").object()) {
    total += static_cast<std::uint64_t>(entry.find("bytes")->integer().value_or(0));
  }
  std::uint64_t done = total;
  for (const auto& [name, mapped] : contents.mapped_files) done -= mapped->identity().bytes;
  std::vector<char> buffer(contents.mapped_files.empty() ? 0 : kVerifiedAtOnce);
  for (const auto& [name, mapped] : contents.mapped_files) {
    verify_file(directory, name, contents.mapped.find(name)->second, *mapped, buffer, [&](std::size_t bytes) {
      done += bytes;
      if (bytes > 0 && on_verified) on_verified(done, total);
    });
  }
  return total;
}

}  // namespace routellm_fast
