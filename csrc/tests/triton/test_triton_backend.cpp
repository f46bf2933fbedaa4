#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "routellm_fast.h"
#include "support/fake_triton_server.hpp"
#include "support/scratch_directory.hpp"
#include "triton/model_config.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUTELLM_FAST_SANITIZED 1
#elif defined(__has_feature)
#define ROUTELLM_FAST_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define ROUTELLM_FAST_SANITIZED 0
#endif

namespace routellm_fast::triton {
namespace {

const std::string kRouters = ROUTELLM_FAST_ARTIFACTS;  // router directories of the tests

std::string packed(const std::vector<std::string>& texts) {
  std::string bytes;
  for (const std::string& text : texts) {
    const auto length = static_cast<std::uint32_t>(text.size());
    bytes.append(reinterpret_cast<const char*>(&length), sizeof length);
    bytes += text;
  }
  return bytes;
}

std::string packed(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

TRITONBACKEND_Input input(std::string name, TRITONSERVER_DataType type, std::vector<std::int64_t> shape,
                          std::string bytes) {
  return {std::move(name), type, std::move(shape), {std::move(bytes)}, TRITONSERVER_MEMORY_CPU};
}

TRITONBACKEND_Input prompts(const std::vector<std::string>& texts) {
  return input("PROMPT", TRITONSERVER_TYPE_BYTES, {static_cast<std::int64_t>(texts.size()), 1}, packed(texts));
}

TRITONBACKEND_Input embeddings(const std::vector<float>& values, std::size_t dim) {
  const auto rows = static_cast<std::int64_t>(values.size() / dim);
  return input("EMBEDDING", TRITONSERVER_TYPE_FP32, {rows, static_cast<std::int64_t>(dim)}, packed(values));
}

TRITONBACKEND_Input thresholds(const std::vector<float>& values) {
  return input("THRESHOLD", TRITONSERVER_TYPE_FP32, {static_cast<std::int64_t>(values.size()), 1}, packed(values));
}

TRITONBACKEND_Request request(std::vector<TRITONBACKEND_Input> inputs) {
  TRITONBACKEND_Request made;
  made.inputs = std::move(inputs);
  return made;
}

std::string config_with(const std::string& directory, const std::string& more = "") {
  return R"({"name":"router","max_batch_size":0,"input":[],"output":[],"parameters":{"router_directory":{"string_value":")" +
         directory + R"("},"default_threshold":{"string_value":"0.5"}})" + more + "}";
}

// The text of an error, or "" where there was none; deletes it.
std::string taken(TRITONSERVER_Error* error) {
  if (error == nullptr) return "";
  std::string message = TRITONSERVER_ErrorMessage(error);
  TRITONSERVER_ErrorDelete(error);
  return message;
}

// A model that the backend serves, with one instance or several.
class Served {
 public:
  explicit Served(const std::string& router, const std::function<void(TRITONBACKEND_Model&)>& change = {},
                  std::size_t instance_count = 1)
      : instances(instance_count) {
    model.location = kRouters;
    model.config = config_with(kRouters + "/" + router);
    if (change) change(model);
    failure = taken(TRITONBACKEND_ModelInitialize(&model));
    if (!failure.empty()) return;
    for (TRITONBACKEND_ModelInstance& instance : instances) {
      instance.model = &model;
      REQUIRE(taken(TRITONBACKEND_ModelInstanceInitialize(&instance)).empty());
    }
  }
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;
  ~Served() {
    if (failure.empty()) {
      for (TRITONBACKEND_ModelInstance& instance : instances)
        CHECK(taken(TRITONBACKEND_ModelInstanceFinalize(&instance)).empty());
    }
    CHECK(taken(TRITONBACKEND_ModelFinalize(&model)).empty());
    CHECK(fake_triton::live().errors == 0);
    CHECK(fake_triton::live().messages == 0);
    CHECK(fake_triton::live().responses == 0);
  }

  void run(std::deque<TRITONBACKEND_Request>& requests, std::size_t index = 0) {
    std::vector<TRITONBACKEND_Request*> pointers;
    for (TRITONBACKEND_Request& one : requests) pointers.push_back(&one);
    CHECK(taken(TRITONBACKEND_ModelInstanceExecute(&instances[index], pointers.data(),
                                                   static_cast<std::uint32_t>(pointers.size())))
              .empty());
    for (const TRITONBACKEND_Request& one : requests) {
      CHECK(one.times_released == 1);
      CHECK(one.times_reported == 1);
    }
  }

  TRITONBACKEND_Model model;
  std::vector<TRITONBACKEND_ModelInstance> instances;
  std::string failure;
};

