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

constexpr std::size_t kUsualTokens = 4096;                   // room for these is made at once
constexpr std::size_t kMostDivided = std::size_t{1} << 31U;  // so that the product of two such numbers fits in 64 bits

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

ReadLimits limits_of(const StaticEmbedderOptions& options) {
  check(options.max_tokens > 0 && options.max_code_points > 0, "max_tokens and max_code_points must be at least 1.");
  if (options.tail_tokens == 0) return {.whole = options.max_code_points, .tail = 0};
  check(
      options.tail_tokens < options.max_tokens && std::max(options.max_tokens, options.max_code_points) < kMostDivided,
      "tail_tokens must be below max_tokens, and with it max_tokens and max_code_points below 2^31; found " +
          std::to_string(options.tail_tokens) + ", " + std::to_string(options.max_tokens) + " and " +
          std::to_string(options.max_code_points) + ".");
  return {.whole = options.max_code_points, .tail = options.max_code_points * options.tail_tokens / options.max_tokens};
}

// The end of a text from the beginning of a word on.
std::string_view from_a_word_on(std::string_view end) noexcept {
  const std::size_t blank = end.find_first_of(" \t\r\n");
  return blank == std::string_view::npos ? end : end.substr(blank);
}

// The end of a text of which the first `read` bytes were read: no byte twice, and no word in part.
std::string_view unread_end(std::string_view whole, std::size_t tail_bytes, std::size_t read) noexcept {
  const std::size_t begin = whole.size() - tail_bytes;
  return begin <= read ? whole.substr(read) : from_a_word_on(whole.substr(begin));
}

// The tokens of a text, when `count` were found in `read` bytes of it.
std::size_t extrapolated(std::size_t count, std::size_t read, std::size_t bytes) noexcept {
  if (read == 0) return count;
  const double tokens = static_cast<double>(count) * static_cast<double>(bytes) / static_cast<double>(read);
  return std::max(count, static_cast<std::size_t>(std::llround(tokens)));
}

std::span<std::uint32_t> room_for(std::size_t ids) {
  thread_local std::vector<std::uint32_t> buffer;
  if (buffer.size() < ids) buffer.resize(ids);
  return {buffer.data(), ids};
}

}  // namespace

StaticEmbedder::StaticEmbedder(std::shared_ptr<const WordPieceTokenizer> tokenizer, TokenTable table,
                               StaticEmbedderOptions options, const KernelTable& kernels)
    : tokenizer_(std::move(tokenizer)),
      table_(std::move(table)),
      options_(std::move(options)),
      limits_(limits_of(options_)),
      kernels_(&kernels) {
  check_table(table_);
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

StaticEmbedder::Tokens StaticEmbedder::tokenize(const Excerpt& text) const {
  Tokens tokens = find(text);
  tokens.ids = tokens.ids.first(drop(tokens.ids));
  return tokens;
}

StaticEmbedder::Tokens StaticEmbedder::find(const Excerpt& text) const {
  if (!text.tail.empty()) return find_in_ends(text, {});
  const std::string_view start = first_code_points(text.head, limits_.whole);
  // A text has at most as many tokens as bytes: no directory's max_tokens can ask for more memory than its texts have.
  const std::size_t most = std::min(options_.max_tokens, std::max(start.size() + 1, kUsualTokens));
  const std::span<std::uint32_t> room = room_for(most);
  const EncodeResult result = tokenizer_->encode(start, room);
  const std::string_view rest = text.head.substr(result.consumed_bytes);
  // Blanks behind the last token that fits are nothing that was left out.
  std::uint32_t next = 0;
  const bool is_whole = !result.is_cut && text.head.size() == text.bytes && start.size() == text.head.size() &&
                        (rest.empty() || tokenizer_->encode(rest, {&next, 1}).token_count == 0);
  if (!is_whole && limits_.tail > 0) {
    return find_in_ends(
        {first_code_points(text.head, limits_.head()), last_code_points(text.head, limits_.tail), text.bytes},
        text.head);
  }
  const std::string_view read = start.substr(0, result.consumed_bytes);
  return {room.first(result.token_count), {read, {}, text.bytes}, result.token_count, is_whole};
}

StaticEmbedder::Tokens StaticEmbedder::find_in_ends(const Excerpt& text, std::string_view whole) const {
  const std::size_t head_tokens = options_.max_tokens - options_.tail_tokens;
  const std::size_t most_of_head = std::min(head_tokens, text.head.size() + 1);
  const std::span<std::uint32_t> room = room_for(std::max(most_of_head + text.tail.size() + 1, kUsualTokens));
  const EncodeResult head = tokenizer_->encode(text.head, room.first(most_of_head));
  const std::string_view start = text.head.substr(0, head.consumed_bytes);
  const std::string_view end =
      whole.empty() ? from_a_word_on(text.tail) : unread_end(whole, text.tail.size(), start.size());
  const std::span<std::uint32_t> behind = room.subspan(head.token_count);
  const std::size_t in_tail = tokenizer_->encode(end, behind).token_count;
  const std::size_t of_tail = std::min(in_tail, options_.tail_tokens);
  std::ranges::copy(behind.subspan(in_tail - of_tail, of_tail), behind.begin());
  const std::size_t count = extrapolated(head.token_count + in_tail, start.size() + end.size(), text.bytes);
  return {room.first(head.token_count + of_tail), {start, end, text.bytes}, count, false};
}

bool StaticEmbedder::embed(const Excerpt& text, float* out) const {
  const Tokens tokens = tokenize(text);
  pool(tokens.ids, out);
  write_surface_features(tokens.read, tokens.count, options_.surface_features, out + table_.dim);
  return tokens.is_whole;
}

void StaticEmbedder::embed_ids(const Found& found, const Excerpt& text, float* out) const {
  const std::size_t tokens = token_count(table_);
  check(found.ids.size() <= options_.max_tokens, "a text has " + std::to_string(found.ids.size()) +
                                                     " token ids, expected at most max_tokens, " +
                                                     std::to_string(options_.max_tokens) + ".");
  for (const std::uint32_t id : found.ids) {
    check(id < tokens, "token id " + std::to_string(id) + " is outside the table of " + std::to_string(tokens) +
                           " tokens: tokenizer and table belong to different models.");
  }
  std::vector<std::uint32_t> pooled(found.ids.begin(), found.ids.end());
  pooled.resize(drop(pooled));
  pool(pooled, out);
  write_surface_features(text, found.token_count, options_.surface_features, out + table_.dim);
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
