#include "directory/tokenizer_json.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "directory/json.hpp"

namespace routellm_fast {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorCode::kBadDirectory, "tokenizer.json" + what); }

bool is_id(const JsonValue& value) {
  const auto integer = value.integer();
  return integer && std::in_range<std::uint32_t>(*integer);
}

// Of a value that is_id.
std::uint32_t id_of(const JsonValue& value) { return static_cast<std::uint32_t>(value.integer().value_or(0)); }

bool is_text_at(const JsonValue& value, std::string_view key) {
  const JsonValue* const found = value.find(key);
  return found != nullptr && found->text() != nullptr;
}

bool is_added_tokens(const JsonValue& value) {
  return value.array() != nullptr && std::ranges::all_of(*value.array(), [](const JsonValue& token) {
           return is_text_at(token, "content") && token.find("id") != nullptr && is_id(*token.find("id"));
         });
}

// Of tokens and ids, or a unigram model's list of [token, score].
bool is_vocabulary(const JsonValue& value) {
  if (const auto* const members = value.object()) {
    return std::ranges::all_of(*members, [](const auto& member) { return is_id(member.second); });
  }
  return value.array() != nullptr && std::ranges::all_of(*value.array(), [](const JsonValue& entry) {
           return entry.array() != nullptr && entry.array()->size() == 2 && entry.array()->front().text() != nullptr;
         });
}

bool is_object(const JsonValue& value) { return value.object() != nullptr; }
bool is_text(const JsonValue& value) { return value.text() != nullptr; }

void check_part(const JsonValue& of, std::string_view key, bool (*fits)(const JsonValue&)) {
  const JsonValue* const value = of.find(key);
  if (value != nullptr && !value->is_null() && !fits(*value)) {
    refuse(": " + std::string(key) + " is " + value->type_name() +
           " of a form that Hugging Face's tokenizers would not write");
  }
}

// As a condition reads a value: null, false, 0 and what is empty do not hold.
bool holds(const JsonValue& value) {
  if (const bool* const boolean = value.boolean()) return *boolean;
  if (const auto* const number = value.number()) return number->value != 0.0;
  if (const auto* const text = value.text()) return !text->empty();
  if (const auto* const array = value.array()) return !array->empty();
  const auto* const object = value.object();
  return object != nullptr && !object->empty();
}

bool flag(const JsonValue& of, std::string_view key, bool otherwise) {
  const JsonValue* const value = of.find(key);
  return value == nullptr ? otherwise : holds(*value);
}

bool has_type(const JsonValue& of, std::string_view part, std::string_view type) {
  const JsonValue* const found = part.empty() ? &of : of.find(part);
  const JsonValue* const value = found == nullptr ? nullptr : found->find("type");
  return value != nullptr && value->text() != nullptr && *value->text() == type;
}

// Tokens in the order of their ids; nothing where ids leave gaps.
std::optional<std::vector<std::string>> vocabulary_list(const JsonValue::Object& vocabulary) {
  std::vector<const std::string*> tokens(vocabulary.size());
  for (const auto& [token, id] : vocabulary) {
    if (id_of(id) >= tokens.size()) return std::nullopt;
    tokens[id_of(id)] = &token;
  }
  std::vector<std::string> result;
  result.reserve(tokens.size());
  for (const std::string* const token : tokens) {
    if (token == nullptr) return std::nullopt;
    result.push_back(*token);
  }
  return result;
}

// Added tokens that are matched as they stand; nothing where one asks for more.
std::optional<std::vector<AddedToken>> plain_added_tokens(const JsonValue* added) {
  std::vector<AddedToken> result;
  if (added == nullptr || added->is_null()) return result;
  for (const JsonValue& token : *added->array()) {
    for (const std::string_view key : {"single_word", "lstrip", "rstrip", "normalized"}) {
      if (flag(token, key, false)) return std::nullopt;
    }
    result.push_back({*token.find("content")->text(), id_of(*token.find("id"))});
  }
  return result;
}

std::shared_ptr<const WordPieceTokenizer> native_tokenizer(const JsonValue& spec, const JsonValue& model) {
  if (!has_type(model, "", "WordPiece") || !has_type(spec, "normalizer", "BertNormalizer") ||
      !has_type(spec, "pre_tokenizer", "BertPreTokenizer")) {
    return nullptr;
  }
  const JsonValue* const vocabulary = model.find("vocab");
  if (vocabulary == nullptr || vocabulary->object() == nullptr)
    refuse(": a WordPiece vocabulary maps tokens to integers");
  auto tokens = vocabulary_list(*vocabulary->object());
  const auto added = plain_added_tokens(spec.find("added_tokens"));
  if (!tokens || !added) return nullptr;
  const JsonValue* const unknown = model.find("unk_token");
  const JsonValue* const unknown_id =
      unknown == nullptr || unknown->text() == nullptr ? nullptr : vocabulary->find(*unknown->text());
  if (unknown_id == nullptr) refuse(": the unknown token is not in the vocabulary");
  const JsonValue& normalizer = *spec.find("normalizer");
  WordPieceOptions options;
  options.unk_id = id_of(*unknown_id);
  options.clean_text = flag(normalizer, "clean_text", true);
  options.handle_chinese_chars = flag(normalizer, "handle_chinese_chars", true);
  options.lowercase = flag(normalizer, "lowercase", true);
  const JsonValue* const accents = normalizer.find("strip_accents");
  options.strip_accents = accents == nullptr || accents->is_null() ? options.lowercase : holds(*accents);
  if (const JsonValue* const most = model.find("max_input_chars_per_word"); most != nullptr && !most->is_null()) {
    options.max_word_chars = id_of(*most);
  }
  if (const JsonValue* const prefix = model.find("continuing_subword_prefix");
      prefix != nullptr && !prefix->is_null()) {
    options.continuing_prefix = *prefix->text();
  }
  try {
    return std::make_shared<const WordPieceTokenizer>(*tokens, options, *added);
  } catch (const Error& error) {
    refuse(std::string(": ") + error.what());
  }
}

}  // namespace

TokenizerFile read_tokenizer_json(std::string_view content) {
  const JsonValue spec = [&] {
    try {
      return parse_json(content);
    } catch (const Error& error) {
      refuse(std::string(" is not valid JSON (") + error.what() + ")");
    }
  }();
  const JsonValue* const model = spec.find("model");
  if (model == nullptr || model->object() == nullptr) {
    refuse(" must hold an object with a model, as Hugging Face's tokenizers writes it");
  }
  check_part(spec, "normalizer", is_object);
  check_part(spec, "pre_tokenizer", is_object);
  check_part(spec, "added_tokens", is_added_tokens);
  check_part(*model, "vocab", is_vocabulary);
  check_part(*model, "max_input_chars_per_word", is_id);
  check_part(*model, "continuing_subword_prefix", is_text);
  check_part(*model, "unk_token", is_text);
  check_part(*model, "unk_id", is_id);

  TokenizerFile result;
  result.tokenizer = native_tokenizer(spec, *model);
  const JsonValue* const unk_id = model->find("unk_id");
  const JsonValue* const unknown = model->find("unk_token");
  const JsonValue* const vocabulary = model->find("vocab");
  if (unk_id != nullptr && !unk_id->is_null()) {
    result.unknown_token = id_of(*unk_id);
  } else if (unknown != nullptr && unknown->text() != nullptr && vocabulary != nullptr) {
    if (const JsonValue* const id = vocabulary->find(*unknown->text())) result.unknown_token = id_of(*id);
  }
  return result;
}

}  // namespace routellm_fast