// What the C interface itself says: the truth for the backend.
class Truth {
 public:
  explicit Truth(const std::string& router) {
    REQUIRE(routellm_load((kRouters + "/" + router).c_str(), nullptr, &router_) == ROUTELLM_OK);
  }
  Truth(const Truth&) = delete;
  Truth& operator=(const Truth&) = delete;
  ~Truth() { routellm_free(router_); }

  [[nodiscard]] std::size_t dim() const { return routellm_dim(router_); }

  [[nodiscard]] std::vector<float> win_rates(const std::vector<std::string>& texts) const {
    std::vector<float> found(texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i)
      REQUIRE(routellm_win_rate(router_, texts[i].data(), texts[i].size(), &found[i]) == ROUTELLM_OK);
    return found;
  }
  [[nodiscard]] std::vector<float> win_rates(const std::vector<float>& values) const {
    std::vector<float> found(values.size() / dim());
    REQUIRE(routellm_win_rates_from_embeddings(router_, values.data(), found.size(), dim(), found.data()) ==
            ROUTELLM_OK);
    return found;
  }

  void check_reply(const Reply& reply, const std::vector<std::string>& texts, const std::vector<double>& limits) const {
    std::vector<std::pair<float, int>> expected;
    for (std::size_t i = 0; i < texts.size(); ++i) {
      auto& [win_rate, is_strong] = expected.emplace_back();
      REQUIRE(routellm_route(router_, texts[i].data(), texts[i].size(), limits[i], &win_rate, &is_strong) ==
              ROUTELLM_OK);
    }
    check_reply(reply, expected);
  }

  void check_reply(const Reply& reply, const std::vector<float>& values, const std::vector<double>& limits) const {
    std::vector<std::pair<float, int>> expected;
    for (std::size_t i = 0; i < limits.size(); ++i) {
      std::uint8_t is_strong = 0;
      float win_rate = 0.0F;
      REQUIRE(routellm_route_embeddings(router_, values.data() + i * dim(), 1, dim(), limits[i], &win_rate,
                                        &is_strong) == ROUTELLM_OK);
      expected.emplace_back(win_rate, is_strong);
    }
    check_reply(reply, expected);
  }

 private:
  void check_reply(const Reply& reply, const std::vector<std::pair<float, int>>& expected) const {
    CHECK(reply.times_sent == 1);
    REQUIRE(reply.error.empty());
    std::vector<float> win_rates;
    std::string is_strong;
    std::vector<std::string> models;
    for (const auto& [win_rate, strong] : expected) {
      win_rates.push_back(win_rate);
      is_strong += static_cast<char>(strong);
      models.emplace_back(strong != 0 ? routellm_strong_model(router_) : routellm_weak_model(router_));
    }
    const std::vector<std::int64_t> shape{static_cast<std::int64_t>(expected.size()), 1};
    CHECK(reply.outputs.at("WIN_RATE").bytes == packed(win_rates));
    CHECK(reply.outputs.at("WIN_RATE").shape == shape);
    CHECK(reply.outputs.at("IS_STRONG").bytes == is_strong);
    CHECK(reply.outputs.at("MODEL").bytes == packed(models));
    CHECK(reply.outputs.at("MODEL").shape == shape);
  }

  routellm_router* router_ = nullptr;
};

std::vector<float> ramp(std::size_t count, float start) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = std::sin(start + static_cast<float>(i));
  return values;
}

const float kNan = std::numeric_limits<float>::quiet_NaN();

TEST_CASE("a configuration is written as it was read, to the last digit") {
  for (const char* json :
       {R"({"a":0,"b":-0.0,"c":1.0})", R"({"a":12345678901234567890123})",
        R"({"a":9223372036854775807,"b":0.1,"c":5e-324,"d":1e+20})", R"({"\ud800":"\u0001\udfff\""})"}) {
    CAPTURE(json);
    CHECK(ModelConfig(json).to_json() == json);
  }
}

TEST_CASE("prompts and embeddings of one batch, with and without thresholds, are decided as by the C interface") {
  for (const char* router : {"mf-float32-normalized", "mf-int8-folded", "sw-float32", "sw-int8", "sw-moments"}) {
    CAPTURE(router);
    const Truth truth(router);
    Served served(router);
    REQUIRE(served.failure.empty());
    const std::vector<std::string> texts{"prove the a b c?", "", std::string("\xff\xfe{ 1 }\0!", 8)};
    const std::vector<float> one = ramp(truth.dim(), 0.5F);
    const std::vector<float> two = ramp(2 * truth.dim(), 3.0F);
    std::deque<TRITONBACKEND_Request> requests;
    requests.push_back(request({prompts(texts)}));
    requests.push_back(request({embeddings(one, truth.dim())}));
    requests.push_back(request({thresholds({0.0F, 0.75F, 1.0F}), prompts(texts)}));
    requests.push_back(request({embeddings(two, truth.dim()), thresholds({1.0F, 0.25F})}));
    for (int again = 0; again < 2; ++again) {
      std::deque<TRITONBACKEND_Request> batch = requests;
      served.run(batch);
      truth.check_reply(batch[0].reply, texts, {0.5, 0.5, 0.5});
      truth.check_reply(batch[1].reply, one, {0.5});
      truth.check_reply(batch[2].reply, texts, {0.0, 0.75, 1.0});
      truth.check_reply(batch[3].reply, two, {1.0, 0.25});
    }
    CHECK(served.instances[0].good_requests == 8);
    CHECK(served.instances[0].batch_sizes == std::vector<std::uint64_t>{9, 9});
  }
}

