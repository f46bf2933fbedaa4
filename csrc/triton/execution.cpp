#include "triton/execution.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <string>

#include "triton/model_config.hpp"

namespace routellm_fast::triton {
namespace {

std::uint64_t now_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

// A buffer in the CPU's memory for one output of a response.
char* output_buffer(TRITONBACKEND_Response* response, const char* name, TRITONSERVER_DataType type, std::size_t rows,
                    bool is_batched, std::size_t bytes) {
  const std::array<std::int64_t, 2> shape{is_batched ? static_cast<std::int64_t>(rows) : 1, 1};
  TRITONBACKEND_Output* output = nullptr;
  check(TRITONBACKEND_ResponseOutput(response, &output, name, type, shape.data(), is_batched ? 2 : 1));
  void* buffer = nullptr;
  TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
  std::int64_t device = 0;
  check(TRITONBACKEND_OutputBuffer(output, &buffer, bytes, &memory, &device));
  if (memory == TRITONSERVER_MEMORY_GPU)
    throw Failure(TRITONSERVER_ERROR_UNSUPPORTED, "output '" + std::string(name) +
                                                      "' is to go into GPU memory, and routers run on the CPU: receive "
                                                      "it in the response or in system shared memory");
  return static_cast<char*>(buffer);
}

}  // namespace

void Execution::run(TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, std::uint32_t count) {
  Times times;
  times.start_ns = now_ns();
  answers_.assign(count, Answer{});
  batch_.clear();
  for (std::uint32_t i = 0; i < count; ++i) {
    answers_[i].request = requests[i];
    read(answers_[i]);
  }
  times.compute_start_ns = now_ns();
  const Rows texts = batch_.texts();
  const Rows embeddings = batch_.embeddings(model_.form().dim);
  score(texts, true, of_texts_);
  score(embeddings, false, of_embeddings_);
  times.compute_end_ns = now_ns();
  batch_.clear();  // a long prompt is not kept until the next batch comes
  for (Answer& answer : answers_) write(answer);
  times.end_ns = now_ns();

  std::uint64_t row_count = 0;
  for (const Answer& answer : answers_) {
    if (answer.error == nullptr) row_count += answer.rows.count;
    finish(instance, answer, times);
  }
  if (row_count != 0)
    log_if_failed(TRITONBACKEND_ModelInstanceReportBatchStatistics(
                      instance, row_count, times.start_ns, times.compute_start_ns, times.compute_end_ns, times.end_ns),
                  __FILE__, __LINE__);
}

void Execution::read(Answer& answer) noexcept {
  // A request for which no response can be made is only released, and its error is logged.
  answer.error = TRITONBACKEND_ResponseNew(&answer.response, answer.request);
  if (answer.error != nullptr) {
    answer.response = nullptr;
    return;
  }
  answer.error = guarded([&] {
    answer.outputs = read_outputs(answer.request);
    answer.rows = read_rows(answer.request, model_.form(), answer.outputs, batch_);
  });
}

void Execution::score(const Rows& rows, bool are_texts, Results& results) noexcept {
  if (rows.count == 0) return;
  TRITONSERVER_Error* error = guarded([&] {
    results.win_rates.resize(rows.count);
    results.is_strong.resize(rows.count);
    model_.router().route(rows, results.win_rates.data(), results.is_strong.data());
  });
  if (error == nullptr) return;
  TRITONSERVER_ErrorDelete(error);
  // A request cannot be scored: only its own rows get the error, and the others are answered.
  for (Answer& answer : answers_) {
    if (answer.error != nullptr || answer.rows.are_texts != are_texts) continue;
    answer.error = guarded([&] {
      results.win_rates.resize(rows.count);
      results.is_strong.resize(rows.count);
      model_.router().route(rows.slice(answer.rows.begin, answer.rows.count),
                            results.win_rates.data() + answer.rows.begin, results.is_strong.data() + answer.rows.begin);
    });
  }
}

void Execution::write(Answer& answer) noexcept {
  if (answer.error == nullptr) answer.error = guarded([&] { write_outputs(answer); });
}

void Execution::write_outputs(const Answer& answer) const {
  const Results& results = answer.rows.are_texts ? of_texts_ : of_embeddings_;
  const std::size_t rows = answer.rows.count;
  const bool is_batched = model_.form().is_batched;
  const std::uint8_t* is_strong = results.is_strong.data() + answer.rows.begin;
  if (answer.outputs.win_rate) {
    const std::size_t bytes = rows * sizeof(float);
    std::memcpy(output_buffer(answer.response, kWinRate, TRITONSERVER_TYPE_FP32, rows, is_batched, bytes),
                results.win_rates.data() + answer.rows.begin, bytes);
  }
  if (answer.outputs.is_strong) {
    char* out = output_buffer(answer.response, kIsStrong, TRITONSERVER_TYPE_BOOL, rows, is_batched, rows);
    std::memcpy(out, is_strong, rows);
  }
  if (answer.outputs.model) {
    const std::string& strong = model_.router().strong_model();
    const std::string& weak = model_.router().weak_model();
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < rows; ++i) bytes += sizeof(std::uint32_t) + (is_strong[i] != 0 ? strong : weak).size();
    char* out = output_buffer(answer.response, kModel, TRITONSERVER_TYPE_BYTES, rows, is_batched, bytes);
    for (std::size_t i = 0; i < rows; ++i) {
      const std::string& name = is_strong[i] != 0 ? strong : weak;
      const auto length = static_cast<std::uint32_t>(name.size());
      std::memcpy(out, &length, sizeof length);
      std::ranges::copy(name, out + sizeof length);
      out += sizeof length + name.size();
    }
  }
}

void Execution::finish(TRITONBACKEND_ModelInstance* instance, const Answer& answer, const Times& times) noexcept {
  // The client waits for the response; statistics must come before the release.
  if (answer.response != nullptr)
    log_if_failed(TRITONBACKEND_ResponseSend(answer.response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, answer.error),
                  __FILE__, __LINE__);
  log_if_failed(
      TRITONBACKEND_ModelInstanceReportStatistics(instance, answer.request, answer.error == nullptr, times.start_ns,
                                                  times.compute_start_ns, times.compute_end_ns, times.end_ns),
      __FILE__, __LINE__);
  log_if_failed(TRITONBACKEND_RequestRelease(answer.request, TRITONSERVER_REQUEST_RELEASE_ALL), __FILE__, __LINE__);
  if (answer.response == nullptr) {
    log_if_failed(answer.error, __FILE__, __LINE__);
  } else if (answer.error != nullptr) {
    TRITONSERVER_ErrorDelete(answer.error);
  }
}

}  // namespace routellm_fast::triton
