#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "triton/loaded_router.hpp"
#include "triton/server_api.hpp"

namespace routellm_fast::triton {

/// The form of the requests that a model takes.
struct RequestForm {
  bool is_batched = false;  // max_batch_size > 0: every tensor has a batch dimension in front
  bool reads_text = false;
  std::size_t dim = 0;
  std::optional<double> default_threshold;  // of requests that bring none; without it, they get no decision
};

/// The rows of several requests, gathered so that one call scores them. Keeps its memory from batch to batch.
class Batch {
 public:
  void clear() noexcept;
  /// Forgets all but the first rows of either kind.
  void cut(std::size_t text_count, std::size_t embedding_count, std::size_t dim) noexcept;

  [[nodiscard]] Rows texts() const noexcept;
  [[nodiscard]] Rows embeddings(std::size_t dim) const noexcept;

 private:
  friend class RequestReader;

  std::vector<const char*> texts_;
  std::vector<std::size_t> bytes_;
  std::vector<double> text_thresholds_;
  std::vector<float> embeddings_;
  std::vector<double> embedding_thresholds_;
  std::deque<std::string> joined_;  // prompts, and inputs that came in several buffers: addresses must stay
};

/// Which outputs a request asks for.
struct RequestedOutputs {
  bool win_rate = false;
  bool is_strong = false;
  bool model = false;

  [[nodiscard]] bool has_a_decision() const noexcept { return is_strong || model; }
};

/// Where a request's rows lie in the batch.
struct RequestRows {
  bool are_texts = false;
  std::size_t begin = 0;
  std::size_t count = 0;
};

/// Reads which outputs a request asks for. Throws Failure, which names an output that does not exist.
RequestedOutputs read_outputs(TRITONBACKEND_Request* request);

/// Appends a request's rows to the batch: either prompts or embeddings, and their thresholds. The rows of a
/// request that asks for no decision have no threshold, so their win rates are not scored again near one. The batch
/// does not point into the request's memory.
///
/// Throws Failure if the request does not have the form; the batch is then unchanged. The text names the input, what
/// was found and what was expected.
RequestRows read_rows(TRITONBACKEND_Request* request, const RequestForm& form, const RequestedOutputs& outputs,
                      Batch& batch);

}  // namespace routellm_fast::triton