TEST_CASE("every bad request has an error of its own, and the others of its batch their answers") {
  const Truth truth("mf-float32-normalized");
  Served served("mf-float32-normalized");
  const std::size_t dim = truth.dim();
  const auto width = static_cast<std::int64_t>(dim);
  std::vector<float> bad = ramp(2 * dim, 1.0F);
  bad[dim + 2] = kNan;
  TRITONBACKEND_Input on_gpu = prompts({"x"});
  on_gpu.memory = TRITONSERVER_MEMORY_GPU;
  TRITONBACKEND_Input cut = prompts({"x"});
  cut.buffers[0].pop_back();
  TRITONBACKEND_Input longer = prompts({"x"});
  longer.buffers[0] += "yz";
  TRITONBACKEND_Input lying = prompts({"x"});
  std::memset(lying.buffers[0].data(), 0xff, 4);
  TRITONBACKEND_Input empty = prompts({"x"});
  empty.buffers.clear();

  const std::vector<std::pair<std::vector<TRITONBACKEND_Input>, std::string>> faults{
      {{}, "neither PROMPT nor EMBEDDING"},
      {{thresholds({0.5F})}, "neither PROMPT nor EMBEDDING"},
      {{prompts({"x"}), embeddings(ramp(dim, 0.0F), dim)}, "both PROMPT and EMBEDDING"},
      {{input("PROMPTS", TRITONSERVER_TYPE_BYTES, {1, 1}, packed(std::vector<std::string>{"x"}))}, "'PROMPTS' is none"},
      {{input("PROMPT", TRITONSERVER_TYPE_FP32, {1, 1}, packed(std::vector{1.0F}))}, "is FP32, expected BYTES"},
      {{input("PROMPT", TRITONSERVER_TYPE_BYTES, {1}, "")}, "has shape [1], expected [rows, 1]"},
      {{input("PROMPT", TRITONSERVER_TYPE_BYTES, {1, 2}, "")}, "has shape [1, 2], expected [rows, 1]"},
      {{input("PROMPT", TRITONSERVER_TYPE_BYTES, {0, 1}, "")}, "has shape [0, 1]"},
      {{input("PROMPT", TRITONSERVER_TYPE_BYTES, {-1, 1}, "")}, "has shape [-1, 1]"},
      {{input("PROMPT", TRITONSERVER_TYPE_BYTES, {std::int64_t{1} << 60, 1}, "xxxx")}, "but only 4 bytes"},
      {{cut}, "ends within string 0 of 1"},
      {{longer}, "2 bytes behind its 1 strings"},
      {{lying}, "ends within string 0 of 1"},
      {{empty}, "but only 0 bytes"},
      {{on_gpu}, "'PROMPT' lies in GPU memory"},
      {{input("EMBEDDING", TRITONSERVER_TYPE_FP64, {1, width}, "")}, "is FP64, expected FP32"},
      {{embeddings(ramp(dim + 1, 0.0F), dim + 1)}, "has shape [1, " + std::to_string(dim + 1) + "], expected [rows, "},
      {{embeddings(bad, dim)}, "nan in row 1, column 2"},
      {{input("EMBEDDING", TRITONSERVER_TYPE_FP32, {2, width}, packed(ramp(dim, 0.0F)))}, "but its shape needs"},
      {{prompts({"x"}), thresholds({1.5F})}, "'THRESHOLD' is 1.5"},
      {{prompts({"x"}), thresholds({-0.1F})}, "'THRESHOLD' is -0.1"},
      {{prompts({"x"}), thresholds({kNan})}, "'THRESHOLD' is nan"},
      {{prompts({"x", "y"}), thresholds({0.5F, 2.0F})}, "in row 1"},
      {{prompts({"x", "y"}), thresholds({0.5F})}, "has 1 rows, expected one for each of 2"},
      {{embeddings(ramp(dim, 0.0F), dim), thresholds({7.0F})}, "'THRESHOLD' is 7"},
      {{prompts({"x"}), input("THRESHOLD", TRITONSERVER_TYPE_FP64, {1, 1}, std::string(8, '\0'))}, "is FP64"},
      {{prompts({"x"}), input("THRESHOLD", TRITONSERVER_TYPE_FP32, {1}, std::string(4, '\0'))}, "has shape [1]"},
      {{prompts({"x"}), input("THRESHOLD", TRITONSERVER_TYPE_FP32, {1, 1}, std::string(5, '\0'))}, "has 5 bytes"},
  };
  const std::vector<std::string> good_text{"hello"};
  const std::vector<float> good_values = ramp(dim, 2.0F);
  std::deque<TRITONBACKEND_Request> requests;
  for (const auto& [inputs, text] : faults) {
    requests.push_back(request({prompts(good_text)}));
    requests.push_back(request(inputs));
    requests.push_back(request({embeddings(good_values, dim), thresholds({0.9F})}));
  }
  served.run(requests);
  for (std::size_t i = 0; i < faults.size(); ++i) {
    CAPTURE(faults[i].second);
    truth.check_reply(requests[3 * i].reply, good_text, {0.5});
    CHECK(requests[3 * i + 1].reply.times_sent == 1);
    CHECK(requests[3 * i + 1].reply.error.find(faults[i].second) != std::string::npos);
    CHECK(requests[3 * i + 1].reply.outputs.empty());
    truth.check_reply(requests[3 * i + 2].reply, good_values, {0.9F});
  }
  CHECK(served.instances[0].good_requests == 2 * faults.size());
  CHECK(served.instances[0].bad_requests == faults.size());
  CHECK(served.instances[0].batch_sizes == std::vector<std::uint64_t>{2 * faults.size()});
  CHECK(fake_triton::take_logged_errors().empty());
}

