#include "triton/model.hpp"

#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "triton/model_config.hpp"

namespace routellm_fast::triton {
namespace {

constexpr std::uint32_t kConfigVersion = 1;
constexpr double kDefaultStrongShare = 0.5;

struct DeleteMessage {
  void operator()(TRITONSERVER_Message* message) const noexcept {
    log_if_failed(TRITONSERVER_MessageDelete(message), __FILE__, __LINE__);
  }
};
using Message = std::unique_ptr<TRITONSERVER_Message, DeleteMessage>;

ModelConfig config_of(TRITONBACKEND_Model* handle) {
  TRITONSERVER_Message* given = nullptr;
  check(TRITONBACKEND_ModelConfig(handle, kConfigVersion, &given));
  const Message message(given);
  const char* base = nullptr;
  std::size_t bytes = 0;
  check(TRITONSERVER_MessageSerializeToJson(given, &base, &bytes));
  return ModelConfig(std::string_view(base, bytes));
}

void set_config(TRITONBACKEND_Model* handle, const ModelConfig& config) {
  const std::string json = config.to_json();
  TRITONSERVER_Message* made = nullptr;
  check(TRITONSERVER_MessageNewFromSerializedJson(&made, json.data(), json.size()));
  const Message message(made);
  check(TRITONBACKEND_ModelSetConfig(handle, kConfigVersion, made));
}

// The router directory: as configured, relative to the version's folder, else "router" in it.
std::string directory_of(TRITONBACKEND_Model* handle, const std::string& configured) {
  TRITONBACKEND_ArtifactType type = TRITONBACKEND_ARTIFACT_FILESYSTEM;
  const char* location = nullptr;
  std::uint64_t version = 0;
  check(TRITONBACKEND_ModelRepository(handle, &type, &location));
  check(TRITONBACKEND_ModelVersion(handle, &version));
  if (type != TRITONBACKEND_ARTIFACT_FILESYSTEM)
    throw Failure(TRITONSERVER_ERROR_UNSUPPORTED, "the model repository is no file system: routers are read from one");
  // operator/ keeps an absolute right side as it is.
  const std::filesystem::path folder = std::filesystem::path(location) / std::to_string(version);
  return (folder / (configured.empty() ? "router" : configured)).lexically_normal().string();
}

LoadedRouter load_router(const std::string& directory, const Parameters& parameters) {
  try {
    return {directory, parameters.directory_digest, parameters.strong_model, parameters.weak_model, parameters.threads};
  } catch (const Failure& failure) {
    if (parameters.router_directory.empty() && failure.code() == TRITONSERVER_ERROR_NOT_FOUND)
      throw Failure(failure.code(), std::string(failure.what()) +
                                        ". A router is looked for there because the model's configuration has no "
                                        "parameter router_directory");
    throw;
  }
}

// The threshold of requests that bring none: as configured, else the calibrated one of half the prompts.
std::optional<double> default_threshold(const LoadedRouter& router, const Parameters& parameters) {
  if (parameters.default_threshold) return parameters.default_threshold;
  if (parameters.strong_share) return router.threshold_for(*parameters.strong_share);
  try {
    return router.threshold_for(kDefaultStrongShare);
  } catch (const Failure& failure) {
    if (failure.code() != TRITONSERVER_ERROR_INVALID_ARG) throw;
    return std::nullopt;  // never calibrated
  }
}

}  // namespace

Model Model::load(TRITONBACKEND_Model* handle) {
  const char* name = nullptr;
  check(TRITONBACKEND_ModelName(handle, &name));
  try {
    ModelConfig config = config_of(handle);
    const Parameters parameters = config.parameters();
    const std::string directory = directory_of(handle, parameters.router_directory);
    LoadedRouter router = load_router(directory, parameters);

    bool is_to_be_completed = false;
    check(TRITONBACKEND_ModelAutoCompleteConfig(handle, &is_to_be_completed));
    if (is_to_be_completed && config.complete(router.reads_text(), router.dim())) {
      set_config(handle, config);
      config = config_of(handle);
    }
    config.check(router.reads_text(), router.dim());

    RequestForm form;
    form.is_batched = config.max_batch_size() > 0;
    form.reads_text = router.reads_text();
    form.dim = router.dim();
    form.default_threshold = default_threshold(router, parameters);
    log(TRITONSERVER_LOG_INFO,
        "routellm model '" + std::string(name) + "': " + router.kind() + " router " + router.digest().substr(0, 12) +
            " of " + directory + (form.reads_text ? ", takes text and" : ", takes") + " embeddings of " +
            std::to_string(form.dim) + " values, threshold " +
            (form.default_threshold ? std::to_string(*form.default_threshold) : "none") + ", strong model " +
            router.strong_model() + ", weak model " + router.weak_model(),
        __FILE__, __LINE__);
    return {std::move(router), form};
  } catch (const Failure& failure) {
    throw Failure(failure.code(), "routellm model '" + std::string(name) + "': " + failure.what());
  }
}

}  // namespace routellm_fast::triton
