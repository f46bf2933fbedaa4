#include "triton/model_config.hpp"

#include <array>
#include <charconv>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "triton/json_text.hpp"
#include "triton/loaded_router.hpp"
#include "triton/server_api.hpp"

namespace routellm_fast::triton {
namespace {

[[noreturn]] void refuse(const std::string& message) { throw Failure(TRITONSERVER_ERROR_INVALID_ARG, message); }

// A tensor of the interface: the name of its type in a configuration, and the values in a row.
struct Tensor {
  const char* name;
  const char* type;
  std::size_t width;
  bool is_optional;
};

// A request has either a prompt or an embedding, and a threshold if it shall not use the model's.
std::vector<Tensor> inputs_of(bool reads_text, std::size_t dim) {
  std::vector<Tensor> inputs;
  if (reads_text) inputs.push_back({kPrompt, "TYPE_STRING", 1, true});
  inputs.push_back({kEmbedding, "TYPE_FP32", dim, reads_text});
  inputs.push_back({kThreshold, "TYPE_FP32", 1, true});
  return inputs;
}

constexpr std::array<Tensor, 3> kOutputs{
    {{kWinRate, "TYPE_FP32", 1, false}, {kIsStrong, "TYPE_BOOL", 1, false}, {kModel, "TYPE_STRING", 1, false}}};

template <typename Tensors>
std::string names_of(const Tensors& tensors) {
  std::string names;
  for (const Tensor& tensor : tensors) names.append(names.empty() ? "" : ", ").append(tensor.name);
  return names;
}

bool lists_nothing(const JsonValue* list) {
  return list == nullptr || list->array() == nullptr || list->array()->empty();
}

std::string text_of(const JsonValue* value) {
  return value == nullptr || value->text() == nullptr ? std::string() : *value->text();
}

// JSON of protocol buffers writes a whole number of 64 bits as a number or as a string.
std::optional<std::int64_t> whole_number(const JsonValue& value) {
  if (value.text() == nullptr) return value.integer();
  const std::string& text = *value.text();
  std::int64_t number = 0;
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || at != text.data() + text.size()) return std::nullopt;
  return number;
}

JsonValue json_number(std::int64_t value) { return JsonValue(JsonNumber{static_cast<double>(value), true, value}); }

// Whether these are the dims of a row of `width` values; -1 in a configuration leaves the width open.
bool is_row(const JsonValue* dims, std::size_t width) {
  if (dims == nullptr || dims->array() == nullptr || dims->array()->size() != 1) return false;
  const std::optional<std::int64_t> found = whole_number(dims->array()->front());
  return found == static_cast<std::int64_t>(width) || found == -1;
}

template <typename Tensors>
void check_list(const JsonValue* list, const char* role, const Tensors& known) {
  if (lists_nothing(list)) return;
  for (const JsonValue& entry : *list->array()) {
    const std::string name = text_of(entry.find("name"));
    const Tensor* found = nullptr;
    for (const Tensor& tensor : known) {
      if (name == tensor.name) found = &tensor;
    }
    const std::string subject = std::string(role) + " '" + name + "' of the model configuration";
    if (found == nullptr) refuse(subject + " is unknown; this router has " + names_of(known));
    if (const std::string type = text_of(entry.find("data_type")); type != found->type)
      refuse(std::string(subject).append(" has data_type ").append(type).append(", expected ").append(found->type));
    const JsonValue* dims = entry.find("dims");
    if (!is_row(dims, found->width))
      refuse(subject + " has dims " + (dims == nullptr ? "[]" : json_text(*dims)) + ", expected [" +
             std::to_string(found->width) + "]");
  }
}

template <typename Tensors>
JsonValue list_of(const Tensors& tensors) {
  JsonValue::Array entries;
  for (const Tensor& tensor : tensors) {
    JsonValue::Array dims;
    dims.push_back(json_number(static_cast<std::int64_t>(tensor.width)));
    JsonValue::Object entry;
    entry.emplace_back("name", std::string(tensor.name));
    entry.emplace_back("data_type", std::string(tensor.type));
    entry.emplace_back("dims", std::move(dims));
    if (tensor.is_optional) entry.emplace_back("optional", true);
    entries.emplace_back(std::move(entry));
  }
  return JsonValue(std::move(entries));
}

double share_of(const std::string& name, const std::string& text) {
  double value = 0.0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end || !is_share(value))
    refuse("parameter '" + name + "' is '" + text + "', expected a number from 0 to 1");
  return value;
}

