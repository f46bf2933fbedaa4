// Requests of any form to a model that Triton serves, several in one batch: inputs of any name, type, shape and bytes,
// in pieces. Each request is answered once, with win rates in [0, 1] or with an error that says why, whatever else is
// in the batch.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/fake_triton_server.hpp"
#include "support/require.hpp"
#include "support/script.hpp"

namespace {

using routellm_fast::fuzz::require;
using routellm_fast::fuzz::Script;

constexpr std::size_t kMostRequests = 4;

// A model with one instance, served as long as the process runs.
class Served {
 public:
  Served(const std::string& router, bool is_batched) {
    model_.location = ROUTELLM_FAST_ARTIFACTS;
    model_.config = R"({"name":"router","max_batch_size":)" + std::string(is_batched ? "8" : "0") +
                    R"(,"input":[],"output":[],"parameters":{"router_directory":{"string_value":")" + model_.location +
                    "/" + router + "\"}}}";
    require(TRITONBACKEND_ModelInitialize(&model_) == nullptr, "a golden router is served");
    instance_.model = &model_;
    require(TRITONBACKEND_ModelInstanceInitialize(&instance_) == nullptr, "a golden router is served");
  }

  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;
  ~Served() {
    require(TRITONBACKEND_ModelInstanceFinalize(&instance_) == nullptr, "an instance ends");
    require(TRITONBACKEND_ModelFinalize(&model_) == nullptr, "a model ends");
  }

  void run(std::deque<TRITONBACKEND_Request>& requests) {
    std::vector<TRITONBACKEND_Request*> pointers;
    pointers.reserve(requests.size());
    for (TRITONBACKEND_Request& one : requests) pointers.push_back(&one);
    const TRITONSERVER_Error* const error =
        TRITONBACKEND_ModelInstanceExecute(&instance_, pointers.data(), static_cast<std::uint32_t>(pointers.size()));
    require(error == nullptr, "a batch is always answered");
    instance_.batch_sizes.clear();
  }

 private:
  TRITONBACKEND_Model model_;
  TRITONBACKEND_ModelInstance instance_;
};

Served& served(std::size_t which) {
  static std::vector<std::unique_ptr<Served>> all = [] {
    std::vector<std::unique_ptr<Served>> made;
    for (const char* const router : {"mf-calibrated", "mf-external", "sw-int8"}) {
      made.push_back(std::make_unique<Served>(router, true));
      made.push_back(std::make_unique<Served>(router, false));
    }
    return made;
  }();
  return *all[which % all.size()];
}

TRITONSERVER_DataType type_of(std::uint8_t byte, TRITONSERVER_DataType usual) {
  if (byte < 200) return usual;
  return static_cast<TRITONSERVER_DataType>(byte % 14U);
}

