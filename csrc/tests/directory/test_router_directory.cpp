#include <doctest/doctest.h>
#include <sys/stat.h>

#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "directory/reader.hpp"
#include "router/router.hpp"
#include "support/scratch_directory.hpp"

namespace routellm_fast {
namespace {

namespace fs = std::filesystem;

// Loads what `damage` leaves of a golden directory, and returns the error's text; its code must be `expected`.
std::string refusal(const std::string& name, const std::function<void(const ScratchDirectory&)>& damage,
                    ErrorCode expected = ErrorCode::kBadDirectory) {
  const ScratchDirectory directory(name);
  damage(directory);
  try {
    (void)load_router(directory.path().string(), {});
  } catch (const Error& error) {
    CHECK(error.code() == expected);
    CHECK(std::string(error.what()).find(directory.path().string()) != std::string::npos);
    return error.what();
  }
  return "was loaded";
}

bool has(const std::string& text, const std::string& part) {
  CAPTURE(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK_MESSAGE(found, "expected: " << part);
  return found;
}

// Damage by the replacement of a text in router.json.
std::string edited(const std::string& name, const std::string& from, const std::string& to,
                   ErrorCode expected = ErrorCode::kBadDirectory) {
  return refusal(name, [&](const ScratchDirectory& d) { d.edit("router.json", from, to); }, expected);
}

// A replacement in router.json, and what the error of loading must say.
struct Edit {
  std::string from;
  std::string to;
  std::string says;
};

void refuses_each(const std::string& name, const std::vector<Edit>& edits) {
  for (const Edit& edit : edits) has(edited(name, edit.from, edit.to), edit.says);
}

TEST_CASE("the golden directories give the recorded win rates") {
  const JsonValue record = parse_json(read_text(golden("expected.json")));
  std::vector<float> embeddings;
  embeddings.reserve(27);
  for (int i = 0; i < 27; ++i) embeddings.push_back(static_cast<float>(-1.0 + 2.0 * i / 26.0));
  std::vector<Excerpt> texts;
  for (const JsonValue& prompt : *record.find("prompts")->array()) texts.push_back(Excerpt::of(*prompt.text()));
  std::size_t seen = 0;
  for (const auto& [name, entry] : *record.find("routers")->object()) {
    if (!name.starts_with("mf-") && !name.starts_with("sw-")) continue;
    CAPTURE(name);
    const auto router = load_router(golden(name).string(), {});
    double tolerance = 1e-6;
    if (name == "sw-int8") tolerance = 0.04;
    if (name == "sw-moments") tolerance = 0.11;
    std::vector<float> found(3);
    router->win_rates(embeddings.data(), 3, Source::kCaller, std::nullopt, found.data());
    for (std::size_t i = 0; i < 3; ++i) {
      const double expected = (*entry.find("from_embeddings")->array())[i].number()->value;
      CHECK(std::abs(static_cast<double>(found[i]) - expected) <= tolerance);
    }
    if (const auto* const expected = entry.find("win_rates")->array()) {
      REQUIRE(router->reads_text());
      found.resize(texts.size());
      router->win_rates({.texts = texts}, std::nullopt, found.data());
      for (std::size_t i = 0; i < texts.size(); ++i) {
        CHECK(std::abs(static_cast<double>(found[i]) - (*expected)[i].number()->value) <= tolerance);
      }
    } else {
      CHECK_FALSE(router->reads_text());
    }
    ++seen;
  }
  CHECK(seen >= 8);
}

TEST_CASE("what is no directory, or lacks a file, is not found") {
  CHECK_THROWS_WITH_AS((void)load_router("/no/such/place", {}), doctest::Contains("No such file"), Error);
  CHECK_THROWS_WITH_AS((void)load_router(golden("expected.json").string(), {}), doctest::Contains("Not a directory"),
                       Error);
  for (const std::string file : {"router.json", "weights.safetensors", "bank.safetensors", "codes.1.safetensors"}) {
    has(refusal("sw-int8", [&](const auto& d) { fs::remove(d.path() / file); }, ErrorCode::kNotFound), "lacks " + file);
  }
}

TEST_CASE("files that are truncated, longer, changed, or no files are refused") {
  for (const std::string file : {"tokenizer.json", "weights.safetensors", "bank.safetensors", "codes.safetensors"}) {
    CAPTURE(file);
    has(refusal(
            "sw-int8", [&](const auto& d) { fs::resize_file(d.path() / file, 100); }, ErrorCode::kDamaged),
        "is truncated or was changed");
    has(refusal(
            "sw-int8", [&](const auto& d) { d.write(file, d.read(file) + " "); }, ErrorCode::kDamaged),
        "is truncated or was changed");
    has(refusal(
            "sw-int8", [&](const auto& d) { d.write(file, ""); }, ErrorCode::kDamaged),
        "is truncated or was changed");
    has(refusal(
            "sw-int8",
            [&](const auto& d) {
              fs::remove(d.path() / file);
              fs::create_symlink(d.parent(), d.path() / file);
            },
            ErrorCode::kDamaged),
        "no regular file");
    has(refusal(
            "sw-int8",
            [&](const auto& d) {
              fs::remove(d.path() / file);
              fs::create_symlink("../nowhere", d.path() / file);
            },
            ErrorCode::kNotFound),
        "is a symbolic link to ../nowhere, which cannot be opened (No such file or directory)");
    has(refusal(
            "sw-int8",
            [&](const auto& d) {
              fs::remove(d.path() / file);
              fs::create_symlink(file, d.path() / file);
            },
            ErrorCode::kNotFound),
        "is a symbolic link to " + file + ", which cannot be opened (Too many levels");
    has(refusal(
            "sw-int8",
            [&](const auto& d) {
              fs::remove(d.path() / file);
              fs::create_symlink("router.json", d.path() / file);
            },
            ErrorCode::kDamaged),
        "is truncated or was changed");
    has(refusal(
            "sw-int8",
            [&](const auto& d) {
              fs::remove(d.path() / file);
              fs::create_directory(d.path() / file);
            },
            ErrorCode::kDamaged),
        "no regular file");
    has(refusal(
            "sw-int8",
            [&](const auto& d) {
              fs::remove(d.path() / file);
              REQUIRE(mkfifo((d.path() / file).c_str(), 0600) == 0);
            },
            ErrorCode::kDamaged),
        "no regular file");
  }
  has(refusal(
          "mf-int8-folded",
          [](const auto& d) {
            std::string weights = d.read("weights.safetensors");
            weights.back() = static_cast<char>(weights.back() ^ 1);
            d.write("weights.safetensors", weights);
          },
          ErrorCode::kDamaged),
      "has sha256");
  // A mapped tensor's data is not read at loading.
  const ScratchDirectory directory("sw-int8");
  std::string bank = directory.read("bank.1.safetensors");
  bank.back() = static_cast<char>(bank.back() ^ 1);
  directory.write("bank.1.safetensors", bank);
  CHECK_NOTHROW((void)load_router(directory.path().string(), {}));
}

TEST_CASE("a directory of symbolic links is the router that they lead to") {
  const ScratchDirectory scratch("sw-int8");
  const auto plain = load_router(scratch.path().string(), {});
  scratch.link_files();
  fs::create_directory_symlink(scratch.path(), scratch.parent() / "current");
  for (const fs::path& place : {scratch.path(), scratch.parent() / "current"}) {
    const auto linked = load_router(place.string(), {});
    const Excerpt texts[2] = {Excerpt::of("prove the a b c?"), Excerpt::of("")};
    float found[2];
    float expected[2];
    linked->win_rates({.texts = texts}, std::nullopt, found);
    plain->win_rates({.texts = texts}, std::nullopt, expected);
    CHECK(std::ranges::equal(found, expected));
  }
  // What is verified is what was mapped, wherever the link leads by then.
  const DirectoryHandle handle(scratch.path().string(), "router.json");
  const DirectoryContents contents = read_directory(handle, router_layout());
  CHECK(verify_mapped(handle, contents, {}) > 0);
  fs::copy_file(scratch.parent() / "blobs" / "blob-of-bank.safetensors", scratch.parent() / "blobs" / "copy");
  fs::remove(scratch.path() / "bank.safetensors");
  fs::create_symlink("../blobs/copy", scratch.path() / "bank.safetensors");
  CHECK_THROWS_WITH_AS((void)verify_mapped(handle, contents, {}), doctest::Contains("was replaced by another file"),
                       Error);
}

TEST_CASE("a manifest of another version, or with other keys or types") {
  const std::string version = "\"format_version\": 1";
  has(edited("mf-none", version, "\"format_version\": 2", ErrorCode::kNewerVersion), "upgrade routellm-fast");
  for (const std::string other : {"0", "-1", "1.0", "true", "\"1\"", "null", "99999999999999999999"}) {
    has(edited("mf-none", version, "\"format_version\": " + other), "format_version must be an integer");
  }
  refuses_each("mf-none", {
                              {version + ",", "", "format_version must be an integer from 1 to 1, found nothing"},
                              {version, version + ", \"extra\": 1", "unknown extra"},
                              {R"("kind": "mf",)", "", "missing kind"},
                              {R"("kind": "mf")", R"("kind": "mf", "kind": "mf")", "stands twice"},
                              {R"("kind": "mf")", "\"kind\": 1", "kind must be a string, found a number"},
                              {"\"embedder\": null", "\"embedder\": []", "embedder must be an object or null"},
                              {"\"provenance\": {", R"("provenance": {"x": NaN)", "is not valid JSON"},
                          });
  has(refusal("mf-none", [](const auto& d) { d.write("router.json", "[]"); }), "must hold a JSON object");
  has(refusal("mf-none", [](const auto& d) { d.write("router.json", ""); }), "is not valid JSON");
  has(refusal("mf-none", [](const auto& d) { fs::resize_file(d.path() / "router.json", 60); }), "is not valid JSON");
}

TEST_CASE("kinds that the core does not run are named, with what to do") {
  has(refusal("random", [](const auto&) {}), "Load it with the Python package");
  has(edited("mf-none", R"("kind": "mf")", R"("kind": "bert")"), "kind \"bert\"; this library runs mf and sw_ranking");
}

TEST_CASE("entries of files and tensors that break the format") {
  for (const std::string name : {"../x", "a/b", ".x", "", "a\\\\b", "a\\u0000b", "\\ud800"}) {
    CAPTURE(name);
    has(edited("mf-none", "\"weights.safetensors\": {", "\"" + name + "\": {"), "only bare names");
  }
  refuses_each("mf-none", {
                              {R"("sha256": ")", R"("sha256": "X)", "64 hexadecimal digits"},
                              {"\"bytes\": ", "\"bytes\": -", "bytes (an integer)"},
                              {"\"bytes\": ", R"("more": 1, "bytes": )", "must be an object of bytes"},
                              {"\"shape\": [3, 4]", "\"shape\": [4, 3]", "the manifest says float32 (4, 3)"},
                              {R"("P": {"dtype": "float32")", R"("P": {"dtype": "float64")", "float64 (3, 4)"},
                              {"\"P\": {", "\"Q\": {", "tensor Q is absent"},
                              {"\"shape\": [3, 4]", "\"shape\": [3, -4]", "something else"},
                          });
  refuses_each("sw-float32",
               {
                   {R"("file": "bank.safetensors")", R"("file": "bank.1.safetensors")", "tensors.bank must be"},
                   {R"("file": "bank.safetensors")", R"("file": "../bank.safetensors")", "tensors.bank must be"},
                   {R"("bank": {"dtype": "float32")", R"("bank": {"dtype": "float64")", "its header is"},
                   {R"("bank": {"dtype": "float32")", R"("bank": {"dtype": "bool")", "tensors.bank must be"},
                   {R"("bank.safetensors": {"bytes")", R"("other.safetensors": {"bytes")", "which files does not list"},
               });
}

// The header of a safetensors file, and what is behind it.
struct Parts {
  std::string header;
  std::string data;
};

Parts parts_of(const std::string& file) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  return {file.substr(8, length), file.substr(8 + length)};
}

std::string joined(const Parts& parts) {
  const std::uint64_t length = parts.header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  return file + parts.header + parts.data;
}

std::string with_header(const std::string& from, const std::string& to) {
  return refusal("mf-none", [&](const auto& d) {
    Parts parts = parts_of(d.read("weights.safetensors"));
    const std::size_t at = parts.header.find(from);
    REQUIRE(at != std::string::npos);
    parts.header.replace(at, from.size(), to);
    d.write_recorded("weights.safetensors", joined(parts));
  });
}

TEST_CASE("weights.safetensors with a header that is damaged, or says other things than the manifest") {
  const std::vector<Edit> edits = {
      {R"("dtype":"F32")", R"("dtype":"F99")", "unknown dtype"},
      {R"("dtype":"F32")", R"("dtype":"I32")", "is int32"},
      {"\"shape\":[", "\"shape\":[1,", "the manifest says"},
      {"\"shape\":[", "\"shape\":[2,", "at bytes"},
      {"\"shape\":[", "\"shape\":[-2,", "no counts"},
      {"\"shape\":[", "\"shape\":[9223372036854775807,9223372036854775807,", "at bytes"},
      {"\"data_offsets\":[0", "\"data_offsets\":[4", "at bytes"},
      {"{\"", R"({"P":0,")", "no safetensors file"},
      {"}", "", "not valid JSON"},
  };
  for (const Edit& edit : edits) has(with_header(edit.from, edit.to), edit.says);
  const auto recorded = [](const std::string& content) {
    return refusal("mf-none", [&](const auto& d) { d.write_recorded("weights.safetensors", content); });
  };
  has(recorded(""), "it has 0 bytes");
  has(recorded("1234567"), "it has 7 bytes");
  has(recorded(std::string(8, '\xFF')), "its header claims");
  has(recorded(joined({"{}", ""})), "is absent");
  has(recorded(joined({"[]", ""})), "no object");
  has(recorded(joined({"{}", "x"})), "belong to no tensor");
}

TEST_CASE("a weight that is not finite is named with its place") {
  for (const auto& [value, shown] :
       {std::pair<std::uint32_t, std::string>{0x7FC00000U, "nan"}, {0x7F800000U, "inf"}, {0xFF800000U, "-inf"}}) {
    has(refusal(
            "mf-none",
            [&](const auto& d) {
              Parts parts = parts_of(d.read("weights.safetensors"));
              std::memcpy(parts.data.data() + 4 * 5, &value, sizeof(value));  // P is first: row 1, column 1
              d.write_recorded("weights.safetensors", joined(parts));
            },
            ErrorCode::kDamaged),
        "tensor P has " + shown + " at (1, 1); every weight must be finite");
  }
}

TEST_CASE("mapped tensors with another header or size") {
  const auto recorded = [](const std::function<void(std::string&)>& change) {
    return refusal("sw-float32", [&](const auto& d) {
      std::string content = d.read("bank.safetensors");
      change(content);
      d.write_recorded("bank.safetensors", content);
    });
  };
  has(recorded([](std::string& c) { c[10] = 'B'; }), "its header is");
  has(recorded([](std::string& c) { c[0] = '\xF0'; }), "its data begins at byte 4088");
  has(recorded([](std::string& c) { c[4] = '\x01'; }), "its header claims");
  has(recorded([](std::string& c) { c += "four"; }), "bytes; a header of");
  has(recorded([](std::string& c) { c.resize(4); }), "its header is");
  has(recorded([](std::string& c) { c.clear(); }), "its header is");
  has(recorded([](std::string& c) {
        const Parts parts = parts_of(c);
        c = joined({parts.header + "   ", parts.data});
      }),
      "expected a multiple of 64");
}

// Lets another directory with the same contents take the place of one, and takes the old one apart, as saving does.
void replace(const ScratchDirectory& directory) {
  const fs::path old = directory.parent() / "old";
  fs::rename(directory.path(), old);
  fs::copy(old, directory.path(), fs::copy_options::recursive);
  fs::remove_all(old);
}

TEST_CASE("a directory that is replaced while it is read is read anew") {
  const ScratchDirectory directory("mf-int8-folded");
  for (const int replaced_attempts : {0, 1, 3, 1000}) {
    CAPTURE(replaced_attempts);
    int attempts = 0;
    const auto read = [&] {
      return read_current([&] { return DirectoryHandle(directory.path().string(), "router.json"); },
                          [&](const DirectoryHandle& handle) {
                            bool is_first = true;
                            ++attempts;
                            return read_directory(handle, router_layout(), [&](const auto& name, std::size_t bytes) {
                              if (is_first && attempts <= replaced_attempts) replace(directory);
                              is_first = false;
                              return allocate_file(name, bytes);
                            });
                          });
    };
    if (replaced_attempts < 1000) {
      CHECK_FALSE(read().model_card.empty());
      CHECK(attempts == replaced_attempts + 1);
    } else {  // somebody who replaces it without end
      CHECK_THROWS_AS((void)read(), Error);
      CHECK(attempts == 100);
    }
  }
}

TEST_CASE("a model card that goes with an old directory is not taken for none") {
  const ScratchDirectory directory("mf-int8-folded");
  const DirectoryHandle handle(directory.path().string(), "router.json");
  CHECK_FALSE(handle.was_replaced());
  (void)read_directory(handle, router_layout(),
                       [&](const auto& name, std::size_t bytes) { return allocate_file(name, bytes); });
  const auto replaced_late = [&](const auto& name, std::size_t bytes) {
    if (name == "weights.safetensors") replace(directory);  // the last file but the model card
    return allocate_file(name, bytes);
  };
  CHECK_THROWS_AS((void)read_directory(handle, router_layout(), replaced_late), Error);
  CHECK(handle.was_replaced());
  fs::remove_all(directory.path());
  CHECK_FALSE(handle.was_replaced());
}

TEST_CASE("verifying reads what loading only maps") {
  const ScratchDirectory scratch("sw-int8");
  const auto verify = [&] {
    const DirectoryHandle handle(scratch.path().string(), "router.json");
    std::uint64_t last = 0;
    const std::uint64_t total =
        verify_mapped(handle, read_directory(handle, router_layout()), [&](std::uint64_t done, std::uint64_t all) {
          CHECK(done > last);
          CHECK(done <= all);
          last = done;
        });
    CHECK(last == total);
    return total;
  };
  CHECK(verify() > 0);
  std::string bank = scratch.read("bank.1.safetensors");
  const float nothing = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(bank.data() + bank.size() - sizeof nothing, &nothing, sizeof nothing);
  scratch.write("bank.1.safetensors", bank);
  CHECK_THROWS_WITH_AS((void)verify(), doctest::Contains("bank.1.safetensors has sha256"), Error);
  scratch.write_recorded("bank.1.safetensors", bank);
  CHECK_THROWS_WITH_AS((void)verify(),
                       doctest::Contains("tensor bank.1 has nan at (8, 8); every weight must be finite"), Error);
}

TEST_CASE("a manifest of an older version is migrated step by step") {
  const auto text_of = [](const JsonValue& manifest, std::string_view key) { return *manifest.find(key)->text(); };
  static constexpr std::array<Migration, 2> kSteps{
      [](JsonValue manifest) {
        JsonValue copied(*manifest.find("a")->text());
        return std::move(manifest).with("b", std::move(copied));
      },
      [](JsonValue manifest) {
        JsonValue copied(*manifest.find("b")->text());
        return std::move(manifest).with("a", JsonValue(true)).with("c", std::move(copied));
      }};
  const JsonValue migrated_from_1 = migrated(parse_json(R"({"format_version": 1, "a": "x"})"), "here", kSteps);
  CHECK(migrated_from_1.find("format_version")->integer() == 3);
  CHECK(*migrated_from_1.find("a")->boolean());
  CHECK(text_of(migrated_from_1, "b") == "x");
  CHECK(text_of(migrated_from_1, "c") == "x");
  const JsonValue migrated_from_2 = migrated(parse_json(R"({"format_version": 2, "b": "y"})"), "here", kSteps);
  CHECK(text_of(migrated_from_2, "c") == "y");
  const JsonValue current = migrated(parse_json(R"({"format_version": 3})"), "here", kSteps);
  CHECK(current.has_exactly({"format_version"}));
  CHECK_THROWS_WITH_AS((void)migrated(parse_json(R"({"format_version": 4})"), "here", kSteps),
                       doctest::Contains("here has format version 4; this routellm-fast reads up to 3"), Error);
}

TEST_CASE("the rules of the kinds") {
  refuses_each("mf-none",
               {
                   {R"("strong": "strong-model", "weak": "weak-model"}})", R"("strong": "x", "weak": "y"}})",
                    "none of the 3 models"},
                   {R"("models": ["strong-model", "weak-model", "c"])", R"("models": ["strong-model", "weak-model"])",
                    "needs P, float32 (2, 4)"},
                   {R"("models": ["strong-model", "weak-model", "c"])",
                    R"("models": ["strong-model", "weak-model", "weak-model"])", "must be distinct"},
                   {"\"models\": [", "\"models\": [1, ", "list of names"},
                   {"\"settings\": {", R"("settings": {"more": 1, )", "an mf router's settings hold"},
                   {"\"model_pair\": {", R"("model_pair": {"more": 1, )", "model_pair holds strong and weak"},
                   {R"("model_pair": {"strong": "strong-model")", R"("model_pair": {"strong": "")", "two names"},
               });
  refuses_each("sw-int8", {
                              {"\"num_tiers\": 4", "\"num_tiers\": 1", "2 to 255 tiers"},
                              {"\"num_tiers\": 4", "\"num_tiers\": 2", "are in tiers 0 to 1"},
                              {"\"blocks\": 2", "\"blocks\": 0", "at least one block"},
                              {"\"blocks\": 2", "\"blocks\": 1", "the blocks have"},
                              {"\"blocks\": 2", "\"blocks\": 3", "needs bank.2"},
                              {R"("same_tier": "routellm")", R"("same_tier": "other")", "same_tier is one of"},
                              {R"("solver": "exact")", "\"solver\": 1", "solver is one of"},
                              {R"("precision": "int8")", R"("precision": "int4")", "precision of int8 or moments"},
                              {R"("precision": "int8")", R"("precision": "moments")", "needs centroids"},
                              {"\"reach\": 0.", "\"reach\": 50.", "reach is a number from 0 to 4"},
                              {"\"left_out\": 0.", "\"left_out\": -0.", "left_out is a number from 0 to 4"},
                          });
}

TEST_CASE("embedders: the static one has to be the recorded one") {
  const std::string name = "mf-int8-folded";
  refuses_each(name,
               {
                   {R"("fingerprint": "sha256:4)", R"("fingerprint": "sha256:5)", "its vectors mean something else"},
                   {"\"normalize\": false", "\"normalize\": true", "its vectors mean something else"},
                   {"\"dim\": 9", "\"dim\": 8", "(dim 8)"},
                   {"\"max_tokens\": 512", "\"max_tokens\": 0", "max_tokens must be an integer from 1 on"},
                   {"\"max_tokens\": 512", "\"max_words\": 512", "found max_words"},
                   {"\"normalize\": false", "\"normalize\": 0", "found normalize, a number"},
                   {"\"question_marks\"", "\"exclamation_marks\"", "do not fit together"},
                   {R"("kind": "static")", R"("kind": "other")", "unknown embedder kind"},
                   {R"("kind": "static")", R"("kind": "shipped")", "a shipped embedder has the settings"},
               });
  const auto tokenizer = [&](const std::string& from, const std::string& to) {
    return refusal(name, [&](const auto& d) {
      std::string content = d.read("tokenizer.json");
      REQUIRE(content.find(from) != std::string::npos);
      d.write_recorded("tokenizer.json", content.replace(content.find(from), from.size(), to));
    });
  };
  has(tokenizer(R"("unk_token": "[UNK]")", R"("unk_token": "[NOT]")"), "the unknown token is not in the vocabulary");
  has(tokenizer("\"[PAD]\": 0", "\"[PAD]\": -1"), "vocab is an object of a form");
  has(tokenizer("{", "["), "is not valid JSON");
  has(tokenizer("\"model\"", "\"modem\""), "object with a model");
  has(tokenizer("\"lowercase\": true", "\"lowercase\": false"), "its vectors mean something else");
}

TEST_CASE("an embedder that its owner runs, or a tokenizer of another kind, leaves a router of embeddings") {
  const ScratchDirectory directory("mf-external");
  for (const std::string kind : {"external", "openai", "onnx"}) {
    const std::string text = directory.read("router.json");
    directory.edit("router.json", R"("kind": "external")", R"("kind": ")" + kind + "\"");
    const auto router = load_router(directory.path().string(), {});
    CHECK_FALSE(router->reads_text());
    const Excerpt hello = Excerpt::of("hello");
    float unused = 0.0F;
    CHECK_THROWS_WITH_AS(router->win_rates({.texts = {&hello, 1}}, std::nullopt, &unused),
                         doctest::Contains(("is of kind " + kind).c_str()), Error);
    directory.write("router.json", text);
  }
}

TEST_CASE("the shipped embedder is read beside the router, and has to be the recorded one") {
  const ScratchDirectory directory("mf-int8-folded");
  // The golden router's own embedder, by reference: its features left out, so the router of 9 dimensions cannot use it.
  const fs::path mf = directory.parent() / "mf";
  fs::copy(directory.path(), mf);
  directory.edit("router.json", R"("kind": "static")", R"("kind": "shipped")");
  const std::string own =
      R"("settings": {"max_code_points": 32768, "max_tokens": 512, "normalize": false, "surface_features": ["constant", "log_tokens", "question_marks"]})";
  directory.edit("router.json", own, R"("settings": {"router": "mf", "surface_features": []})");
  CHECK_THROWS_WITH_AS((void)load_router(directory.path().string(), {}), doctest::Contains("(dim 9)"), Error);
  directory.edit("router.json", "\"dim\": 9", "\"dim\": 6");
  CHECK_THROWS_WITH_AS((void)load_router(directory.path().string(), {}), doctest::Contains("fingerprint"), Error);
  fs::remove_all(mf);
  try {
    (void)load_router(directory.path().string(), {});
    FAIL("was loaded");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::kNotFound);
    has(error.what(), "keep the two side by side");
  }
}

