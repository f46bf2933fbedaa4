#pragma once

#include <algorithm>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/wordpiece_tokenizer.hpp"

namespace routellm_fast {

/// Finds the added token that begins at a given place of a text.
class AddedTokenMatcher {
 public:
  /// Contents must be distinct and not empty.
  explicit AddedTokenMatcher(std::span<const AddedToken> tokens) : tokens_(tokens.begin(), tokens.end()) {
    std::ranges::sort(tokens_, {}, &AddedToken::content);
    for (const AddedToken& token : tokens_) {
      first_bytes_.set(static_cast<unsigned char>(token.content.front()));
      const std::size_t length = token.content.size();
      if (std::ranges::find(lengths_, length) == lengths_.end()) lengths_.push_back(length);
    }
    std::ranges::sort(lengths_, std::greater<>());
  }

  [[nodiscard]] bool may_start_with(unsigned char byte) const noexcept { return first_bytes_[byte]; }

  /// The longest token with which the text begins, or null. Takes one binary search for each distinct length.
  [[nodiscard]] const AddedToken* match(std::string_view text) const noexcept {
    if (text.empty() || !may_start_with(static_cast<unsigned char>(text.front()))) return nullptr;
    for (const std::size_t length : lengths_) {
      if (length > text.size()) continue;
      const std::string_view start = text.substr(0, length);
      const auto found = std::ranges::lower_bound(tokens_, start, {}, &AddedToken::content);
      if (found != tokens_.end() && found->content == start) return &*found;
    }
    return nullptr;
  }

 private:
  std::vector<AddedToken> tokens_;    // sorted by content
  std::vector<std::size_t> lengths_;  // distinct, descending
  std::bitset<256> first_bytes_;
};

}  // namespace routellm_fast