std::string floats(Script& script, std::size_t count) {
  std::string bytes;
  for (std::size_t k = 0; k < count; ++k) {
    const float value = script.float32();
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return bytes;
}

std::string strings(Script& script, std::size_t count) {
  std::string bytes;
  for (std::size_t k = 0; k < count; ++k) {
    const std::string text = script.take(script.byte() % 32U);
    const auto length = static_cast<std::uint32_t>(text.size());
    bytes.append(reinterpret_cast<const char*>(&length), sizeof length).append(text);
  }
  return bytes;
}

// Mostly inputs as they should be; the rest is damage.
TRITONBACKEND_Input read_input(Script& script) {
  constexpr std::size_t kDim = 9;
  const std::uint8_t what = script.byte();
  const std::size_t rows = 1U + what / 8U % 4U;
  TRITONBACKEND_Input input;
  std::string bytes;
  switch (what % 8U) {
    case 0:
    case 1:
    case 2:
      input.name = "PROMPT";
      input.type = type_of(script.byte(), TRITONSERVER_TYPE_BYTES);
      bytes = strings(script, rows);
      input.shape = {static_cast<std::int64_t>(rows), 1};
      break;
    case 3:
    case 4:
      input.name = "EMBEDDING";
      input.type = type_of(script.byte(), TRITONSERVER_TYPE_FP32);
      bytes = floats(script, rows * kDim);
      input.shape = {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(kDim)};
      break;
    case 5:
    case 6:
      input.name = "THRESHOLD";
      input.type = type_of(script.byte(), TRITONSERVER_TYPE_FP32);
      bytes = floats(script, rows);
      input.shape = {static_cast<std::int64_t>(rows), 1};
      break;
    default:
      input.name = script.take(9);
      input.name.resize(std::strlen(input.name.c_str()));
      break;
  }
  const std::uint8_t damage = script.byte();
  if (damage % 8U == 1) input.shape.erase(input.shape.begin(), input.shape.begin() + (input.shape.empty() ? 0 : 1));
  if (damage % 8U == 2 && !input.shape.empty())
    input.shape[damage / 8U % input.shape.size()] = static_cast<std::int64_t>(script.integer(8));
  if (damage % 8U == 3) input.shape.push_back(static_cast<std::int64_t>(script.integer(1)));
  if (damage % 8U == 4) bytes.resize(damage / 8U % (bytes.size() + 1));
  if (damage % 8U == 5) bytes += script.take(damage / 8U);
  if (damage % 8U == 6 && !bytes.empty()) bytes[script.below(bytes.size())] = static_cast<char>(script.byte());
  if (damage == 255) input.memory = TRITONSERVER_MEMORY_GPU;
  const std::size_t cut = damage % 16U < 8 ? bytes.size() : script.below(bytes.size() + 1);
  input.buffers.push_back(bytes.substr(0, cut));
  if (damage % 16U >= 8) input.buffers.push_back(bytes.substr(cut));
  if (damage == 127) input.buffers.clear();
  return input;
}

TRITONBACKEND_Request read_request(Script& script) {
  TRITONBACKEND_Request request;
  const std::uint8_t form = script.byte();
  const std::size_t inputs = form % 4U;
  for (std::size_t k = 0; k < inputs; ++k) request.inputs.push_back(read_input(script));
  if (form / 4U % 4U == 1) request.outputs = {"WIN_RATE"};
  if (form / 4U % 4U == 2) request.outputs = {"MODEL", "MODEL"};
  if (form / 4U % 8U == 3) request.outputs = {"OTHER"};
  if (form / 32U == 7) request.output_memory = TRITONSERVER_MEMORY_GPU;
  constexpr const char* kFailing[] = {"ResponseNew",      "RequestInputCount", "ResponseOutput",
                                      "ReportStatistics", "ResponseSend",      "RequestRelease"};
  if (form / 32U == 6) request.failing_function = kFailing[script.byte() % 6U];
  return request;
}

void check(const TRITONBACKEND_Request& request) {
  require(request.times_released == 1, "a request is released once");
  const Reply& reply = request.reply;
  if (request.failing_function == "ResponseNew") return;
  require(reply.times_sent == 1, "a request is answered once");
  require(reply.error.empty() || reply.outputs.empty(), "an error has no outputs");
  const auto rates = reply.outputs.find("WIN_RATE");
  if (!reply.error.empty() || rates == reply.outputs.end()) return;
  for (std::size_t at = 0; at < rates->second.bytes.size(); at += sizeof(float)) {
    float rate = -1.0F;
    std::memcpy(&rate, rates->second.bytes.data() + at, sizeof rate);
    require(rate >= 0.0F && rate <= 1.0F, "a win rate lies in [0, 1]");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Script script(data, size);
  Served& model = served(script.byte());
  std::deque<TRITONBACKEND_Request> requests;
  while (!script.is_over() && requests.size() < kMostRequests) requests.push_back(read_request(script));
  if (requests.empty()) return 0;
  std::deque<TRITONBACKEND_Request> alone(requests);
  model.run(requests);
  for (std::size_t k = 0; k < requests.size(); ++k) {
    check(requests[k]);
    // What is asked alone must be answered alike.
    std::deque<TRITONBACKEND_Request> one{alone[k]};
    model.run(one);
    require(one.front().reply.error == requests[k].reply.error, "other requests of a batch change no error");
    for (const auto& [name, output] : requests[k].reply.outputs) {
      require(one.front().reply.outputs[name].bytes == output.bytes, "other requests of a batch change no answer");
    }
  }
  (void)fake_triton::take_logged_errors();
  require(fake_triton::live().errors == 0 && fake_triton::live().responses == 0, "nothing is left behind");
  return 0;
}
