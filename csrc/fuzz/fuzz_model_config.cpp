// Any bytes are the model configuration that Triton hands over. What is completed must pass its own check, and must be
// read again as it was written.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "support/require.hpp"
#include "triton/model_config.hpp"
#include "triton/server_api.hpp"

namespace {

using routellm_fast::fuzz::require;
using routellm_fast::triton::Failure;
using routellm_fast::triton::ModelConfig;
using routellm_fast::triton::Parameters;

bool is_share(double value) { return value >= 0.0 && value <= 1.0; }

void check(const Parameters& parameters) {
  require(!parameters.default_threshold || is_share(*parameters.default_threshold), "a threshold lies in [0, 1]");
  require(!parameters.strong_share || is_share(*parameters.strong_share), "a share lies in [0, 1]");
  require(!(parameters.default_threshold && parameters.strong_share), "one parameter sets the threshold");
  require(parameters.threads <= 1024, "threads are bounded");
  require(parameters.router_directory.find('\0') == std::string::npos, "a path has no zero byte");
}

template <typename Call>
bool succeeds(const Call& call) {
  try {
    call();
    return true;
  } catch (const Failure& failure) {
    require(failure.what()[0] != '\0', "a failure says why");
    return false;
  }
}

void check(std::string_view json, bool reads_text, std::size_t dim) {
  ModelConfig config(json);
  (void)succeeds([&] { check(config.parameters()); });
  const bool fits = succeeds([&] { config.check(reads_text, dim); });
  const std::string before = config.to_json();
  require(ModelConfig(before).to_json() == before, "a configuration is read as it was written");
  bool was_completed = false;
  if (!succeeds([&] { was_completed = config.complete(reads_text, dim); })) return;
  if (fits) require(succeeds([&] { config.check(reads_text, dim); }), "what is added fits");
  const std::string after = config.to_json();
  require(ModelConfig(after).to_json() == after, "a completed configuration is read as it was written");
  require(was_completed || after == before, "nothing is added unsaid");
  ModelConfig again(after);
  require(!again.complete(reads_text, dim), "nothing is added twice");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // A copy of its own, so that a sanitizer sees one byte too many.
  const std::vector<char> bytes(data, data + size);
  const std::string_view json(bytes.data(), bytes.size());
  (void)succeeds([&] { check(json, true, 9); });
  (void)succeeds([&] { check(json, false, 3); });
  return 0;
}
