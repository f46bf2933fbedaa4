#include "model_config.hpp"

#include <array>
#include <charconv>
#include <limits>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "server_api.hpp"

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

// A request brings either a prompt or an embedding, and a threshold only where the model's does not suit it.
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
  for (const Tensor& tensor : tensors) names += (names.empty() ? "" : ", ") + std::string(tensor.name);
  return names;
}

bool lists_nothing(const Json* list) { return list == nullptr || list->elements().empty(); }

std::string text_of(const Json* value) { return value == nullptr ? std::string() : value->text(); }

template <typename Tensors>
void check_list(const Json* list, const char* role, const Tensors& known) {
  if (lists_nothing(list)) return;
  for (const Json& entry : list->elements()) {
    const std::string name = text_of(entry.find("name"));
    const Tensor* found = nullptr;
    for (const Tensor& tensor : known) {
      if (name == tensor.name) found = &tensor;
    }
    const std::string subject = std::string(role) + " '" + name + "' of the model configuration";
    if (found == nullptr) refuse(subject + " is none that this router has: " + names_of(known));
    if (const std::string type = text_of(entry.find("data_type")); type != found->type)
      refuse(subject + " has data_type " + type + ", expected " + found->type);
    const Json* dims = entry.find("dims");
    const std::string width = std::to_string(found->width);
    if (dims == nullptr || dims->elements().size() != 1 ||
        (dims->elements()[0].text() != width && dims->elements()[0].text() != "-1")) {
      refuse(subject + " has dims " + (dims == nullptr ? "[]" : dims->dump()) + ", expected [" + width + "]");
    }
  }
}

template <typename Tensors>
Json list_of(const Tensors& tensors) {
  std::vector<Json> entries;
  for (const Tensor& tensor : tensors) {
    Json entry = Json::object({{"name", Json::string(tensor.name)},
                               {"data_type", Json::string(tensor.type)},
                               {"dims", Json::array({Json::number(static_cast<long long>(tensor.width))})}});
    if (tensor.is_optional) entry.set("optional", Json::boolean(true));
    entries.push_back(std::move(entry));
  }
  return Json::array(std::move(entries));
}

double share_of(const std::string& name, const std::string& text) {
  double value = 0.0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end || !(value >= 0.0 && value <= 1.0))
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
    root_ = Json::parse(json);
  } catch (const std::invalid_argument& error) {
    throw Failure(TRITONSERVER_ERROR_INTERNAL,
                  std::string("the server's model configuration is no JSON: ") + error.what());
  }
  if (root_.type() != Json::Type::kObject)
    throw Failure(TRITONSERVER_ERROR_INTERNAL, "the server's model configuration is no JSON object");
}

Parameters ModelConfig::parameters() const {
  Parameters parameters;
  const Json* entries = root_.find("parameters");
  if (entries == nullptr) return parameters;
  for (const auto& [name, entry] : entries->members()) {
    if (name.starts_with("TRITON_")) continue;  // the server's own, e.g. TRITON_BATCH_STRATEGY_PATH
    const Json* value = entry.find("string_value");
    const std::string text = text_of(value);
    if (text.empty()) refuse("parameter '" + name + "' is empty: give it a string_value, or leave it out");
    if (text.find('\0') != std::string::npos) refuse("parameter '" + name + "' holds a zero byte");
    if (name == "router_directory") {
      parameters.router_directory = text;
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
             "' is unknown to this backend: it reads router_directory, default_threshold, strong_share, strong_model, "
             "weak_model and threads");
    }
  }
  if (parameters.default_threshold && parameters.strong_share)
    refuse("parameters default_threshold and strong_share both set the threshold: give one of them");
  return parameters;
}

long long ModelConfig::max_batch_size() const {
  const std::string text = text_of(root_.find("max_batch_size"));
  long long value = 0;
  if (!text.empty()) {
    const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || at != text.data() + text.size() || value < 0)
      refuse("max_batch_size is " + text + ", expected a whole number from 0");
  }
  return value;
}

bool ModelConfig::complete(bool reads_text, std::size_t dim) {
  const bool has_no_inputs = lists_nothing(root_.find("input"));
  const bool has_no_outputs = lists_nothing(root_.find("output"));
  if (has_no_inputs && has_no_outputs) {
    if (max_batch_size() == 0) root_.set("max_batch_size", Json::number(kDefaultMaxBatchSize));
    const bool has_a_scheduler = root_.find("dynamic_batching") != nullptr ||
                                 root_.find("sequence_batching") != nullptr ||
                                 root_.find("ensemble_scheduling") != nullptr;
    if (!has_a_scheduler) root_.set("dynamic_batching", Json::object({}));
  }
  if (has_no_inputs) root_.set("input", list_of(inputs_of(reads_text, dim)));
  if (has_no_outputs) root_.set("output", list_of(kOutputs));
  return has_no_inputs || has_no_outputs;
}

void ModelConfig::check(bool reads_text, std::size_t dim) const {
  check_list(root_.find("input"), "input", inputs_of(reads_text, dim));
  check_list(root_.find("output"), "output", kOutputs);
}

}  // namespace routellm_fast::triton
