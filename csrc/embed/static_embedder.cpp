#include "embed/static_embedder.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/error.hpp"
#include "kernels/kernel_abi.hpp"
#include "text/utf8.hpp"

namespace routellm_fast {
namespace {

constexpr std::size_t kUsualTokens = 4096;  // room for these is made at once

void check(bool holds, const std::string& message) {
  if (!holds) throw Error(ErrorCode::kInvalidArgument, message);
}

void check_table(const TokenTable& table) {
  check(table.dim > 0, "a token table needs at least one column.");
  check(table.int8.empty() != table.float32.empty(), "a token table is either float32 or int8, and not empty.");
  check((table.int8.size() + table.float32.size()) % table.dim == 0,
        "the token table's size is no multiple of its " + std::to_string(table.dim) + " columns.");
  if (!table.int8.empty()) {
    check(table.column_scale.size() == table.dim, "an int8 token table of " + std::to_string(table.dim) +
                                                      " columns needs as many scales, found " +
                                                      std::to_string(table.column_scale.size()) + ".");
    check(table.rows.empty() && table.weights.empty(), "an int8 token table takes neither rows nor weights.");
  }
  const std::size_t row_count = table.row_count();
  for (const std::uint32_t row : table.rows) {
    check(row < row_count,
          "the token table's mapping names row " + std::to_string(row) + " of " + std::to_string(row_count) + ".");
  }
}

// How many tokens have a vector.
std::size_t token_count(const TokenTable& table) { return table.rows.empty() ? table.row_count() : table.rows.size(); }

}  // namespace

StaticEmbedder::StaticEmbedder(std::shared_ptr<const WordPieceTokenizer> tokenizer, TokenTable table,
                               StaticEmbedderOptions options, const KernelTable& kernels)
    : tokenizer_(std::move(tokenizer)), table_(std::move(table)), options_(std::move(options)), kernels_(&kernels) {
  check_table(table_);
  check(options_.max_tokens > 0 && options_.max_code_points > 0, "max_tokens and max_code_points must be at least 1.");
  const std::size_t tokens = token_count(table_);
  check(table_.weights.empty() || table_.weights.size() == tokens,
        "the token table has " + std::to_string(tokens) + " tokens but " + std::to_string(table_.weights.size()) +
            " weights.");
  check(tokenizer_ == nullptr || tokenizer_->vocabulary_size() <= tokens,
        "the tokenizer knows " + (tokenizer_ == nullptr ? "0" : std::to_string(tokenizer_->vocabulary_size())) +
            " tokens but the table only " + std::to_string(tokens) + ": they belong to different models.");
}

std::size_t StaticEmbedder::drop(std::span<std::uint32_t> ids) const noexcept {
  if (!options_.dropped_token) return ids.size();
  std::size_t kept = 0;
  for (const std::uint32_t id : ids) {
    if (id != *options_.dropped_token) ids[kept++] = id;
  }
  return kept;
}

StaticEmbedder::Tokens StaticEmbedder::tokenize(std::string_view utf8) const {
  thread_local std::vector<std::uint32_t> buffer;
  const std::string_view text = first_code_points(utf8, options_.max_code_points);
  // A text has at most as many tokens as bytes: no directory's max_tokens can ask for more memory than its texts have.
  const std::size_t most = std::min(options_.max_tokens, std::max(text.size() + 1, kUsualTokens));
  if (buffer.size() < most) buffer.resize(most);
  const std::span<std::uint32_t> room(buffer.data(), most);
  const EncodeResult result = tokenizer_->encode(text, room);
  const std::size_t kept = drop(room.first(result.token_count));
  return {room.first(kept), text.substr(0, result.consumed_bytes), result.token_count};
}

void StaticEmbedder::embed(std::string_view utf8, float* out) const {
  const Tokens tokens = tokenize(utf8);
  pool(tokens.ids, out);
  write_surface_features(tokens.read, tokens.found, options_.surface_features, out + table_.dim);
}

void StaticEmbedder::embed_ids(std::span<const std::uint32_t> ids, std::string_view utf8, float* out) const {
  const std::size_t tokens = token_count(table_);
  for (const std::uint32_t id : ids) {
    check(id < tokens, "token id " + std::to_string(id) + " is outside the table of " + std::to_string(tokens) +
                           " tokens: tokenizer and table belong to different models.");
  }
  std::vector<std::uint32_t> pooled(
      ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(std::min(ids.size(), options_.max_tokens)));
  const std::size_t found = pooled.size();
  pooled.resize(drop(pooled));
  pool(pooled, out);
  write_surface_features(first_code_points(utf8, options_.max_code_points), found, options_.surface_features,
                         out + table_.dim);
}

void StaticEmbedder::pool(std::span<const std::uint32_t> ids, float* out) const {
  const std::size_t dim = table_.dim;
  if (ids.empty()) {
    std::fill_n(out, dim, 0.0F);
    return;
  }
  const float inverse_count = 1.0F / static_cast<float>(ids.size());
  if (table_.int8.empty()) {
    kernels_->sum_rows_f32(table_.float32.data(), dim, ids.data(), ids.size(),
                           table_.rows.empty() ? nullptr : table_.rows.data(),
                           table_.weights.empty() ? nullptr : table_.weights.data(), out);
    for (std::size_t d = 0; d < dim; ++d) out[d] *= inverse_count;
  } else {
    thread_local AlignedVector<std::int32_t> sums;
    if (sums.size() < dim) sums.resize(dim);
    kernels_->sum_rows_i8(table_.int8.data(), dim, ids.data(), ids.size(), sums.data());
    for (std::size_t d = 0; d < dim; ++d) {
      out[d] = static_cast<float>(sums[d]) * inverse_count * table_.column_scale[d];
    }
  }
  if (!options_.normalize) return;
  const float square = kernels_->dot_f32(out, out, dim);
  // Tokens whose vectors cancel, or are all zero, keep the zero vector.
  const float inverse_norm = square > 0.0F ? 1.0F / std::sqrt(square) : 0.0F;
  for (std::size_t d = 0; d < dim; ++d) out[d] *= inverse_norm;
}

std::vector<float> StaticEmbedder::token_scores(std::span<const float> weights) const {
  check(weights.size() == dim(), "a scorer of " + std::to_string(weights.size()) +
                                     " dimensions does not fit an embedder of " + std::to_string(dim()) + ".");
  const std::size_t tokens = token_count(table_);
  std::vector<double> scaled(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(table_.dim));
  if (!table_.int8.empty()) {
    for (std::size_t d = 0; d < table_.dim; ++d) scaled[d] *= table_.column_scale[d];
  }
  std::vector<float> scores(tokens);
  for (std::size_t token = 0; token < tokens; ++token) {
    const std::size_t row = table_.rows.empty() ? token : table_.rows[token];
    double score = 0.0;
    for (std::size_t d = 0; d < table_.dim; ++d) {
      const std::size_t index = row * table_.dim + d;
      score += scaled[d] * (table_.int8.empty() ? static_cast<double>(table_.float32[index])
                                                : static_cast<double>(table_.int8[index]));
    }
    scores[token] = static_cast<float>(table_.weights.empty() ? score : score * table_.weights[token]);
  }
  return scores;
}

}  // namespace routellm_fast
