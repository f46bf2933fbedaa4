#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "triton/model.hpp"
#include "triton/request.hpp"
#include "triton/server_api.hpp"

namespace routellm_fast::triton {

/// Answers batches of requests for one instance of a model. Keeps the memory of earlier batches; not thread-safe, as
/// Triton gives an instance one batch at a time.
class Execution {
 public:
  explicit Execution(const Model& model) : model_(model) {}

  /// Answers and releases every request: the valid ones with one call of the core, each invalid one with its own error.
  /// Throws only before it has used the first request; all requests then still belong to the server.
  void run(TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, std::uint32_t count);

 private:
  struct Answer {
    TRITONBACKEND_Request* request = nullptr;
    TRITONBACKEND_Response* response = nullptr;
    TRITONSERVER_Error* error = nullptr;  // owned
    RequestedOutputs outputs;
    RequestRows rows;
  };
  // Times of the batch's stages in nanoseconds of steady_clock.
  struct Times {
    std::uint64_t start_ns = 0;
    std::uint64_t compute_start_ns = 0;
    std::uint64_t compute_end_ns = 0;
    std::uint64_t end_ns = 0;
  };
  struct Results {
    std::vector<float> win_rates;
    std::vector<std::uint8_t> is_strong;
  };

  void read(Answer& answer) noexcept;
  void score(const Rows& rows, bool are_texts, Results& results) noexcept;
  void write(Answer& answer) noexcept;
  void write_outputs(const Answer& answer) const;
  static void finish(TRITONBACKEND_ModelInstance* instance, const Answer& answer, const Times& times) noexcept;

  const Model& model_;
  Batch batch_;
  Results of_texts_;
  Results of_embeddings_;
  std::vector<Answer> answers_;
};

}  // namespace routellm_fast::triton
