#include "triton/request.hpp"

#include <cmath>
#include <cstring>
#include <string_view>
#include <utility>

#include "triton/model_config.hpp"

namespace routellm_fast::triton {
namespace {

[[noreturn]] void refuse(const std::string& message) { throw Failure(TRITONSERVER_ERROR_INVALID_ARG, message); }

struct Input {
  TRITONBACKEND_Input* handle = nullptr;
  const char* name = nullptr;
  TRITONSERVER_DataType type = TRITONSERVER_TYPE_INVALID;
  const std::int64_t* shape = nullptr;
  std::uint32_t dims = 0;
  std::uint64_t bytes = 0;
  std::uint32_t buffers = 0;

  explicit operator bool() const noexcept { return handle != nullptr; }
};

struct Inputs {
  Input prompt;
  Input embedding;
  Input threshold;
};

Inputs inputs_of(TRITONBACKEND_Request* request) {
  Inputs inputs;
  std::uint32_t count = 0;
  check(TRITONBACKEND_RequestInputCount(request, &count));
  for (std::uint32_t i = 0; i < count; ++i) {
    Input input;
    check(TRITONBACKEND_RequestInputByIndex(request, i, &input.handle));
    check(TRITONBACKEND_InputProperties(input.handle, &input.name, &input.type, &input.shape, &input.dims, &input.bytes,
                                        &input.buffers));
    const std::string_view name = input.name;
    if (name == kPrompt) {
      inputs.prompt = input;
    } else if (name == kEmbedding) {
      inputs.embedding = input;
    } else if (name == kThreshold) {
      inputs.threshold = input;
    } else {
      refuse("input '" + std::string(name) + "' is none of PROMPT, EMBEDDING, THRESHOLD");
    }
  }
  return inputs;
}

std::string shape_text(const std::int64_t* shape, std::size_t dims) {
  std::string text = "[";
  for (std::size_t i = 0; i < dims; ++i) text.append(i == 0 ? "" : ", ").append(std::to_string(shape[i]));
  return text + "]";
}

void check_type(const Input& input, TRITONSERVER_DataType expected) {
  if (input.type == expected) return;
  refuse("input '" + std::string(input.name) + "' is " + TRITONSERVER_DataTypeString(input.type) + ", expected " +
         TRITONSERVER_DataTypeString(expected));
}

// The number of rows of an input whose rows have `width` values.
std::size_t rows_of(const Input& input, std::size_t width, bool is_batched) {
  const std::size_t dims = is_batched ? 2 : 1;
  if (input.dims != dims || std::cmp_not_equal(input.shape[dims - 1], width) || (is_batched && input.shape[0] < 1)) {
    refuse("input '" + std::string(input.name) + "' has shape " + shape_text(input.shape, input.dims) + ", expected " +
           (is_batched ? "[rows, " : "[") + std::to_string(width) + "]");
  }
  const std::size_t rows = is_batched ? static_cast<std::size_t>(input.shape[0]) : 1;
  // Every row has four bytes at least, and sizes computed from the rows cannot overflow then.
  if (rows > input.bytes)
    refuse("input '" + std::string(input.name) + "' has shape " + shape_text(input.shape, input.dims) + ", but only " +
           std::to_string(input.bytes) + " bytes");
  return rows;
}

}  // namespace

void Batch::clear() noexcept {
  texts_.clear();
  bytes_.clear();
  text_thresholds_.clear();
  embeddings_.clear();
  embedding_thresholds_.clear();
  joined_.clear();
}

void Batch::cut(std::size_t text_count, std::size_t embedding_count, std::size_t dim) noexcept {
  texts_.resize(text_count);
  bytes_.resize(text_count);
  text_thresholds_.resize(text_count);
  embeddings_.resize(embedding_count * dim);
  embedding_thresholds_.resize(embedding_count);
}

Rows Batch::texts() const noexcept {
  Rows rows;
  rows.texts = texts_.data();
  rows.bytes = bytes_.data();
  rows.thresholds = text_thresholds_.data();
  rows.count = text_thresholds_.size();
  return rows;
}

Rows Batch::embeddings(std::size_t dim) const noexcept {
  Rows rows;
  rows.embeddings = embeddings_.data();
  rows.dim = dim;
  rows.thresholds = embedding_thresholds_.data();
  rows.count = embedding_thresholds_.size();
  return rows;
}

class RequestReader {
 public:
  RequestReader(const RequestForm& form, const RequestedOutputs& outputs, Batch& batch)
      : form_(form), has_a_decision_(outputs.has_a_decision()), batch_(batch) {}