TEST_CASE("without a configured threshold the calibration's half decides, and without a calibration one has to come") {
  const auto bare = [](const char* router) {
    return [=](TRITONBACKEND_Model& model) {
      model.config = R"({"parameters":{"router_directory":{"string_value":")" + kRouters + "/" + router + "\"}}}";
    };
  };
  const Truth calibrated("mf-float32-normalized");
  Served with_table("mf-float32-normalized", bare("mf-float32-normalized"));
  const std::vector<std::string> texts{"prove the a b c?", "hello", "", "write 1 { }"};
  std::deque<TRITONBACKEND_Request> requests;
  requests.push_back(request({prompts(texts)}));
  with_table.run(requests);
  calibrated.check_reply(requests[0].reply, texts, {0.4, 0.4, 0.4, 0.4});

  const Truth truth("sw-float32");
  Served without("sw-float32", bare("sw-float32"));
  requests.clear();
  requests.push_back(request({prompts(texts)}));
  requests.push_back(request({prompts({"hello"}), thresholds({0.5F})}));
  requests.push_back(request({prompts(texts)}));
  requests.back().outputs = {"WIN_RATE"};
  without.run(requests);
  CHECK(requests[0].reply.code == TRITONSERVER_ERROR_INVALID_ARG);
  CHECK(requests[0].reply.error.find("no input 'THRESHOLD'") != std::string::npos);
  truth.check_reply(requests[1].reply, std::vector<std::string>{"hello"}, {0.5});
  CHECK(requests[2].reply.outputs.at("WIN_RATE").bytes == packed(truth.win_rates(texts)));
}

TEST_CASE("a row that only the core refuses fails its own request") {
  const Truth truth("sw-float32");
  Served served("sw-float32");
  const std::size_t dim = truth.dim();
  std::vector<float> with_zeros = ramp(2 * dim, 1.0F);
  std::fill(with_zeros.begin() + static_cast<std::ptrdiff_t>(dim), with_zeros.end(), 0.0F);
  const std::vector<float> good = ramp(dim, 2.0F);
  std::deque<TRITONBACKEND_Request> requests;
  requests.push_back(request({embeddings(good, dim)}));
  requests.push_back(request({embeddings(with_zeros, dim)}));
  requests.push_back(request({prompts({"hello"})}));
  requests.push_back(request({embeddings(good, dim), thresholds({0.1F})}));
  served.run(requests);
  truth.check_reply(requests[0].reply, good, {0.5});
  CHECK(requests[1].reply.code == TRITONSERVER_ERROR_INVALID_ARG);
  CHECK(requests[1].reply.error.find('1') != std::string::npos);  // the row, counted within the request
  truth.check_reply(requests[2].reply, std::vector<std::string>{"hello"}, {0.5});
  truth.check_reply(requests[3].reply, good, {0.1F});
}