TEST_CASE("a manifest with a digest of itself is read as it was written, or not at all") {
  const std::string name = "mf-own-digest";
  const ScratchDirectory directory(name);
  const std::string manifest = directory.read("router.json");
  CHECK(load_router(directory.path().string(), {})->model_pair().strong == "strong-model");
  for (std::size_t at = 0; at < manifest.size(); at += 7) {
    std::string flipped = manifest;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << at % 8));
    directory.write("router.json", flipped);
    CAPTURE(at);
    CHECK_THROWS_AS((void)load_router(directory.path().string(), {}), Error);
  }
  has(edited(name, "strong-model", "strong-modem", ErrorCode::kDamaged), "damaged or was edited");
  has(edited(name, R"("manifest_sha256": ")", R"("manifest_sha256": "0)"), "64 hexadecimal digits");
  has(edited(name, R"("manifest_sha256": ")", R"("manifest_sha256": 1, "other": ")"), "64 hexadecimal digits");
  // Whoever edits it takes the digest out.
  const std::size_t line = manifest.find("\"manifest_sha256\"");
  directory.write("router.json", std::string(manifest).erase(line, manifest.find('\n', line) + 1 - line));
  CHECK(load_router(directory.path().string(), {})->reads_text());
}

TEST_CASE("a model name with a zero character is another name in C, and refused") {
  has(edited("mf-none", R"("strong": "strong-model")", R"("strong": "strong\u0000model")"), "zero character");
  has(edited("mf-none", R"("models": [)", R"("models": ["a\u0000b", )"), "zero character");
}