  RequestRows read(const Inputs& inputs) {
    if (inputs.prompt && inputs.embedding) refuse("the request has both PROMPT and EMBEDDING: send one of them");
    if (inputs.prompt) return read_prompts(inputs);
    if (inputs.embedding) return read_embeddings(inputs);
    refuse(form_.reads_text ? "the request has neither PROMPT nor EMBEDDING: send one of them"
                            : "the request has no EMBEDDING");
  }

 private:
  // The bytes of an input in one piece. Front ends hand long inputs over as they came from the network, in pieces.
  std::string_view bytes_of(const Input& input) {
    if (input.buffers == 1) return buffer_of(input, 0);
    std::string whole;
    whole.reserve(input.bytes);
    for (std::uint32_t i = 0; i < input.buffers; ++i) whole += buffer_of(input, i);
    return batch_.joined_.emplace_back(std::move(whole));
  }

  // A copy of the bytes. A client can change its shared memory at any time, and what reads a text believes what it has
  // checked before.
  std::string_view own_bytes_of(const Input& input) {
    const std::size_t before = batch_.joined_.size();
    const std::string_view bytes = bytes_of(input);
    return batch_.joined_.size() != before ? bytes : batch_.joined_.emplace_back(bytes);
  }

  static std::string_view buffer_of(const Input& input, std::uint32_t index) {
    const void* data = nullptr;
    std::uint64_t bytes = 0;
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
    std::int64_t device = 0;
    check(TRITONBACKEND_InputBuffer(input.handle, index, &data, &bytes, &memory, &device));
    if (memory == TRITONSERVER_MEMORY_GPU)
      throw Failure(TRITONSERVER_ERROR_UNSUPPORTED, "input '" + std::string(input.name) +
                                                        "' lies in GPU memory, and routers run on the CPU: send it in "
                                                        "the request or in system shared memory");
    return {static_cast<const char*>(data), static_cast<std::size_t>(bytes)};
  }

  std::string_view values_of(const Input& input, std::size_t count) {
    const std::string_view bytes = bytes_of(input);
    if (bytes.size() != count * sizeof(float))
      refuse("input '" + std::string(input.name) + "' has " + std::to_string(bytes.size()) +
             " bytes, but its shape needs " + std::to_string(count * sizeof(float)));
    return bytes;
  }

  RequestRows read_prompts(const Inputs& inputs) {
    if (!form_.reads_text)
      refuse("the request has a PROMPT, but this router has no embedder that reads text here: send EMBEDDING, FP32 [" +
             std::to_string(form_.dim) + "]");
    const Input& input = inputs.prompt;
    check_type(input, TRITONSERVER_TYPE_BYTES);
    const RequestRows rows{true, batch_.texts_.size(), rows_of(input, 1, form_.is_batched)};
    std::string_view rest = own_bytes_of(input);
    for (std::size_t i = 0; i < rows.count; ++i) {
      // Triton's form of strings: four bytes of length, little-endian, then so many bytes.
      std::uint32_t length = 0;
      if (rest.size() < sizeof length) refuse_prompt_bytes(i, rows.count);
      std::memcpy(&length, rest.data(), sizeof length);
      rest.remove_prefix(sizeof length);
      if (rest.size() < length) refuse_prompt_bytes(i, rows.count);
      batch_.texts_.push_back(rest.data());
      batch_.bytes_.push_back(length);
      rest.remove_prefix(length);
    }
    if (!rest.empty())
      refuse("input 'PROMPT' has " + std::to_string(rest.size()) + " bytes behind its " + std::to_string(rows.count) +
             " strings");
    read_thresholds(inputs.threshold, rows.count, batch_.text_thresholds_);
    return rows;
  }