TEST_CASE("a request for win rates alone gets those of the router, without the exactness that a decision asks for") {
  for (const char* router : {"mf-int8-folded", "sw-int8", "sw-moments"}) {
    CAPTURE(router);
    Served served(router);
    const Truth truth(router);
    const std::vector<std::string> texts{"prove the a b c?", "hello"};
    const std::vector<float> values = ramp(2 * truth.dim(), 0.25F);
    std::deque<TRITONBACKEND_Request> requests;
    requests.push_back(request({prompts(texts), thresholds({0.5F, 0.75F})}));
    requests.push_back(request({prompts(texts)}));
    requests.push_back(request({embeddings(values, truth.dim())}));
    requests.push_back(request({embeddings(values, truth.dim()), thresholds({0.5F, 0.5F})}));
    for (const std::size_t i : {1U, 2U}) requests[i].outputs = {"WIN_RATE"};
    served.run(requests);
    truth.check_reply(requests[0].reply, texts, {0.5, 0.75});
    CHECK(requests[1].reply.outputs.at("WIN_RATE").bytes == packed(truth.win_rates(texts)));
    CHECK(requests[2].reply.outputs.at("WIN_RATE").bytes == packed(truth.win_rates(values)));
    truth.check_reply(requests[3].reply, values, {0.5, 0.5});
  }
}

TEST_CASE("inputs in pieces are put together") {
  const Truth truth("mf-float32-normalized");
  Served served("mf-float32-normalized");
  const std::vector<std::string> texts{"prove the a b c?", "hello"};
  const std::vector<float> values = ramp(2 * truth.dim(), 0.0F);
  std::deque<TRITONBACKEND_Request> requests;
  requests.push_back(request({prompts(texts), thresholds({0.3F, 0.8F})}));
  requests.push_back(request({embeddings(values, truth.dim())}));
  for (TRITONBACKEND_Request& one : requests) {
    for (TRITONBACKEND_Input& whole : one.inputs) {
      const std::string bytes = whole.buffers[0];
      whole.buffers.clear();
      for (std::size_t i = 0; i < bytes.size(); i += 3) whole.buffers.push_back(bytes.substr(i, 3));
    }
  }
  served.run(requests);
  truth.check_reply(requests[0].reply, texts, {0.3F, 0.8F});
  truth.check_reply(requests[1].reply, values, {0.5, 0.5});
}

TEST_CASE("a prompt in memory that its client changes meanwhile is scored as it was when it was read") {
  const Truth truth("mf-float32-normalized");
  Served served("mf-float32-normalized");
  const std::vector<std::string> texts{"prove the a b c?"};
  std::deque<TRITONBACKEND_Request> requests;
  requests.push_back(request({prompts(texts)}));
  requests.push_back(request({prompts({"hello"})}));
  std::string& shared = requests[0].inputs[0].buffers[0];
  // The first byte of a sequence of four, behind which the text ends.
  requests[1].inputs[0].when_read = [&shared] { shared.back() = '\xf0'; };
  served.run(requests);
  truth.check_reply(requests[0].reply, texts, {0.5});
  truth.check_reply(requests[1].reply, {"hello"}, {0.5});
}

TEST_CASE("only the outputs that are asked for are made") {
  Served served("mf-float32-normalized");
  std::deque<TRITONBACKEND_Request> requests(4, request({prompts({"hello"})}));
  requests[0].outputs = {"MODEL"};
  requests[1].outputs = {"IS_STRONG", "WIN_RATE"};
  requests[2].outputs = {};
  requests[3].outputs = {"WIN_RATE", "SCORE"};
  served.run(requests);
  CHECK(requests[0].reply.outputs.size() == 1);
  CHECK(requests[0].reply.outputs.count("MODEL") == 1);
  CHECK(requests[1].reply.outputs.size() == 2);
  CHECK(requests[1].reply.outputs.count("MODEL") == 0);
  CHECK(requests[2].reply.outputs.empty());
  CHECK(requests[2].reply.error.empty());
  CHECK(requests[3].reply.error.find("'SCORE' is none") != std::string::npos);
}

TEST_CASE("where the server fails a call, that request fails, and nothing leaks or is released twice") {
  const Truth truth("mf-float32-normalized");
  Served served("mf-float32-normalized");
  for (const char* function :
       {"ResponseNew", "RequestInputCount", "ResponseOutput", "ResponseSend", "ReportStatistics", "RequestRelease"}) {
    CAPTURE(function);
    std::deque<TRITONBACKEND_Request> requests(3, request({prompts({"hello"})}));
    requests[1].failing_function = function;
    served.run(requests);
    truth.check_reply(requests[0].reply, std::vector<std::string>{"hello"}, {0.5});
    truth.check_reply(requests[2].reply, std::vector<std::string>{"hello"}, {0.5});
    const std::string told = requests[1].reply.error;
    const std::vector<std::string> logged = fake_triton::take_logged_errors();
    CHECK((told + (logged.empty() ? "" : logged[0])).find(std::string("refused ") + function) != std::string::npos);
  }
  std::deque<TRITONBACKEND_Request> requests(1, request({prompts({"hello"})}));
  requests[0].output_memory = TRITONSERVER_MEMORY_GPU;
  served.run(requests);
  CHECK(requests[0].reply.error.find("'WIN_RATE' is to go into GPU memory") != std::string::npos);
}