TEST_CASE("calibrations: the table is checked and interpolated") {
  const auto router = load_router(golden("mf-int8-folded").string(), {});
  CHECK(router->threshold_for(0.0) == 1.0);
  CHECK(router->threshold_for(0.25) == doctest::Approx(0.7));
  CHECK(router->threshold_for(0.5) == 0.4);
  CHECK(router->threshold_for(1.0) == 0.0);
  for (const double share : {-0.1, 1.1, std::nan("")}) CHECK_THROWS_AS((void)router->threshold_for(share), Error);
  const std::string name = "mf-int8-folded";
  const std::string rows = "[[0.0, 1.0], [0.5, 0.4], [1.0, 0.0]]";
  for (const std::string other :
       {"[[0.0, 1.0]]", "[]", "[[0.1, 1.0], [1.0, 0.0]]", "[[0.0, 1.0], [0.0, 0.5], [1.0, 0.0]]",
        "[[0.0, 0.1], [1.0, 0.2]]", "[[0.0, 1.5], [1.0, 0.0]]", "[[0.0], [1.0, 0.0]]", "[[0.0, null], [1.0, 0.0]]"}) {
    CAPTURE(other);
    has(edited(name, rows, other), "calibration table");
  }
  refuses_each(name, {
                         {"\"prompt_count\": 3", "\"prompt_count\": 0", "from 1 to 2^53"},
                         {"\"dataset\": ", R"("data": 1, "dataset": )", "calibration must hold"},
                     });
}

}  // namespace
}  // namespace routellm_fast
