// Any bytes are a tokenizer.json. One that is read encodes texts into ids of its own vocabulary, whatever they are.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "directory/tokenizer_json.hpp"
#include "support/require.hpp"

namespace {

using routellm_fast::Error;
using routellm_fast::ErrorCode;
using routellm_fast::WordPieceTokenizer;
using routellm_fast::fuzz::require;

void encode(const WordPieceTokenizer& tokenizer, std::string_view text) {
  std::vector<std::uint32_t> ids(text.size() + 1);
  const auto result = tokenizer.encode(text, ids);
  require(result.token_count <= text.size(), "a text has at most as many tokens as bytes");
  require(result.consumed_bytes == text.size(), "a text is read to its end where there is room");
  for (std::size_t k = 0; k < result.token_count; ++k) {
    require(ids[k] < tokenizer.vocabulary_size(), "an id is one of the vocabulary");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // A copy of its own, so that a sanitizer sees one byte too many.
  const std::vector<char> bytes(data, data + size);
  const std::string_view content(bytes.data(), bytes.size());
  try {
    const routellm_fast::TokenizerFile file = routellm_fast::read_tokenizer_json(content);
    if (file.tokenizer != nullptr) {
      encode(*file.tokenizer, "Prove: the abcs of \xC3\xA9t\xC3\xA9, 12 \xE4\xB8\xAD [UNK]\xFF ##a");
      encode(*file.tokenizer, content.substr(0, 256));
    }
  } catch (const Error& error) {
    require(error.code() == ErrorCode::kBadDirectory, "what is refused is refused by name");
  }
  return 0;
}