TEST_CASE("a model without a batch dimension takes and gives single rows") {
  const Truth truth("mf-float32-normalized");
  Served served("mf-float32-normalized", [](TRITONBACKEND_Model& model) {
    model.config = config_with(kRouters + "/mf-float32-normalized");
    const std::string wanted = R"("input":[])";
    model.config.replace(model.config.find(wanted), wanted.size(),
                         R"("input":[{"name":"PROMPT","data_type":"TYPE_STRING","dims":["1"]}])");
  });
  REQUIRE(served.failure.empty());
  CHECK(served.model.config_changes == 1);  // the outputs
  std::deque<TRITONBACKEND_Request> requests;
  requests.push_back(request({input("PROMPT", TRITONSERVER_TYPE_BYTES, {1}, packed(std::vector<std::string>{"hello"})),
                              input("THRESHOLD", TRITONSERVER_TYPE_FP32, {1}, packed(std::vector{0.0F}))}));
  requests.push_back(request({prompts({"hello"})}));
  served.run(requests);
  CHECK(requests[0].reply.error.empty());
  CHECK(requests[0].reply.outputs.at("IS_STRONG").bytes == std::string(1, '\1'));
  CHECK(requests[0].reply.outputs.at("WIN_RATE").shape == std::vector<std::int64_t>{1});
  CHECK(requests[1].reply.error.find("has shape [1, 1], expected [1]") != std::string::npos);
}