  [[noreturn]] static void refuse_prompt_bytes(std::size_t row, std::size_t count) {
    refuse("input 'PROMPT' ends within string " + std::to_string(row) + " of " + std::to_string(count) +
           ": each is four bytes of length and so many bytes");
  }

  RequestRows read_embeddings(const Inputs& inputs) {
    const Input& input = inputs.embedding;
    check_type(input, TRITONSERVER_TYPE_FP32);
    const RequestRows rows{false, batch_.embedding_thresholds_.size(), rows_of(input, form_.dim, form_.is_batched)};
    const std::size_t count = rows.count * form_.dim;
    const std::string_view bytes = values_of(input, count);
    const std::size_t begin = batch_.embeddings_.size();
    batch_.embeddings_.resize(begin + count);
    float* values = batch_.embeddings_.data() + begin;
    if (count != 0) std::memcpy(values, bytes.data(), bytes.size());
    for (std::size_t i = 0; i < count; ++i) {
      if (!std::isfinite(values[i]))
        refuse("input 'EMBEDDING' has the value " + std::to_string(values[i]) + " in row " +
               std::to_string(i / form_.dim) + ", column " + std::to_string(i % form_.dim) + ": all must be finite");
    }
    read_thresholds(inputs.threshold, rows.count, batch_.embedding_thresholds_);
    return rows;
  }

  void read_thresholds(const Input& input, std::size_t row_count, std::vector<double>& thresholds) {
    if (!input) {
      if (has_a_decision_ && !form_.default_threshold)
        refuse(
            "the request has no input 'THRESHOLD', and neither the parameter default_threshold nor a calibration of "
            "the router says which one to use: send one, or set the parameter");
      thresholds.resize(thresholds.size() + row_count, has_a_decision_ ? *form_.default_threshold : kNoThreshold);
      return;
    }
    check_type(input, TRITONSERVER_TYPE_FP32);
    if (const std::size_t found = rows_of(input, 1, form_.is_batched); found != row_count)
      refuse("input 'THRESHOLD' has " + std::to_string(found) + " rows, expected one for each of " +
             std::to_string(row_count));
    const std::string_view bytes = values_of(input, row_count);
    for (std::size_t i = 0; i < row_count; ++i) {
      float threshold = 0.0F;
      std::memcpy(&threshold, bytes.data() + i * sizeof threshold, sizeof threshold);
      if (!is_share(threshold))
        refuse("input 'THRESHOLD' is " + std::to_string(threshold) + " in row " + std::to_string(i) +
               ", expected a number from 0 to 1");
      thresholds.push_back(has_a_decision_ ? static_cast<double>(threshold) : kNoThreshold);
    }
  }

  const RequestForm& form_;
  bool has_a_decision_;
  Batch& batch_;
};

RequestRows read_rows(TRITONBACKEND_Request* request, const RequestForm& form, const RequestedOutputs& outputs,
                      Batch& batch) {
  const std::size_t texts = batch.texts().count;
  const std::size_t embeddings = batch.embeddings(form.dim).count;
  try {
    return RequestReader(form, outputs, batch).read(inputs_of(request));
  } catch (...) {
    batch.cut(texts, embeddings, form.dim);
    throw;
  }
}

RequestedOutputs read_outputs(TRITONBACKEND_Request* request) {
  RequestedOutputs outputs;
  std::uint32_t count = 0;
  check(TRITONBACKEND_RequestOutputCount(request, &count));
  for (std::uint32_t i = 0; i < count; ++i) {
    const char* text = nullptr;
    check(TRITONBACKEND_RequestOutputName(request, i, &text));
    const std::string_view name = text;
    if (name == kWinRate) {
      outputs.win_rate = true;
    } else if (name == kIsStrong) {
      outputs.is_strong = true;
    } else if (name == kModel) {
      outputs.model = true;
    } else {
      refuse("output '" + std::string(name) + "' is none of WIN_RATE, IS_STRONG, MODEL");
    }
  }
  return outputs;
}

}  // namespace routellm_fast::triton