std::uint32_t threads_of(const std::string& text) {
  std::uint32_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end || value == 0 || value > 1024)
    refuse("parameter 'threads' is '" + text + "', expected a whole number from 1 to 1024");
  return value;
}

}  // namespace

ModelConfig::ModelConfig(std::string_view json) {
  try {
    given_ = parse_json(json);
  } catch (const Error& error) {
    throw Failure(TRITONSERVER_ERROR_INTERNAL,
                  std::string("the server's model configuration is no JSON: ") + error.what());
  }
  if (given_.object() == nullptr)
    throw Failure(TRITONSERVER_ERROR_INTERNAL, "the server's model configuration is no JSON object");
}

Parameters ModelConfig::parameters() const {
  Parameters parameters;
  const JsonValue* entries = find("parameters");
  if (entries == nullptr || entries->object() == nullptr) return parameters;
  for (const auto& [name, entry] : *entries->object()) {
    // Ignore parameters of the server, e.g. TRITON_BATCH_STRATEGY_PATH, and those that only clients read.
    if (name.starts_with("TRITON_") || name == "calibration_table" || name == "calibration") continue;
    const std::string text = text_of(entry.find("string_value"));
    if (text.empty()) refuse("parameter '" + name + "' is empty: give it a string_value, or leave it out");
    if (text.find('\0') != std::string::npos) refuse("parameter '" + name + "' holds a zero byte");
    if (name == "router_directory") {
      parameters.router_directory = text;
    } else if (name == "directory_digest") {
      parameters.directory_digest = text;
    } else if (name == "default_threshold") {
      parameters.default_threshold = share_of(name, text);
    } else if (name == "strong_share") {
      parameters.strong_share = share_of(name, text);
    } else if (name == "strong_model") {
      parameters.strong_model = text;
    } else if (name == "weak_model") {
      parameters.weak_model = text;
    } else if (name == "threads") {
      parameters.threads = threads_of(text);
    } else {
      refuse("parameter '" + name +
             "' is unknown to this backend: it reads router_directory, directory_digest, default_threshold, "
             "strong_share, strong_model, weak_model and threads");
    }
  }
  if (parameters.default_threshold && parameters.strong_share)
    refuse("parameters default_threshold and strong_share both set the threshold: give one of them");
  return parameters;
}

std::int64_t ModelConfig::max_batch_size() const {
  const JsonValue* value = find("max_batch_size");
  if (value == nullptr) return 0;
  const std::optional<std::int64_t> number = whole_number(*value);
  if (!number || *number < 0) refuse("max_batch_size is " + json_text(*value) + ", expected a whole number from 0");
  return *number;
}

bool ModelConfig::complete(bool reads_text, std::size_t dim) {
  const bool has_no_inputs = lists_nothing(find("input"));
  const bool has_no_outputs = lists_nothing(find("output"));
  if (!has_no_inputs && !has_no_outputs) return false;
  if (has_no_inputs && has_no_outputs) {
    if (max_batch_size() == 0) added_.emplace_back("max_batch_size", json_number(kDefaultMaxBatchSize));
    const bool has_a_scheduler = find("dynamic_batching") != nullptr || find("sequence_batching") != nullptr ||
                                 find("ensemble_scheduling") != nullptr;
    if (!has_a_scheduler) added_.emplace_back("dynamic_batching", JsonValue::Object{});
  }
  if (has_no_inputs) added_.emplace_back("input", list_of(inputs_of(reads_text, dim)));
  if (has_no_outputs) added_.emplace_back("output", list_of(kOutputs));
  return true;
}

void ModelConfig::check(bool reads_text, std::size_t dim) const {
  check_list(find("input"), "input", inputs_of(reads_text, dim));
  check_list(find("output"), "output", kOutputs);
}

std::string ModelConfig::to_json() const {
  std::string text = "{";
  const auto write = [&](const std::string& name, const JsonValue& value) {
    if (text.size() > 1) text += ',';
    text += json_text(JsonValue(name)) + ':' + json_text(value);
  };
  for (const auto& [name, value] : *given_.object()) {
    if (find(name) == &value) write(name, value);
  }
  for (const auto& [name, value] : added_) write(name, value);
  return text + '}';
}

const JsonValue* ModelConfig::find(std::string_view name) const noexcept {
  for (const auto& [key, value] : added_) {
    if (key == name) return &value;
  }
  return given_.find(name);
}

}  // namespace routellm_fast::triton