TEST_CASE("a configuration that says nothing is completed by the router") {
  const Served text("mf-float32-normalized");
  CHECK(text.model.config_changes == 1);
  const std::string& config = text.model.config;
  CHECK(config.find(R"("max_batch_size":256)") != std::string::npos);
  CHECK(config.find(R"("dynamic_batching":{})") != std::string::npos);
  CHECK(config.find(R"({"name":"PROMPT","data_type":"TYPE_STRING","dims":[1],"optional":true})") != std::string::npos);
  CHECK(config.find(R"("name":"EMBEDDING","data_type":"TYPE_FP32")") != std::string::npos);
  CHECK(config.find(R"("output":[{"name":"WIN_RATE","data_type":"TYPE_FP32","dims":[1]})") != std::string::npos);

  const Served numbers("mf-none");
  CHECK(numbers.model.config.find("PROMPT") == std::string::npos);
  CHECK(numbers.model.config.find(R"("optional":true)") == numbers.model.config.rfind(R"("optional":true)"));

  const Served kept("mf-none", [](TRITONBACKEND_Model& model) {
    model.config = config_with(kRouters + "/mf-none", R"(,"sequence_batching":{},"version_policy":{"all":{}})");
    model.config.replace(model.config.find(R"(size":0)"), 7, R"(size":8)");
  });
  CHECK(kept.failure.empty());
  CHECK(kept.model.config.find(R"("max_batch_size":8)") != std::string::npos);
  CHECK(kept.model.config.find("dynamic_batching") == std::string::npos);
  CHECK(kept.model.config.find(R"("version_policy":{"all":{}})") != std::string::npos);

  const Served left("mf-none", [](TRITONBACKEND_Model& model) { model.completes_config = false; });
  CHECK(left.model.config_changes == 0);
}

TEST_CASE("a router of embeddings refuses prompts by name") {
  Served served("mf-none");
  std::deque<TRITONBACKEND_Request> requests;
  requests.push_back(request({prompts({"hello"})}));
  requests.push_back(request({}));
  served.run(requests);
  CHECK(requests[0].reply.error.find("no embedder that reads text here: send EMBEDDING") != std::string::npos);
  CHECK(requests[1].reply.error == "the request has no EMBEDDING");
}

TEST_CASE("what cannot be served is refused at loading, for a reason") {
  const auto with_parameters = [](const std::string& members) {
    return [=](TRITONBACKEND_Model& model) {
      model.config =
          R"({"parameters":{"router_directory":{"string_value":")" + kRouters + "/mf-none\"}" + members + "}}";
    };
  };
  const auto parameter = [](const char* name, const char* value) {
    return std::string(",\"") + name + R"(":{"string_value":")" + value + "\"}";
  };
  const std::vector<std::pair<std::function<void(TRITONBACKEND_Model&)>, std::string>> faults{
      {[](TRITONBACKEND_Model& model) { model.config = "{"; }, "is no JSON"},
      {[](TRITONBACKEND_Model& model) { model.config = "[]"; }, "is no JSON object"},
      {[](TRITONBACKEND_Model& model) { model.config = "{}"; }, "has no parameter router_directory"},
      {[](TRITONBACKEND_Model& model) { model.config = config_with("no-such"); }, "1/no-such"},
      {[](TRITONBACKEND_Model& model) { model.config = config_with(kRouters + "/random"); }, "random"},
      {with_parameters(parameter("default_treshold", "0.5")), "'default_treshold' is unknown"},
      {with_parameters(parameter("default_threshold", "1.5")), "'default_threshold' is '1.5'"},
      {with_parameters(parameter("default_threshold", "nan")), "'default_threshold' is 'nan'"},
      {with_parameters(parameter("strong_share", "a half")), "'strong_share' is 'a half'"},
      {with_parameters(parameter("strong_share", "0.5")), "calibration"},
      {with_parameters(parameter("strong_share", "0.5") + parameter("default_threshold", "0.5")), "give one of them"},
      {with_parameters(parameter("threads", "0")), "'threads' is '0'"},
      {with_parameters(parameter("threads", "two")), "'threads' is 'two'"},
      {with_parameters(parameter("strong_model", "")), "'strong_model' is empty"},
      {with_parameters(R"(,"weak_model":{})"), "'weak_model' is empty"},
      {with_parameters(parameter("weak_model", "a\\u0000b")), "zero byte"},
      {with_parameters(parameter("directory_digest", "abc")), "64 hexadecimal digits"},
      {with_parameters(parameter("directory_digest", std::string(64, '0').c_str())), "the digest that was asked for"},
  };
  for (const auto& [change, text] : faults) {
    const Served served("mf-none", change);
    CAPTURE(text);
    CAPTURE(served.failure);
    CHECK(served.failure.find("routellm model 'router': ") == 0);
    CHECK(served.failure.find(text) != std::string::npos);
  }
  const std::vector<std::pair<std::string, std::string>> tensors{
      {R"("input":[{"name":"TEXT","data_type":"TYPE_STRING","dims":[1]}])", "input 'TEXT'"},
      {R"("input":[{"name":"PROMPT","data_type":"TYPE_STRING","dims":[1]}])", "EMBEDDING, THRESHOLD"},
      {R"("input":[{"name":"EMBEDDING","data_type":"TYPE_FP32","dims":[3,3]}])", "dims [3,3]"},
      {R"("input":[{"name":"EMBEDDING","data_type":"TYPE_FP32"}])", "dims []"},
      {R"("input":[{"name":"THRESHOLD","data_type":"TYPE_FP64","dims":[1]}])", "data_type TYPE_FP64"},
      {R"("output":[{"name":"WIN_RATE","data_type":"TYPE_FP32","dims":[2]}])", "output 'WIN_RATE'"},
  };
  for (const auto& [list, text] : tensors) {
    const Served served("mf-none", [&](TRITONBACKEND_Model& model) {
      model.config = R"({"parameters":{"router_directory":{"string_value":")" + kRouters + "/mf-none\"}}," + list + "}";
    });
    CAPTURE(served.failure);
    CHECK(served.failure.find(text) != std::string::npos);
  }
}

#if !ROUTELLM_FAST_SANITIZED  // sanitizers end the process where memory is asked for that no machine has
TEST_CASE("a router that needs more memory than there is cannot be served, for that reason") {
  const ScratchDirectory scratch("mf-calibrated");
  constexpr std::uintmax_t kBytes = std::uintmax_t{1} << 43;
  const std::uintmax_t bytes = std::filesystem::file_size(scratch.path() / "weights.safetensors");
  std::filesystem::resize_file(scratch.path() / "weights.safetensors", kBytes);  // a hole
  scratch.edit("router.json", "{\"bytes\": " + std::to_string(bytes), "{\"bytes\": " + std::to_string(kBytes));
  const Served served("", [&](TRITONBACKEND_Model& model) { model.config = config_with(scratch.path().string()); });
  CAPTURE(served.failure);
  CHECK(served.failure.find("needs more memory than this process can get") != std::string::npos);
}
#endif

TEST_CASE("parameters change models, threshold and folder") {
  Served served("", [](TRITONBACKEND_Model& model) {
    model.location = kRouters;
    model.config =
        R"({"parameters":{"router_directory":{"string_value":"../mf-calibrated"},"strong_model":{"string_value":"big"},)"
        R"("weak_model":{"string_value":"sm\u00e4ll"},"threads":{"string_value":"2"},)"
        R"("strong_share":{"string_value":"1"},"TRITON_BATCH_STRATEGY_PATH":{"string_value":"x"},)"
        R"("calibration":{"string_value":"{}"},"calibration_table":{"string_value":"{}"}}})";
  });
  REQUIRE(served.failure.empty());
  std::deque<TRITONBACKEND_Request> requests;
  requests.push_back(request({prompts({"hello"}), thresholds({0.0F})}));
  requests.push_back(request({prompts({"hello"}), thresholds({1.0F})}));
  served.run(requests);
  CHECK(requests[0].reply.outputs.at("MODEL").bytes == packed(std::vector<std::string>{"big"}));
  CHECK(requests[1].reply.outputs.at("MODEL").bytes == packed(std::vector<std::string>{"sm\xc3\xa4ll"}));
}

TEST_CASE("a router directory of symbolic links is served as the files that they lead to") {
  const ScratchDirectory scratch("mf-calibrated");
  scratch.link_files();
  Served served("", [&](TRITONBACKEND_Model& model) { model.config = config_with(scratch.path().string()); });
  REQUIRE(served.failure.empty());
  std::deque<TRITONBACKEND_Request> requests;
  requests.push_back(request({prompts({"hello"})}));
  served.run(requests);
  CHECK(requests[0].reply.outputs.at("WIN_RATE").bytes == packed(Truth("mf-calibrated").win_rates({"hello"})));
}

TEST_CASE("requests fail by name where a mapped file was cut off, until the model is loaded again") {
  const ScratchDirectory scratch("sw-int8");
  const auto model_of = [&](TRITONBACKEND_Model& model) { model.config = config_with(scratch.path().string()); };
  Served served("", model_of);
  REQUIRE(served.failure.empty());
  const std::string content = scratch.read("codes.safetensors");
  std::filesystem::resize_file(scratch.path() / "codes.safetensors", 0);
  const auto reply_of = [](Served& server) {
    std::deque<TRITONBACKEND_Request> requests;
    requests.push_back(request({prompts({"hello"})}));
    server.run(requests);
    return requests[0].reply;
  };
  const std::string error = reply_of(served).error;
  CHECK_MESSAGE(error.find("codes.safetensors was changed in place") != std::string::npos, error);
  CHECK_FALSE(Served("", model_of).failure.empty());
  scratch.write("codes.safetensors", content);
  CHECK_FALSE(reply_of(served).error.empty());
  Served again("", model_of);
  REQUIRE(again.failure.empty());
  CHECK(reply_of(again).outputs.at("WIN_RATE").bytes == packed(Truth("sw-int8").win_rates({"hello"})));
}

TEST_CASE("instances of a model work at the same time on one router") {
  const Truth truth("sw-int8");
  Served served("sw-int8", {}, 4);
  const std::vector<std::string> texts{"prove the a b c?", "hello", ""};
  std::vector<std::deque<TRITONBACKEND_Request>> batches(served.instances.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < served.instances.size(); ++i) {
    for (int k = 0; k < 20; ++k) batches[i].push_back(request({prompts(texts)}));
    threads.emplace_back([&, i] {
      std::vector<TRITONBACKEND_Request*> pointers;
      for (TRITONBACKEND_Request& one : batches[i]) pointers.push_back(&one);
      for (TRITONBACKEND_Request*& one : pointers)
        taken(TRITONBACKEND_ModelInstanceExecute(&served.instances[i], &one, 1));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& batch : batches) {
    for (const TRITONBACKEND_Request& one : batch) truth.check_reply(one.reply, texts, {0.5, 0.5, 0.5});
  }
}

TEST_CASE("the backend runs on CPUs, and with its own version of the interface") {
  TRITONBACKEND_BackendAttribute attributes;
  CHECK(taken(TRITONBACKEND_GetBackendAttribute(nullptr, &attributes)).empty());
  CHECK(attributes.preferred == std::vector{TRITONSERVER_INSTANCEGROUPKIND_CPU});
  CHECK(taken(TRITONBACKEND_Initialize(nullptr)).empty());
  fake_triton::api_version()[0] = 2;
  CHECK(taken(TRITONBACKEND_Initialize(nullptr)).find("version 2.") != std::string::npos);
  fake_triton::api_version()[0] = TRITONBACKEND_API_VERSION_MAJOR;

  Served served("mf-none");
  TRITONBACKEND_ModelInstance on_gpu;
  on_gpu.model = &served.model;
  on_gpu.kind = TRITONSERVER_INSTANCEGROUPKIND_GPU;
  CHECK(taken(TRITONBACKEND_ModelInstanceInitialize(&on_gpu)).find("write KIND_CPU") != std::string::npos);
}

}  // namespace
}  // namespace routellm_fast::triton
